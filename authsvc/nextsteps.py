"""What to do about each refusal, for the operator who asks `authsvc explain`."""

from __future__ import annotations

from authsvc.core.model import Reason

# The next step for whoever meets this refusal.
NEXT_STEPS = {
    Reason.MISSING_CONTEXT: 'name both, as in GET /api/x; for nginx, use the files of "authsvc nginx" as they are',
    Reason.INVALID_METHOD: "write the method first and in capitals, as in GET /api/x",
    Reason.NO_CREDENTIALS: "send Authorization: Bearer <access token> (here: --token)",
    Reason.UNSUPPORTED_CREDENTIALS: "send Authorization: Bearer <access token>",
    Reason.TOKEN_TOO_LARGE: "have the issuer put less into the token, such as fewer groups",
    Reason.CRITICAL_HEADER: "ask the issuer for tokens without crit or b64 in the header",
    Reason.MISSING_CLAIM: "have the issuer put it into access tokens; user_claim says which claim names the user",
    Reason.INVALID_CLAIM: "have the issuer mend it: times are numbers of seconds, a user's name is at most 512 long",
    Reason.BOUND_TOKEN: "ask the issuer for a plain bearer token: no DPoP, no mutual TLS for this client",
    Reason.EXPIRED: "get a fresh token; if it is fresh, compare the clocks",
    Reason.NOT_YET_VALID: "compare the clocks of issuer and authsvc; clock_skew_tolerance allows for a little",
    Reason.ISSUED_IN_FUTURE: "compare the clocks of issuer and authsvc; clock_skew_tolerance allows for a little",
    Reason.UNKNOWN_ISSUER: "compare the token's iss with the issuers in the config, to the last slash",
    Reason.WRONG_AUDIENCE: "ask the issuer for a token for your API, or add this audience to the provider",
    Reason.WRONG_TOKEN_TYPE: "send the access token, not the ID or refresh token",
    Reason.ENCRYPTED_TOKEN: "ask the issuer with your API's audience, then it gives a signed token",
    Reason.MALFORMED_TOKEN: "check that it is a JWT: an opaque token cannot be verified here",
    Reason.UNKNOWN_KEY: "check that jwks_uri belongs to this issuer; a new key is accepted at its first use",
    Reason.INVALID_SIGNATURE: "the token was changed, or signed by somebody else: get a new one",
    Reason.UNSUPPORTED_ALGORITHM: "add the algorithm to the provider's algorithms, or change it at the issuer",
    Reason.ROLE_REQUIRED: "give the caller the role, or check roles_claim if the role is elsewhere in the token",
    Reason.INSUFFICIENT_SCOPE: "ask the issuer for a token with these scopes",
    Reason.INACTIVE_TOKEN: "get a fresh token: this one has expired or was revoked",
    Reason.MALFORMED_API_KEY: "send the key whole, as authsvc apikeys new showed it: ask_<id>_<secret>",
    Reason.MISTYPED_API_KEY: "copy the key again: some character of it is another one",
    Reason.SEVERAL_API_KEYS: "send one key, in one header",
    Reason.UNKNOWN_API_KEY: "see whether keys_file is the right one, and what authsvc apikeys list shows",
    Reason.REVOKED_API_KEY: "make the owner a new key with authsvc apikeys new, if he is to have one",
    Reason.EXPIRED_API_KEY: "make the owner a new key with authsvc apikeys new, if he is to have one",
    Reason.REPLACED_API_KEY: "send the key that took its place; authsvc apikeys list names it",
    Reason.API_KEYS_PAUSED: "send a token, or call again after Retry-After: this brown-out shows who still needs keys",
    Reason.API_KEYS_ENDED: "send a token: the day announced in deprecation is over",
    Reason.TWO_CREDENTIALS: "send one of them, or choose another way in migration.both",
    Reason.DIFFERENT_OWNERS: "have the key's owner be the user or the client of the token, or send one of them",
    Reason.OIDC_NOT_OPEN: "raise migration.oidc_rollout, or name the user in migration.beta; his API key still counts",
    Reason.STEP_UP_REQUIRED: "sign in again with what the challenge asks for (acr_values, max_age)",
    Reason.CLAIMS_CHALLENGE: "hand the challenge's claims to the client library, which signs the user in again",
    Reason.AUTH_CONTEXT_REQUIRED: "have the client declare cp1 (xms_cc), so that it can be asked for the context",
    Reason.PROVIDER_NOT_ALLOWED: "get a token from a provider that the rule names",
    Reason.TENANT_NOT_ALLOWED: "add the tenant to tenants, if it is meant",
    Reason.CLIENT_NOT_ALLOWED: "add the client to clients, if it is meant",
    Reason.SUBJECT_TYPE_NOT_ALLOWED: "see subject_types: users sign in, apps use client credentials",
    Reason.GUEST_NOT_ALLOWED: "set guests: allow, if guests are meant",
    Reason.IDENTITY_SOURCE_NOT_ALLOWED: "see identity_sources and policies of the provider",
    Reason.CLAIM_REQUIRED: "look at the claim in the token, and at require in the rule or the provider",
    Reason.GROUPS_OVERAGE: "use app roles, or have Entra send only the groups assigned to the application",
    Reason.METHOD_NOT_ALLOWED: "add a rule for this path and method",
    Reason.NO_RULE: "add a rule for this path",
    Reason.AMBIGUOUS_PATH: "send the path in its plain form",
    Reason.KEYS_UNAVAILABLE: "see whether this machine reaches the provider; authsvc tries again by itself",
    Reason.INTROSPECTION_UNAVAILABLE: "see whether this machine reaches the introspection endpoint, and at secret_file",
    Reason.RATE_LIMITED: "wait, or move the caller to another tier",
    Reason.IDENTITY_TOO_LARGE: "have the issuer put fewer or shorter values into the claims that become headers",
}
# Of a caller with an API key: what the rules say -> the next step, else that of the reason.
FOR_API_KEYS = {
    Reason.ROLE_REQUIRED: "give the owner a key with the role: authsvc apikeys new --roles",
    Reason.INSUFFICIENT_SCOPE: "give the owner a key with these scopes: authsvc apikeys new --scopes",
    Reason.PROVIDER_NOT_ALLOWED: "send a token, or add api_keys to the rule's providers if keys are meant",
    Reason.CLAIM_REQUIRED: "add the claim to the key's claims in keys_file, or send a token",
    Reason.IDENTITY_TOO_LARGE: "give the owner a key with fewer roles or shorter claims",
}
_OPEN_IT = "open this address in a browser: mend the issuer in the config, or set jwks_uri"
# Of no keys: how the download went -> the next step, else that of the reason.
FOR_KEYS = {
    "wrong_issuer": "write the issuer in the config exactly as the provider does, to the last slash",
    "tls": "set ca_file for this provider if its certificate comes from a CA of your own",
    "no_jwks_uri": "set jwks_uri for this provider",
    "other_host": "set jwks_uri for this provider if that host is the right one",
    "status_5xx": "see what is wrong at the provider; authsvc tries again by itself",
    "status": _OPEN_IT,
    "redirect": _OPEN_IT,
    "not_json": _OPEN_IT,
    "no_keys": "look at the provider's key set: a usable key is public, for signing, and of an accepted algorithm",
}
