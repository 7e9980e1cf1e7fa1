from __future__ import annotations

from pathlib import Path

import pytest

from edgevit.core.errors import RecipeError, TargetError
from edgevit.core.toml import load_toml


@pytest.fixture
def write(tmp_path: Path):
    def write_bytes(data: bytes) -> Path:
        path = tmp_path / "board.toml"
        path.write_bytes(data)
        return path

    return write_bytes


def test_load_toml_when_valid_returns_tables_and_values(write) -> None:
    path = write(b'name = "board"\n[memory]\ngib = 7.5\nsizes = [1, 2]\n')
    assert load_toml(path, TargetError) == {"name": "board", "memory": {"gib": 7.5, "sizes": [1, 2]}}


@pytest.mark.parametrize("data", [b"\xef\xbb\xbfx = 1\r\n", b"x = 1"], ids=["mark and crlf", "no newline"])
def test_load_toml_when_saved_by_other_editors_reads_the_same(write, data: bytes) -> None:
    assert load_toml(write(data), TargetError) == {"x": 1}


def test_load_toml_when_empty_returns_an_empty_table(write) -> None:
    assert load_toml(write(b""), TargetError) == {}


@pytest.mark.parametrize(
    ("data", "where"),
    [
        (b"x = 1\ny = = 2\n", "line 2, column 5"),
        (b"x = 1\n[table\n", "line 2"),
        (b"x = 1\ny = [1,\n", "line 2"),  # ends too early
        (b"x = 1\nx = 2\n", "line 2"),
        (b"name = 'caf\xe9'\n", "line 1, column 12"),  # Latin-1
    ],
)
def test_load_toml_when_malformed_names_file_line_and_column(write, data: bytes, where: str) -> None:
    path = write(data)
    with pytest.raises(TargetError) as caught:
        load_toml(path, TargetError)
    assert str(path) in caught.value.message
    assert where in caught.value.message
    assert "column" in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("data", [b"x = " + b"9" * 5000, b"x = " + b"[" * 20000], ids=["digits", "nesting"])
def test_load_toml_when_hostile_raises_no_other_error(write, data: bytes) -> None:
    with pytest.raises(TargetError):
        load_toml(write(data), TargetError)


def test_load_toml_when_missing_raises_the_given_error(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="No such file"):
        load_toml(tmp_path / "none.toml", RecipeError)
    with pytest.raises(RecipeError, match="directory"):
        load_toml(tmp_path, RecipeError)
    with pytest.raises(RecipeError, match="null byte"):
        load_toml("a\0b", RecipeError)
