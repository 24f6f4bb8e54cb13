"""Whether the caller signed in strongly and freshly enough; else the challenge that says what would be enough."""

from __future__ import annotations

import base64
import json
from typing import Any

from authsvc.core.claims import texts
from authsvc.core.model import Claims, Identity, Reason, Refused, StepUp
from authsvc.core.provider import Provider, Strength

_CAN_TAKE_CHALLENGES = "cp1"  # in xms_cc: the client understands a claims challenge


def check(asked: Strength, identity: Identity, provider: Provider, now: float) -> None:
    """Raises `Refused`, with the challenge of RFC 9470 section 3 or of Entra."""
    if not (asked.acr or asked.mfa or asked.max_age_s is not None):
        return
    if identity.method == "api_key":
        raise _not_by_key(asked)
    claims = identity.claims
    has = _contexts(claims)
    if asked.acr and not set(asked.acr) & set(has):
        raise _stronger(
            asked, asked.acr, f"the token's acr is {_listed(has)}; {_listed(asked.acr)} is asked for", claims, provider
        )
    if asked.mfa and not identity.mfa:
        raise _stronger(
            asked, _of_mfa(provider), f"the token shows no second factor; {_evidence(provider)}", claims, provider
        )
    if asked.max_age_s is not None:
        _check_age(asked, claims, provider, now)


_ONLY_A_TOKEN = "send a token in place of the key: behind a key nobody signs in"  # noqa: S105 - words, not a password


def _not_by_key(asked: Strength) -> Refused:
    """Whatever claims a key was given, nobody signed in; the challenge says what a token must be like."""
    text = "the rule asks how the user signed in, and an API key never shows that"
    step_up = StepUp(asked.acr, asked.max_age_s)
    return Refused(Reason.STEP_UP_REQUIRED, text, next_step=_ONLY_A_TOKEN, step_up=step_up)


def _contexts(claims: Claims) -> tuple[str, ...]:
    return texts(claims.get("acr")) + texts(claims.get("acrs"))


def _check_age(asked: Strength, claims: Claims, provider: Provider, now: float) -> None:
    """OpenID Connect Core section 2: auth_time is when the user signed in, in seconds."""
    signed_in: Any = claims.get("auth_time")
    longest = asked.max_age_s or 0
    if type(signed_in) not in (int, float) or not abs(signed_in) < 2**53:
        text = "the token does not tell when the user signed in (auth_time)"
    elif -provider.skew_s <= now - signed_in <= longest + provider.skew_s:
        return
    else:
        text = f"the user signed in {now - signed_in:.0f} s ago; at most {longest} s are accepted"
    raise Refused(Reason.STEP_UP_REQUIRED, text, step_up=StepUp(asked.acr, longest))


def _stronger(asked: Strength, acr: tuple[str, ...], text: str, claims: Claims, provider: Provider) -> Refused:
    if not provider.authorization_uri:
        return Refused(Reason.STEP_UP_REQUIRED, text, step_up=StepUp(acr, asked.max_age_s))
    if not acr or _CAN_TAKE_CHALLENGES not in [one.lower() for one in texts(claims.get("xms_cc"))]:
        return Refused(Reason.AUTH_CONTEXT_REQUIRED, f"{text}; the client does not take claims challenges (xms_cc)")
    request = claims_request(acr[0])
    challenge = StepUp(acr, None, request, provider.authorization_uri, provider.own_client_id)
    return Refused(Reason.CLAIMS_CHALLENGE, text, step_up=challenge)


def claims_request(context: str) -> str:
    """Entra's request for an authentication context: minified JSON in base64."""
    request = {"access_token": {"acrs": {"essential": True, "value": context}}}
    return base64.b64encode(json.dumps(request, separators=(",", ":")).encode()).decode()


def _of_mfa(provider: Provider) -> tuple[str, ...]:
    """The acr values that count as a second factor, to ask for."""
    wanted = [
        one.values for one in provider.mfa_if if one.path in (("acr",), ("acrs",)) and one.op in ("in", "contains")
    ]
    return tuple(value for values in wanted for value in values)


def _evidence(provider: Provider) -> str:
    wanted = " or ".join(map(str, provider.mfa_if))
    return f"wanted is that {wanted}" if wanted else "this provider's tokens never do: set mfa_if to what yours say"


def _listed(values: tuple[str, ...]) -> str:
    return " or ".join(values) or "not there"
