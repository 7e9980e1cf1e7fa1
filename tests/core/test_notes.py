"""Notes give the first names of a list; the report has all of them."""

from __future__ import annotations

from edgevit.core.notes import find_shortened, note_names


def test_note_counts_the_names_that_it_leaves_out_and_keeps_them() -> None:
    note = note_names("dropped 3 tensors: ", ["a", "b", "c"], 2)
    assert note == "dropped 3 tensors: a, b and 1 more"
    assert note.names == ("a", "b", "c")


def test_only_notes_that_leave_names_out_have_a_list_of_their_own() -> None:
    short = note_names("ignored: ", ["a", "b", "c"], 2, ", which are no tensors")
    assert find_shortened(["a plain one", note_names("ignored: ", ["x", "y"], 2), short]) == {
        "ignored: a, b and 1 more, which are no tensors": ("a", "b", "c")
    }
