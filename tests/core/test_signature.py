"""Verifiers: what one key and one algorithm say to bytes. Forged signatures are in test_jose_quirks.py."""

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from authsvc.core import signature
from keys import TestKey, jwk, key
from keys import signature as make

ALGORITHMS = sorted(signature.ALGORITHMS)


class Raising:
    """A verifier that fails in a way nobody foresaw."""

    def verify(self, msg, sig):
        raise MemoryError


class Truthy:
    """A verifier that answers something which is not quite yes."""

    def verify(self, msg, sig):
        return 1


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_a_verifier_says_yes_to_the_right_signature_only(alg):
    verifier = signature.build(jwk(key(alg)), alg)
    made = make(b"message", key(alg))
    assert signature.matches(verifier, b"message", made)
    assert not signature.matches(verifier, b"messagf", made)
    assert not signature.matches(verifier, b"message", made[:-1])
    assert not signature.matches(verifier, b"message", made + b"\0")
    assert not signature.matches(verifier, b"message", b"")
    assert not signature.matches(verifier, b"message", make(b"message", key(alg, number=1)))


@pytest.mark.parametrize("alg", ["PS256", "PS384", "PS512"])
@pytest.mark.parametrize("made_with", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"])
def test_padding_and_hash_must_both_be_those_of_the_algorithm(alg, made_with):
    verifier = signature.build(jwk(key(alg)), alg)
    assert signature.matches(verifier, b"message", make(b"message", key(made_with))) is (alg == made_with)


def test_a_pss_salt_of_another_length_is_refused():
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), 20)
    made = key("PS256").private.sign(b"message", pss, hashes.SHA256())
    assert not signature.matches(signature.build(jwk(key("PS256")), "PS256"), b"message", made)


@pytest.mark.parametrize("verifier", [Raising(), Truthy()])
def test_whatever_is_not_a_plain_yes_is_a_no(verifier):
    assert signature.matches(verifier, b"message", b"signature") is False


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_the_key_type_of_each_algorithm_is_stated(alg):
    shape = jwk(TestKey(key(alg).private, alg, None))
    assert signature.KEY_TYPES[alg] == (shape["kty"], shape.get("crv", ""))


def test_base64url_numbers_are_big_endian():
    assert signature.uint("AQAB") == 65537
    assert signature.octets("-_8") == b"\xfb\xff"


def test_the_librarys_own_arithmetic_is_not_accepted():
    with pytest.raises(ImportError, match=r"install python-jose\[cryptography\]"):
        signature._require_backend(Raising, "CryptographyECKey")
