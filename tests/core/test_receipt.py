"""A receipt pays for the call that was counted, and for no other."""

import re
from dataclasses import replace

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from authsvc.core import ratelimit, receipt
from authsvc.core.model import Quota, QuotaPolicy
from authsvc.core.ratelimit import Rate, Tier
from authsvc.core.receipt import EPOCH_S, MOST_ID, NOTHING, Paid, Receipts

KEY = b"a key of the tests"
RECEIPTS = Receipts(KEY)
NOW = 1_800_000_000.0
TIER = Tier("free", (Rate(10, 60), Rate(100, 3600)))
CHARGE = ratelimit.charge(TIER, [["user", "main", "ann"]])
QUOTAS = (Quota(QuotaPolicy("free-minute", 10, 60), 9, 60), Quota(QuotaPolicy("free-hour", 100, 3600), 0, 1))
RECEIPT = RECEIPTS.issue("r-1", CHARGE, QUOTAS, NOW)

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}", fullmatch=True)
numbers = st.integers(0, 10**12)
left = st.lists(st.tuples(numbers, numbers), min_size=2, max_size=2) | st.just([])  # in each window, or nothing
charges = st.builds(
    lambda name, who, cost: ratelimit.charge(Tier(name, TIER.rates), [["user", "p", who]], cost),
    names,
    st.text(max_size=9),
    st.integers(1, 9),
)
ids = st.text(min_size=1, max_size=40)


@given(id_=ids, charge=charges, left=left)
def test_a_receipt_gives_back_what_was_told(id_, charge, left):
    told = tuple(Quota(policy, *numbers) for policy, numbers in zip(charge.tier.policies, left, strict=False))
    made = RECEIPTS.issue(id_, charge, told, NOW)
    assert RECEIPTS.redeem(made, id_, charge, NOW) == Paid(charge.cost, told)
    assert made.isascii()
    assert made.isprintable()
    assert " " not in made


@given(id_=st.from_regex(r"[0-9A-Za-z]{1,64}", fullmatch=True), charge=charges)
def test_an_id_that_is_known_to_be_plain_has_the_receipt_of_any_other(id_, charge):
    assert RECEIPTS.issue(id_, charge, QUOTAS, NOW, True) == RECEIPTS.issue(id_, charge, QUOTAS, NOW)


@given(remaining=numbers, resets=st.lists(numbers, min_size=1, max_size=5))
def test_what_is_left_is_told_as_it_is_whatever_was_told_before(remaining, resets):
    policy = QuotaPolicy("free", 10, 60)
    for reset_s in resets:
        assert Quota(policy, remaining, reset_s).told() == f"r={remaining};t={reset_s}"


@given(id_=ids, other=ids, charge=charges, another=charges)
def test_a_receipt_is_redeemed_for_its_own_request_caller_and_tier_only(id_, other, charge, another):
    made = RECEIPTS.issue(id_, charge, QUOTAS, NOW)
    same = (another.subject, another.tier.name) == (charge.subject, charge.tier.name)
    assert (RECEIPTS.redeem(made, other, charge, NOW) is NOTHING) == (other != id_)
    assert (RECEIPTS.redeem(made, id_, another, NOW) is NOTHING) == (not same)


def test_the_receipt_that_says_most_counts_and_no_charge_changes_what_was_paid():
    dear = RECEIPTS.issue("r-1", ratelimit.at_cost(CHARGE, 3), QUOTAS, NOW)
    for both in (f"{RECEIPT} {dear}", f"{dear} {RECEIPT}"):
        assert RECEIPTS.redeem(both, "r-1", ratelimit.at_cost(CHARGE, 7), NOW).cost == 3


@pytest.mark.parametrize(
    "other",
    [
        replace(CHARGE, tier=replace(TIER, name="pro")),
        replace(CHARGE, subject="0" * 32),
    ],
    ids=["of another tier", "of another caller"],
)
def test_a_receipt_does_not_pay_for_a_charge(other):
    assert RECEIPTS.redeem(RECEIPT, "r-1", other, NOW) is NOTHING


SAYS_WHAT_IS_LEFT = RECEIPT.rindex(";r=9") + 1  # from there on it is only told; before, it counts


@given(at=st.integers(0, SAYS_WHAT_IS_LEFT - 1), put=st.characters(max_codepoint=255), over=st.booleans())
def test_a_receipt_with_any_character_changed_or_put_in_before_what_is_left_pays_for_nothing(at, put, over):
    changed = RECEIPT[:at] + put + RECEIPT[at + over :]
    assume(changed != RECEIPT and RECEIPT not in changed.split(" "))
    assert RECEIPTS.redeem(changed, "r-1", CHARGE, NOW) is NOTHING


@given(left=left)
def test_who_changes_what_is_left_changes_what_is_told_and_nothing_that_counts(left):
    told = ",".join(f"r={remaining};t={reset_s}" for remaining, reset_s in left)
    assert RECEIPTS.redeem(RECEIPT[:SAYS_WHAT_IS_LEFT] + told, "r-1", CHARGE, NOW).cost == 1


@pytest.mark.parametrize("left", [",", "r=1", "r=1;t=2,", "t=1;r=2", "r=1;t=2;r=3;t=4", "r=1;t=2,r=3", "r=-1;t=2"])
def test_what_is_left_has_one_form(left):
    assert RECEIPTS.redeem(RECEIPT[:SAYS_WHAT_IS_LEFT] + left, "r-1", CHARGE, NOW) is NOTHING


