from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.core.errors import RecipeError, TargetError
from edgevit.core.schema import FieldError, from_data, to_data


@dataclass(frozen=True)
class Memory:
    gib: float
    kind: Literal["lpddr5", "ddr4"] = "ddr4"

    def __post_init__(self) -> None:
        if self.gib <= 0:
            raise ValueError(f"gib = {self.gib} is not above 0")


@dataclass(frozen=True)
class Board:
    name: str
    memory: Memory
    cores: int = 4
    fanless: bool = False
    sizes: tuple[int, ...] = ()
    mean: tuple[float, float] | None = None
    notes: Mapping[str, str] = field(default_factory=dict)
    workspace: int | str = "auto"
    parts: tuple[Memory, ...] = ()
    extra: Any = None
    level: Literal[1, 2] = 1
    limit: int | None = 8


def read(data: object) -> Board:
    return from_data(Board, data, "board.toml", TargetError)


def complaint(data: object) -> TargetError:
    with pytest.raises(TargetError) as caught:
        read(data)
    return caught.value


VALID = {"name": "nano", "memory": {"gib": 8}}


def test_from_data_when_keys_are_left_out_takes_the_defaults() -> None:
    assert read(VALID) == Board("nano", Memory(8.0))


@dataclass(frozen=True)
class Lists:
    """Whose values are looked at all at once where they are what is wanted already."""

    whole: tuple[int, ...] = ()
    real: tuple[float, ...] = ()
    either: tuple[float | int, ...] = ()
    settings: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    optional: Mapping[str, float | None] = field(default_factory=dict)


def test_values_of_lists_and_tables_are_converted_and_refused_one_by_one() -> None:
    data = {
        "whole": [1, 2],
        "real": [1, 2.5],
        "either": [1, 2.0],
        "settings": {"a": 1, "b": 1.5, "c": True, "d": "x"},
        "optional": {"a": None, "b": 1},
    }
    found = from_data(Lists, data, "lists", TargetError)
    assert found.whole == (1, 2)
    assert [type(value) for value in (*found.real, *found.either)] == [float] * 4
    assert found.settings == data["settings"]
    assert found.settings is not data["settings"]
    assert [type(value) for value in found.settings.values()] == [int, float, bool, str]
    assert found.optional == {"a": None, "b": 1.0}
    assert type(found.optional["b"]) is float
    wrong = {"whole": [1, True], "real": ["x"], "settings": {"a": 1, "b": None}}
    with pytest.raises(TargetError) as caught:
        from_data(Lists, wrong, "lists", TargetError)
    for words in ("whole[1] = True is not", "real[0] = 'x' is not", "settings.b = None is not a text"):
        assert words in caught.value.message


def test_from_data_when_whole_number_for_float_converts_it() -> None:
    assert type(read(VALID).memory.gib) is float


def test_from_data_when_lists_given_makes_tuples() -> None:
    board = read({**VALID, "sizes": [1, 2], "mean": [0, 0.5], "parts": [{"gib": 1}, {"gib": 2, "kind": "lpddr5"}]})
    assert board.sizes == (1, 2)
    assert board.mean == (0.0, 0.5)
    assert board.parts == (Memory(1.0), Memory(2.0, "lpddr5"))


def test_from_data_when_union_takes_whichever_member_fits() -> None:
    assert read({**VALID, "workspace": 512}).workspace == 512
    assert read({**VALID, "workspace": "512m"}).workspace == "512m"


def test_from_data_when_many_faults_lists_all_in_one_error() -> None:
    error = complaint({"memroy": {"gib": 8}, "cores": "four", "fanless": 1, "sizes": [1, "b"], "mean": [1], "level": 3})
    assert error.message.splitlines() == [
        "board.toml has 8 problems:",
        "  unknown key memroy (did you mean memory?)",
        "  missing key name",
        "  missing key memory",
        "  cores = 'four' is not a whole number",
        "  fanless = 1 is not true or false",
        "  sizes[1] = 'b' is not a whole number",
        "  mean = [1] has 1 values, not 2",
        "  level = 3 is not one of 1, 2",
    ]
    assert "valid keys: name, memory" in error.hint


def test_from_data_when_nested_fault_gives_the_whole_path() -> None:
    error = complaint({"name": "x", "memory": {"gib": 8, "kinds": 1}, "parts": [{"gib": 1}, {"gib": "2"}]})
    assert "unknown key memory.kinds (did you mean memory.kind?)" in error.message
    assert "parts[1].gib = '2' is not a number" in error.message
    assert "valid keys of memory: gib, kind" in error.hint


def test_from_data_when_class_refuses_a_value_names_the_key() -> None:
    error = complaint({"name": "x", "memory": {"gib": -1}})
    assert "memory: gib = -1.0 is not above 0" in error.message


@dataclass(frozen=True)
class Fan:
    blades: int
    speeds: tuple[int, int]
    maker: Literal["a", "b"]
    watts: float = 2.0
    volts: float = 12.0

    def __post_init__(self) -> None:
        problems = []
        if self.blades < 2:
            problems.append(f"blades = {self.blades} is below 2")
        if self.watts <= 0:
            problems.append(f"watts = {self.watts} is not above 0")
        if self.volts <= 0:
            problems.append(f"volts = {self.volts} is not above 0")
        if self.speeds[0] > self.speeds[1]:
            problems.append(f"speeds = {list(self.speeds)} fall, which maker = {self.maker} has none of")
        if problems:
            raise FieldError(problems)


