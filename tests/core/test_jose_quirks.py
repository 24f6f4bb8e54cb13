"""Every trap of python-jose 3.5.0 that was measured, row by row: each is closed here, whatever the library does.

A case is a change to a good token or to a good key set. Every test first sees the good one pass, so that none can
be refused for another reason than its own.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import hmac
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jose import backends

import authsvc
from authsvc.core import jwks, signature
from authsvc.core.model import Reason
from keys import TestKey, b64, dumps, jwk, key, raw_token, sign, uint
from keys import signature as make_signature
from worlds import ISSUER, NOW, FakeKeys, call, claims, gate, key_set, provider, reason, token

SOURCES = sorted(Path(authsvc.__file__).parent.rglob("*.py"))
ALL = frozenset(signature.ALGORITHMS)
HEADER = {"alg": "RS256", "kid": "k1", "typ": "JWT"}


def header(text: str) -> str:
    """A good token whose header is exactly this text."""
    return raw_token(text.encode(), dumps(claims()), key())


def payload(text: str | bytes) -> str:
    """A token whose payload is exactly this text."""
    return raw_token(dumps(HEADER), text if isinstance(text, bytes) else text.encode(), key())


def spliced(first: str, second: str) -> str:
    """A good payload, but for this text at its start and this one at its end."""
    return payload("{" + first + dumps(claims()).decode()[1:-1] + second + "}")


def with_claim(name: str, text: str) -> str:
    """A good token whose claim `name` is exactly this JSON text."""
    marked = dumps(claims(**{name: "MARK"})).decode()
    return payload(marked.replace('"MARK"', text))


def hmac_token(secret: bytes, alg: str = "HS256", **more: str) -> str:
    signing_input = f"{b64(dumps({'alg': alg, 'kid': 'k1', **more}))}.{b64(dumps(claims()))}"
    return f"{signing_input}.{b64(hmac.new(secret, signing_input.encode(), hashlib.sha256).digest())}"


def unsigned(alg: object) -> str:
    return f"{b64(dumps({'alg': alg, 'kid': 'k1'}))}.{b64(dumps(claims()))}."


def der(signer: TestKey) -> bytes:
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    return signer.private.public_key().public_bytes(serialization.Encoding.DER, spki)


def pem(signer: TestKey) -> bytes:
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    return signer.private.public_key().public_bytes(serialization.Encoding.PEM, spki)


def parts(changed: int, change) -> str:
    """A good token with one of its three parts changed as text."""
    segments = token().split(".")
    segments[changed] = change(segments[changed])
    return ".".join(segments)


def resigned(changed: int, change) -> str:
    """A good token whose part 0 or 1 is changed as text before it is signed."""
    segments = [b64(dumps(HEADER)), b64(dumps(claims()))]
    segments[changed] = change(segments[changed])
    signing_input = ".".join(segments)
    return f"{signing_input}.{b64(make_signature(signing_input.encode(), key()))}"


def stray_bits(text: str) -> str:
    """The same bytes in another spelling: a last character whose unused bits are set."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    assert len(text) % 4
    return text[:-1] + alphabet[alphabet.index(text[-1]) + 1]


MALFORMED, ALG = Reason.MALFORMED_TOKEN, Reason.UNSUPPORTED_ALGORITHM
INVALID, TYPE, CRIT = Reason.INVALID_CLAIM, Reason.WRONG_TOKEN_TYPE, Reason.CRITICAL_HEADER
AUD, MISSING, ISS = Reason.WRONG_AUDIENCE, Reason.MISSING_CLAIM, Reason.UNKNOWN_ISSUER
BAD, UNKNOWN = Reason.INVALID_SIGNATURE, Reason.UNKNOWN_KEY

