"""Lists in messages: ten entries are shown, the rest is counted, and none is lost."""

from __future__ import annotations

import copy
import pickle

import pytest

from edgevit.core.errors import (
    CheckpointError,
    DataError,
    EdgevitError,
    count_things,
    format_last_lines,
    format_offenders,
    shorten_lists,
)


def number(count: int) -> list[str]:
    return [f"file {i}" for i in range(count)]


def test_error_shows_ten_offenders_and_keeps_all() -> None:
    error = DataError(f"bad images:\n{format_offenders(number(23))}", "repair them")
    assert error.message.splitlines() == ["bad images:", *(f"  file {i}" for i in range(10)), "  … and 13 more"]
    assert error.whole.splitlines() == ["bad images:", *(f"  file {i}" for i in range(23))]
    assert str(error) == f"{error.message}\nhint: repair them"


@pytest.mark.parametrize("count", [0, 1, 10])
def test_list_of_up_to_ten_stands_whole(count: int) -> None:
    error = DataError(f"bad:\n{format_offenders(number(count))}")
    assert error.message == error.whole


def test_every_list_of_a_message_is_shortened_by_itself() -> None:
    text = f"missing:\n{format_offenders(number(11))}\nunexpected:\n{format_offenders(number(12))}\nand no more"
    lines = shorten_lists(text, " (see there)").splitlines()
    assert [line for line in lines if "more" in line] == [
        "  … and 1 more (see there)",
        "  … and 2 more (see there)",
        "and no more",
    ]
    assert len(lines) == 2 * (1 + 10 + 1) + 1


def test_entry_of_several_lines_counts_as_one() -> None:
    text = "two bundles:\n" + format_offenders(["a:\n  one\n  two", *number(10)])
    lines = shorten_lists(text).splitlines()
    assert lines[1:4] == ["  a:", "      one", "      two"]
    assert lines[-1] == "  … and 1 more"
    assert "  file 8" in lines
    assert "  file 9" not in lines


def test_list_that_was_shortened_before_keeps_its_count() -> None:
    once = DataError(f"bad:\n{format_offenders(number(23))}").message
    assert DataError(once).message == once


def test_list_that_was_bounded_before_counts_what_neither_form_shows() -> None:
    error = DataError(f"bad:\n{format_offenders(number(50))}\n  … and 950 more")
    assert error.message.endswith("  file 9\n  … and 990 more")
    assert error.whole.endswith("  file 49\n  … and 950 more")


def test_whole_list_travels_between_processes() -> None:
    error = CheckpointError(f"bad:\n{format_offenders(number(30))}", "do something")
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert isinstance(other, CheckpointError)
        assert (other.message, other.whole, other.hint) == (error.message, error.whole, error.hint)


def test_last_lines_of_a_program_are_not_shortened_again() -> None:
    message = f"it failed:{format_last_lines(number(40))}"
    assert EdgevitError(message).message == message
    assert message.endswith("\n  file 39")


def test_counts_have_a_number_and_its_noun() -> None:
    assert [count_things(n, "tensor") for n in (0, 1, 2, 3000)] == [
        "0 tensors",
        "1 tensor",
        "2 tensors",
        "3,000 tensors",
    ]
    assert [count_things(n, "row has", "rows have") for n in (1, 2)] == ["1 row has", "2 rows have"]
