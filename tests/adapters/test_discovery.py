"""Discovery finds a provider's keys at the provider, or names what is wrong with what it found."""

from __future__ import annotations

import time
from typing import Any

import pytest

from authsvc.adapters.discovery import Download, download
from authsvc.adapters.fetch import FetchFailed
from authsvc.demo.behaviours import Behaviour
from authsvc.demo.issuer import Issuer
from helpers import Clock
from rings import Rings, kids, provider_of

NOW = 1_800_000_000.0
PLACE = "/.well-known/openid-configuration"


class Saying(Issuer):
    """`says` changes its discovery document, `key_set` replaces its key set."""

    def __init__(self, says: dict[str, Any] | None = None, key_set: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.says, self.key_set = says or {}, key_set

    def respond(self, path: str) -> tuple[int, dict[str, Any]]:
        status, document = super().respond(path)
        if path == "/keys":
            return status, document if self.key_set is None else self.key_set
        return status, {**document, **self.says}


def found(issuer: Issuer, /, **changes: Any) -> Download:
    return download(provider_of(issuer, **{"jwks_uri": None, **changes}), NOW)


def refused(issuer: Issuer, /, **changes: Any) -> tuple[str, str]:
    with pytest.raises(FetchFailed) as caught:
        found(issuer, **changes)
    return caught.value.outcome, str(caught.value)


def test_discovery_finds_the_keys_and_says_where_and_when(issuer: Issuer) -> None:
    keys = found(issuer).keys
    assert issuer.asked == [PLACE, "/keys"]
    assert kids(keys) == ["key-1"]
    assert [(key.source, key.listed_at) for key in keys.keys] == [(f"{issuer.url}/keys", NOW)]
    assert keys.fetched_at == NOW


def test_where_the_config_names_a_jwks_uri_nothing_is_discovered(issuer: Issuer) -> None:
    assert kids(found(issuer, jwks_uri=f"{issuer.url}/keys").keys) == ["key-1"]
    assert issuer.asked == ["/keys"]


def test_a_keyring_starts_by_discovery(make: Rings, issuer: Issuer, clock: Clock) -> None:
    ring = make.quiet(jwks_uri=None)
    assert issuer.asked == [PLACE, "/keys"]
    assert kids(ring.current("demo", clock.now)) == ["key-1"]


def test_a_keyring_says_what_is_wrong_with_the_discovery(make: Rings, issuer: Issuer) -> None:
    ring = make.quiet(jwks_uri=None, issuer=f"{issuer.url}/")
    status = ring.status()["demo"]
    assert status.outcome == "wrong_issuer"
    assert f"its issuer is '{issuer.url}', the config says '{issuer.url}/'" in status.problem
    assert issuer.fetches == 0


@pytest.mark.parametrize(
    ("says", "outcome", "because"),
    [
        pytest.param({"issuer": "https://evil.example"}, "wrong_issuer", "'https://evil.example'", id="another one"),
        pytest.param({"issuer": None}, "wrong_issuer", "its issuer is None", id="no issuer"),
        pytest.param({"issuer": ["x"]}, "wrong_issuer", "its issuer is ['x']", id="a list of issuers"),
        pytest.param({"jwks_uri": None}, "no_jwks_uri", "names no jwks_uri", id="no jwks_uri"),
        pytest.param({"jwks_uri": ["http://127.0.0.1/"]}, "no_jwks_uri", "names no jwks_uri", id="a list as jwks_uri"),
        pytest.param({"jwks_uri": {}}, "no_jwks_uri", "names no jwks_uri", id="an object as jwks_uri"),
        pytest.param({"jwks_uri": ""}, "not_allowed", "only https", id="an empty jwks_uri"),
        pytest.param({"jwks_uri": "/keys"}, "not_allowed", "only https", id="a path as jwks_uri"),
        pytest.param({"jwks_uri": "//127.0.0.1/keys"}, "not_allowed", "only https", id="a jwks_uri without scheme"),
        pytest.param({"jwks_uri": "http://169.254.169.254/"}, "not_allowed", "only https", id="a cloud's metadata"),
        pytest.param({"jwks_uri": "file:///etc/passwd"}, "not_allowed", "only https", id="a file"),
        pytest.param({"jwks_uri": "https://[::1"}, "not_allowed", "no URL", id="no URL"),
        pytest.param({"jwks_uri": "https://127.0.0.1@evil.example/"}, "not_allowed", "a user", id="a user in its URL"),
        pytest.param({"jwks_uri": "https://evil.example\\@127.0.0.1/"}, "not_allowed", "backslash", id="a backslash"),
    ],
)
def test_discovery_is_refused_where_it_names(says: dict[str, Any], outcome: str, because: str) -> None:
    with Saying(says) as issuer:
        slug, text = refused(issuer)
        assert (slug, because in text) == (outcome, True), text
        assert issuer.fetches == 0


def test_plain_http_to_the_same_host_is_refused_without_permission(issuer: Issuer) -> None:
    assert refused(issuer, allow_insecure_http=False)[0] == "not_allowed"
    assert issuer.asked == []


@pytest.mark.parametrize(
    ("jwks_uri", "outcome"),
    [
        pytest.param("https://localhost:1/keys", "unreachable", id="the issuer's own host is asked"),
        pytest.param("https://LOCALHOST:1/keys", "unreachable", id="capitals make no other host"),
        pytest.param("https://keys.localhost:1/keys", "unreachable", id="a host below the issuer's is asked"),
        pytest.param("https://a.b.localhost:1/keys", "unreachable", id="a host far below the issuer's is asked"),
        pytest.param("https://127.0.0.1:1/keys", "other_host", id="another host is not asked"),
        pytest.param("https://evil-localhost:1/keys", "other_host", id="a host that only ends like it is not asked"),
        pytest.param("https://localhost.evil.example/keys", "other_host", id="a host that starts like it is not asked"),
        pytest.param("https://evil.example/localhost", "other_host", id="a path that names it does not count"),
        pytest.param("https://evil.example?.localhost", "other_host", id="a query that names it does not count"),
        pytest.param("https://evil.example#.localhost", "other_host", id="a fragment that names it does not count"),
    ],
)
def test_of_hosts(jwks_uri: str, outcome: str) -> None:
    """Nobody listens at port 1: `unreachable` is the answer where it was asked."""
    with Saying() as issuer:
        named = issuer.url.replace("127.0.0.1", "localhost")
        issuer.says = {"issuer": named, "jwks_uri": jwks_uri}
        slug, text = refused(issuer, issuer=named)
        assert slug == outcome, text
        assert ("if that is right, set jwks_uri" in text) == (outcome == "other_host")


def test_a_host_above_the_issuers_is_another() -> None:
    with Saying() as issuer:
        issuer.says = {"jwks_uri": "https://0.0.1:1/keys"}
        assert refused(issuer)[0] == "other_host"


def test_the_keys_may_lie_on_another_port_of_the_issuers_host(issuer: Issuer) -> None:
    with Saying() as front:
        front.says = {"jwks_uri": f"{issuer.url}/keys"}
        assert kids(found(front).keys) == ["key-1"]


@pytest.mark.parametrize(
    ("ours", "theirs", "good"),
    [
        pytest.param("", "", True, id="no slash in both"),
        pytest.param("/", "/", True, id="a slash in both"),
        pytest.param("", "/", False, id="a slash in theirs alone"),
        pytest.param("/", "", False, id="a slash in ours alone"),
        pytest.param("", "%20", False, id="a blank at the end of theirs"),
        pytest.param("", "#", False, id="a fragment in theirs"),
    ],
)
def test_the_issuer_is_compared_byte_for_byte_with(ours: str, theirs: str, good: bool) -> None:
    with Saying() as issuer:
        issuer.says = {"issuer": issuer.url + theirs}
        if good:
            assert kids(found(issuer, issuer=issuer.url + ours).keys) == ["key-1"]
        else:
            outcome, text = refused(issuer, issuer=issuer.url + ours)
            assert outcome == "wrong_issuer"
            assert f"its issuer is '{issuer.url}{theirs}', the config says '{issuer.url}{ours}'" in text
        assert issuer.asked[0] == PLACE


def test_capitals_in_the_host_make_another_issuer() -> None:
    with Saying() as issuer:
        issuer.says = {"issuer": issuer.url.replace("http", "HTTP")}
        assert refused(issuer)[0] == "wrong_issuer"


@pytest.mark.parametrize(
    ("ending", "asked"),
    [
        pytest.param("/", PLACE, id="one slash"),
        pytest.param("/realms/a//", f"/realms/a/{PLACE}", id="one slash of two"),
        pytest.param("/realms/a", f"/realms/a{PLACE}", id="nothing after a path"),
        pytest.param("/realms/a/", f"/realms/a{PLACE}", id="one slash after a path"),
    ],
)
def test_before_the_well_known_path_is_removed(issuer: Issuer, ending: str, asked: str) -> None:
    refused(issuer, issuer=issuer.url + ending)
    assert issuer.asked == [asked]


@pytest.mark.parametrize(
    "key_set",
    [
        pytest.param({"keys": []}, id="an empty key set"),
        pytest.param({}, id="no key set"),
        pytest.param({"keys": {}}, id="keys that are no list"),
        pytest.param({"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}, id="a symmetric key alone"),
        pytest.param({"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB"}]}, id="a short key alone"),
        pytest.param({"keys": [{}] * 101}, id="more keys than anyone has"),
    ],
)
def test_no_keys_are(key_set: dict[str, Any]) -> None:
    with Saying(key_set=key_set) as issuer:
        outcome, text = refused(issuer)
    assert outcome == "no_keys"
    assert text.startswith(f"{issuer.url}/keys: ")


def test_how_long_the_keys_are_good_is_what_the_key_set_says_not_the_discovery(issuer: Issuer) -> None:
    assert found(issuer).max_age_s is None
    issuer.cache_control = "public, max-age=120"
    assert found(issuer).max_age_s == 120


@pytest.mark.alone
def test_both_documents_share_one_deadline(issuer: Issuer) -> None:
    """The discovery takes more than a second, and the key set would take seven."""
    issuer.drip_s = 0.015
    issuer.behave(Behaviour.DRIP)
    started = time.monotonic()
    assert refused(issuer)[0] == "timeout"
    assert issuer.asked == [PLACE, "/keys"]
    assert 1.5 < time.monotonic() - started < 2.5
