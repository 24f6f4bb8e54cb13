"""What the settings of API keys and of the way to OIDC mean, and what `authsvc check` says of them today."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from authsvc import nginx
from authsvc.adapters import config
from authsvc.adapters.config import ConfigError
from authsvc.adapters.keylines import to_line
from authsvc.core.apikeys import ApiKey
from authsvc.core.callers import Rollout
from authsvc.core.claims import Condition
from authsvc.core.migration import DAY_S, Deprecation, Window


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


NOW = at("2027-06-10")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "keys.jsonl"
    made.write_bytes(b"# ours\n")
    made.chmod(0o640)
    return made


def text(file: object, keys: str = "", migration: str = "", rules: str = "") -> str:
    return (
        "authentication:\n  oidc: {providers: [{name: main, issuer: 'https://id.example.com', audience: api}]}\n"
        f"  api_keys: {{keys_file: {file}{keys}}}\n"
        + (f"  migration: {{{migration}}}\n" if migration else "")
        + (f"authorization: {{rbac: {{default: deny, rules: [{rules}]}}}}\n" if rules else "")
    )


def notes(given: str, now: float = NOW) -> list[str]:
    """Those that depend on keys alone."""
    without = config.parse(given, "f", {}).notes
    return [note for note in config.parse(given, "f", {}, now).notes if note not in without]


# ---- what they mean


def test_the_defaults_are_the_documented_ones(file: Path) -> None:
    found = config.parse(text(file), "f", {})
    assert found.api_keys is not None
    assert (found.api_keys.file, found.api_keys.header) == (str(file), "X-API-Key")
    assert (found.api_keys.deprecation, found.api_keys.both) == (None, "prefer_oidc")
    assert found.rollout == Rollout(100)


def test_without_the_section_there_are_no_keys() -> None:
    alone = "authentication: {oidc: {providers: [{name: a, issuer: 'https://id.example.com', audience: api}]}}\n"
    assert config.parse(alone, "f", {}).api_keys is None


def test_keys_may_be_all_there_is(file: Path) -> None:
    given = f"authentication: {{oidc: {{enabled: false}}, api_keys: {{keys_file: {file}}}}}\n"
    found = config.parse(given, "f", {})
    assert (found.providers, found.api_keys is not None) == ((), True)


def test_keys_that_are_off_need_no_file() -> None:
    given = "authentication: {oidc: {enabled: false}, api_keys: {enabled: false}}\n"
    assert config.parse(given, "f", {}).api_keys is None


@pytest.mark.parametrize(
    ("written", "means"),
    [
        pytest.param("announce: 2027-01-01", Deprecation(at("2027-01-01")), id="a day is its first second in UTC"),
        pytest.param("announce: 2027-01-01T12:30:00Z", Deprecation(at("2027-01-01T12:30")), id="an instant"),
        pytest.param("announce: 2027-01-01 12:30:00", Deprecation(at("2027-01-01T12:30")), id="in UTC if not said"),
        pytest.param("announce: '2027-01-01T12:30:00+02:00'", Deprecation(at("2027-01-01T10:30")), id="elsewhere"),
        pytest.param("announce: '2027-01-01'", Deprecation(at("2027-01-01")), id="a day in quotes"),
        pytest.param(
            "announce: 2027-01-01, sunset: 2027-06-30, grace: 14d, link: 'https://x.test/m'",
            Deprecation(at("2027-01-01"), at("2027-06-30"), 14 * DAY_S, "https://x.test/m"),
            id="everything",
        ),
        pytest.param(
            "announce: 2027-01-01, sunset: 2027-06-30, grace: 36h",
            Deprecation(at("2027-01-01"), at("2027-06-30"), 36 * 3600),
            id="hours",
        ),
        pytest.param(
            "announce: 2027-01-01, brown_outs: [{start: 2027-05-04T10:00:00Z, minutes: 10}]",
            Deprecation(at("2027-01-01"), brown_outs=(Window(at("2027-05-04T10:00"), at("2027-05-04T10:10")),)),
            id="a brown-out",
        ),
    ],
)
def test_when_keys_end(file: Path, written: str, means: Deprecation) -> None:
    found = config.parse(text(file, f", deprecation: {{{written}}}"), "f", {}).api_keys
    assert found is not None
    assert found.deprecation == means


def test_to_whom_oidc_is_open(file: Path) -> None:
    migration = "oidc_rollout: 12.5, both: refuse, beta: [{users: u-1}, {users: [u-2]}, {claim: [a, b], equals: true}]"
    found = config.parse(text(file, migration=migration), "f", {})
    beta = (Condition(("a", "b"), "in", ("true",)),)
    assert found.rollout == Rollout(12.5, beta, frozenset({"u-1", "u-2"}))
    assert found.api_keys is not None
    assert found.api_keys.both == "refuse"


def test_a_rule_may_name_the_callers_with_keys(file: Path) -> None:
    rules = "{path: /a, providers: [api_keys]}"
    assert config.parse(text(file, rules=rules), "f", {}).policy.rules[0].asks.providers == ("api_keys",)
    with pytest.raises(ConfigError, match="'api_keys' is no provider"):
        config.parse(text(file, rules=rules).replace("  api_keys:", "  #"), "f", {})


# ---- the header


@pytest.mark.parametrize("name", sorted((nginx._TAKEN | nginx._NO_KEY) - {"x-api-key"}))
def test_a_header_in_which_nginx_can_send_no_key_is_a_mistake(file: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="api_keys.header"):
        config.parse(text(file, f", header: {name}"), "f", {})


@pytest.mark.parametrize("name", ["X-API-Key", "x-api-key", "X-Acme-Token", "Api-Key"])
def test_what_check_takes_for_a_header_nginx_takes_too(file: Path, name: str) -> None:
    assert config.parse(text(file, f", header: {name}"), "f", {}).api_keys is not None
    assert nginx.render(nginx.DEFAULT_HEADERS, key_header=name)


# ---- all mistakes at once


def test_a_day_that_does_not_fit_hides_no_other_mistake() -> None:
    given = text("/nowhere", ", deprecation: {announce: soon}", "beta: [{}]") + "cache: {memcached: nowhere}\n"
    with pytest.raises(ConfigError) as caught:
        config.parse(given, "f", {})
    assert [line.split(":")[3].strip() for line in caught.value.lines] == [
        "authentication.api_keys.keys_file",
        "authentication.api_keys.deprecation.announce",
        "authentication.migration.beta.0",
        "cache.memcached",
    ]


def test_the_mistakes_of_a_file_of_keys_are_told_with_their_lines_and_without_what_stands_there(file: Path) -> None:
    file.write_text('{"owner":"acme","sha256":"ask_0123456789abcdef_secret"}\n{"owner":""}\n')
    with pytest.raises(ConfigError) as caught:
        config.parse(text(file), "f", {})
    assert len(caught.value.lines) == 3
    assert all(f"keys_file: {file}:" in line for line in caught.value.lines)
    assert "secret" not in str(caught.value)


# ---- the notes of today

ENDING = ", deprecation: {announce: 2027-01-01, sunset: 2027-06-30, grace: 14d}"


@pytest.mark.parametrize(
    ("now", "said"),
    [
        ("2027-05-30", []),
        ("2027-05-31", ["API keys end in 30 days, on Wed, 30 Jun 2027 00:00:00 GMT"]),
        ("2027-06-28T12:00", ["API keys end in 1 day, on"]),
        ("2027-06-29T12:00", ["API keys end within a day, on"]),
        ("2027-06-30", ["API keys ended on Wed, 30 Jun 2027 00:00:00 GMT: they are still accepted until Wed, 14 Jul"]),
        ("2027-07-13T23:00", ["00:00:00 GMT, within a day"]),
        ("2027-07-14", ["API keys are refused since Wed, 14 Jul 2027 00:00:00 GMT: remove api_keys"]),
    ],
)
def test_the_end_of_keys_is_told_when_it_is_near(file: Path, now: str, said: list[str]) -> None:
    found = notes(text(file, ENDING), at(now))
    assert len(found) == len(said)
    assert all(part in note for part, note in zip(said, found, strict=True))


PAUSED = ", deprecation: {announce: 2027-01-01, brown_outs: [{start: 2027-04-02T09:00:00Z, minutes: 30}]}"


@pytest.mark.parametrize(
    ("now", "said"),
    [
        ("2027-03-03T08:59", None),
        ("2027-03-04", "in 29 days, on Fri, 02 Apr 2027 09:00:00 GMT"),
        ("2027-04-02T08:59", "within a day, on Fri, 02 Apr 2027 09:00:00 GMT"),
        ("2027-04-02T09:29", "since Fri, 02 Apr 2027 09:00:00 GMT"),
        ("2027-04-02T09:30", None),
    ],
)
def test_a_brown_out_is_told_when_it_is_near(file: Path, now: str, said: str | None) -> None:
    told = [] if said is None else [f"a brown-out refuses API keys for 30 minutes: {said}"]
    assert notes(text(file, PAUSED), at(now)) == told


@pytest.mark.parametrize("keys", ["", ", deprecation: {announce: 2027-01-01}"])
def test_where_no_day_is_set_nothing_is_told(file: Path, keys: str) -> None:
    assert notes(text(file, keys)) == []


@pytest.mark.parametrize(("percent", "count"), [("0", 1), ("99.5", 1), ("100", 0)])
def test_a_rollout_that_is_not_complete_is_told(file: Path, percent: str, count: int) -> None:
    found = notes(text(file, migration=f"oidc_rollout: {percent}"))
    assert len(found) == count
    assert all(note.startswith(f"OIDC is open to {percent} % of users and those of beta") for note in found)


@pytest.mark.parametrize("asks", ["mfa: true", "acr: c1", "max_age: 60"])
def test_a_rule_that_no_key_can_meet_is_told(file: Path, asks: str) -> None:
    (note,) = notes(text(file, rules=f"{{path: /a, {asks}}}, {{path: /b, {asks}, providers: [main]}}, {{path: /c}}"))
    said = "/a: asks how the user signed in, so callers with API keys are refused there"
    assert note.partition(" ")[2] == f"authorization.rbac.rules.0: {said}"


def test_a_file_of_keys_that_others_may_read_is_told(file: Path) -> None:
    file.chmod(0o644)
    (note,) = notes(text(file))
    assert note == f"{file}: others may read or write this file: chmod 640 {file}"


def test_keys_that_expire_soon_are_counted(file: Path) -> None:
    def line(number: int, **record: object) -> bytes:
        return to_line(ApiKey(bytes([number]) * 32, "acme", **record))  # type: ignore[arg-type]

    lines = [
        line(1, expires=NOW + DAY_S),
        line(2, expires=NOW + 29 * DAY_S),
        line(3, expires=NOW + 31 * DAY_S),
        line(4, expires=NOW - 1),
        line(5, expires=NOW + DAY_S, revoked=NOW),
        line(6, claims={"expires": "2027-06-12"}),
        line(7),
        b'# "expires":"2027-06-12"\n',
        line(8, expires=NOW + DAY_S).replace(b'":"', b'" : "'),
    ]
    file.write_bytes(b"".join(lines))
    assert notes(text(file)) == [f"{file}: 3 keys will expire within 30 days: authsvc apikeys list shows them"]
    file.write_bytes(lines[0])
    assert notes(text(file)) == [f"{file}: 1 key will expire within 30 days: authsvc apikeys list shows them"]


def test_where_keys_are_off_nothing_is_told_of_them() -> None:
    given = "authentication: {oidc: {enabled: false}, api_keys: {enabled: false}}\n"
    assert notes(given) == []


def test_check_and_start_know_what_day_it_is(file: Path, tmp_path: Path) -> None:
    (tmp_path / "authsvc.yaml").write_text(text(file, ", deprecation: {announce: 2020-01-01, sunset: 2021-01-01}"))
    assert "API keys are refused since" in " ".join(config.load(str(tmp_path / "authsvc.yaml")).notes)