DEEP = "[" * 2000 + "]" * 2000  # what a token of 8 kB can hold
TOKENS = {
    "J01_the_header_names_an_algorithm_that_the_provider_does_not_list": (lambda: token(signer=key("ES384")), ALG),
    "J02_the_header_names_a_part_of_an_algorithms_name": (lambda: token({"alg": "RS"}), ALG),
    "J02_the_header_names_nothing": (lambda: token({"alg": ""}), ALG),
    "J03_alg_none": (lambda: unsigned("none"), ALG),
    "J03_alg_none_in_other_letters": (lambda: unsigned("nOnE"), ALG),
    "J03_alg_none_in_capitals": (lambda: unsigned("NONE"), ALG),
    "J03_alg_none_with_a_good_signature": (lambda: token({"alg": "none"}), ALG),
    "J03_alg_missing": (lambda: token({"alg": ...}), ALG),
    "J03_alg_null": (lambda: token({"alg": None}), ALG),
    "J03_alg_a_list": (lambda: token({"alg": ["RS256"]}), ALG),
    "J03_alg_an_object": (lambda: token({"alg": {"RS256": 1}}), ALG),
    "J03_alg_a_number": (lambda: token({"alg": 256}), ALG),
    "J03_alg_true": (lambda: token({"alg": True}), ALG),
    "J03_alg_in_small_letters": (lambda: token({"alg": "rs256"}), ALG),
    "J03_alg_with_a_space": (lambda: token({"alg": "RS256 "}), ALG),
    "J03_alg_with_a_NUL": (lambda: token({"alg": "RS256\0"}), ALG),
    "J03_no_signature_at_all": (lambda: parts(2, lambda _: ""), BAD),
    "J04_the_header_says_another_algorithm_than_the_key": (lambda: token(signer=key("PS256")), UNKNOWN),
    "J06_the_kid_is_that_of_no_key": (lambda: token({"kid": "k2"}), UNKNOWN),
    "J06_signed_with_a_key_that_is_not_listed": (lambda: token(signer=key(number=1)), BAD),
    "J11_an_HMAC_with_the_public_key_as_PEM": (lambda: hmac_token(pem(key())), ALG),
    "J11_an_HMAC_with_the_public_key_as_a_JWK": (lambda: hmac_token(dumps(jwk(key()))), ALG),
    "J12_an_HMAC_with_the_public_key_as_DER": (lambda: hmac_token(der(key())), ALG),
    "J12_an_HMAC_with_the_public_key_as_bare_base64": (lambda: hmac_token(base64.b64encode(der(key()))), ALG),
    "J12_an_HMAC_with_an_empty_key": (lambda: hmac_token(b""), ALG),
    "J12_an_HMAC_with_a_key_of_one_byte": (lambda: hmac_token(b"x"), ALG),
    "J12_an_HMAC_that_calls_itself_RS256": (lambda: hmac_token(der(key()), "RS256"), BAD),
    "J19_a_key_in_the_header": (lambda: token({"jwk": jwk(key(number=1))}, key(number=1)), BAD),
    "J19_a_key_in_the_header_and_its_kid": (
        lambda: token({"jwk": jwk(key(kid="k9", number=1))}, key(kid="k9", number=1)),
        UNKNOWN,
    ),
    "J19_the_address_of_a_key_set_in_the_header": (
        lambda: token({"jku": "https://evil.example/jwks"}, key(number=1)),
        BAD,
    ),
    "J19_the_address_of_a_certificate_in_the_header": (
        lambda: token({"x5u": "https://evil.example/c"}, key(number=1)),
        BAD,
    ),
    "J19_a_certificate_in_the_header": (lambda: token({"x5c": ["MIIB"]}, key(number=1)), BAD),
    "J20_an_unknown_extension": (lambda: token({"crit": ["exp"]}), CRIT),
    "J20_an_empty_crit": (lambda: token({"crit": []}), CRIT),
    "J20_a_crit_that_is_null": (lambda: token({"crit": None}), CRIT),
    "J20_a_crit_that_is_a_string": (lambda: token({"crit": "b64"}), CRIT),
    "J20_b64_false": (lambda: token({"b64": False}), CRIT),
    "J20_b64_true": (lambda: token({"b64": True, "crit": ["b64"]}), CRIT),
    "J21_a_logout_token": (lambda: token({"typ": "logout+jwt"}), TYPE),
    "J21_a_proof_of_possession": (lambda: token({"typ": "dpop+jwt"}), TYPE),
    "J21_a_security_event": (lambda: token({"typ": "secevent+jwt"}), TYPE),
    "J21_a_security_event_that_says_so_in_long": (lambda: token({"typ": "application/secevent+jwt"}), TYPE),
    "J21_an_introspection_answer": (lambda: token({"typ": "token-introspection+jwt"}), TYPE),
    "J21_an_authorization_request": (lambda: token({"typ": "oauth-authz-req+jwt"}), TYPE),
    "J21_a_client_assertion": (lambda: token({"typ": "client-authentication+jwt"}), TYPE),
    "J21_typ_null": (lambda: token({"typ": None}), TYPE),
    "J21_typ_a_list": (lambda: token({"typ": ["JWT"]}), TYPE),
    "J21_typ_empty": (lambda: token({"typ": ""}), TYPE),
    "J21_an_event_in_the_claims": (lambda: token(events={"x": {}}), TYPE),
    "J21_Keycloak_refresh_token": (lambda: token(typ="Refresh"), TYPE),
    "J21_Keycloak_offline_token": (lambda: token(typ="Offline"), TYPE),
    "J21_Keycloak_logout_token": (lambda: token(typ="Logout"), TYPE),
    "J21_Cognito_ID_token": (lambda: token(token_use="id"), TYPE),
    "J22_a_duplicate_alg_in_the_header": (lambda: header('{"alg":"none","alg":"RS256","kid":"k1"}'), MALFORMED),
    "J22_a_duplicate_alg_with_equal_values": (lambda: header('{"alg":"RS256","alg":"RS256","kid":"k1"}'), MALFORMED),
    "J22_a_duplicate_kid_in_the_header": (lambda: header('{"alg":"RS256","kid":"k2","kid":"k1"}'), MALFORMED),
    "J22_a_duplicate_sub": (lambda: spliced('"sub":"admin",', ""), MALFORMED),
    "J22_a_duplicate_sub_at_the_end": (lambda: spliced("", ',"sub":"admin"'), MALFORMED),
    "J22_a_duplicate_exp": (lambda: spliced('"exp":1,', ""), MALFORMED),
    "J22_a_duplicate_spelled_with_an_escape": (lambda: spliced('"\\u0073ub":"admin",', ""), MALFORMED),
    "J22_a_duplicate_deep_inside": (lambda: spliced('"x":{"y":[{"z":1,"z":1}]},', ""), MALFORMED),
    "J23_NaN": (lambda: with_claim("exp", "NaN"), MALFORMED),
    "J23_Infinity": (lambda: with_claim("exp", "Infinity"), MALFORMED),
    "J23_a_number_beyond_all_floats": (lambda: with_claim("exp", "1e999"), MALFORMED),
    "J23_NaN_in_a_claim_that_nobody_reads": (lambda: with_claim("x", "NaN"), MALFORMED),
    "J23_NaN_in_the_header": (lambda: header('{"alg":"RS256","kid":"k1","x":NaN}'), MALFORMED),
    "J24_deep_nesting_in_the_header": (
        lambda: header('{"alg":"RS256","kid":"k1","x":' + DEEP[1500:-1500] + "}"),
        MALFORMED,
    ),
    "J24_deep_nesting_in_the_payload": (lambda: spliced(f'"x":{DEEP[500:-500]},', ""), MALFORMED),
    "J24_nesting_one_level_too_deep": (lambda: spliced(f'"x":{"[" * 32}{"]" * 32},', ""), MALFORMED),
    "J24_deep_nesting_behind_brackets_in_a_string": (
        lambda: spliced(f'"s":"{"]" * 300}","x":{"[" * 300}{"]" * 300},', ""),
        MALFORMED,
    ),
    "J24_nesting_deeper_than_any_token_may_be": (
        lambda: header('{"x":' + "[" * 200_000),
        Reason.TOKEN_TOO_LARGE,
    ),
    "J25_an_integer_of_4301_digits": (lambda: with_claim("exp", "1" * 4301), MALFORMED),
    "J25_an_integer_of_4000_digits": (lambda: with_claim("exp", "1" * 4000), INVALID),
    "J26_a_payload_that_is_no_UTF8": (lambda: payload(dumps(claims(x="MARK")).replace(b"MARK", b"\xff")), MALFORMED),
    "J26_a_payload_with_a_byte_order_mark": (lambda: payload(b"\xef\xbb\xbf" + dumps(claims())), MALFORMED),
    "J26_a_payload_in_UTF16": (lambda: payload(json.dumps(claims()).encode("utf-16")), MALFORMED),
    "J26_a_header_in_UTF16": (
        lambda: raw_token(json.dumps(HEADER).encode("utf-16"), dumps(claims()), key()),
        MALFORMED,
    ),
    "J27_exp_a_string": (lambda: token(exp=str(NOW + 300)), INVALID),
    "J27_exp_a_string_with_spaces": (lambda: token(exp=f" {NOW + 300} "), INVALID),
    "J27_exp_a_string_with_underscores": (lambda: token(exp="9_999_999_999"), INVALID),
    "J27_exp_a_string_of_Arabic_digits": (lambda: token(exp="٩٩٩٩٩٩٩٩٩٩"), INVALID),
    "J27_exp_true": (lambda: token(exp=True), INVALID),
    "J27_nbf_false": (lambda: token(nbf=False), INVALID),
    "J27_iat_a_string": (lambda: token(iat="0"), INVALID),
    "J28_exp_null": (lambda: token(exp=None), INVALID),
    "J28_exp_a_list": (lambda: token(exp=[NOW + 300]), INVALID),
    "J28_exp_an_object": (lambda: token(exp={}), INVALID),
    "J28_nbf_null": (lambda: token(nbf=None), INVALID),
    "J28_iat_null": (lambda: token(iat=None), INVALID),
    "J28_iat_a_list": (lambda: token(iat=[]), INVALID),
    "J29_exp_minus_infinity": (lambda: with_claim("exp", "-Infinity"), MALFORMED),
    "J29_nbf_below_all_floats": (lambda: with_claim("nbf", "-1e999"), MALFORMED),
    "J29_exp_beyond_the_whole_numbers_of_a_float": (lambda: token(exp=2**53), INVALID),
    "J29_exp_a_huge_float": (lambda: with_claim("exp", "1e300"), INVALID),
    "J29_nbf_below_zero": (lambda: token(nbf=-1), INVALID),
    "J30_exp_is_now_to_the_skew": (lambda: token(exp=NOW - 60), Reason.EXPIRED),
    "J30_exp_a_fraction_before_now_to_the_skew": (lambda: token(exp=NOW - 60.001), Reason.EXPIRED),
    "J31_no_exp": (lambda: token(exp=...), MISSING),
    "J32_iat_ten_years_from_now": (
        lambda: token(iat=NOW + 315_360_000, exp=NOW + 315_360_300),
        Reason.ISSUED_IN_FUTURE,
    ),
    "J33_nbf_a_fraction_beyond_the_skew": (lambda: token(nbf=NOW + 60.001), Reason.NOT_YET_VALID),
    "J33_iat_a_fraction_beyond_the_skew": (lambda: token(iat=NOW + 60.001), Reason.ISSUED_IN_FUTURE),
    "J34_no_aud": (lambda: token(aud=...), AUD),
    "J35_aud_empty": (lambda: token(aud=""), AUD),
    "J35_aud_an_empty_list": (lambda: token(aud=[]), AUD),
    "J35_aud_null": (lambda: token(aud=None), AUD),
    "J35_aud_an_object": (lambda: token(aud={"orders-api": True}), AUD),
    "J35_aud_a_mixed_list": (lambda: token(aud=["orders-api", 1]), AUD),
    "J35_aud_a_list_in_a_list": (lambda: token(aud=[["orders-api"]]), AUD),
    "J35_aud_in_capitals": (lambda: token(aud="Orders-Api"), AUD),
    "J35_aud_with_a_slash": (lambda: token(aud="orders-api/"), AUD),
    "J35_aud_that_ours_begins": (lambda: token(aud="orders-api-v2"), AUD),
    "J36_several_audiences_and_none_is_ours": (lambda: token(aud=["billing", "orders"]), AUD),
    "J37_no_iss": (lambda: token(iss=...), ISS),
    "J37_iss_null": (lambda: token(iss=None), ISS),
    "J37_iss_a_list": (lambda: token(iss=[ISSUER]), ISS),
    "J37_iss_an_object": (lambda: token(iss={}), ISS),
    "J37_iss_empty": (lambda: token(iss=""), ISS),
    "J37_iss_with_a_slash_more": (lambda: token(iss=ISSUER + "/"), ISS),
    "J37_iss_in_capitals": (lambda: token(iss=ISSUER.upper()), ISS),
    "J37_iss_a_name_that_python_gives_every_object": (lambda: token(iss="__class__"), ISS),
    "J37_iss_the_providers_name": (lambda: token(iss="main"), ISS),
    "J38_no_sub": (lambda: token(sub=...), MISSING),
    "J38_sub_empty": (lambda: token(sub=""), MISSING),
    "J38_sub_null": (lambda: token(sub=None), MISSING),
    "J38_sub_a_number": (lambda: token(sub=1), MISSING),
    "J38_sub_a_list": (lambda: token(sub=["u-1"]), MISSING),
    "J38_sub_too_long": (lambda: token(sub="u" * 513), INVALID),
    "J39_an_ID_token_with_at_hash": (lambda: token(at_hash="x"), TYPE),
    "J39_an_ID_token_with_c_hash": (lambda: token(c_hash="x"), TYPE),
    "J39_an_ID_token_with_a_nonce": (lambda: token(nonce="x"), TYPE),
    "J39_Keycloak_ID_token": (lambda: token(typ="ID"), TYPE),
    "J40_junk_in_the_signature": (lambda: parts(2, lambda s: s[:5] + "!" + s[5:]), MALFORMED),
    "J40_a_hash_in_the_signature": (lambda: parts(2, lambda s: s[:5] + "#" + s[5:]), MALFORMED),
    "J40_a_question_mark_in_the_signature": (lambda: parts(2, lambda s: s + "?"), MALFORMED),
    "J40_a_space_in_the_signature": (lambda: parts(2, lambda s: s[:5] + " " + s[5:]), MALFORMED),
    "J40_a_line_feed_at_the_end": (lambda: token() + "\n", MALFORMED),
    "J40_padding": (lambda: parts(2, lambda s: s + "=" * (-len(s) % 4)), MALFORMED),
    "J40_a_tail_after_padding": (lambda: parts(2, lambda s: s + "==AAAA"), MALFORMED),
    "J40_the_other_alphabet": (lambda: parts(2, lambda s: "+/" + s[2:]), MALFORMED),
    "J40_stray_bits_in_the_signature": (lambda: parts(2, stray_bits), MALFORMED),
    "J40_a_length_that_no_bytes_have": (lambda: parts(2, lambda s: s + "AAA"), MALFORMED),
    "J40_junk_in_a_signed_header": (lambda: resigned(0, lambda s: s[:5] + "!" + s[5:]), MALFORMED),
    "J40_junk_in_a_signed_payload": (lambda: resigned(1, lambda s: s[:5] + "!" + s[5:]), MALFORMED),
    "J40_padding_in_a_signed_payload": (lambda: resigned(1, lambda s: s + "=" * (-len(s) % 4 or 4)), MALFORMED),
    "J41_four_parts_of_which_three_are_signed": (lambda: resigned(1, lambda s: s + ".YWI"), MALFORMED),
    "J41_two_parts": (lambda: ".".join(token().split(".")[:2]), MALFORMED),
    "J41_one_part": (lambda: "abc", MALFORMED),
    "J41_nothing": (lambda: "", MALFORMED),
    "J41_a_dot_in_front": (lambda: "." + token(), MALFORMED),
    "J41_a_dot_behind": (lambda: token() + ".", MALFORMED),
    "J41_five_parts": (lambda: token() + ".YWI.YWI", Reason.ENCRYPTED_TOKEN),
    "J41_only_dots": (lambda: "..", MALFORMED),
    "J41_a_JSON_serialisation": (
        lambda: json.dumps(dict(zip(("protected", "payload", "signature"), token().split("."), strict=True))),
        MALFORMED,
    ),
    "J42_a_lone_surrogate": (lambda: parts(2, lambda s: s + "\udcff"), MALFORMED),
    "J42_a_latin1_letter": (lambda: parts(0, lambda s: s + "é"), MALFORMED),
    "J42_a_wide_digit": (lambda: parts(1, lambda s: s + "１"), MALFORMED),
    "J43_a_token_of_five_megabytes": (lambda: token(x="a" * 5_000_000), Reason.TOKEN_TOO_LARGE),
    "J43_a_token_of_one_byte_too_many": (lambda: "." * 8193, Reason.TOKEN_TOO_LARGE),
    "J44_an_RS256_signature_under_a_PS256_header": (lambda: sign({"alg": "PS256"}, claims(), key()), UNKNOWN),
    "J48_kid_a_list": (lambda: token({"kid": ["k1"]}), MALFORMED),
    "J48_kid_an_object": (lambda: token({"kid": {"k1": 1}}), MALFORMED),
    "J48_kid_a_number": (lambda: token({"kid": 1}), MALFORMED),
    "J48_kid_true": (lambda: token({"kid": True}), MALFORMED),
    "J48_kid_empty": (lambda: token({"kid": ""}), MALFORMED),
    "J48_kid_too_long": (lambda: token({"kid": "k" * 257}), MALFORMED),
    "J48_kid_a_path": (lambda: token({"kid": "../../dev/null"}), UNKNOWN),
    "J48_kid_of_SQL": (lambda: token({"kid": "' UNION SELECT 'k1"}), UNKNOWN),
    "J48_kid_half_a_surrogate_pair": (lambda: token({"kid": "\ud800"}), UNKNOWN),
    "J48_kid_in_capitals": (lambda: token({"kid": "K1"}), UNKNOWN),
    "J48_kid_with_a_NUL": (lambda: token({"kid": "k1\0"}), UNKNOWN),
}


