"""A bundle that its supplier prepared: opening it writes nothing, and loads nothing that nobody checked."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from edgevit.build.build import build_model
from edgevit.build.finish import finish_bundle
from edgevit.build.graph_answers import JUDGE_SETTINGS
from edgevit.build.pack import pack_bundle
from edgevit.cli import main
from edgevit.core.errors import BundleError, DeviceError, OutputError, RecipeError, TargetError
from edgevit.core.libraries import LIBRARIES
from edgevit.core.recipe import Recipe
from edgevit.core.target import list_targets, load_target
from edgevit.measure.bench import bench_bundles
from edgevit.measure.cold_start import measure_cold_start
from edgevit.measure.evaluate import evaluate_bundle
from edgevit.runtime import open_bundle
from edgevit.runtime.bundle_settings import check_build_settings
from edgevit.runtime.onnxruntime import is_property as is_onnxruntime_property
from edgevit.runtime.openvino import get_core
from edgevit.runtime.openvino import is_property as is_openvino_property
from edgevit.runtime.settings import GPU_KEYS, KEYS, check_bundled_settings
from tests.support.tiny_bundle import make_bundle, make_manifest
from tests.support.tiny_onnx import make_images, write_classifier

WRITING = [
    ("cpu", "session.collect_node_memory_stats_to_file"),
    ("cpu", "session.optimized_model_filepath"),
    ("cpu", "ep.context_file_path"),
    ("cpu", "session.model_external_initializers_file_folder_path"),
    ("cpu", "session.disable_quant_qdq"),
    ("intel-cpu", "CACHE_DIR"),
    ("intel-cpu", "CONFIG_FILE"),
    ("intel-cpu", "WEIGHTS_PATH"),
    ("intel-cpu", "LOG_LEVEL"),
]


def forge(bundle: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Change a bundle's manifest as its supplier can, with the digest computed again."""
    data = json.loads((bundle / "manifest.json").read_bytes())
    change(data)
    del data["manifest_sha256"]
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"))
    data["manifest_sha256"] = hashlib.sha256(canonical.encode()).hexdigest()
    (bundle / "manifest.json").write_text(json.dumps(data))
    return bundle


