"""Evaluation by the nodes of a Ray: the figures of one machine to the last digit, resumed, and what goes wrong."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from edgevit.build.pack import pack_bundle
from edgevit.core.engine import TensorSpec
from edgevit.core.errors import BundleError, DataError, OutputError
from edgevit.core.schema import to_data
from edgevit.core.target import load_target
from edgevit.engines.compile import compile_engine
from edgevit.measure.evaluate import Evaluation, evaluate_bundle
from edgevit.models import ViT, ViTConfig
from edgevit.remote.sweep import evaluate_on as module
from edgevit.remote.sweep.evaluate_on import evaluate_on
from edgevit.remote.sweep.kept_answers import count_try, forget_tries
from edgevit.runtime.bundle import Bundle
from tests.support.dense_bundle import make_dense_bundle
from tests.support.reference import randomise
from tests.support.shard_files import draw_image, write_parquet, write_tar
from tests.support.small_checkpoints import write_folder
from tests.support.small_cluster import start_nodes
from tests.support.tiny_bundle import make_bundle, make_manifest
from tests.support.tiny_onnx import CLASSES, SIZE

pytest.importorskip("ray")

IMAGES = 75
PART = 32
"""Images a shard: three shards, of which the last is not whole."""


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """One node with two CPUs."""
    cluster = start_nodes(num_cpus=2)
    yield cluster
    cluster.shutdown()


@pytest.fixture(scope="module")
def address(nodes: Any) -> str:
    address: str = nodes.address
    return address


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    return make_bundle(folder / "bundle", folder / "work", canary=True, figures={}).path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ViT whose logits have the bundle's form, and of course other values."""
    config = ViTConfig((SIZE, SIZE), (8, 8), width=16, depth=2, heads=2, mlp_width=64, classes=CLASSES)
    tensors = {name: value.detach() for name, value in randomise(ViT(config), 0).state_dict().items()}
    arguments = {"img_size": SIZE, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
    folder = tmp_path_factory.mktemp("checkpoint")
    return write_folder(folder, tensors, num_classes=CLASSES, model_args=arguments, label_names=None)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    rows = ["file,label"]
    for i in range(IMAGES):
        (folder / f"{i}.png").write_bytes(draw_image(i, 20))
        rows.append(f"{i}.png,{i % CLASSES}")
    (folder / "set.csv").write_text("\n".join(rows))
    return folder / "set.csv"


@pytest.fixture(autouse=True)
def short_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_IMAGES", PART)


def compare(found: Evaluation, expected: Evaluation) -> None:
    """Every figure, count, hash and sentence, to the last digit; only what was done about the canary may differ."""
    ours, theirs = (to_data(dataclasses.replace(e, canary=expected.canary)) for e in (found, expected))
    assert ours == theirs
    assert found.canary.status in ("passed", "remembered", "same place")


def list_kept(folder: Path, what: str) -> dict[Path, int]:
    """Every file of finished shards, with when it was written."""
    return {path: path.stat().st_mtime_ns for path in (folder / what).rglob("*") if path.is_file()}


def test_figures_are_those_of_one_machine_and_finished_shards_stay(
    address: str, bundle: Path, data: Path, checkpoint: Path, tmp_path: Path
) -> None:
    said: list[tuple[str, int, int]] = []
    expected = evaluate_bundle(bundle, data, reference=checkpoint)
    assert expected.accuracy.sqnr_db is not None
    options: dict[str, Any] = {"resume_folder": tmp_path, "reference": checkpoint}
    found = evaluate_on(address, bundle, data, **options, progress=lambda *step: said.append(step))
    compare(found, expected)
    assert ("check images", IMAGES, IMAGES) in said
    assert ("answers", IMAGES, IMAGES) in said
    assert said[-1] == ("accuracy", IMAGES, IMAGES)
    kept = {what: list_kept(tmp_path, what) for what in ("checked", "answers", "references")}
    assert [len(files) for files in kept.values()] == [3, 3, 3]

    compare(evaluate_on(address, bundle, data, **options), expected)
    assert {what: list_kept(tmp_path, what) for what in kept} == kept

    # A file that is not whole, one that is gone, and an image that is another one are computed again; nothing else is.
    spoiled, gone, *_ = sorted(kept["answers"])
    spoiled.write_bytes(spoiled.read_bytes()[:-1])
    gone.unlink()
    compare(evaluate_on(address, bundle, data, **options), expected)
    now = list_kept(tmp_path, "answers")
    assert {path for path in now if now[path] != kept["answers"].get(path)} == {spoiled, gone}
    assert list_kept(tmp_path, "references") == kept["references"]


@pytest.mark.slow
def test_a_second_bundle_of_the_same_checkpoint_uses_its_answers_again(
    address: str, bundle: Path, data: Path, checkpoint: Path, tmp_path: Path
) -> None:
    evaluate_on(address, bundle, data, resume_folder=tmp_path, reference=checkpoint)
    kept = list_kept(tmp_path, "references")
    other = make_bundle(tmp_path / "bundle", tmp_path / "work", canary=False, seed=1, figures={}).path
    found = evaluate_on(address, other, data, resume_folder=tmp_path, reference=checkpoint)
    assert list_kept(tmp_path, "references") == kept
    assert len(list_kept(tmp_path, "answers")) == 6
    expected = evaluate_bundle(other, data, reference=checkpoint)
    assert to_data(dataclasses.replace(found, canary=expected.canary)) == to_data(expected)


def test_tar_and_parquet_files_give_the_folders_figures(address: str, bundle: Path, data: Path, tmp_path: Path) -> None:
    images = [(data.parent / f"{i}.png").read_bytes() for i in range(IMAGES)]
    for shard in range(4):
        part = range(IMAGES)[20 * shard : 20 * shard + 20]
        members = [
            pair for i in part for pair in ((f"{i:03}.png", images[i]), (f"{i:03}.cls", str(i % CLASSES).encode()))
        ]
        write_tar(tmp_path / f"val-{shard}.tar", members)
    labels = [i % CLASSES for i in range(IMAGES)]
    write_parquet(tmp_path / "val.parquet", images, labels, rows=16)
    expected = evaluate_bundle(bundle, data)
    for form in ("val-{0..3}.tar", "val.parquet"):
        plain = evaluate_bundle(bundle, tmp_path / form)
        compare(evaluate_on(address, bundle, tmp_path / form, resume_folder=tmp_path / "kept"), plain)
        assert (plain.top1, plain.top5, plain.data.images) == (expected.top1, expected.top5, IMAGES)


def test_bad_images_are_listed_as_on_one_machine_or_left_out(
    address: str, bundle: Path, data: Path, tmp_path: Path
) -> None:
    for i in range(IMAGES):
        (tmp_path / f"{i}.png").write_bytes((data.parent / f"{i}.png").read_bytes() if i % 30 else b"no image")
    (tmp_path / "set.csv").write_text(data.read_text())
    with pytest.raises(DataError) as plain:
        evaluate_bundle(bundle, tmp_path / "set.csv")
    with pytest.raises(DataError) as found:
        evaluate_on(address, bundle, tmp_path / "set.csv", resume_folder=tmp_path / "kept")
    assert found.value.whole == plain.value.whole
    assert "has 3 bad images" in found.value.whole
    left = evaluate_on(address, bundle, tmp_path / "set.csv", resume_folder=tmp_path / "kept", skip_bad_images=True)
    compare(left, evaluate_bundle(bundle, tmp_path / "set.csv", skip_bad_images=True))
    assert left.data.skipped_images == 3


@pytest.mark.parametrize("task", ["depth", pytest.param("segment", marks=pytest.mark.slow)])
def test_whole_models_are_judged_by_their_maps_in_short_shards(
    address: str, task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make_dense_bundle(tmp_path / "bundle", tmp_path / "work", task, figures={}).path
    rng = np.random.default_rng(0)
    for name in ("images", "maps"):
        (tmp_path / "set" / name).mkdir(parents=True)
    for i in range(7):
        (tmp_path / "set" / "images" / f"{i}.png").write_bytes(draw_image(i, 30))
        shape = Image.open(tmp_path / "set" / "images" / f"{i}.png").size[::-1]
        Image.fromarray(rng.integers(1, 5, shape, np.uint8)).save(tmp_path / "set" / "maps" / f"{i}.png")
    (tmp_path / "set" / "maps.toml").write_text("scale = 0.5\n" if task == "depth" else "first_class = 0\n")
    monkeypatch.setattr(module, "MOST_BYTES", 3 * 4 * (96 if task == "depth" else 480))
    found = evaluate_on(address, bundle, tmp_path / "set", resume_folder=tmp_path / "kept")
    expected = evaluate_bundle(bundle, tmp_path / "set")
    assert to_data(dataclasses.replace(found, canary=expected.canary)) == to_data(expected)
    assert expected.task_figures
    assert len(list_kept(tmp_path / "kept", "answers")) == 3


KILLED = """
import sys
from edgevit.remote.sweep import evaluate_on as module
module.MOST_IMAGES = 16
module.evaluate_on(*sys.argv[1:4], resume_folder=sys.argv[4])
"""


def test_a_run_that_was_killed_goes_on_where_it_ended(address: str, bundle: Path, data: Path, tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, address, str(bundle), str(data), str(tmp_path)])
    try:
        deadline = time.monotonic() + 300
        while len(list_kept(tmp_path, "answers")) < 1 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
    finally:
        process.kill()
        process.wait()
    time.sleep(2)  # actors of a driver that is gone end by themselves
    kept = {what: list_kept(tmp_path, what) for what in ("checked", "answers")}
    assert len(kept["answers"]) >= 1
    module.MOST_IMAGES = 16
    found = evaluate_on(address, bundle, data, resume_folder=tmp_path)
    compare(found, evaluate_bundle(bundle, data))
    for what, files in kept.items():
        now = list_kept(tmp_path, what)
        assert len([path for path in now if not path.name.startswith(".")]) == 5
        assert {path: now[path] for path in files if path in now} == {p: t for p, t in files.items() if p in now}


def find_workers(cluster: Any) -> list[int]:
    """Processes of this cluster's actors of Ray Data; other Rays on this machine are none of it."""
    raylets = {str(info.process.pid) for node in cluster.list_all_nodes() for info in node.all_processes["raylet"]}
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            if parent in raylets and b"MapWorker" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


def test_a_worker_that_dies_is_replaced(nodes: Any, address: str, bundle: Path, data: Path, tmp_path: Path) -> None:
    killed: list[int] = []

    def kill_one() -> None:
        deadline = time.monotonic() + 120
        while not killed and time.monotonic() < deadline:
            for process in find_workers(nodes)[:1]:
                os.kill(process, signal.SIGKILL)
                killed.append(process)
            time.sleep(0.02)

    thread = threading.Thread(target=kill_one)
    thread.start()
    found = evaluate_on(address, bundle, data, resume_folder=tmp_path)
    thread.join()
    assert killed
    compare(found, evaluate_bundle(bundle, data))
    assert not [path for path in list_kept(tmp_path, "checked") if path.name.startswith(".")]


def test_a_shard_that_ends_its_workers_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "checked" / "a.json"
    assert [count_try(path, "run", 3) for _ in range(4)] == [True, True, True, False]
    assert count_try(path, "other run", 3)
    forget_tries(path, "run")
    assert count_try(path, "run", 3)


def test_what_cannot_be_done_is_said_before_a_ray_is_asked(bundle: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no folder in common"):
        evaluate_on("ray-head:6379", bundle, data)
    with pytest.raises(BundleError):
        evaluate_on("ray-head:6379", tmp_path, data, resume_folder=tmp_path)


@pytest.mark.slow
def test_embeddings_are_searched_in_all_of_the_references(
    address: str, checkpoint: Path, data: Path, tmp_path: Path
) -> None:
    """The float model's come first; here its 16 numbers an image, and the engine's of another model."""
    bundle = make_embedder(tmp_path).path
    found = evaluate_on(address, bundle, data, resume_folder=tmp_path / "kept", reference=checkpoint)
    expected = evaluate_bundle(bundle, data, reference=checkpoint)
    assert expected.accuracy.recall10 is not None
    assert to_data(dataclasses.replace(found, canary=expected.canary)) == to_data(expected)


def make_embedder(folder: Path) -> Bundle:
    """Pixels summed into 16 numbers."""
    weight = np.random.default_rng(0).standard_normal((SIZE * 3, 16)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
            helper.make_node("ReduceSum", ["pixels", "axes"], ["rows"], keepdims=0),
            helper.make_node("Flatten", ["rows"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weight"], ["embedding"]),
        ],
        "embed",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, 16])],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(np.array([1], np.int64), "axes")],
    )
    path = folder / "embedder.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    engine = compile_engine(path, load_target("cpu"), "fp32", folder / "engine")
    files: dict[str, Path | bytes] = {name: engine.directory / name for name in engine.files}
    files |= {"recipe.toml": b"", "report.json": b"{}\n"}
    outputs = (TensorSpec("embedding", (1, 16), "float32"),)
    manifest = make_manifest(engine=engine, task="embed", outputs=outputs, classes=0, labels=None, figures={})
    return pack_bundle(folder / "bundle", files=files, manifest=manifest)


@pytest.mark.slow
def test_three_nodes_give_the_figures_of_one(bundle: Path, data: Path, checkpoint: Path, tmp_path: Path) -> None:
    expected = evaluate_bundle(bundle, data, reference=checkpoint)
    cluster = start_nodes(3)
    try:
        found = evaluate_on(cluster.address, bundle, data, resume_folder=tmp_path / "three", reference=checkpoint)
    finally:
        cluster.shutdown()
    compare(found, expected)
