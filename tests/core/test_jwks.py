"""Key sets: what of a document is kept. Bad keys are in test_jose_quirks.py, how long keys live in test_keylife.py."""

import pytest

from authsvc.core import jwks
from authsvc.core.jwks import Dropped
from keys import jwk, key
from worlds import NOW, key_set


def test_only_accepted_algorithms_get_a_verifier():
    keys = key_set(jwk(key(), alg=...), algorithms=["RS256", "PS256", "ES256"])
    assert sorted(keys.keys[0].verifiers) == ["PS256", "RS256"]


@pytest.mark.parametrize("named", ["EdDSA", "Ed25519", ...])
def test_a_key_of_either_name_verifies_under_both_names_of_one_algorithm(named):
    keys = key_set(jwk(key("EdDSA"), alg=named), algorithms=["EdDSA", "Ed25519"])
    assert sorted(keys.keys[0].verifiers) == ["Ed25519", "EdDSA"]


def test_members_that_do_not_count_are_not_kept():
    keys = key_set(jwk(key(), x5c=["MII"], x5t="x", nbf=1, exp=2))
    assert set(keys.keys[0].jwk) == {"kty", "kid", "alg", "n", "e"}


def test_null_for_kid_and_alg_and_key_ops_means_absent():
    keys = key_set(jwk(key(), kid=None, alg=None, key_ops=None))
    assert keys.keys[0].kid is None
    assert "RS256" in keys.keys[0].verifiers


def test_key_ops_with_verify_among_them_are_good():
    assert key_set(jwk(key(), key_ops=["sign", "verify"]))


def test_the_same_key_twice_is_one_key():
    keys = key_set(key(), key())
    assert len(keys.keys) == 1
    assert keys.candidates(None, "RS256")


def test_a_hundred_keys_are_admitted():
    entries = [jwk(key(), kid=f"k{number}") for number in range(100)]
    assert len(jwks.admit({"keys": entries}, ["RS256"], NOW).keys) == 100


@pytest.mark.parametrize(
    ("entry", "dropped"),
    [
        (None, Dropped(None, "not an object")),
        (
            {"kty": "oct", "kid": "s", "k": "AA"},
            Dropped("s", "a symmetric key does not belong in a published set", unsafe=True),
        ),
        ({"kty": "RSA", "kid": "p", "d": "AA"}, Dropped("p", "the provider publishes a private key", unsafe=True)),
        ({"kty": "RSA", "kid": "e", "use": "enc"}, Dropped("e", "not a signing key")),
        ({"kty": "RSA", "kid": 7}, Dropped(None, "it cannot be read as a key")),
        ({"kty": "XXX", "kid": "k" * 300}, Dropped("k" * 64, "an unknown key type")),
        ({"kty": "RSA", "kid": "l", "n": "A" * 2001, "e": "AQAB"}, Dropped("l", "a member is too long")),
        (
            {"kty": "RSA", "kid": "w", "n": "AQAB", "e": "AQAB"},
            Dropped("w", "an RSA modulus of 17 bits; 2048 to 8192 are accepted"),
        ),
    ],
)
def test_a_dropped_key_says_why_and_never_shows_itself(entry, dropped):
    keys = jwks.admit({"keys": [entry, jwk(key())]}, ["RS256"], NOW)
    assert keys.dropped == (dropped,)


def test_an_admitted_key_knows_when_and_where_it_was_listed():
    keys = jwks.admit({"keys": [jwk(key())]}, ["RS256"], NOW, "https://id.example.com/jwks")
    assert (keys.fetched_at, keys.floor) == (NOW, 0.0)
    assert [(one.first_at, one.listed_at, one.source) for one in keys.keys] == [
        (NOW, NOW, "https://id.example.com/jwks")
    ]


def test_at_most_four_keys_of_one_kid_are_tried():
    same = jwks.admit({"keys": [jwk(key("ES256", "same", n)) for n in range(6)]}, {"ES256"}, NOW)
    assert len(same.candidates("same", "ES256")) == 4


ANOTHER, ALL = "https://id.example.com/t2/v2.0", "https://id.example.com/{tenantid}/v2.0"


@pytest.mark.parametrize(
    ("named", "asked", "fits"),
    [
        (..., None, True),
        (..., frozenset({ALL}), True),
        (None, frozenset({ALL}), True),
        (ALL, frozenset({ALL}), True),
        (ANOTHER, frozenset({ALL, ANOTHER}), True),
        (ANOTHER, frozenset({ALL}), False),
        (ANOTHER.upper(), frozenset({ANOTHER}), False),
        (ANOTHER + "/", frozenset({ANOTHER}), False),
        ("", frozenset({ALL}), False),
        (ANOTHER, frozenset(), False),
        (ANOTHER, None, True),
    ],
)
def test_a_key_that_names_an_issuer_fits_only_where_that_one_is_asked_for(named, asked, fits):
    keys = key_set(jwk(key(), issuer=named))
    assert bool(keys.candidates("k1", "RS256", asked)) is fits
    assert bool(keys.candidates(None, "RS256", asked)) is fits


@pytest.mark.parametrize("issuer", [7, True, [ALL], {ALL: True}])
def test_a_key_whose_issuer_is_no_text_is_not_admitted(issuer):
    keys = key_set(jwk(key(), issuer=issuer), key(kid="k2", number=1))
    assert [one.kid for one in keys.keys] == ["k2"]
    assert keys.dropped == (Dropped("k1", "a member is not a string"),)


def test_keys_of_other_issuers_take_no_place_among_the_four_that_are_tried():
    others = [jwk(key("ES256", "same", n), issuer=ANOTHER) for n in range(5)]
    keys = jwks.admit({"keys": [*others, jwk(key("ES256", "same", 5), issuer=ALL)]}, {"ES256"}, NOW)
    assert len(keys.candidates("same", "ES256", frozenset({ALL}))) == 1


def test_without_a_kid_the_one_key_of_the_asked_issuer_is_found_among_others():
    keys = key_set(jwk(key(), issuer=ANOTHER), jwk(key(kid="k2", number=1), issuer=ALL))
    assert len(keys.candidates(None, "RS256", frozenset({ALL}))) == 1
    assert keys.candidates(None, "RS256", frozenset({ALL, ANOTHER})) == []


def test_without_a_kid_a_key_that_is_only_retained_hides_no_listed_one():
    """Else a provider without kids would be refused for as long as keys are retained after a rotation."""
    old, new = (jwks.admit({"keys": [jwk(key(number=n), kid=None)]}, ["RS256"], NOW + n) for n in (1, 2))
    both = jwks.KeySet(new.keys + old.keys, new.fetched_at)
    assert both.candidates(None, "RS256") == [one.verifiers["RS256"] for one in new.keys + old.keys]
    assert (
        jwks.KeySet(both.keys, NOW + 3).candidates(None, "RS256") == []
    )  # of keys that are all retained none is meant