@pytest.mark.parametrize(("make", "expected"), TOKENS.values(), ids=TOKENS.keys())
def test_a_changed_token_is_refused_and_the_good_one_is_not(make, expected):
    keys = FakeKeys(key_set(key()))
    assert reason(token(), gate(keys)) is Reason.ALLOWED
    assert reason(make(), gate(keys)) is expected
    assert keys.downloads == (expected in (BAD, UNKNOWN))  # whatever costs nothing to refuse causes no download


HARMLESS = {
    "J21_an_access_token_by_its_type": lambda: token({"typ": "at+jwt"}),
    "J21_an_access_token_by_its_long_type_in_any_letters": lambda: token({"typ": "application/AT+JWT"}),
    "J21_no_type": lambda: token({"typ": ...}),
    "J21_Keycloak_access_token_with_a_nonce": lambda: token(typ="Bearer", nonce="x"),
    "J21_Cognito_access_token": lambda: token(token_use="access"),
    "J24_nesting_just_deep_enough": lambda: spliced(f'"x":{"[" * 31}{"]" * 31},', ""),
    "J30_exp_just_within_the_skew": lambda: token(exp=NOW - 59.999),
    "J30_exp_with_a_fraction": lambda: token(exp=NOW + 0.5),
    "J33_nbf_just_within_the_skew": lambda: token(nbf=NOW + 60),
    "J33_iat_just_within_the_skew": lambda: token(iat=NOW + 60),
    "J36_several_audiences_and_one_is_ours": lambda: token(aud=["billing", "orders-api"]),
    "J38_sub_as_long_as_may_be": lambda: token(sub="u" * 512),
    "J46_half_a_surrogate_pair_in_a_claim": lambda: token(sub="\ud800"),
    "J46_line_feeds_in_a_claim": lambda: token(sub="a\r\nX-User-Roles: admin"),
    "J48_kid_absent_and_one_key": lambda: token({"kid": ...}),
    "J48_kid_null_and_one_key": lambda: token({"kid": None}),
}


