"""JSON that anybody may have written."""

from __future__ import annotations

import pytest

from edgevit.core.json_text import MOST_LEVELS, MOST_VALUES, parse_json


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1e999", "too large"),
        ('{"a": [-1e400]}', "too large"),
        ("NaN", "NaN is not JSON"),
        ("9" * 5000, "digits"),
        ("[" * 100_000, "nested too deeply"),
        ("[" * 500 + "]" * 500, "nested more than"),
        ('{"a":' * (MOST_LEVELS + 1) + "1" + "}" * (MOST_LEVELS + 1), "nested more than"),
        (b"\xff\xfe\xfd", "decode"),
        ("", "Expecting value"),
    ],
)
def test_whatever_is_wrong_is_a_value_error(text: str | bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_json(text)


def test_what_is_right_is_read() -> None:
    assert parse_json(b'{"a": [1, 2.5, null, {"b": "\xc3\xa9"}]}') == {"a": [1, 2.5, None, {"b": "é"}]}
    assert parse_json("[" * MOST_LEVELS + "]" * MOST_LEVELS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1, "b": 2, "a": 1}', "the key 'a' twice"),
        ('[{"x": {"a": 1, "a": 2}}]', "the key 'a' twice"),
        (b'{"a": 1}'.decode().encode("utf-16"), "decode"),
        (b"\xef\xbb\xbf{}", "BOM"),
        ("9223372036854775808", "too large"),
        ("-9223372036854775809", "too large"),
        ("9" * 1_000_000, "too large"),
        ("[" + "0," * (1 << 17) + "0]", "more than 131072 values"),
        ('{"a": [' + "[]," * (1 << 17) + "[]]}", "more than 131072 values"),
        ("[" * (1 << 18), "more than 131072 values"),
        ("[[[]]]", "nested more than 2 deep"),
    ],
)
def test_what_two_readers_may_understand_in_two_ways_is_refused_where_that_is_asked(
    text: str | bytes, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        parse_json(text, unique=True, most_levels=2 if "deep" in words else 32)


@pytest.mark.parametrize("count", [MOST_VALUES, MOST_VALUES + 1])
@pytest.mark.parametrize("item", ["0", "[]", "{ }", '",[{"', r'"\"[,\\"'])
def test_values_are_counted_as_they_are_read(item: str, count: int) -> None:
    text = '{"a": [' + ", ".join([item] * (count - 2)) + "]}"
    if count > MOST_VALUES:
        with pytest.raises(ValueError, match="more than 131072 values"):
            parse_json(text, unique=True)
    else:
        assert len(parse_json(text, unique=True)["a"]) == count - 2


def test_what_one_reader_reads_is_left_alone() -> None:
    text = '{"a": [1, -9223372036854775808, 9223372036854775807, 1e3, "é", [[]]], "b": null}'
    assert parse_json(text.encode(), unique=True, most_levels=4) == parse_json(text)
    assert parse_json('{"a": 1, "a": 2}') == {"a": 2}


@pytest.mark.parametrize("half", [r"\ud800", r"\uDFFF", r"\udc00\ud800", r"\ud83d x"])
def test_parse_json_takes_no_half_of_a_character_where_readers_must_agree(half: str) -> None:
    for text in (f'["{half}"]', f'{{"{half}": 1}}'):
        with pytest.raises(ValueError, match="half of a character"):
            parse_json(text, unique=True)
    assert parse_json(r'["\ud83d\ude00 \\ud800"]', unique=True) == ["\U0001f600 \\ud800"]
