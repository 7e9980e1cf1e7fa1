"""JSON that anybody may have written."""

from __future__ import annotations

import pytest

from edgevit.core.json_text import MOST_LEVELS, parse_json


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