@pytest.mark.parametrize("make", HARMLESS.values(), ids=HARMLESS.keys())
def test_what_is_unusual_but_right_passes(make):
    assert reason(make()) is Reason.ALLOWED


def test_J46_what_a_claim_holds_reaches_the_headers_as_plain_ascii():
    deciding = gate(extract={"X-User-Name": ("name",)})
    bearer = token(sub="a\r\nX-User-Roles: admin", name="\ud800\x00é")
    headers = dict(deciding.decide(call(bearer), NOW)[1])
    assert headers["X-User-Id"] == "a%0D%0AX-User-Roles: admin"
    assert headers["X-User-Name"] == "%ED%A0%80%00%C3%A9"


# Key sets ----------------------------------------------------------------------------------------------------------


def weak_rsa(bits: int, exponent: int = 65537) -> TestKey:
    return TestKey(rsa.generate_private_key(exponent, bits), "RS256", "weak")


def private_jwk(signer: TestKey) -> dict[str, str]:
    return jwk(signer, d=uint(signer.private.private_numbers().d))


def es(alg: str) -> TestKey:
    """A key on the curve of this algorithm, under the kid `odd`."""
    return key(alg, kid="odd")


DROPPED = {
    "J04_a_key_for_another_algorithm_than_all_accepted": lambda: jwk(key(kid="odd", number=1), alg="HS256"),
    "J05_a_key_for_encryption": lambda: jwk(key(kid="odd", number=1), use="enc"),
    "J05_a_key_whose_use_is_null": lambda: jwk(key(kid="odd", number=1), use=None),
    "J05_a_key_whose_operations_are_encrypt": lambda: jwk(key(kid="odd", number=1), key_ops=["encrypt"]),
    "J05_a_key_whose_operations_are_none": lambda: jwk(key(kid="odd", number=1), key_ops=[]),
    "J05_a_key_whose_operations_are_a_string": lambda: jwk(key(kid="odd", number=1), key_ops="verify"),
    "J07_a_key_of_an_unknown_type": lambda: {"kty": "AKP", "kid": "odd", "pub": "AA"},
    "J07_an_X25519_key": lambda: {"kty": "OKP", "crv": "X25519", "x": b64(bytes(32)), "kid": "odd"},
    "J08_no_modulus": lambda: jwk(key(kid="odd", number=1), n=...),
    "J08_no_exponent": lambda: jwk(key(kid="odd", number=1), e=...),
    "J08_a_modulus_that_is_no_base64": lambda: jwk(key(kid="odd", number=1), n="A"),
    "J08_a_modulus_beyond_ascii": lambda: jwk(key(kid="odd", number=1), n="é" * 400),
    "J08_a_modulus_that_is_a_number": lambda: jwk(key(kid="odd", number=1), n=3),
    "J08_an_unknown_curve": lambda: jwk(es("ES256"), crv="P-192"),
    "J08_a_curve_that_is_a_list": lambda: jwk(es("ES256"), crv=["P-256"]),
    "J08_a_point_off_the_curve": lambda: jwk(es("ES256"), y=b64(bytes(31) + b"\x01")),
    "J08_the_point_at_zero": lambda: jwk(es("ES256"), x=b64(bytes(32)), y=b64(bytes(32))),
    "J08_an_Ed25519_key_of_31_bytes": lambda: jwk(key("EdDSA", kid="odd"), x=b64(bytes(31))),
    "J08_null": lambda: None,
    "J08_a_string": lambda: "odd",
    "J08_a_list": list,
    "J08_an_empty_object": dict,
    "J08_a_type_that_is_a_list": lambda: jwk(key(kid="odd", number=1), kty=["RSA"]),
    "J08_a_type_that_is_an_object": lambda: jwk(key(kid="odd", number=1), kty={}),
    "J10_a_symmetric_key": lambda: {"kty": "oct", "k": b64(b"x" * 32), "kid": "odd", "alg": "HS256"},
    "J10_a_symmetric_key_that_calls_itself_RS256": lambda: {"kty": "oct", "k": b64(b"x"), "kid": "odd", "alg": "RS256"},
    "J12_an_empty_symmetric_key": lambda: {"kty": "oct", "k": "", "kid": "odd"},
    "J13_an_RSA_key_of_1024_bits": lambda: jwk(weak_rsa(1024), kid="odd"),
    "J13_an_RSA_key_with_exponent_3": lambda: jwk(weak_rsa(2048, 3), kid="odd"),
    "J13_an_RSA_key_with_exponent_1": lambda: jwk(key(kid="odd", number=1), e=uint(1)),
    "J13_an_RSA_key_with_an_even_exponent": lambda: jwk(key(kid="odd", number=1), e=uint(65538)),
    "J13_an_RSA_key_with_a_huge_exponent": lambda: jwk(key(kid="odd", number=1), e=uint(2**32 + 1)),
    "J13_an_RSA_key_of_8193_bits": lambda: jwk(key(kid="odd", number=1), n=uint(2**8192 + 1)),
    "J13_an_RSA_key_with_an_even_modulus": lambda: jwk(key(kid="odd", number=1), n=uint(2**2047 + 2)),
    "J14_an_RSA_key_of_the_broken_generator": lambda: jwk(key(kid="odd", number=1), n=uint(pow(65537, 150))),
    "J15_a_private_RSA_key": lambda: private_jwk(key(kid="odd", number=1)),
    "J15_an_EC_key_with_d": lambda: jwk(es("ES256"), d="AA"),
    "J15_an_EC_key_with_an_empty_d": lambda: jwk(es("ES256"), d=""),
    "J15_an_RSA_key_with_primes": lambda: jwk(key(kid="odd", number=1), p="AA", q="AA"),
    "J16_an_ES256_key_on_P384": lambda: jwk(es("ES384"), alg="ES256"),
    "J16_an_ES512_key_on_P256": lambda: jwk(es("ES256"), alg="ES512"),
    "J18_an_ES256K_key": lambda: jwk(es("ES256"), crv="secp256k1", alg="ES256K"),
    "J48_a_kid_that_is_a_list": lambda: jwk(key(number=1), kid=["k1"]),
    "J48_a_kid_that_is_a_number": lambda: jwk(key(number=1), kid=1),
    "J48_a_kid_that_is_too_long": lambda: jwk(key(number=1), kid="k" * 257),
}


