from __future__ import annotations

import pytest

from edgevit.runtime.versions import parse_version


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("2026.4.1-22982-e213a147257-releases/2026/4", (2026, 4)),
        ("1.17", (1, 17)),
        ("1.17.3", (1, 17)),
        ("10", (10, 0)),
        ("", (0, 0)),
        ("nightly", (0, 0)),
    ],
)
def test_leading_numbers_are_read(text: str, numbers: tuple[int, ...]) -> None:
    assert parse_version(text) == numbers


def test_versions_compare_as_numbers() -> None:
    assert parse_version("1.9") < parse_version("1.10")
