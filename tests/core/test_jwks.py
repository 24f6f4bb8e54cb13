"""Key sets: what of a document is kept, and how two downloads of it merge. Bad keys are in test_jose_quirks.py."""

import json

import pytest

from authsvc.core import jwks
from authsvc.core.jwks import Dropped
from keys import jwk, key
from worlds import NOW, key_set

HOUR = 3600.0


def listed(*signers, at=NOW):
    return jwks.admit({"keys": [jwk(signer) for signer in signers]}, ["RS256"], at)


def kids(keys):
    return [one.kid for one in keys.keys]


def one_key(number):
    return key(kid=f"k{number}", number=number)


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
    keys = listed(key(), key())
    assert len(keys.keys) == 1
    assert keys.candidates(None, "RS256")


def test_a_hundred_keys_are_admitted():
    entries = [jwk(key(), kid=f"k{number}") for number in range(100)]
    assert len(jwks.admit({"keys": entries}, ["RS256"], NOW).keys) == 100


@pytest.mark.parametrize(
    ("entry", "dropped"),
    [
        (None, Dropped(None, "not an object")),
        ({"kty": "oct", "kid": "s", "k": "AA"}, Dropped("s", "a symmetric key does not belong in a published set")),
        ({"kty": "RSA", "kid": "p", "d": "AA"}, Dropped("p", "the provider publishes a private key")),
        ({"kty": "RSA", "kid": "e", "use": "enc"}, Dropped("e", "not a signing key")),
        ({"kty": "RSA", "kid": 7}, Dropped(None, "it cannot be read as a key")),
        ({"kty": "XXX", "kid": "k" * 300}, Dropped("k" * 64, "an unknown key type")),
        (
            {"kty": "RSA", "kid": "w", "n": "AQAB", "e": "AQAB"},
            Dropped("w", "an RSA modulus of 17 bits; 2048 to 8192 are accepted"),
        ),
    ],
)
def test_a_dropped_key_says_why_and_never_shows_itself(entry, dropped):
    keys = jwks.admit({"keys": [entry, jwk(key())]}, ["RS256"], NOW)
    assert keys.dropped == (dropped,)


def test_a_merge_with_nothing_is_the_new_set():
    new = listed(one_key(0))
    assert jwks.merge(None, new, HOUR) is new


def test_a_key_that_vanished_stays_while_it_is_retained():
    old, new = listed(one_key(0), one_key(1)), listed(one_key(1), at=NOW + HOUR - 1)
    assert kids(jwks.merge(old, new, HOUR)) == ["k1", "k0"]


def test_a_key_that_vanished_is_gone_after_that():
    old, new = listed(one_key(0), one_key(1)), listed(one_key(1), at=NOW + HOUR)
    assert kids(jwks.merge(old, new, HOUR)) == ["k1"]


def test_a_vanished_key_is_not_retained_for_longer_by_further_downloads():
    keys = listed(one_key(0))
    for minute in range(1, 61):
        keys = jwks.merge(keys, listed(one_key(1), at=NOW + minute * 60), HOUR)
    assert kids(keys) == ["k1"]


def test_nothing_is_retained_where_the_time_is_zero():
    assert kids(jwks.merge(listed(one_key(0)), listed(one_key(1)), 0)) == ["k1"]


def test_a_key_that_is_listed_again_counts_as_listed_now():
    merged = jwks.merge(listed(one_key(0)), listed(one_key(0), at=NOW + 60), HOUR)
    assert [one.listed_at for one in merged.keys] == [NOW + 60]


def test_of_a_key_that_was_replaced_under_its_kid_both_verify_for_a_while():
    merged = jwks.merge(listed(key(number=0)), listed(key(number=1), at=NOW + 60), HOUR)
    assert len(merged.candidates("k1", "RS256")) == 2


def test_expiry_takes_a_vanished_key_and_no_listed_one():
    keys = jwks.merge(listed(one_key(0)), listed(one_key(1), at=NOW + 60), HOUR)
    assert kids(jwks.expire(keys, NOW + HOUR - 1, HOUR)) == ["k1", "k0"]
    assert kids(jwks.expire(keys, NOW + HOUR, HOUR)) == ["k1"]
    assert kids(jwks.expire(keys, NOW + 1000 * HOUR, HOUR)) == ["k1"]


def test_a_set_goes_through_the_shared_store_unchanged():
    keys = jwks.merge(listed(one_key(0)), listed(one_key(1), at=NOW + 60), HOUR)
    loaded = jwks.load(json.loads(jwks.dump(keys)), ["RS256"])
    assert (kids(loaded), loaded.fetched_at) == (kids(keys), keys.fetched_at)
    assert [one.listed_at for one in loaded.keys] == [NOW + 60, NOW]
    assert [one.digest for one in loaded.keys] == [one.digest for one in keys.keys]


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"fetched_at": None, "keys": []},
        {"fetched_at": 1, "keys": None},
        {"fetched_at": 1, "keys": [1]},
        {"fetched_at": 1, "keys": [{"listed_at": 1}]},
        {"fetched_at": 1, "keys": [{"jwk": {"kty": "oct", "k": "AA"}, "listed_at": 1}]},
        {"fetched_at": 1, "keys": [{"jwk": None, "listed_at": 1}]},
    ],
)
def test_what_is_no_dumped_set_is_not_loaded(data):
    with pytest.raises((ValueError, KeyError, TypeError)):
        jwks.load(data, ["RS256"])


def test_a_loaded_set_is_admitted_afresh_for_the_algorithms_of_now():
    data = json.loads(jwks.dump(listed(one_key(0))))
    with pytest.raises(ValueError, match="no usable key"):
        jwks.load(data, ["ES256"])


def test_at_most_four_keys_of_one_kid_are_tried():
    same = jwks.admit({"keys": [jwk(key("ES256", "same", n)) for n in range(6)]}, {"ES256"}, NOW)
    assert len(same.candidates("same", "ES256")) == 4