@pytest.mark.parametrize("make", DROPPED.values(), ids=DROPPED.keys())
@pytest.mark.parametrize("where", ["before", "after"])
def test_one_bad_key_is_left_out_and_the_others_stay(make, where):
    listed = [make(), jwk(key())] if where == "before" else [jwk(key()), make()]
    keys = jwks.admit({"keys": listed}, ALL, NOW)
    assert [one.kid for one in keys.keys] == ["k1"]
    assert len(keys.dropped) == 1
    assert reason(token(), gate(keys)) is Reason.ALLOWED


@pytest.mark.parametrize("make", DROPPED.values(), ids=DROPPED.keys())
def test_a_set_of_one_bad_key_is_no_set(make):
    with pytest.raises(ValueError, match="no usable key"):
        jwks.admit({"keys": [make()]}, ALL, NOW)


@pytest.mark.parametrize(
    "document",
    [
        pytest.param({"error": "x"}, id="J09_an_error_document"),
        pytest.param({"k1": "-----BEGIN PUBLIC KEY-----"}, id="J09_a_map_of_certificates_as_Firebase_has"),
        pytest.param({}, id="J09_nothing"),
        pytest.param({"keys": None}, id="J08_keys_null"),
        pytest.param({"keys": {}}, id="J08_keys_an_object"),
        pytest.param({"keys": "x"}, id="J08_keys_a_string"),
        pytest.param({"keys": []}, id="J08_keys_an_empty_list"),
        pytest.param(jwk(key()), id="J09_one_key_and_no_set"),
        pytest.param({"keys": [jwk(key())] * 101}, id="J06_more_than_a_hundred_keys"),
    ],
)
def test_what_is_no_key_set_gives_no_keys(document):
    with pytest.raises(ValueError):  # noqa: PT011 - the texts differ, the kind does not
        jwks.admit(document, ALL, NOW)


