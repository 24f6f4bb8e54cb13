"""Project Wycheproof's JSON Web Signature and Key vectors (C2SP/wycheproof, Apache-2.0)."""

import pytest

from authsvc.core.signature import ALGORITHMS
from vectors import accepted, key_set, needed, read, token_of

pytestmark = needed
SIGNATURES = read("wycheproof/json_web_signature_test.json")
KEYS = read("wycheproof/json_web_key_test.json")

# Where we differ from the verdict of json_web_signature_test.json, and why. Each is a refusal of what is called valid.
STRICTER = {
    346: "the JWK says PS256, the token PS384 (RFC 7517 section 4.4)",
    350: "the JWK says PS256, the token PS384 (RFC 7517 section 4.4)",
    347: "the JWK's alg is ES521, which is no algorithm",
    351: "the JWK's alg is ES521, which is no algorithm",
}


def cases(document, symmetric):
    """Group and vector, of the groups that have no public key, which are the symmetric ones, or of the others."""
    groups = [one for one in document.get("testGroups", []) if ("public" not in one) is symmetric]
    return [pytest.param(group, vector, id=title(group, vector)) for group in groups for vector in group["tests"]]


def title(group, vector):
    return f"{vector['tcId']} {group['comment']} {vector['comment']} is {vector['result']}"


def symmetric_keys(group):
    return [one for one in group["private"].get("keys", [group["private"]]) if one["kty"] == "oct"]


def without_other_kid(group, vector):
    """Many groups name no kid in the JWK, or not the token's: a JWK that stands alone is given the token's."""
    token = token_of(vector["jws"])
    single = "keys" not in group["public"]
    return {**group["public"], "kid": token.kid} if single and token is not None else group["public"]


@pytest.mark.parametrize(("group", "vector"), cases(SIGNATURES, symmetric=False))
def test_a_signature_is_judged_as_wycheproof_does(group, vector):
    expected = vector["result"] == "valid" and vector["tcId"] not in STRICTER
    assert accepted(key_set(without_other_kid(group, vector)), vector["jws"]) is expected


@pytest.mark.parametrize(("group", "vector"), cases(KEYS, symmetric=False))
def test_a_key_is_judged_as_wycheproof_does(group, vector):
    expected = vector["result"] == "valid"
    assert accepted(key_set(without_other_kid(group, vector)), vector["jws"]) is expected


@pytest.mark.parametrize(("group", "vector"), [*cases(SIGNATURES, symmetric=True), *cases(KEYS, symmetric=True)])
def test_nothing_symmetric_is_accepted_valid_or_not(group, vector):
    """authsvc verifies with published keys only, and a published symmetric key is no secret."""
    assert symmetric_keys(group)
    keys = key_set(group["private"])
    assert keys is None or "oct" not in {one.kty for one in keys.keys}
    assert not accepted(keys, vector["jws"])
    token = token_of(vector["jws"])
    assert token is None or token.alg in ALGORITHMS


def test_every_vector_was_run_and_most_of_the_good_ones_are_accepted():
    """So that no change of the file's shape lets this room stand empty."""
    asymmetric = [case.values for case in cases(SIGNATURES, symmetric=False)]
    symmetric = [case.values for case in cases(SIGNATURES, symmetric=True)]
    assert (len(asymmetric), len(symmetric)) == (361, 40)
    good = [v for g, v in asymmetric if accepted(key_set(without_other_kid(g, v)), v["jws"])]
    assert len(good) == sum(v["result"] == "valid" for _, v in asymmetric) - len(STRICTER)


@pytest.mark.parametrize("tc_id", STRICTER)
def test_each_deviation_is_a_refusal_of_a_valid_vector(tc_id):
    found = [case.values[1]["result"] for case in cases(SIGNATURES, symmetric=False) if case.values[1]["tcId"] == tc_id]
    assert found == ["valid"]
