"""The words everything else is written in: a request, an identity, a decision and the reasons for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum, unique
from typing import Any

Claims = Mapping[str, Any]


@unique
class Reason(StrEnum):
    """Why a call was decided as it was. The value is the slug that callers, logs and metrics see."""

    __hash__ = str.__hash__  # looked up four times a call: Enum's own is Python, and takes six times as long

    ALLOWED = "allowed"
    PUBLIC = "public"
    # what nginx handed over
    MISSING_CONTEXT = "missing_context"
    UNKNOWN_ENDPOINT = "unknown_endpoint"
    INVALID_METHOD = "invalid_method"
    AMBIGUOUS_PATH = "ambiguous_path"
    # the credential
    NO_CREDENTIALS = "no_credentials"
    UNSUPPORTED_CREDENTIALS = "unsupported_credentials"
    TOKEN_TOO_LARGE = "token_too_large"  # noqa: S105 - a slug, not a password
    MALFORMED_TOKEN = "malformed_token"  # noqa: S105 - a slug, not a password
    ENCRYPTED_TOKEN = "encrypted_token"  # noqa: S105 - a slug, not a password
    CRITICAL_HEADER = "critical_header"
    UNSUPPORTED_ALGORITHM = "unsupported_algorithm"
    WRONG_TOKEN_TYPE = "wrong_token_type"  # noqa: S105 - a slug, not a password
    UNKNOWN_ISSUER = "unknown_issuer"
    UNKNOWN_KEY = "unknown_key"
    INVALID_SIGNATURE = "invalid_signature"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    ISSUED_IN_FUTURE = "issued_in_future"
    WRONG_AUDIENCE = "wrong_audience"
    MISSING_CLAIM = "missing_claim"
    INVALID_CLAIM = "invalid_claim"
    BOUND_TOKEN = "bound_token"  # noqa: S105 - a slug, not a password
    INACTIVE_TOKEN = "inactive_token"  # noqa: S105 - a slug, not a password
    MALFORMED_API_KEY = "malformed_api_key"
    MISTYPED_API_KEY = "mistyped_api_key"
    SEVERAL_API_KEYS = "several_api_keys"
    UNKNOWN_API_KEY = "unknown_api_key"
    REVOKED_API_KEY = "revoked_api_key"
    EXPIRED_API_KEY = "expired_api_key"
    REPLACED_API_KEY = "replaced_api_key"
    API_KEYS_PAUSED = "api_keys_paused"
    API_KEYS_ENDED = "api_keys_ended"
    TWO_CREDENTIALS = "two_credentials"
    DIFFERENT_OWNERS = "different_owners"
    OIDC_NOT_OPEN = "oidc_not_open"
    STEP_UP_REQUIRED = "step_up_required"
    CLAIMS_CHALLENGE = "claims_challenge"
    # what the rules say
    ROLE_REQUIRED = "role_required"
    INSUFFICIENT_SCOPE = "insufficient_scope"
    PROVIDER_NOT_ALLOWED = "provider_not_allowed"
    TENANT_NOT_ALLOWED = "tenant_not_allowed"
    CLIENT_NOT_ALLOWED = "client_not_allowed"
    SUBJECT_TYPE_NOT_ALLOWED = "subject_type_not_allowed"
    GUEST_NOT_ALLOWED = "guest_not_allowed"
    IDENTITY_SOURCE_NOT_ALLOWED = "identity_source_not_allowed"
    CLAIM_REQUIRED = "claim_required"
    GROUPS_OVERAGE = "groups_overage"
    AUTH_CONTEXT_REQUIRED = "auth_context_required"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    NO_RULE = "no_rule"
    IDENTITY_TOO_LARGE = "identity_too_large"
    RATE_LIMITED = "rate_limited"
    # the world failed us
    KEYS_UNAVAILABLE = "keys_unavailable"
    INTROSPECTION_UNAVAILABLE = "introspection_unavailable"
    LIMITS_UNAVAILABLE = "limits_unavailable"
    INTERNAL_ERROR = "internal_error"


@dataclass(frozen=True, slots=True)
class StepUp:
    """What would be enough: the challenge of RFC 9470 section 3, or Entra's claims challenge where `claims` is set."""

    acr_values: tuple[str, ...] = ()
    max_age_s: int | None = None
    claims: str = ""
    authorization_uri: str = ""
    client_id: str = ""


