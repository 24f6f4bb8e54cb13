"""Words from elsewhere, made safe to show. A room of its own, so that who shows some needs no YAML."""


def visible(text: str) -> str:
    """Words from elsewhere as they may be shown: one line that steers no terminal."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
