"""Plans: which cells they make, what changes and leaves out some, and that all that is wrong is said at once."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.core.errors import RecipeError
from edgevit.core.schema import FieldError
from edgevit.remote.sweep.plan import Changes, Include, Match, Override, Plan, Source, list_cells, load_plan
from edgevit.remote.sweep.question import Question


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in ("vit", "swin", "train", "val"):
        (tmp_path / name).mkdir()
    for name in ("vit", "swin"):
        (tmp_path / name / "model.safetensors").write_bytes(b"tensors, which nobody reads here")
    (tmp_path / "quick.toml").write_text("latency_runs = 2\n")
    return tmp_path


def make_plan(**changes) -> Plan:
    return Plan(**{"sources": ("vit", "swin"), "targets": ("cpu", "intel-cpu"), "precisions": ("fp32",), **changes})


def refuse(plan: Plan, folder: Path) -> list[str]:
    """What is wrong with it, a line each."""
    with pytest.raises(RecipeError) as caught:
        list_cells(plan, folder)
    first, *lines = caught.value.whole.splitlines()
    assert first.startswith(f"the plan has {len(lines)} problem")
    assert "nothing was built" in first
    assert "--dry-run" in caught.value.hint
    return [line.strip() for line in lines]


def test_every_source_is_built_for_every_target_in_every_way_in_order(folder) -> None:
    plan = make_plan(precisions=("fp32", "fp16"), image_sizes=(32, "48x64"), recipes=("default", "quick.toml"))
    cells = list_cells(plan, folder)
    found = [(Path(c.source).name, c.target, Path(c.recipe).stem, c.precision, c.image_size) for c in cells.values()]
    expected = itertools.product(("vit", "swin"), ("cpu", "intel-cpu"), ("default", "quick"), ("fp32", "fp16"),
                                 ((32, 32), (48, 64)))  # fmt: skip
    assert found == list(expected)
    assert len(cells) == 32


def test_paths_are_of_the_plan_s_folder_and_names_stay(folder) -> None:
    plan = make_plan(targets=("cpu",), recipes=("quick.toml",), calibration="train", validation="./val")
    cell = list_cells(plan, folder)["vit_cpu_quick_fp32"]
    assert (cell.source, cell.recipe) == (str(folder / "vit"), str(folder / "quick.toml"))
    assert (cell.calibration, cell.validation) == (str(folder / "train"), str(folder / "val"))
    assert cell.target == "cpu"
    assert list_cells(make_plan(calibration="random"), folder)["vit_cpu_fp32"].calibration == "random"
    hub = list_cells(make_plan(sources=("hf-hub:timm/vit_tiny",), targets=("cpu",)), folder)
    assert [c.source for c in hub.values()] == ["hf-hub:timm/vit_tiny"]


def test_precision_auto_is_the_recipe_s_choice(folder) -> None:
    assert all(c.precision is None for c in list_cells(make_plan(precisions=("auto",)), folder).values())


def test_sources_may_say_more_than_a_path(folder) -> None:
    (folder / "labels.txt").write_text("a\nb\n")
    plan = make_plan(sources=(Source("vit", arch="vit_tiny", labels="labels.txt"),), targets=("cpu",))
    (cell,) = list_cells(plan, folder).values()
    assert (cell.arch, cell.labels, cell.templates) == ("vit_tiny", str(folder / "labels.txt"), None)


def test_override_changes_what_fits_and_later_ones_win(folder) -> None:
    plan = make_plan(
        override=(
            Override(Match(source="sw*"), Changes(seed=1, calibration="train")),
            Override(Match(source="swin", target="intel-*"), Changes(seed=2, image_size=64)),
        )
    )
    cells = list_cells(plan, folder)
    seeds = {(Path(c.source).name, c.target): (c.seed, c.image_size) for c in cells.values()}
    assert seeds == {
        ("vit", "cpu"): (None, None),
        ("vit", "intel-cpu"): (None, None),
        ("swin", "cpu"): (1, None),
        ("swin", "intel-cpu"): (2, (64, 64)),
    }
    assert {c.calibration for c in cells.values() if c.seed} == {str(folder / "train")}


@pytest.mark.parametrize(
    ("match", "left"),
    [
        (Match(source="vit"), {"swin_cpu_fp32", "swin_intel-cpu_fp32"}),
        (Match(target="intel-*"), {"vit_cpu_fp32", "swin_cpu_fp32"}),
        (Match(source="s*", target="cpu"), {"vit_cpu_fp32", "vit_intel-cpu_fp32", "swin_intel-cpu_fp32"}),
    ],
)
def test_exclude_leaves_out_what_fits(folder, match, left) -> None:
    assert set(list_cells(make_plan(exclude=(match,)), folder)) == left


def test_exclude_by_size_takes_the_size_however_it_is_written(folder) -> None:
    plan = make_plan(targets=("cpu",), image_sizes=(32, "48x64"), exclude=(Match(image_size="48 x 64"),))
    assert set(list_cells(plan, folder)) == {"vit_cpu_fp32_32", "swin_cpu_fp32_32"}


def test_include_adds_a_cell_and_one_that_is_there_is_not_built_twice(folder) -> None:
    extra = (Include("vit", "cpu", Changes(precision="fp32")), Include("vit", "cpu", Changes(precision="fp16")))
    cells = list_cells(make_plan(targets=("cpu",), include=extra), folder)
    assert list(cells) == ["vit_cpu_fp32", "swin_cpu_fp32", "vit_cpu_fp16"]
    alone = Plan(include=(Include(Source("vit", arch="vit"), "cpu"),))
    assert [c.arch for c in list_cells(alone, folder).values()] == ["vit"]


def test_excludes_come_before_includes(folder) -> None:
    plan = make_plan(exclude=(Match(source="vit"),), include=(Include("vit", "cpu"),))
    assert set(list_cells(plan, folder)) == {"swin_cpu_fp32", "swin_intel-cpu_fp32", "vit_cpu"}


def test_everything_that_is_wrong_is_listed_at_once_and_once(folder) -> None:
    plan = make_plan(
        sources=("vit", "lost"),
        targets=("cpu", "cpo", "board.toml"),
        recipes=("default", "defualt"),
        image_sizes=(32, "wide"),
        calibration="nowhere",
        seed=-1,
        override=(Override(Match(source="deit"), Changes(seed=1)),),
        exclude=(Match(target="jetson"),),
    )
    lines = refuse(plan, folder)
    for words in (
        f"source {folder / 'lost'}: no such file",
        f"target {folder / 'board.toml'}: no such file",
        f"calibration {folder / 'nowhere'}: no such file",
        "unknown target 'cpo'",
        "there is no recipe 'defualt'",
        "image size 'wide' is not one",
        "seed = -1 is not between",
        "override[0] fits no cell",
        "exclude[0] fits no cell",
    ):
        assert sum(words in line for line in lines) == 1, (words, lines)
    assert len(lines) == 9


def test_file_whose_keys_and_cells_are_both_wrong_lists_them_together(folder) -> None:
    (folder / "plan.toml").write_text(
        'sources = ["vit", "vit", "nope"]\ntargets = ["cpu", "cpo"]\nrecipes = ["defualt"]\ncalibration = "nowhere"\n'
        'seeed = 3\n[question]\nwant = "fast"\n'
    )
    with pytest.raises(RecipeError) as caught:
        load_plan(folder / "plan.toml")
    first, *lines = caught.value.whole.splitlines()
    for words in (
        "sources: one is given twice",
        "question.want",
        "unknown key seeed",
        f"source {folder / 'nope'}: no such file",
        f"calibration {folder / 'nowhere'}: no such file",
        "unknown target 'cpo'",
        "there is no recipe 'defualt'",
    ):
        assert sum(words in line for line in lines) == 1, (words, lines)
    assert f"has {len(lines)} problems" in first
    assert len(lines) == 7


def test_precision_without_calibration_is_listed_beside_a_wrong_key(folder) -> None:
    text = 'sources = ["vit"]\ntargets = ["cpu"]\nprecisions = ["int8"]\nseeed = 3\n'
    (folder / "plan.toml").write_text(text)
    with pytest.raises(RecipeError, match="calibrat"):
        load_plan(folder / "plan.toml")
    (folder / "plan.toml").write_text(f"{text}calibration = 7\n")  # something is given, and named as what it is
    with pytest.raises(RecipeError) as caught:
        load_plan(folder / "plan.toml")
    assert len(caught.value.whole.splitlines()) == 3


def test_what_is_judged_has_to_be_held_out(folder) -> None:
    (line,) = refuse(make_plan(calibration="train", validation="./train"), folder)
    assert line == f"calibration and validation are both {folder / 'train'}: what is judged has to be held out"


def test_condition_on_labels_needs_images_that_judge(folder) -> None:
    asked = Question(where=("top1 >= 82", "size_mb <= 50"))
    (line,) = refuse(make_plan(question=asked), folder)
    assert line == "where: top1 >= 82 needs validation images, and no cell has any"
    assert list_cells(make_plan(question=asked, validation="val"), folder)


def test_checkpoints_are_looked_at_as_far_as_that_takes_no_tensor(folder) -> None:
    for name in ("empty", "pointer", "damaged"):
        (folder / name).mkdir()
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    (folder / "pointer" / "model.safetensors").write_bytes(pointer)
    (folder / "damaged" / "model.safetensors").write_bytes(b"tensors")
    (folder / "damaged" / "config.json").write_text("{")
    (folder / "language.gguf").write_bytes(b"GGUF")
    lines = refuse(make_plan(sources=("vit", "empty", "pointer", "damaged", "language.gguf", "hf-hub:a/b")), folder)
    for words in (
        f"source {folder / 'empty'}: {folder / 'empty'} has no weights: the folder is empty",
        f"source {folder / 'pointer'}: ",
        f"source {folder / 'damaged'}: ",
        f"source {folder / 'language.gguf'}: {folder / 'language.gguf'} is a GGUF file of a language model",
    ):
        assert sum(line.startswith(words) for line in lines) == 1, (words, lines)
    assert len(lines) == 4


def test_what_is_wrong_with_many_cells_names_some_of_them(folder) -> None:
    (line,) = refuse(make_plan(targets=("cpo",), precisions=("fp32", "fp16", "bf16")), folder)
    assert line == "unknown target 'cpo' (vit_cpo_fp32, vit_cpo_fp16 and 4 more)"


def test_precision_without_calibration_is_refused_before_anything_is_built(folder) -> None:
    (line,) = refuse(make_plan(sources=("vit",), targets=("cpu",), precisions=("int8",)), folder)
    assert "calibrat" in line
    assert "(vit_cpu_int8)" in line


def test_plan_whose_cells_are_all_excluded_is_refused(folder) -> None:
    assert refuse(make_plan(exclude=(Match(source="*"),)), folder) == ["every cell is excluded"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sources": (), "targets": ()}, "there is nothing to build"),
        ({"targets": ()}, "both are given, or neither"),
        ({"sources": ("vit", "vit")}, "sources: one is given twice"),
        ({"precisions": ("fp32", "fp32")}, "precisions: one is given twice"),
        ({"tasks": ()}, "there is nothing to build"),
        ({"sources": tuple(map(str, range(1000))), "image_sizes": tuple(range(1, 60))}, "118,000 cells"),
    ],
)
def test_plan_that_makes_no_sense_is_refused(changes, words) -> None:
    with pytest.raises(FieldError, match=words):
        make_plan(**changes)


def test_match_of_nothing_is_refused() -> None:
    with pytest.raises(FieldError, match="a match without source"):
        Match()


def test_plan_from_a_file_is_the_plan(tmp_path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text("""
sources = ["vit", { path = "swin", arch = "swin_tiny" }]
targets = ["cpu"]
image_sizes = [224, "256x192"]
budget = { max_drop_points = 1.0 }
[question]
want = "smallest"
where = ["top1 >= 82"]
[[override]]
match = { source = "sw*" }
set = { precision = "fp32" }
[[include]]
source = "deit"
target = "jetson"
[[exclude]]
image_size = 224
""")
    plan = load_plan(path)
    assert plan.sources == ("vit", Source("swin", arch="swin_tiny"))
    assert plan.image_sizes == (224, "256x192")
    assert plan.budget.max_drop_points == 1.0
    assert (plan.question.want, plan.question.where) == ("smallest", ("top1 >= 82",))
    assert plan.override == (Override(Match(source="sw*"), Changes(precision="fp32")),)
    assert plan.include == (Include("deit", "jetson"),)
    assert plan.exclude == (Match(image_size=224),)


def test_file_with_wrong_keys_and_values_lists_them_all(tmp_path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text("source = ['vit']\ntargets = 'cpu'\nprecisions = ['fp33']\n[question]\nwhere = ['top2 >= 1']\n")
    with pytest.raises(RecipeError) as caught:
        load_plan(path)
    for word in ("source", "targets", "fp33", "top2"):
        assert word in caught.value.whole


AXES = st.lists(st.sampled_from("abcde"), min_size=1, max_size=4, unique=True)


@given(AXES, AXES)
def test_names_are_unique_and_there_is_a_cell_for_each_pair(sources, sizes) -> None:
    numbers = tuple("abcde".index(size) + 1 for size in sizes)
    plan = Plan(sources=tuple(f"hf-hub:x/{s}" for s in sources), targets=("cpu",), image_sizes=numbers)
    assert len(list_cells(plan)) == len(sources) * len(sizes)