class Refused(Exception):
    """What they sent is not good enough.

    `detail` and `next_step` are for the operator's eyes (`authsvc explain`): they may quote names from the config and
    from the token, never a whole token, and never reach the caller. `step_up` does. `named` is for audit: whom a
    credential names that is known and is not good enough.
    """

    def __init__(
        self,
        reason: Reason,
        detail: str = "",
        *,
        next_step: str = "",
        step_up: StepUp | None = None,
        named: Identity | None = None,
    ) -> None:
        super().__init__(reason.value)
        self.reason, self.detail, self.next_step, self.step_up, self.named = reason, detail, next_step, step_up, named


class Unavailable(Exception):
    """The world failed us: the call cannot be decided now, and so it is not allowed now."""

    def __init__(self, reason: Reason, detail: str = "", *, retry_after_s: int = 5) -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.detail = detail
        self.retry_after_s = retry_after_s


class MustWait(Exception):
    """The decision needs a provider's answer, and this call may not wait for one: ask again where waiting is allowed.

    Nothing was counted for this call yet.
    """


class Forgotten(Exception):
    """What was remembered of a credential is no longer good, or nobody's: ask again with the credential itself.

    Nothing was counted for this call yet.
    """


@dataclass(slots=True, kw_only=True)
class Mark:
    """On equal questions: what somebody has found for one of them holds for all, as far as he is asked again."""

    found: tuple[object, Any] | None = None  # by whom, and what: one object, for threads


@dataclass(slots=True, init=False)  # not frozen: one is made at each call, and freezing takes four times as long
class Request:
    """One call as nginx described it: raw, nothing decoded. `None` means absent or sent twice.

    `served` is the path that nginx serves in place of the target's after an internal redirect, as it decoded it.
    `may_wait` is `False` where a server asks that has one thread for all its calls. `receipt` is what an earlier answer
    to the same request said of the calls that it counted. `digest` is that of the bearer token in `authorization`,
    where a server knows it; without that it stands for an API key that an earlier call brought. `remembered` stands for
    a token: it is what the gate remembers of it. `mark` is one and the same for calls of the same method, target and
    served path, where a server knows which ones are. `plain_id` says that a server knows the id to be 1 to 64 letters
    and digits of ASCII.
    """

    method: str | None
    target: str | None
    authorization: str | None = field(repr=False)
    client_ip: str | None
    id: str
    served: str | None
    may_wait: bool
    receipt: str = field(repr=False)
    api_key: str | None = field(repr=False)
    digest: bytes | None = field(repr=False)
    remembered: Prepared | None = field(repr=False, compare=False)
    mark: Mark | None = field(repr=False, compare=False)
    plain_id: bool = field(repr=False, compare=False)

    def __init__(  # written out, for mypyc compiles nothing that a dataclass makes
        self,
        method: str | None,
        target: str | None,
        authorization: str | None = None,
        client_ip: str | None = None,
        id: str = "",  # noqa: A002 - it is the request's
        served: str | None = None,
        may_wait: bool = True,
        receipt: str = "",
        api_key: str | None = None,
        digest: bytes | None = None,
        remembered: Prepared | None = None,
        mark: Mark | None = None,
        plain_id: bool = False,
    ) -> None:
        self.method, self.target, self.served, self.id = method, target, served, id
        self.authorization, self.api_key, self.digest, self.remembered = authorization, api_key, digest, remembered
        self.client_ip, self.may_wait, self.receipt, self.mark = client_ip, may_wait, receipt, mark
        self.plain_id = plain_id


@dataclass(slots=True, init=False)  # not frozen: freezing takes four times as long
class Identity:
    """Who calls, as far as a verified credential says. `provider` is the name given in the config.

    `scoped` says that the roles are OAuth scopes, so that a lack of one is answered as RFC 6750 asks. `key` is what
    tells users apart for limits and audit. `roles_incomplete` says that the token could not hold all of them.
    """

    provider: str
    user_id: str
    email: str
    roles: tuple[str, ...]
    claims: Claims = field(repr=False)
    scoped: bool
    key: str
    scopes: tuple[str, ...]
    client: str
    tenants: tuple[str, ...]
    subject_type: str
    mfa: bool
    roles_incomplete: bool
    method: str

    def __init__(  # written out, for mypyc compiles nothing that a dataclass makes
        self,
        provider: str,
        user_id: str,
        email: str,
        roles: tuple[str, ...],
        claims: Claims,
        scoped: bool = False,
        key: str = "",
        scopes: tuple[str, ...] = (),
        client: str = "",
        tenants: tuple[str, ...] = (),
        subject_type: str = "",
        mfa: bool = False,
        roles_incomplete: bool = False,
        method: str = "oidc",  # or api_key
    ) -> None:
        self.provider, self.user_id, self.email, self.roles, self.claims = provider, user_id, email, roles, claims
        self.scoped, self.key, self.scopes, self.client, self.tenants = scoped, key, scopes, client, tenants
        self.subject_type, self.mfa, self.roles_incomplete, self.method = subject_type, mfa, roles_incomplete, method


