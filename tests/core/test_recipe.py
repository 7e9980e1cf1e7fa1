"""Recipes: written and read back alike, and refused with every complaint."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.core import schema
from edgevit.core.errors import RecipeError
from edgevit.core.packages import find_shipped
from edgevit.core.quantization import Observer, Quantization, SiteChoice
from edgevit.core.recipe import Recipe, load_recipe
from edgevit.core.target import ExportForm
from edgevit.core.task import Task
from edgevit.core.toml import load_toml

recipes = st.builds(
    Recipe,
    precision=st.sampled_from(["auto", "fp32", "fp16", "int8"]),
    batch=st.tuples(st.integers(1, 4), st.integers(4, 8), st.integers(8, 16)),
    image_size=st.none() | st.tuples(st.integers(1, 999), st.integers(1, 999)),
    seed=st.integers(0, 2**32 - 1),
    export=st.none()
    | st.builds(ExportForm, qkv=st.sampled_from(["separate", "packed"]), fold_last_block=st.booleans()),
    disable_passes=st.lists(st.sampled_from(["fold_constants", "name_sites"])).map(tuple),
    latency_seconds=st.floats(0, 100),
    settings=st.dictionaries(st.text("abcdef_", min_size=1), st.booleans() | st.integers(-99, 99) | st.text("xyz")),
    quantization=st.builds(
        Quantization,
        images=st.integers(1, 9999),
        observer=st.sampled_from(get_args(Observer)),
        percentile=st.floats(50.1, 100),
        products=st.sampled_from(["auto", "float", "scores", "both"]),
        rotate=st.booleans(),
        rounding=st.sampled_from(["nearest", "gptq"]),
        observers=st.dictionaries(st.text("abc.*/0", min_size=1), st.sampled_from(get_args(Observer))),
        sites=st.dictionaries(st.text("abc.*/0", min_size=1), st.sampled_from(["int8", "float"])),
    ),
)


@given(recipe=recipes)
def test_recipe_survives_toml(recipe, tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "recipe.toml"
    path.write_text(recipe.dumps(), encoding="utf-8")
    assert load_recipe(path) == recipe


def test_default_recipe_is_what_no_recipe_means():
    assert load_recipe("default") == Recipe()


def test_default_recipe_states_every_plain_setting():
    stated = load_toml(find_shipped("calibration") / "default.toml", RecipeError)
    left_open = {"image_size", "export", "disable_passes", "settings", "task"}
    assert set(stated) == set(schema.to_data(Recipe())) - left_open
    assert set(stated["quantization"]) == set(schema.to_data(Quantization())) - {"observers", "sites"}


def test_recipe_with_attention_in_float_differs_from_the_default_in_that_alone():
    assert load_recipe("attention_float") == Recipe(quantization=Quantization(products="float"))


def test_recipes_readme_documents_every_key():
    readme = (find_shipped("calibration") / "README.md").read_text(encoding="utf-8")
    keys = {*schema.to_data(Recipe()), *schema.to_data(Quantization())} - {
        "export",
        "settings",
        "quantization",
        "observers",
        "sites",
        "task",
    }
    assert [key for key in sorted(keys) if f"| `{key}` |" not in readme] == []
    assert all(
        f"[{table}]" in readme
        for table in ("export", "settings", "quantization", "quantization.observers", "quantization.sites", "task")
    )
    assert [key for key in schema.to_data(Task()) if f"| `{key}` |" not in readme] == []


def test_pins_of_sites_keep_their_order(tmp_path):
    """A later pattern overrides an earlier one."""
    pins: dict[str, SiteChoice] = {"z.*": "float", "a.*": "int8", "m": "float"}
    path = tmp_path / "recipe.toml"
    path.write_text(Recipe(quantization=Quantization(sites=pins)).dumps(), encoding="utf-8")
    assert list(load_recipe(path).quantization.sites.items()) == list(pins.items())


def test_unknown_recipe_lists_the_known_ones():
    with pytest.raises(RecipeError, match="no recipe 'defualt'") as caught:
        load_recipe("defualt")
    assert "did you mean default?" in caught.value.hint


def test_recipe_with_several_faults_lists_all(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('precison = "fp32"\nseed = "one"\n[export]\nqkv = "fused"\n[quantization.sites]\nhead = "int4"\n')
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    for complaint in (
        "precison (did you mean precision?)",
        "seed = 'one'",
        "export.qkv = 'fused'",
        "quantization.sites.head = 'int4'",
    ):
        assert complaint in caught.value.message


def test_recipe_with_wrong_types_and_values_out_of_range_lists_all(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'batch = [2, 1, 4]\nlatency_runs = "many"\n[task]\nname = "embed"\nlevels = [1]\n'
        "[quantization]\nimages = 0\nrotate = 1\npercentile = 5.0\n"
    )
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert [line.strip() for line in caught.value.message.splitlines()[1:]] == [
        "task: levels is for features, not for embed",
        "latency_runs = 'many' is not a whole number",
        "quantization.rotate = 1 is not true or false",
        "quantization: images = 0 is not above 0",
        "quantization: percentile = 5.0 is not between 50 and 100",
        "batch = [2, 1, 4] is not of the form 1 ≤ least ≤ usual ≤ largest ≤ 4096",
    ]


@pytest.mark.parametrize("values", [{"batch": (2, 1, 4)}, {"batch": (0, 1, 1)}, {"seed": -1}, {"parity_images": 0}])
def test_recipe_with_impossible_values_is_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        Recipe(**values)


@pytest.mark.parametrize("seconds", [-1.0, 1e9, float("nan")])
def test_recipe_that_would_measure_for_years_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="latency_seconds"):
        Recipe(latency_seconds=seconds)
