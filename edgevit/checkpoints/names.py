"""Parameter names: a table of canonical names and a publisher's, read in both directions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

V = TypeVar("V")
Rows = Mapping[str, str | tuple[str, ...]]
"""Canonical name to the publisher's, or to several."""

# ``{i}`` and ``{j}`` are numbers, ``{i-1}`` is the number before, ``*`` is weight or bias.
_HOLES = re.compile(r"\{i-1\}|\{i\}|\{j\}|\*")
_PATTERNS = {
    "{i}": r"(?P<i>\d{1,4})",
    "{i-1}": r"(?P<i>\d{1,4})",
    "{j}": r"(?P<j>\d{1,4})",
    "*": "(?P<end>weight|bias)",
}


@dataclass(frozen=True)
class Names:
    """How a publisher calls the parameters of a canonical model.

    Attributes:
        table: Canonical name to the publisher's names; several where they changed between versions.
        prefixes: What may stand before a publisher's names, for example ``vit.``.
        dropped: Pattern of the publisher's names to the reason why inference does not need them.
    """

    table: Mapping[str, tuple[str, ...]]
    prefixes: tuple[str, ...] = ()
    dropped: Mapping[str, str] = field(default_factory=dict)

    def to_canonical(self, names: Iterable[str]) -> dict[str, str]:
        """Publisher's name to canonical name, for all that the table knows."""
        rules = [
            (_compile(theirs), ours, "{i-1}" in theirs) for ours, several in self.table.items() for theirs in several
        ]
        found = {}
        for name in names:
            bare = self.strip(name)
            for rule, ours, before in rules:
                if match := rule.fullmatch(bare):
                    found[name] = _fill(ours, match, 1 if before else 0)
                    break
        return found

    def pick(self, values: Mapping[str, V]) -> dict[str, V]:
        """What stands under a publisher's names by canonical name, for all that the table knows."""
        return {ours: values[theirs] for theirs, ours in self.to_canonical(values).items()}

    def to_publisher(self, canonical: str, seen: Iterable[str]) -> str:
        """Publisher's name of a parameter, in the version and with the prefix of the names ``seen``."""
        seen = list(seen)
        prefix = next((p for p in self.prefixes if any(name.startswith(p) for name in seen)), "")
        for ours, several in self.table.items():
            if match := _compile(ours).fullmatch(canonical):
                counts = [sum(1 for n in seen if _compile(t).fullmatch(self.strip(n))) for t in several]
                theirs = several[counts.index(max(counts))]
                # Heads stand beside the backbone that the prefix names.
                return (prefix if not ours.startswith(("head", "projection")) else "") + _fill(theirs, match, 0)
        return canonical

    def find_dropped(self, names: Iterable[str]) -> dict[str, list[str]]:
        """Reason to the names that it concerns."""
        return match_patterns(names, self.dropped, self.strip)

    def strip(self, name: str) -> str:
        """A publisher's name without what may stand before it."""
        return next((name[len(p) :] for p in self.prefixes if name.startswith(p)), name)


def match_patterns(
    names: Iterable[str], patterns: Mapping[str, str], bare: Callable[[str], str] = str
) -> dict[str, list[str]]:
    """What the first pattern that matches a name (what is ``bare`` of it) says of it, to all such names."""
    found: dict[str, list[str]] = {}
    for name in names:
        what = next((what for pattern, what in patterns.items() if re.fullmatch(pattern, bare(name))), None)
        if what is not None:
            found.setdefault(what, []).append(name)
    return found


def nest(ours: str, theirs: Sequence[str], rows: Rows) -> dict[str, tuple[str, ...]]:
    """Rows of a table under prefixes: ``ours`` before canonical names, each of ``theirs`` before the publisher's."""
    several = {name: (names,) if isinstance(names, str) else names for name, names in rows.items()}
    return {f"{ours}{name}": tuple(f"{t}{n}" for n in names for t in theirs) for name, names in several.items()}


def _compile(template: str) -> re.Pattern[str]:
    pattern, at = "", 0
    for hole in _HOLES.finditer(template):
        pattern += re.escape(template[at : hole.start()]) + _PATTERNS[hole.group()]
        at = hole.end()
    return re.compile(pattern + re.escape(template[at:]))


def _fill(template: str, match: re.Match[str], offset: int) -> str:
    def fill(hole: re.Match[str]) -> str:
        key = hole.group()
        if key == "*":
            return match["end"]
        number = int(match[key[1]])
        return str(number + offset if key == "{i}" else number - 1 if key == "{i-1}" else number)

    return _HOLES.sub(fill, template)