@dataclass(frozen=True, slots=True)
class Other:
    """What the credential that was not in force would have brought about. `differs` has refused, roles, tier or none of
    them; `named` is whom it names, where that is known."""

    method: str
    reason: Reason
    named: Identity | None
    differs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class QuotaPolicy:
    """One of a tier's windows: so many calls in so many seconds. `name` is the tier's, with the period where it has
    several; `header` is its item of a RateLimit-Policy header (draft-ietf-httpapi-ratelimit-headers-11 section 3).
    Raises `ValueError` for a name that would be more than a string there (RFC 9651 section 3.3.3)."""

    name: str
    limit: int
    window_s: int
    header: str = field(init=False, repr=False, compare=False)
    lines: str = field(init=False, repr=False, compare=False)  # both headers, up to the numbers of a call
    _until: tuple[int, str] = field(init=False, repr=False, compare=False)  # the last reset_s, and how it is told

    def __post_init__(self) -> None:
        if not (self.name.isascii() and self.name.isprintable()) or '"' in self.name or "\\" in self.name:
            raise ValueError(f"no name of a tier: {self.name!r}")
        header = f'"{self.name}";q={self.limit};w={self.window_s}'
        object.__setattr__(self, "header", header)
        object.__setattr__(self, "lines", f'RateLimit-Policy: {header}\r\nRateLimit: "{self.name}";')
        object.__setattr__(self, "_until", (-1, ""))

    def until(self, reset_s: int) -> str:
        """How it is told when there is more: the same for all callers of a second."""
        known = self._until
        if known[0] != reset_s:
            known = (reset_s, f";t={reset_s}")
            object.__setattr__(self, "_until", known)
        return known[1]


@dataclass(slots=True, init=False)  # as a request is
class Quota:
    """What is left of one of a tier's windows after this call. `reset_s` is whole seconds until there is more."""

    policy: QuotaPolicy
    remaining: int
    reset_s: int
    refused: bool
    _told: str = field(repr=False, compare=False)

    def __init__(self, policy: QuotaPolicy, remaining: int, reset_s: int, refused: bool = False) -> None:
        self.policy, self.remaining, self.reset_s, self.refused = policy, remaining, reset_s, refused
        self._told = ""

    def told(self) -> str:
        """The parameters of its item of a RateLimit header, which a receipt repeats."""
        if not self._told:
            self._told = f"r={self.remaining}{self.policy.until(self.reset_s)}"
        return self._told


class Prepared:
    """Texts that are the same at each call of a remembered caller, or at each call for the same; empty until made.

    `head` is that of a yes to the caller, but for what differs from call to call; `audit` is who he is, in an audit
    line, or what was asked and by which rule.
    """

    __slots__ = ("audit", "head")

    def __init__(self) -> None:
        self.head, self.audit = b"", ""


@dataclass(slots=True)  # not frozen: one is made at each call, and freezing takes four times as long
class Decision:
    """The answer, with all that audit, metrics and `explain` need, so that none of them computes it again."""

    reason: Reason
    path: str = ""
    provider: str = ""  # whose token it was, or claimed to be where it was refused
    rule: str = ""
    identity: Identity | None = None
    named: Identity | None = None  # whom a credential names that is known and was refused: for audit alone
    tier: str = ""
    quotas: tuple[Quota, ...] = ()
    shadow: str = ""  # the tier that would have refused, were it not in shadow
    receipt: str = field(default="", repr=False)
    notices: tuple[tuple[str, str], ...] = ()  # headers for the caller: that his kind of credential ends
    link: str = ""  # where the caller can read what to do
    other: Other | None = None
    wanted: tuple[str, ...] = ()  # the roles or scopes that would have satisfied the rule
    ignored: Reason | None = None  # why a credential sent to a public path did not count
    retry_after_s: int | None = None
    detail: str = field(default="", repr=False)
    next_step: str = field(default="", repr=False)
    step_up: StepUp | None = None
    keep_s: int = 0  # for how long nginx may keep it
    # What is remembered changes how fast a call is decided and told, and nothing else: the caller's texts, those of
    # what he was allowed, and the digest by which his API key was found at this call and can be found again.
    prepared: Prepared | None = field(default=None, repr=False, compare=False)
    asked: Prepared | None = field(default=None, repr=False, compare=False)
    digest: bytes | None = field(default=None, repr=False, compare=False)

    @property
    def allowed(self) -> bool:
        return self.reason is Reason.ALLOWED or self.reason is Reason.PUBLIC
