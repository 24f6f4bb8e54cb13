"""What is remembered of an API key ends with the file that held it: at most half a second later, as for any key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from authsvc.adapters.keyfile import LOOK_S, KeyFile, editing
from authsvc.core.apikeys import ApiKey, mint
from authsvc.core.callers import ApiKeys
from authsvc.core.gate import Gate
from authsvc.core.model import Reason
from authsvc.core.rbac import rule
from worlds import NOW, call, gate

TEXT, DIGEST = mint(b"1" * 32)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.jsonl"
    write(path)
    return path


def write(path: Path, **changes: object) -> None:
    with editing(str(path)) as draft:
        draft.put(ApiKey(DIGEST, "acme", **{"roles": ("reader",), **changes}))  # type: ignore[arg-type]


@pytest.fixture
def deciding(file: Path) -> Gate:
    return gate(api_keys=ApiKeys(KeyFile(str(file)).current), rules=[rule("/*", None, ["reader"])])


def reason(deciding: Gate, now: float) -> Reason:
    return deciding.decide(call(None, api_key=TEXT), now)[0].reason


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(lambda file: write(file, revoked=NOW), Reason.REVOKED_API_KEY, id="revoked"),
        pytest.param(lambda file: write(file, expires=NOW), Reason.EXPIRED_API_KEY, id="expired"),
        pytest.param(lambda file: write(file, replaced_by="0" * 16, until=NOW), Reason.REPLACED_API_KEY, id="replaced"),
        pytest.param(lambda file: write(file, roles=("writer",)), Reason.ROLE_REQUIRED, id="another role"),
        pytest.param(lambda file: file.write_bytes(b""), Reason.UNKNOWN_API_KEY, id="gone"),
    ],
)
def test_a_change_of_the_file_reaches_a_remembered_key(
    file: Path, deciding: Gate, change: Callable[[Path], None], expected: Reason
) -> None:
    assert [reason(deciding, NOW), reason(deciding, NOW)] == [Reason.ALLOWED] * 2
    change(file)
    assert [reason(deciding, NOW + LOOK_S), reason(deciding, NOW + LOOK_S)] == [expected] * 2
    write(file)
    assert reason(deciding, NOW + 2 * LOOK_S) is Reason.ALLOWED


def test_what_is_decoded_anew_is_worked_out_anew(file: Path, deciding: Gate) -> None:
    first, _ = deciding.decide(call(None, api_key=TEXT), NOW)
    with editing(str(file)) as draft:
        draft.put(ApiKey(b"2" * 32, "other"))
    again, _ = deciding.decide(call(None, api_key=TEXT), NOW + LOOK_S)
    assert again.identity == first.identity
    assert again.identity is not first.identity
