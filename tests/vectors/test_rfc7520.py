"""The JOSE cookbook: RFC 7520, RFC 7797 and RFC 8037 examples (ietf-jose/cookbook)."""

import json

import pytest

from vectors import FOLDER, accepted, key_set, needed, public, read, token_of

pytestmark = needed
COOKBOOK = "rfc7520-cookbook"
ASYMMETRIC = {
    "RFC 7520 section 4.1, RS256": "jws/4_1.rsa_v15_signature.json",
    "RFC 7520 section 4.2, PS384": "jws/4_2.rsa-pss_signature.json",
    "RFC 7520 section 4.3, ES512": "jws/4_3.ecdsa_signature.json",
    "RFC 8037 appendix A.4, Ed25519": "curve25519/jws.json",
}
SYMMETRIC = {
    "RFC 7520 section 4.4, HS256": "jws/4_4.hmac-sha2_integrity_protection.json",
    "RFC 7520 section 4.5, detached content": "jws/4_5.signature_with_detached_content.json",
    "RFC 7797 section 4.2, b64 is false": "rfc7797/4.2.hmac-sha2_b64_false.json",
    "RFC 7797, b64 is false": "rfc7797/hmac-sha2_b64_false.json",
}
JSON_ONLY = {
    "RFC 7520 section 4.6, a header in the clear": "jws/4_6.protecting_specific_header_fields.json",
    "RFC 7520 section 4.7, only content protected": "jws/4_7.protecting_content_only.json",
    "RFC 7520 section 4.8, several signatures": "jws/4_8.multiple_signatures.json",
}
ENCRYPTED = sorted(path.name for path in (FOLDER / COOKBOOK / "jwe").glob("*.json"))
PUBLIC_KEYS = ["jwk/3_1.ec_public_key.json", "jwk/3_3.rsa_public_key.json"]
OTHER_KEYS = [
    "jwk/3_2.ec_private_key.json",
    "jwk/3_4.rsa_private_key.json",
    "jwk/3_5.symmetric_key_mac_computation.json",
    "jwk/3_6.symmetric_key_encryption.json",
]


def example(name):
    return read(f"{COOKBOOK}/{name}")


@pytest.mark.parametrize("name", ASYMMETRIC.values(), ids=ASYMMETRIC.keys())
def test_a_signature_is_accepted_and_a_changed_one_is_not(name):
    found = example(name)
    text = found["output"]["compact"]
    keys = key_set(public(found["input"]["key"]))
    assert accepted(keys, text)
    head, payload, made = text.split(".")
    assert not accepted(keys, f"{head}.{payload[:-4]}AAAA.{made}")
    assert not accepted(keys, f"{head}.{payload}.AAAA{made[4:]}")


@pytest.mark.parametrize("name", ASYMMETRIC.values(), ids=ASYMMETRIC.keys())
def test_a_private_key_is_not_admitted(name):
    assert key_set(example(name)["input"]["key"]) is None


@pytest.mark.parametrize("name", SYMMETRIC.values(), ids=SYMMETRIC.keys())
def test_a_symmetric_example_is_refused(name):
    found = example(name)
    signing = found["signing"]
    assert key_set(found["input"]["key"]) is None
    text = found["output"].get("compact") or f"{signing['protected_b64u']}.JC4wMg.{signing['sig']}"
    assert token_of(text) is None


@pytest.mark.parametrize("name", JSON_ONLY.values(), ids=JSON_ONLY.keys())
@pytest.mark.parametrize("form", ["json", "json_flat"])
def test_a_token_that_is_json_is_refused(name, form):
    output = example(name)["output"]
    assert token_of(json.dumps(output.get(form) or output["json"])) is None


@pytest.mark.parametrize("name", ENCRYPTED)
def test_an_encrypted_token_is_refused(name):
    output = example(f"jwe/{name}")["output"]
    text = output.get("compact")
    assert text is None or (len(text.split(".")) == 5 and token_of(text) is None)


@pytest.mark.parametrize("name", PUBLIC_KEYS)
def test_a_public_key_is_admitted(name):
    assert key_set(example(name)) is not None


@pytest.mark.parametrize("name", OTHER_KEYS)
def test_a_private_or_symmetric_key_is_not_admitted(name):
    assert key_set(example(name)) is None