def list_faults(data: object) -> list[str]:
    with pytest.raises(TargetError) as caught:
        from_data(Fan, data, "fan.toml", TargetError)
    return [line.strip() for line in caught.value.message.splitlines()]


def test_from_data_when_types_and_ranges_are_wrong_lists_all_of_both() -> None:
    fan = {"blades": 1, "speeds": [1, "x"], "maker": "a", "watts": -1, "volts": "low", "voltz": 1}
    assert list_faults(fan) == [
        "fan.toml has 5 problems:",
        "unknown key voltz (did you mean volts?)",
        "speeds[1] = 'x' is not a whole number",
        "volts = 'low' is not a number",
        "blades = 1 is below 2",
        "watts = -1.0 is not above 0",
    ]


def test_from_data_when_a_check_reads_a_field_of_a_wrong_type_says_nothing_of_what_stands_in_for_it() -> None:
    assert list_faults({"blades": None, "speeds": [3, 1], "maker": "c", "watts": 0}) == [
        "fan.toml has 3 problems:",
        "blades = None is not a whole number",
        "maker = 'c' is not one of 'a', 'b'",
        "watts = 0.0 is not above 0",
    ]
    assert list_faults({"watts": 0}) == [
        "fan.toml has 4 problems:",
        "missing key blades",
        "missing key speeds",
        "missing key maker",
        "watts = 0.0 is not above 0",
    ]


def test_field_error_reads_as_one_line_and_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(FieldError(["a = 1", "b = 2"])))
    assert str(error) == "a = 1; b = 2"
    assert error.problems == ("a = 1", "b = 2")


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("cores", True, "cores = True is not a whole number"),
        ("cores", 4.0, "cores = 4.0 is not a whole number"),
        ("memory", {"gib": True}, "memory.gib = True is not a number"),
        ("memory", {"gib": 10**400}, "memory.gib is a whole number too large"),
        ("memory", [1], "memory = [1] is not a table"),
        ("level", True, "level = True is not one of 1, 2"),
        ("level", [], "level = [] is not one of 1, 2"),
        ("sizes", "12", "sizes = '12' is not a list"),
        ("notes", {"a": 1}, "notes.a = 1 is not a text"),
        ("notes", ["a"], "notes = ['a'] is not a table"),
        ("workspace", 1.5, "workspace = 1.5 is not a whole number or workspace = 1.5 is not a text"),
    ],
)
def test_from_data_when_value_has_wrong_type_says_what_it_should_be(key: str, value: object, text: str) -> None:
    assert text in complaint({**VALID, key: value}).message


@pytest.mark.parametrize("data", [None, [], "x", 3])
def test_from_data_when_not_a_table_says_so(data: object) -> None:
    assert "the document" in complaint(data).message


def test_from_data_when_value_is_a_whole_document_shortens_it() -> None:
    assert len(complaint({**VALID, "cores": list(range(10000))}).message) < 400


def test_from_data_when_union_of_classes_fits_one_gives_hints_of_none() -> None:
    @dataclass(frozen=True)
    class A:
        a: int

    @dataclass(frozen=True)
    class B:
        b: int

    @dataclass(frozen=True)
    class Holder:
        part: Any
        count: int

    Holder.__annotations__["part"] = A | B
    with pytest.raises(RecipeError) as caught:
        from_data(Holder, {"part": {"b": 1}, "count": "x"}, "r", RecipeError)
    assert "valid keys" not in caught.value.hint


def test_from_data_raises_the_class_that_it_is_given() -> None:
    with pytest.raises(RecipeError):
        from_data(Board, {}, "recipe.toml", RecipeError)


def test_to_data_when_none_leaves_the_field_out_unless_its_default_differs() -> None:
    data = to_data(Board("x", Memory(1.0), limit=None))
    assert "mean" not in data
    assert data["limit"] is None


def test_to_data_when_field_is_not_an_argument_leaves_it_out() -> None:
    @dataclass(frozen=True)
    class Square:
        side: int
        area: int = field(init=False, default=0)

    data = to_data(Square(3))
    assert data == {"side": 3}
    assert from_data(Square, data, "s", TargetError) == Square(3)


memories = st.builds(
    Memory, st.floats(min_value=1e-3, max_value=1e6, allow_nan=False), st.sampled_from(["lpddr5", "ddr4"])
)
boards = st.builds(
    Board,
    name=st.text(max_size=10),
    memory=memories,
    cores=st.integers(),
    fanless=st.booleans(),
    sizes=st.lists(st.integers(), max_size=4).map(tuple),
    mean=st.none() | st.tuples(st.floats(allow_nan=False), st.floats(allow_nan=False)),
    notes=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
    workspace=st.integers() | st.text(max_size=5),
    parts=st.lists(memories, max_size=3).map(tuple),
    level=st.sampled_from([1, 2]),
    limit=st.none() | st.integers(),
)


@given(boards)
def test_to_data_when_through_json_comes_back_equal(board: Board) -> None:
    assert read(json.loads(json.dumps(to_data(board)))) == board


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


@given(
    st.dictionaries(st.sampled_from(["name", "memory", "sizes", "mean", "parts", "notes", "level", "x"]), json_values)
)
def test_from_data_when_anything_is_given_raises_nothing_else(data: dict[str, object]) -> None:
    try:
        board = read(data)
    except TargetError:
        return
    assert isinstance(board, Board)