@given(id_=ids)
@example(id_="a" * MOST_ID)
@example(id_="a" * (MOST_ID + 1))
def test_a_receipt_names_its_request_in_one_word_of_letters_and_digits(id_):
    made = RECEIPTS.issue(id_, CHARGE, QUOTAS, NOW)
    stamp, named, left = re.fullmatch(r"([0-9a-f]{24}=1;)(_?\w{1,64});(.*)", made, re.ASCII).groups()
    assert (stamp, left) == (RECEIPT[:27], RECEIPT[SAYS_WHAT_IS_LEFT:])
    plain = id_.isascii() and id_.isalnum() and len(id_) <= MOST_ID
    assert (named == id_, named[0] == "_") == (plain, not plain)


def test_an_id_that_is_named_by_its_hash_is_not_the_id_that_is_spelled_so():
    odd = RECEIPTS.issue("r-1;x", CHARGE, QUOTAS, NOW)
    named = odd.split(";")[1]
    for spelled in (named, named[1:]):
        assert RECEIPTS.redeem(odd, spelled, CHARGE, NOW) is NOTHING


@pytest.mark.parametrize(
    ("later_s", "pays"),
    [(0, True), (EPOCH_S, True), (-EPOCH_S, True), (2 * EPOCH_S, False), (-2 * EPOCH_S, False), (86400, False)],
)
def test_a_receipt_pays_for_a_while(later_s, pays):
    assert RECEIPTS.redeem(RECEIPT, "r-1", CHARGE, NOW + later_s) == (Paid(1, QUOTAS) if pays else NOTHING)


def test_the_stamp_of_a_charge_is_made_anew_in_each_epoch():
    charge = ratelimit.charge(TIER, [["user", "main", "ben"]])
    instants = [NOW, NOW + EPOCH_S - 1, NOW + EPOCH_S, NOW]
    assert NOW % EPOCH_S == 0
    made = [RECEIPTS.issue("r-1", charge, (), now) for now in instants]
    assert made[0] == made[1] == made[3] != made[2]
    assert [RECEIPTS.redeem(one, "r-1", charge, NOW) for one in made] == [Paid(1, ())] * 4


def test_two_keys_stamp_the_same_charge_each_with_its_own():
    others = Receipts(b"another key")
    made = [one.issue("r-1", CHARGE, (), NOW) for one in (RECEIPTS, others, RECEIPTS, others)]
    assert made[:2] == made[2:]
    assert made[0] != made[1]
    assert others.redeem(made[3], "r-1", CHARGE, NOW) == Paid(1, ())
    assert others.redeem(made[2], "r-1", CHARGE, NOW) is NOTHING


@given(junk=st.text(max_size=200) | st.binary(max_size=200).map(lambda data: data.decode("latin-1")))
def test_junk_pays_for_nothing_is_not_kept_and_never_raises(junk):
    assert RECEIPTS.redeem(junk, "r-1", CHARGE, NOW) is NOTHING
    assert RECEIPTS.redeem(f"{junk} {RECEIPT}", "r-1", CHARGE, NOW) == Paid(1, QUOTAS)
    assert receipt.add(junk, RECEIPT) == RECEIPT


@given(key=st.binary(max_size=64))
def test_another_key_redeems_nothing(key):
    assert Receipts(key).redeem(RECEIPT, "r-1", CHARGE, NOW) is NOTHING


@pytest.mark.parametrize(("key", "id_"), [(KEY, ""), (b"", "r-1"), (b"", "")], ids=["no id", "no key", "neither"])
def test_there_is_no_receipt_where(key, id_):
    assert Receipts(key).issue(id_, CHARGE, QUOTAS, NOW) == ""
    for made in (RECEIPT, RECEIPT.replace("r-1", id_), "="):
        assert Receipts(key).redeem(made, id_, CHARGE, NOW) is NOTHING


def test_who_was_let_through_uncounted_has_a_receipt_that_says_nothing_of_quotas():
    made = RECEIPTS.issue("r-1", CHARGE, (), NOW)
    assert RECEIPTS.redeem(made, "r-1", CHARGE, NOW) == Paid(1, ())


# Several -------------------------------------------------------------------------------------------------------------

SEVERAL = [RECEIPTS.issue("r-1", ratelimit.at_cost(CHARGE, cost), (), NOW) for cost in range(1, 8)]


@pytest.mark.parametrize(
    ("receipts", "made", "kept"),
    [
        ("", SEVERAL[0], SEVERAL[:1]),
        (SEVERAL[0], SEVERAL[1], SEVERAL[:2]),
        (SEVERAL[0], SEVERAL[0], SEVERAL[:1]),
        (f" {SEVERAL[0]}  ", SEVERAL[1], SEVERAL[:2]),
        (" ".join(SEVERAL[:6]), SEVERAL[6], SEVERAL[3:]),
        (SEVERAL[0], "", SEVERAL[:1]),
        ("x y=z =", "", []),
        (SEVERAL[0] + "\n", "", []),
        (SEVERAL[0] + "a" * 600, "", []),
    ],
)
def test_the_latest_few_receipts_of_a_request_are_kept_and_no_other_text(receipts, made, kept):
    assert receipt.add(receipts, made) == " ".join(kept)


@pytest.mark.parametrize("cost", range(1, 5))
def test_of_several_receipts_for_one_charge_the_dearest_counts(cost):
    assert RECEIPTS.redeem(" ".join(SEVERAL[:cost]), "r-1", CHARGE, NOW).cost == cost