def list_all(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def set_engine(**settings: object) -> Callable[[dict[str, Any]], None]:
    return lambda data: data["engine"]["settings"].update(settings)


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """With a file that is to be overwritten, and photos."""
    (tmp_path / "victim").write_text("precious")
    for label in ("class 0", "class 1"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        stream = io.BytesIO()
        Image.fromarray(make_images(1)[0]).save(stream, "PNG")
        (tmp_path / "photos" / label / "a.png").write_bytes(stream.getvalue())
    return tmp_path


def run(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 2, result.output
    return result.stderr


@pytest.mark.parametrize(("target", "key"), WRITING)
def test_bundle_whose_engine_sets_another_property_is_refused_everywhere(prepared: Path, target: str, key: str) -> None:
    bundle = make_bundle(prepared / "bundle", prepared / "work", target=target).path
    forge(bundle, set_engine(**{key: str(prepared / "victim")}))
    before = list_all(prepared)
    for use in (
        lambda: open_bundle(bundle),
        lambda: open_bundle(bundle, verify=False),
        lambda: open_bundle(bundle, settings={"threads": 1}),
        lambda: bench_bundles([bundle], runs=1, seconds=0.01),
        lambda: evaluate_bundle(bundle, prepared / "photos"),
        lambda: finish_bundle(bundle),
    ):
        with pytest.raises(BundleError, match=r"engine\.settings cannot stand in a bundle") as caught:
            use()
        assert f"{key} = " in caught.value.message
        assert "open_bundle" in caught.value.hint
    with pytest.raises(DeviceError, match=r"exited with 2[\s\S]*cannot stand in a bundle"):
        measure_cold_start(bundle, processes=1)
    image = prepared / "photos" / "class 0" / "a.png"
    for arguments in (("run", bundle, image), ("bench", bundle), ("eval", bundle, "--data", prepared / "photos")):
        assert f"{key} = " in run(*arguments)
    assert list_all(prepared) == before


@pytest.mark.parametrize(
    ("target", "key", "writes"),
    [("cpu", "session.collect_node_memory_stats_to_file", "made"), ("intel-cpu", "CACHE_DIR", "made/*.blob")],
)
def test_whoever_opens_a_bundle_may_give_any_property(prepared: Path, target: str, key: str, writes: str) -> None:
    """And the file proves that the property does what the bundle's own is refused for."""
    bundle = make_bundle(prepared / "bundle", prepared / "work", target=target).path
    with open_bundle(bundle, settings={key: str(prepared / "made")}) as predictor:
        assert predictor.settings[key] == str(prepared / "made")
        predictor.run(make_images(1))
    assert list(prepared.glob(writes))


def test_properties_of_the_list_are_taken(prepared: Path) -> None:
    for target, backend in (("cpu", "onnxruntime"), ("intel-cpu", "openvino")):
        bundle = make_bundle(prepared / target, prepared / f"{target}-work", target=target).path
        with open_bundle(bundle) as predictor:
            expected = predictor.run(make_images(1))
        own, devices = LIBRARIES[backend].bundle_properties, LIBRARIES[backend].devices
        properties = {key: values for key, values in own.items() if key.partition(".")[0] not in devices}
        for values in zip(*(choices[:2] for choices in properties.values()), strict=True):
            settings = dict(zip(properties, values, strict=True))
            forge(bundle, set_engine(**settings))
            with open_bundle(bundle) as predictor:
                assert {key: predictor.settings[key] for key in settings} == settings
                np.testing.assert_allclose(predictor.run(make_images(1)), expected, rtol=1e-4, atol=1e-4)


def test_properties_of_the_list_are_the_librarys_own_and_none_is_of_edgevit() -> None:
    assert all(map(is_openvino_property, LIBRARIES["openvino"].bundle_properties))
    assert all(map(is_onnxruntime_property, LIBRARIES["onnxruntime"].bundle_properties))
    assert {*LIBRARIES["openvino"].bundle_properties} <= {*get_core().get_property("CPU", "SUPPORTED_PROPERTIES")}
    assert not {key for library in LIBRARIES.values() for key in library.bundle_properties} & {*KEYS, *GPU_KEYS}


def test_what_the_build_itself_writes_is_in_the_list_and_what_judges_is_not() -> None:
    for backend, library in LIBRARIES.items():
        for settings in library.tuned:
            check_bundled_settings(settings, backend, "tuned", BundleError, "")
    for target in list_targets():
        check_build_settings(target, {})
    with pytest.raises(RecipeError, match=r"session\.disable_quant_qdq"):
        check_build_settings(load_target("cpu"), JUDGE_SETTINGS)


@pytest.mark.parametrize(
    ("target", "settings", "words"),
    [
        ("intel-cpu", {"ENABLE_CPU_PINNING": "YES"}, "ENABLE_CPU_PINNING = 'YES' is not one of True, False"),
        ("intel-cpu", {"ENABLE_CPU_PINNING": 1}, "ENABLE_CPU_PINNING = 1 is not one of True, False"),
        ("intel-cpu", {"SCHEDULING_CORE_TYPE": "/tmp/x"}, "SCHEDULING_CORE_TYPE = '/tmp/x' is not one of 'ANY_CORE'"),
        ("intel-cpu", {"enable_cpu_pinning": True}, "enable_cpu_pinning = True is not a setting"),
        ("intel-cpu", {"session.intra_op.allow_spinning": "1"}, "session.intra_op.allow_spinning = '1' is not a sett"),
        ("cpu", {"session.intra_op.allow_spinning": "/tmp/x"}, "allow_spinning = '/tmp/x' is not one of True, False"),
        ("cpu", {"session.intra_op.allow_spinning\n": "1"}, "'session.intra_op.allow_spinning\\n' = '1' is not a"),
        ("cpu", {"threads": "2"}, "threads = '2' is not a whole number from 1 to 1024"),
        ("cpu", {"threads": 100_000}, "threads = 100000 is not a whole number from 1 to 1024"),
        ("cpu", {"cuda_graph": True}, "cuda_graph = True is not a setting"),
        ("cpu", {"": "x"}, " = 'x' is not a setting"),
    ],
)
def test_values_and_names_are_checked(prepared: Path, target: str, settings: dict[str, Any], words: str) -> None:
    bundle = make_bundle(prepared / "bundle", prepared / "work", target=target).path
    forge(bundle, set_engine(**settings))
    with pytest.raises(BundleError) as caught:
        open_bundle(bundle)
    assert words in caught.value.message


def test_every_setting_that_is_refused_is_listed(prepared: Path) -> None:
    bundle = make_bundle(prepared / "bundle", prepared / "work").path
    forge(bundle, set_engine(**{"a.b": 1, "c.d": 2, "threads": 0}))
    with pytest.raises(BundleError) as caught:
        open_bundle(bundle)
    assert len(caught.value.message.splitlines()) == 4


def make_portable(folder: Path, recipe: bytes = b"") -> Path:
    (folder / "work").mkdir()
    files: dict[str, Path | bytes] = {
        "model.onnx": write_classifier(folder / "work" / "model.onnx"),
        "recipe.toml": recipe,
        "report.json": b"{}",
    }
    return pack_bundle(folder / "bundle", files=files, manifest=make_manifest()).path


def test_portable_bundle_whose_recipe_sets_another_property_is_not_finished(prepared: Path) -> None:
    victim = prepared / "victim"
    recipe = f'[settings]\n"session.collect_node_memory_stats_to_file" = "{victim}"\n'
    bundle = make_portable(prepared, recipe.encode())
    before = list_all(prepared)
    with pytest.raises(BundleError, match=r"recipe\.toml: settings cannot stand") as caught:
        finish_bundle(bundle)
    assert "session.collect_node_memory_stats_to_file = " in caught.value.message
    assert "session.collect_node_memory_stats_to_file = " in run("finish", bundle)
    assert list_all(prepared) == before


def test_portable_bundle_whose_target_sets_another_property_is_not_finished(prepared: Path) -> None:
    bundle = make_portable(prepared)
    key = "session.optimized_model_filepath"
    forge(bundle, lambda data: data["target"].update(settings={key: str(prepared / "victim")}))
    before = list_all(prepared)
    with pytest.raises(BundleError, match=r"target\.settings cannot stand") as caught:
        finish_bundle(bundle)
    assert f"{key} = " in caught.value.message
    assert f"{key} = " in run("finish", bundle)
    assert list_all(prepared) == before


def test_bundle_that_could_not_be_opened_is_not_packed(prepared: Path) -> None:
    bundle = make_bundle(prepared / "bundle", prepared / "work")
    engine = dataclasses.replace(bundle.engine, settings={"session.x": "1"})
    files = {name: bundle.path / name for name in bundle.manifest.files}
    with pytest.raises(OutputError, match=r"session\.x = '1'"):
        pack_bundle(prepared / "out", files=files, manifest=dataclasses.replace(bundle.manifest, engine=engine))
    assert not (prepared / "out").exists()


def test_build_refuses_early_what_its_bundle_could_not_hold(prepared: Path) -> None:
    target, settings = load_target("intel-cpu"), {"CACHE_DIR": str(prepared / "made")}
    nothing = prepared / "no such checkpoint"
    with pytest.raises(RecipeError, match="the recipe's settings cannot stand in a bundle") as caught:
        build_model(nothing, target, out=prepared / "out", recipe=Recipe(settings=settings))
    assert "leave them out" in caught.value.hint
    own = dataclasses.replace(target, name="my-board", settings=settings)
    with pytest.raises(TargetError, match="the settings of target my-board cannot stand in a bundle"):
        build_model(nothing, own, out=prepared / "out")
    assert not (prepared / "out").exists()


def test_engine_of_a_library_that_is_not_known_is_refused_for_that() -> None:
    check_bundled_settings({"x": 1}, "novel", "where", BundleError, "")


def test_documented_properties_are_those_of_the_table() -> None:
    docs = Path(__file__).parents[2] / "docs"
    text = "".join((docs / name).read_text(encoding="utf-8") for name in ("bundle.md", "providers.md"))
    for library in LIBRARIES.values():
        assert all(f"`{key}`" in text for key in library.bundle_properties)
