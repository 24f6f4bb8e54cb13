"""Public test vectors from ../shared/vectors, run through the strict front, key admission and the verifiers.

The vectors' payloads are prose, not claims, so they cannot be whole requests: what `jwt.parse` does is done here
step by step, with the payload left unread and an issuer put in its place. Nothing of the vectors is kept here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from authsvc.core import jwks, jwt, signature, strict
from authsvc.core.model import Refused

FOLDER = Path(__file__).parents[3] / "shared" / "vectors"
needed = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no test vectors at {FOLDER}")


def read(name: str) -> Any:
    """A file of the folder; an empty object where there is no folder."""
    return json.loads((FOLDER / name).read_text()) if FOLDER.is_dir() else {}


def key_set(document: Mapping[str, Any] | None) -> jwks.KeySet | None:
    """The admitted keys of a JWK or a JWKS, for every algorithm authsvc knows; `None` where there are none."""
    if document is None:
        return None
    try:
        return jwks.admit(document if "keys" in document else {"keys": [document]}, signature.ALGORITHMS, 0)
    except ValueError:
        return None


def token_of(text: str) -> jwt.Token | None:
    """What `jwt.parse` makes of the token, whatever its payload says; `None` where it is refused."""
    segments = text.split(".")
    if len(text) > jwt.MAX_TOKEN or len(segments) != 3:
        return None
    try:
        header = strict.json_object(strict.base64url(segments[0]))
        strict.base64url(segments[1])
        made = strict.base64url(segments[2])
        return jwt._token(header, {"iss": "vectors"}, f"{segments[0]}.{segments[1]}".encode(), made)
    except (ValueError, Refused):
        return None


def accepted(keys: jwks.KeySet | None, text: str) -> bool:
    """Whether the signature would have been found good."""
    token = token_of(text)
    if keys is None or token is None:
        return False
    return jwt.signed_by_any(token, keys.candidates(token.kid, token.alg))


def public(document: Mapping[str, Any]) -> dict[str, Any]:
    """A private JWK without its private members."""
    return {name: value for name, value in document.items() if name not in ("d", "p", "q", "dp", "dq", "qi")}