def gate_for(*listed, algorithms=ALL):
    """A gate whose provider accepts these algorithms and lists these keys."""
    settings = provider(algorithms=frozenset(algorithms))
    return gate(key_set(*listed, algorithms=algorithms), providers=[settings])


@pytest.mark.parametrize("alg", sorted(ALL))
def test_J18_every_algorithm_that_a_config_may_name_verifies(alg):
    assert reason(token(signer=key(alg)), gate_for(key(alg))) is Reason.ALLOWED
    assert reason(token(signer=key(alg, number=1)), gate_for(key(alg))) is BAD


@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512", "none", "ES256K", "RSA1_5", "RSA-OAEP", "Ed448", "dir", ""])
def test_J18_no_other_algorithm_verifies_whatever_a_provider_lists(alg):
    deciding = gate(key_set(key()), providers=[provider(algorithms=frozenset({alg, "RS256"}))])
    assert reason(token(), deciding) is Reason.ALLOWED
    assert reason(token({"alg": alg}), deciding) is ALG


@pytest.mark.parametrize("said", sorted(a for a in ALL if a[0] != "E"))
@pytest.mark.parametrize("made", sorted(a for a in ALL if a[0] != "E"))
def test_J44_an_RSA_key_without_alg_verifies_what_the_header_says_and_nothing_else(made, said):
    deciding = gate_for(jwk(key(), alg=...))
    bearer = sign({"alg": said}, claims(), key(made))
    assert reason(bearer, deciding) is (Reason.ALLOWED if made == said else BAD)


