"""Notes on what a build assumed and passed over, whose lists are shortened to be read; the report has them whole."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edgevit.core.errors import list_some


class Note(str):
    """A sentence with a list of names, or with its first ones.

    Attributes:
        names: All of them, where the sentence leaves some out.
    """

    names: tuple[str, ...] = ()


def note_names(lead: str, names: Sequence[str], limit: int, end: str = "") -> Note:
    """``lead``, up to ``limit`` names, the count of the rest, and ``end``."""
    note = Note(f"{lead}{list_some(list(names), limit)}{end}")
    if len(names) > limit:
        note.names = tuple(names)
    return note


def find_shortened(notes: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """All names of the notes that leave some out, by note."""
    return {str(note): note.names for note in notes if isinstance(note, Note) and note.names}
