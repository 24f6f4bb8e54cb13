"""authsvc: the decision behind nginx's auth_request."""

from importlib.util import find_spec

__version__ = "0.1.0"


def build() -> str:
    """How the modules that every call runs through were built: `compiled`, or `plain Python` (AUTHSVC_COMPILE=0)."""
    one = find_spec("authsvc.httpwire")
    return "plain Python" if one is None or str(one.origin).endswith(".py") else "compiled"