@pytest.mark.parametrize("named", ["RS256", "RS512", "PS256"])
def test_J04_an_RSA_key_with_alg_verifies_that_alg_only(named):
    deciding = gate_for(jwk(key(named)))
    for alg in sorted(a for a in ALL if a[0] != "E"):
        assert reason(token(signer=key(alg)), deciding) is (Reason.ALLOWED if alg == named else UNKNOWN)


@pytest.mark.parametrize("alg", ["ES256", "ES384", "ES512"])
@pytest.mark.parametrize("said", ["ES256", "ES384", "ES512"])
def test_J16_a_curve_verifies_its_one_algorithm(alg, said):
    deciding = gate_for(jwk(key(alg), alg=...))
    assert reason(token({"alg": said}, key(alg)), deciding) is (Reason.ALLOWED if alg == said else UNKNOWN)


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(bytes(64), id="J17_all_zero"),
        pytest.param(b"", id="J17_empty"),
        pytest.param(bytes.fromhex("3006020100020100"), id="J17_zeros_in_DER"),
        pytest.param(bytes(32) + b"\x01" * 32, id="J17_r_is_zero"),
        pytest.param(b"\x01" * 32 + bytes(32), id="J17_s_is_zero"),
        pytest.param(b"\xff" * 64, id="J17_all_ones"),
        pytest.param(bytes(63), id="J17_too_short"),
        pytest.param(bytes(96), id="J17_that_of_another_curve"),
        pytest.param(bytes(10_000 // 4), id="J17_too_long"),
    ],
)
@pytest.mark.parametrize("alg", ["ES256", "ES384", "ES512", "RS256", "PS256", "EdDSA"])
def test_a_signature_that_nobody_made_is_refused(alg, made):
    signing_input, _, _ = token(signer=key(alg)).rpartition(".")
    assert reason(token(signer=key(alg)), gate_for(key(alg))) is Reason.ALLOWED
    assert reason(f"{signing_input}.{b64(made)}", gate_for(key(alg))) is BAD


