"""Base64url and JSON with one meaning each."""

import base64
import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from authsvc.core import strict


@pytest.mark.parametrize(
    ("text", "data"), [("", b""), ("Zg", b"f"), ("Zm8", b"fo"), ("Zm9v", b"foo"), ("-_-_", b"\xfb\xff\xbf")]
)
def test_the_one_spelling_of_bytes_is_read(text, data):
    assert strict.base64url(text) == data


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("Zg==", id="padding"),
        pytest.param("Zm9v=", id="padding where none is due"),
        pytest.param("==Zm9v", id="padding in front"),
        pytest.param("Zm9v\n", id="a line feed at the end"),
        pytest.param("Z m8", id="a space within"),
        pytest.param("Zm8!", id="an exclamation mark"),
        pytest.param("+/+/", id="the other alphabet"),
        pytest.param("Zm9vZ", id="a length that no bytes have"),
        pytest.param("Zh", id="stray bits after one byte"),
        pytest.param("Zm9", id="stray bits after two bytes"),
        pytest.param("Zm９v", id="a wide digit"),
        pytest.param("Zm\u212av", id="a Kelvin sign"),
        pytest.param("\udcff", id="a lone surrogate"),
        pytest.param("Zm\x00v", id="a NUL"),
    ],
)
def test_any_other_spelling_is_refused(text):
    with pytest.raises(ValueError, match="base64url"):
        strict.base64url(text)


def written(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@given(st.text(alphabet=[*"ABQgwZz09-_+/=!\n é", "\udcff", "\x00"]) | st.text(max_size=9))
@example("ſſſſ")  # which is an S in capitals
def test_a_text_that_is_read_is_what_its_bytes_give(text):
    with contextlib.suppress(ValueError):
        assert written(strict.base64url(text)) == text


@given(st.binary(max_size=100))
def test_what_bytes_give_is_read(data):
    assert strict.base64url(written(data)) == data


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{}", {}),
        (' {"a": [1, 2.5, true, null, "x"]}\n', {"a": [1, 2.5, True, None, "x"]}),
        ('{"a":{"b":1},"b":{"a":1}}', {"a": {"b": 1}, "b": {"a": 1}}),
        ('{"é":"\\u00e9"}', {"é": "é"}),
    ],
)
def test_an_object_is_read(text, value):
    assert strict.json_object(text.encode()) == value


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"foo", id="a word"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b'"{}"', id="a string"),
        pytest.param(b"null", id="null"),
        pytest.param(b"{} {}", id="two objects"),
        pytest.param(b"{}x", id="an object and more"),
        pytest.param(b"{}\x0b", id="an object and a blank that is none in JSON"),
        pytest.param(b'{"a":1,}', id="a trailing comma"),
        pytest.param(b"{'a':1}", id="single quotes"),
        pytest.param(b'{"a":1,"a":1}', id="a member twice"),
        pytest.param(b'{"a":1,"\\u0061":2}', id="a member twice, once escaped"),
        pytest.param(b'{"x":[{"y":{"a":1,"a":2}}]}', id="a member twice deep inside"),
        pytest.param(b'{"a":NaN}', id="NaN"),
        pytest.param(b'{"a":Infinity}', id="Infinity"),
        pytest.param(b'{"a":-Infinity}', id="minus Infinity"),
        pytest.param(b'{"a":1e999}', id="a float beyond all floats"),
        pytest.param(b'{"a":-1e999}', id="a float below all floats"),
        pytest.param(b'{"a":' + b"1" * 5000 + b"}", id="an integer of 5000 digits"),
        pytest.param(b'{"a":"\xff"}', id="bytes that are no UTF-8"),
        pytest.param(b'{"a":"\xc0\xae"}', id="overlong UTF-8"),
        pytest.param(b'{"a":"\xed\xa0\x80"}', id="a surrogate in UTF-8"),
        pytest.param(b"\xef\xbb\xbf{}", id="a byte order mark"),
        pytest.param('{"a":1}'.encode("utf-16"), id="UTF-16"),
        pytest.param(b'{"a":"\n"}', id="a raw line feed in a string"),
        pytest.param(b'{"a":' * 6000, id="6000 objects that never end"),
        pytest.param(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", id="100000 lists"),
    ],
)
def test_anything_else_is_refused(data):
    with pytest.raises(ValueError):  # noqa: PT011 - the texts differ, the kind does not
        strict.json_object(data)


def nested(depth: int, before: str = "") -> bytes:
    """An object whose deepest list is at this depth."""
    return f'{{"s":"{before}","a":{"[" * (depth - 1)}{"]" * (depth - 1)}}}'.encode()


def test_nesting_up_to_the_limit_is_read():
    assert strict.json_object(nested(strict.MAX_DEPTH))


def test_one_level_more_is_refused():
    with pytest.raises(ValueError, match="nested too deep"):
        strict.json_object(nested(strict.MAX_DEPTH + 1))


@pytest.mark.parametrize("before", ["]" * 500, '\\"' + "]" * 500, "\\\\", "}]" * 200, '\\"]\\"' * 100])
def test_brackets_in_a_string_hide_no_nesting(before):
    with pytest.raises(ValueError, match="nested too deep"):
        strict.json_object(nested(200, before))


def test_brackets_in_a_string_are_no_nesting():
    assert strict.json_object(b'{"a":"' + b"[" * 500 + b'"}')


def test_many_lists_side_by_side_are_no_nesting():
    assert strict.json_object(b'{"a":[' + b"[]," * 500 + b"[]]}")
