"""API keys: what is a key and what is not, which are good now, and that no text gives a secret away."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsvc.core.apikeys import ApiKey, KeyProblem, KeyRefused, admit, digest_of, identity, mint, verdict
from worlds import NOW

TEXT, DIGEST = mint(bytes(range(32)))
KEY = ApiKey(DIGEST, "acme", roles=("reader",), scopes=("orders:read",), plan="pro", tenant="t-1")
FOREIGN = "sk-live-0123456789abcdef"
IMPORTED = ApiKey(hashlib.sha256(FOREIGN.encode()).digest(), "old")
BOOK = {key.digest: key for key in (KEY, IMPORTED)}
SECRET = TEXT.rpartition("_")[2]

instants = st.one_of(st.none(), st.floats(0, 2**32))


def refusal(text, now=NOW, **changes):
    """Why a key is not accepted, where our record of it is changed like this."""
    with pytest.raises(KeyRefused) as caught:
        admit({**BOOK, DIGEST: replace(KEY, **changes)}, text, now)
    return caught.value


# ---- what a key looks like


def test_a_key_is_a_prefix_the_beginning_of_its_digest_and_256_random_bits():
    assert re.fullmatch(r"ask_[0-9a-f]{16}_[0-9A-Za-z]{43}", TEXT)
    assert hashlib.sha256(f"ask_{SECRET}".encode()).digest() == DIGEST
    assert TEXT.startswith(f"{KEY.name}_")


@given(st.binary(min_size=32, max_size=32))
def test_every_key_that_is_made_is_found_by_its_digest(entropy):
    text, digest = mint(entropy)
    assert digest_of(text) == digest


@pytest.mark.parametrize("extreme", [bytes(32), b"\xff" * 32])
def test_the_extremes_of_chance_have_the_same_shape(extreme):
    assert len(mint(extreme)[0]) == len(TEXT)


def test_other_randomness_makes_another_key():
    assert mint(bytes(32))[1] != mint(bytes(31) + b"\1")[1]


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_key_is_made_of_32_bytes_and_of_no_other_number(size):
    with pytest.raises(ValueError, match="32 random bytes"):
        mint(bytes(size))


@given(st.integers(0, len(TEXT) - 1), st.sampled_from("0123456789abcdefXYZ_-"))
def test_a_typo_is_never_taken_for_an_unknown_key(place, char):
    typed = TEXT[:place] + char + TEXT[place + 1 :]
    if typed != TEXT and typed.startswith("ask_"):
        assert refusal(typed).problem in (KeyProblem.CHECKSUM, KeyProblem.MALFORMED, KeyProblem.SEVERAL)


REFUSED = {
    "a digit of the secret was mistyped": (TEXT[:-1] + ("x" if TEXT[-1] != "x" else "y"), KeyProblem.CHECKSUM),
    "two digits changed places": (TEXT[:-2] + TEXT[-1] + TEXT[-2], KeyProblem.CHECKSUM),
    "the id is another key's": (f"ask_{'0' * 16}_{SECRET}", KeyProblem.CHECKSUM),
    "the end was cut": (TEXT[:-1], KeyProblem.MALFORMED),
    "there is more behind it": (TEXT + "x", KeyProblem.MALFORMED),
    "only the public part was sent": (KEY.name, KeyProblem.MALFORMED),
    "what is digested was sent without the id": (f"ask_{SECRET}", KeyProblem.MALFORMED),
    "the id is in capitals": (TEXT[:4] + "ABCDEF0123456789" + TEXT[20:], KeyProblem.MALFORMED),
    "a line break follows": (TEXT + "\n", KeyProblem.MALFORMED),
    "nothing was sent": ("", KeyProblem.MALFORMED),
    "it is no ASCII": ("schlüssel-schlüssel", KeyProblem.MALFORMED),
    "its digits are of another script": (TEXT[:-1] + "٣", KeyProblem.MALFORMED),
    "it is endless": ("x" * 513, KeyProblem.MALFORMED),
    "two headers were joined": (f"{TEXT}, {TEXT}", KeyProblem.SEVERAL),
    "two headers were joined without a blank": (f"{TEXT},{FOREIGN}", KeyProblem.SEVERAL),
    "two foreign keys were joined": (f"{FOREIGN},{FOREIGN}", KeyProblem.SEVERAL),
    "two foreign keys have a blank between them": (f"{FOREIGN} {FOREIGN}", KeyProblem.SEVERAL),
    "a comma follows": (f"{TEXT},", KeyProblem.SEVERAL),
    "it was pasted twice": (TEXT + TEXT, KeyProblem.SEVERAL),
    "it was pasted twice with a blank": (f"{TEXT} {TEXT}", KeyProblem.SEVERAL),
    "nobody knows the key": (mint(b"\7" * 32)[0], KeyProblem.UNKNOWN),
    "nobody imported it": ("sk-live-none", KeyProblem.UNKNOWN),
    "it is a foreign key with a letter in capitals": (FOREIGN.replace("a", "A"), KeyProblem.UNKNOWN),
    "it is a digest": (DIGEST.hex(), KeyProblem.UNKNOWN),
    "it is a secret alone": (SECRET, KeyProblem.UNKNOWN),
}


@pytest.mark.parametrize(("text", "problem"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_key_of_ours_is_refused_with_its_reason(text, problem):
    assert refusal(text).problem is problem


def test_the_longest_foreign_key_is_a_key():
    assert digest_of("x" * 512) == hashlib.sha256(b"x" * 512).digest()


# ---- which keys are good now


def test_a_good_key_has_its_record():
    assert admit(BOOK, TEXT, NOW) is KEY


def test_an_imported_key_of_any_shape_has_its_record():
    assert admit(BOOK, FOREIGN, NOW) is IMPORTED


def test_a_book_that_gives_another_key_is_not_believed():
    with pytest.raises(KeyRefused) as caught:
        admit({DIGEST: IMPORTED}, TEXT, NOW)
    assert caught.value.problem is KeyProblem.UNKNOWN


TIMES = [
    ({}, None),
    ({"expires": NOW + 1}, None),
    ({"expires": NOW}, KeyProblem.EXPIRED),
    ({"revoked": NOW}, KeyProblem.REVOKED),
    ({"revoked": NOW + 3600}, KeyProblem.REVOKED),  # by a clock that is ahead
    ({"replaced_by": "0" * 16, "until": NOW + 1}, None),
    ({"replaced_by": "0" * 16, "until": NOW}, KeyProblem.REPLACED),
    ({"expires": NOW, "revoked": NOW, "until": NOW}, KeyProblem.REVOKED),
]


@pytest.mark.parametrize(("changes", "problem"), TIMES)
def test_a_key_is_good_until_it_is_revoked_expired_or_replaced(changes, problem):
    assert verdict(replace(KEY, **changes), NOW) is problem


@given(instants, instants, instants, st.floats(0, 2**32))
def test_a_key_is_never_accepted_after_revocation_expiry_or_the_end_of_the_overlap(expires, revoked, until, now):
    key = replace(KEY, expires=expires, revoked=revoked, until=until)
    if verdict(key, now) is None:
        assert revoked is None
        assert expires is None or now < expires
        assert until is None or now < until


@given(instants, instants, instants, st.floats(0, 2**32), st.floats(0, 2**32))
def test_a_key_that_is_bad_is_never_good_again(expires, revoked, until, now, later):
    key = replace(KEY, expires=expires, revoked=revoked, until=until)
    if verdict(key, now) is not None:
        assert verdict(key, max(now, later)) is not None


# ---- what is said of a key


@pytest.mark.parametrize("changes", [{"revoked": NOW}, {"expires": NOW}, {"until": NOW}])
def test_a_refusal_of_a_known_key_says_whose_it_is(changes):
    refused = refusal(TEXT, **changes)
    assert refused.detail.startswith(f"{KEY.name} of acme ")
    assert refused.key is not None
    assert refused.key.owner == "acme"


def test_a_refusal_of_an_unknown_key_of_ours_names_its_public_part():
    text, digest = mint(b"\7" * 32)
    assert refusal(text).detail == f"there is no key ask_{digest.hex()[:16]}"


@pytest.mark.parametrize(("text", "problem"), REFUSED.values(), ids=REFUSED)
def test_no_refusal_holds_what_was_sent(text, problem):
    refused = refusal(text)
    told = " ".join([str(refused), repr(refused), refused.detail])
    assert SECRET not in told
    assert FOREIGN not in told
    assert len(text) < 16 or text in (KEY.name,) or text not in told


def test_a_record_shows_neither_secret_nor_digest():
    assert SECRET not in repr(KEY)
    assert DIGEST.hex() not in repr(KEY)
    assert repr(DIGEST) not in repr(KEY)


def test_every_problem_has_a_slug_of_its_own_that_names_api_keys():
    assert all("api_key" in problem.value for problem in KeyProblem)


# ---- whom a key speaks for


def test_a_key_is_an_identity_like_a_token():
    found = identity(KEY, "api-keys")
    assert (found.provider, found.user_id, found.roles, found.scopes) == (
        "api-keys", "acme", ("reader",), ("orders:read",)
    )  # fmt: skip
    assert (found.client, found.tenants, found.subject_type) == (KEY.id, ("t-1",), "app")
    assert found.claims == {"sub": "acme", "plan": "pro", "tenant": "t-1"}


def test_free_claims_do_not_count_before_what_the_key_says_itself():
    claims = identity(replace(KEY, claims={"plan": "gold", "beta": True}), "api-keys").claims
    assert (claims["plan"], claims["beta"]) == ("pro", True)


def test_a_key_without_tenant_has_none():
    assert identity(IMPORTED, "api-keys").tenants == ()