def test_J17_a_good_ES256_signature_in_DER_is_refused():
    signer = key("ES256")
    signing_input, _, _ = token(signer=signer).rpartition(".")
    in_der = signer.private.sign(signing_input.encode(), ec.ECDSA(hashes.SHA256()))
    assert reason(f"{signing_input}.{b64(in_der)}", gate_for(signer)) is BAD


@pytest.mark.parametrize("alg", sorted(ALL))
def test_J17_no_single_flipped_bit_leaves_a_token_good(alg):
    signer, deciding = key(alg), gate_for(key(alg))
    first, second, third = token(signer=signer).split(".")
    made = bytearray(base64.urlsafe_b64decode(third + "=="))
    for place in range(0, len(made) * 8, 37):
        flipped = bytearray(made)
        flipped[place // 8] ^= 1 << place % 8
        assert reason(f"{first}.{second}.{b64(bytes(flipped))}", deciding) is BAD


def test_J07_a_key_of_another_type_before_the_right_one_does_no_harm():
    others = [jwk(key("ES256", "e")), jwk(key("EdDSA", "d")), {"kty": "oct", "k": "AA", "kid": "o"}]
    assert reason(token(), gate_for(*others, jwk(key()))) is Reason.ALLOWED


def test_J10_a_token_signed_with_a_published_symmetric_key_is_refused():
    secret = {"kty": "oct", "k": b64(b"x" * 32), "kid": "k1", "alg": "HS256"}
    deciding = gate_for(secret, jwk(key()))
    assert reason(token(), deciding) is Reason.ALLOWED
    assert reason(hmac_token(b"x" * 32), deciding) is ALG


def test_J47_of_two_keys_under_one_kid_each_is_tried():
    deciding = gate_for(key(number=0), key(number=1))
    assert reason(token(signer=key(number=0)), deciding) is Reason.ALLOWED
    assert reason(token(signer=key(number=1)), deciding) is Reason.ALLOWED
    assert reason(token(signer=key(number=2)), deciding) is BAD


def test_J47_two_keys_under_one_kid_and_of_two_types_each_verify_their_own():
    deciding = gate_for(key("RS256"), key("ES256"))
    assert reason(token(signer=key("RS256")), deciding) is Reason.ALLOWED
    assert reason(token(signer=key("ES256")), deciding) is Reason.ALLOWED
    assert reason(token({"alg": "ES256"}, key("RS256")), deciding) is BAD


def test_J48_without_a_kid_nothing_is_guessed_among_several_keys():
    deciding = gate_for(key(kid="a"), key(kid="b", number=1))
    assert reason(token(signer=key(kid="a")), deciding) is Reason.ALLOWED
    assert reason(token({"kid": ...}, key(kid="a")), deciding) is UNKNOWN


def test_J48_without_a_kid_the_one_key_that_fits_the_algorithm_is_used():
    deciding = gate_for(key(kid="a"), key("ES256", kid="b"))
    assert reason(token({"kid": ...}, key("ES256")), deciding) is Reason.ALLOWED


def test_J48_a_key_without_a_kid_is_not_that_of_a_token_with_one():
    deciding = gate_for(jwk(key(), kid=...))
    assert reason(token({"kid": ...}), deciding) is Reason.ALLOWED
    assert reason(token(), deciding) is UNKNOWN


# How the library is called -----------------------------------------------------------------------------------------


def imports_jose(source: Path) -> bool:
    for node in ast.walk(ast.parse(source.read_text())):
        names = [one.name for one in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        if any(name.split(".")[0] == "jose" for name in names):
            return True
    return False


def code_words(source: Path) -> set[str]:
    """Every dotted name that the code uses; texts and comments are not code."""
    return {ast.unparse(node) for node in ast.walk(ast.parse(source.read_text())) if isinstance(node, ast.Attribute)}


def test_J06_J45_only_one_room_imports_the_library():
    assert [path.relative_to(path.parents[1]).as_posix() for path in SOURCES if imports_jose(path)] == [
        "core/signature.py"
    ]


@pytest.mark.parametrize(
    "name", ["jwt.decode", "jws.verify", "jwt.get_unverified_header", "jwt.get_unverified_claims", "jwe.decrypt"]
)
def test_J01_J02_J06_J34_J37_the_librarys_own_checks_are_called_nowhere(name):
    assert not [path.name for path in SOURCES if name in code_words(path)]


def test_J01_no_switch_turns_a_check_off():
    assert not [path.name for path in SOURCES if "verify_signature" in path.read_text()]


def test_J18_the_library_runs_on_cryptography_not_on_its_own_arithmetic():
    assert (backends.RSAKey.__name__, backends.ECKey.__name__) == ("CryptographyRSAKey", "CryptographyECKey")


@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512", "none", "ES256K", "A128KW"])
def test_J12_no_symmetric_algorithm_is_known(alg):
    assert alg not in signature.ALGORITHMS


def test_J44_a_verifier_is_looked_up_by_kid_and_by_the_headers_alg():
    keys = key_set(jwk(key(), alg=...), algorithms=["RS256", "RS512"])
    assert len(keys.candidates("k1", "RS256")) == len(keys.candidates("k1", "RS512")) == 1
    assert keys.candidates("k1", "RS256") != keys.candidates("k1", "RS512")
    assert keys.candidates("k1", "PS256") == []
