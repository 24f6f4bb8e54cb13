"""A small world to decide in: fakes of the gate's two ports, a provider, and a gate that uses them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from authsvc.adapters.tokenmemory import TokenMemory
from authsvc.core import jwks, rbac
from authsvc.core.callers import ApiKeys, Rollout
from authsvc.core.claims import ClaimPath
from authsvc.core.gate import Gate
from authsvc.core.identify import Identifier
from authsvc.core.model import Claims, Decision, MustWait, Quota, Reason, Request, Unavailable
from authsvc.core.provider import Provider, Providers
from authsvc.core.ratelimit import Charge, Limits
from authsvc.core.receipt import Receipts
from keys import TestKey, jwk, key, sign

NOW = 1_800_000_000.0
RECEIPT_KEY = b"a key for receipts, of the tests"
ISSUER = "https://id.example.com"
AUDIENCE = "orders-api"


@dataclass
class FakeKeys:
    """The port Keys: what is known, and what one download would bring. `None` is a cool-down or no keys yet."""

    known: jwks.KeySet | None = None
    downloadable: jwks.KeySet | None = None
    downloads: int = 0
    failure: str = ""

    def current(self, provider: str, now: float) -> jwks.KeySet | None:
        return self.known

    def refresh(self, provider: str, now: float, may_wait: bool) -> jwks.KeySet | None:
        if not may_wait:
            raise MustWait
        self.downloads += 1
        return self.downloadable

    def trouble(self, provider: str) -> str:
        return self.failure


@dataclass
class KeysByProvider:
    """The port Keys for several providers."""

    sets: Mapping[str, jwks.KeySet]

    def current(self, provider: str, now: float) -> jwks.KeySet | None:
        return self.sets.get(provider)

    def refresh(self, provider: str, now: float, may_wait: bool) -> jwks.KeySet | None:
        return None

    def trouble(self, provider: str) -> str:
        return ""


@dataclass
class FakeCounters:
    """The port Counters: answers every call with these quotas, or with those of its tier; or is down."""

    answer: tuple[Quota, ...] = ()
    by_tier: Mapping[str, tuple[Quota, ...]] = field(default_factory=dict)
    down: bool = False
    spent: list[tuple[str, str, int]] = field(default_factory=list)

    def spend(self, charge: Charge, now: float) -> tuple[Quota, ...]:
        self.spent.append((charge.tier.name, charge.who, charge.cost))
        if self.down:
            raise Unavailable(Reason.LIMITS_UNAVAILABLE, "the store is down")
        return self.by_tier.get(charge.tier.name, self.answer)


@dataclass
class FakeIntrospects:
    """The port Introspects: says the same of every token, or is down."""

    answer: Claims | None = None
    down: bool = False
    asked: list[tuple[str, str]] = field(default_factory=list)

    def claims(self, provider: str, token: str, now: float, may_wait: bool) -> Claims | None:
        if not may_wait:
            raise MustWait
        self.asked.append((provider, token))
        if self.down:
            raise Unavailable(Reason.INTROSPECTION_UNAVAILABLE, "the endpoint does not answer")
        return self.answer


def provider(**changes: Any) -> Provider:
    settings = {
        "name": "main",
        "issuer": ISSUER,
        "audiences": frozenset({AUDIENCE}),
        "algorithms": frozenset({"RS256", "PS256", "ES256", "EdDSA"}),
    }
    return Provider(**{**settings, **changes})


def key_set(*listed: TestKey | Mapping[str, Any], algorithms: Iterable[str] | None = None) -> jwks.KeySet:
    """The admitted keys of a JWKS document that lists these."""
    entries = [jwk(entry) if isinstance(entry, TestKey) else entry for entry in listed]
    return jwks.admit({"keys": entries}, algorithms or provider().algorithms, NOW)


COMPLETE = Rollout()


def gate(
    keys: Any = None,
    *,
    providers: Iterable[Provider] | None = None,
    rules: Iterable[rbac.Rule] = (),
    deny_by_default: bool = False,
    limits: Limits | None = None,
    extract: Mapping[str, ClaimPath] | None = None,
    counters: FakeCounters | None = None,
    introspects: FakeIntrospects | None = None,
    api_keys: ApiKeys | None = None,
    rollout: Rollout = COMPLETE,
) -> Gate:
    if isinstance(keys, jwks.KeySet):
        keys = FakeKeys(keys)
    return Gate(
        who=Identifier(
            Providers(providers or [provider()]),
            keys or FakeKeys(key_set(key())),
            introspects,
            api_keys,
            rollout,
            TokenMemory(),
        ),
        policy=rbac.Policy(tuple(rules), deny_by_default),
        limits=limits or Limits(),
        extract=extract or {},
        counters=counters or FakeCounters(),
        receipts=Receipts(RECEIPT_KEY),
    )


def claims(**changes: Any) -> dict[str, Any]:
    """A good access token's claims; a claim of `...` is left out when signed."""
    good = {"iss": ISSUER, "sub": "u-1", "aud": AUDIENCE, "iat": NOW - 10, "exp": NOW + 300, "roles": ["reader"]}
    return {**good, **changes}


def token(header: Mapping[str, Any] | None = None, signer: TestKey | None = None, **changes: Any) -> str:
    """A good token, but for these changes to its header and claims."""
    return sign(header or {}, claims(**changes), signer or key())


def call(bearer: str | None = None, method: str | None = "GET", target: str | None = "/orders", **rest: Any) -> Request:
    authorization = None if bearer is None else f"Bearer {bearer}"
    return Request(method, target, **{"authorization": authorization, "client_ip": "192.0.2.1", **rest})


def decide(deciding: Gate, request: Request, now: float = NOW) -> Decision:
    return deciding.decide(request, now)[0]


def reason(bearer: str | None, deciding: Gate | None = None, now: float = NOW) -> Reason:
    """Why a GET of /orders with this token is decided as it is."""
    return decide(deciding or gate(), call(bearer), now).reason
