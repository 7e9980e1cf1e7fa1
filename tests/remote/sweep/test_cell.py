"""Cells: their names, and the hash of what they depend on."""

from __future__ import annotations

import dataclasses
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.core.errors import RecipeError
from edgevit.core.target import Budget
from edgevit.remote.sweep.cell import Cell, name_cells, print_files


@pytest.fixture
def cell(tmp_path) -> Cell:
    """With a folder, a file and a recipe of its own."""
    model = tmp_path / "vit"
    (model / "deeper").mkdir(parents=True)
    for name in ("config.json", "deeper/weights.bin"):
        (model / name).write_bytes(b"abc")
    (tmp_path / "val.csv").write_text("file,label\n")
    (tmp_path / "quick.toml").write_text("latency_runs = 2\n")
    return Cell(
        str(model), "cpu", recipe=str(tmp_path / "quick.toml"), validation=str(tmp_path / "val.csv"), precision="int8"
    )


def test_key_is_the_same_for_the_same_files(cell) -> None:
    assert cell.identify() == cell.identify() == dataclasses.replace(cell).identify({})
    assert len(cell.identify()) == 32


@pytest.mark.parametrize("file", ["vit/config.json", "vit/deeper/weights.bin", "val.csv", "quick.toml"])
@pytest.mark.parametrize("change", ["longer", "later", "gone"])
def test_key_changes_with_any_file_that_the_cell_names(cell, tmp_path, file, change) -> None:
    before = cell.identify()
    path = tmp_path / file
    if change == "longer":
        stamp = path.stat().st_mtime_ns
        path.write_bytes(path.read_bytes() + b"#")
        os.utime(path, ns=(stamp, stamp))
    elif change == "later":
        os.utime(path, ns=(1, 1))
    else:
        path.unlink()
    assert cell.identify() != before


def test_key_changes_with_a_new_or_a_renamed_file_of_a_folder(cell, tmp_path) -> None:
    keys = [cell.identify()]
    (tmp_path / "vit" / "more.json").write_text("")
    keys.append(cell.identify())
    (tmp_path / "vit" / "more.json").rename(tmp_path / "vit" / "other.json")
    keys.append(cell.identify())
    assert len(set(keys)) == 3


def test_key_stays_when_other_files_change_or_are_only_read(cell, tmp_path) -> None:
    before = cell.identify()
    (tmp_path / "train.csv").write_text("file,label\n")
    (tmp_path / "vit" / "config.json").read_bytes()
    assert cell.identify() == before


CHANGES = {
    "target": "intel-cpu", "task": "embed", "precision": "fp32", "image_size": (32, 32), "arch": "vit", "seed": 1,
    "budget": Budget(max_drop_points=2.0), "skip_bad_images": True, "accept_chance": True, "calibration": "random",
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_key_changes_with_every_field(cell, name) -> None:
    assert dataclasses.replace(cell, **{name: CHANGES[name]}).identify() != cell.identify()


def test_key_changes_with_the_version(cell, monkeypatch) -> None:
    before = cell.identify()
    monkeypatch.setattr("edgevit.remote.sweep.cell.metadata.version", lambda name: "99")
    assert cell.identify() != before


def test_files_are_looked_at_once_for_all_cells(cell, tmp_path) -> None:
    prints = {str(tmp_path / "vit"): "told"}
    assert cell.identify(prints) != cell.identify()
    assert set(prints) == {str(tmp_path / name) for name in ("vit", "val.csv", "quick.toml")}
    assert prints[str(tmp_path / "vit")] == "told"


def test_print_of_files_that_are_not_there_is_one_too(tmp_path) -> None:
    assert print_files(tmp_path / "none") == print_files(tmp_path / "none either")
    (tmp_path / "none").write_text("")
    assert print_files(tmp_path / "none") != print_files(tmp_path / "none either")


@pytest.mark.parametrize(
    ("cell", "name"),
    [
        (Cell("/a/vit-tiny", "cpu"), "vit-tiny_cpu"),
        (Cell("/a/vit.safetensors", "/b/my board.toml", precision="int8"), "vit_my-board_int8"),
        (Cell("hf-hub:timm/vit", "cpu", recipe="/c/quick.toml", task="embed", image_size=(32, 48)),
         "vit_cpu_quick_embed_32x48"),
        (Cell("/a/swin", "cpu", image_size=(32, 32), precision="auto"), "swin_cpu_32"),
        (Cell("/a/ви т", "cpu"), "ви-т_cpu"),
    ],
)  # fmt: skip
def test_name_says_what_differs_from_the_defaults(cell, name) -> None:
    assert cell.describe() == name


STEMS = st.sampled_from(
    ["/a/vit", "/b/vit", "/a/vit_2", "/c/vit.onnx", "/d/" + "x" * 200 + "1", "/d/" + "x" * 200 + "2"]
)


@given(st.lists(st.builds(Cell, STEMS, st.sampled_from(["cpu", "/t/cpu.toml", "2"])), max_size=12))
def test_names_are_unique_whole_and_fit_a_folder(cells) -> None:
    named = name_cells(tuple(cells))
    assert list(named.values()) == cells
    assert all(len(os.fsencode(name)) < 255 and "/" not in name for name in named)


def test_cell_lays_itself_over_its_recipe(cell) -> None:
    recipe = dataclasses.replace(cell, image_size=(48, 32), seed=5, task="embed").read_recipe()
    assert (recipe.latency_runs, recipe.precision, recipe.seed, recipe.task.name) == (2, "int8", 5, "embed")
    assert tuple(recipe.image_size or ()) == (48, 32)


def test_recipe_that_does_not_take_what_the_cell_says_is_an_error_of_edgevit_s(cell) -> None:
    with pytest.raises(RecipeError, match="seed = -1 is not between"):
        dataclasses.replace(cell, seed=-1).read_recipe()
