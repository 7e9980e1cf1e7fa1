"""What holds a model, and what fine-tuning put before its head, is the same to every reader."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from edgevit.checkpoints import read_checkpoint, shapes
from edgevit.checkpoints.files.mindspore_file import read_mindspore
from edgevit.checkpoints.files.wrappers import unwrap_names
from edgevit.core.errors import CheckpointError
from tests.support.published.dino import name_as_dinov2
from tests.support.published.open_clip import build_open_clip
from tests.support.published.swin import save_swin
from tests.support.published.torchvision import build_swin
from tests.support.reference import (
    build_timm,
    import_torchvision,
    import_transformers,
    randomise,
    save_timm_folder,
)

Tensors = dict[str, Tensor]
FIXTURES = Path(__file__).parent / "mindspore"
SWIN: dict[str, Any] = {
    "img_size": 32,
    "window_size": 4,
    "embed_dim": 16,
    "depths": (1, 1),
    "num_heads": (1, 2),
    "num_classes": 5,
}
SIZES: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 32,
}  # fmt: skip


def save_timm(name: str, folder: Path, **arguments: Any) -> None:
    save_timm_folder(build_timm(name, **arguments), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_args": arguments}))


def save_transformers(kind: str, config: str, folder: Path, *, by_modules: bool = False, **arguments: Any) -> None:
    transformers = import_transformers()
    module = randomise(getattr(transformers, kind)(getattr(transformers, config)(num_labels=5, **arguments)))
    module.save_pretrained(folder)
    if by_modules:
        save_file({n: t.contiguous() for n, t in module.state_dict().items()}, folder / "model.safetensors")


def list_timm(name: str, **arguments: Any) -> Tensors:
    return dict(build_timm(name, **arguments).state_dict())


def list_torchvision_vit() -> Tensors:
    module = import_torchvision().models.VisionTransformer(32, 16, 1, 3, 192, 64, num_classes=5)
    return dict(randomise(module).state_dict())


def list_microsoft_swin() -> Tensors:
    theirs = build_timm("swin_tiny_patch4_window7_224", **SWIN)
    file = io.BytesIO()
    save_swin(theirs, file)
    file.seek(0)
    return dict(torch.load(file)["model"])


def list_mindspore(name: str) -> Tensors:
    return {n: t for n, t in read_mindspore(FIXTURES / f"{name}.ckpt").items() if isinstance(t, Tensor)}


# Name to what makes a folder, or the tensors of a file; the architecture to give with it; the Linear that is its head.
FOLDERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "timm ViT folder": (lambda folder: save_timm("vit_tiny_patch16_224", folder, depth=1, num_classes=5), "head"),
    "timm Swin folder": (lambda folder: save_timm("swin_tiny_patch4_window7_224", folder, **SWIN), "head.fc"),
    "timm gated MLP folder": (
        lambda folder: save_timm(
            "vit_giant_patch14_dinov2", folder, depth=1, embed_dim=32, num_heads=2, img_size=28, num_classes=5
        ),
        "head",
    ),
    "transformers ViT": (
        lambda folder: save_transformers("ViTForImageClassification", "ViTConfig", folder, **SIZES),
        "classifier",
    ),
    "transformers ViT by its modules' names": (
        lambda folder: save_transformers("ViTForImageClassification", "ViTConfig", folder, by_modules=True, **SIZES),
        "classifier",
    ),
    "transformers Swin": (
        lambda folder: save_transformers(
            "SwinForImageClassification", "SwinConfig", folder, embed_dim=16, depths=[1, 1], num_heads=[1, 2],
            window_size=4, image_size=32,
        ),
        "classifier",
    ),
    "transformers gated MLP": (
        lambda folder: save_transformers(
            "Dinov2ForImageClassification", "Dinov2Config", folder, use_swiglu_ffn=True, patch_size=16, **SIZES
        ),
        "classifier",
    ),
    "transformers projection": (
        lambda folder: save_transformers(
            "CLIPVisionModelWithProjection", "CLIPVisionConfig", folder, projection_dim=8, **SIZES
        ),
        "",
    ),
}  # fmt: skip
FILES: dict[str, tuple[Callable[[], Tensors], str | None, str]] = {
    "timm ViT": (lambda: list_timm("vit_tiny_patch16_224", num_classes=5), "vit_tiny_patch16_224", "head"),
    "DeiT": (lambda: list_timm("deit_tiny_patch16_224", num_classes=5), None, "head"),
    "MAE": (
        lambda: list_timm("vit_tiny_patch16_224", depth=1, num_classes=5, global_pool="avg", fc_norm=True),
        None,
        "head",
    ),
    "Swin": (list_microsoft_swin, None, "head"),
    "torchvision ViT": (list_torchvision_vit, None, "heads.head"),
    "torchvision Swin": (lambda: dict(build_swin().state_dict()), None, "head"),
    "MindSpore ViT": (lambda: list_mindspore("vit"), None, "head"),
    "MindSpore Swin": (lambda: list_mindspore("swin"), None, "classifier"),
    "open_clip": (lambda: dict(build_open_clip("ViT-B-32", layers=1, width=192)[0].state_dict()), None, ""),
    "DINOv2": (
        lambda: name_as_dinov2(list_timm("vit_small_patch14_dinov2", depth=1, img_size=28)),
        None,
        "",
    ),
}
READERS = (*FOLDERS, *FILES)
HEADS = {name: (FOLDERS if name in FOLDERS else FILES)[name][-1] for name in READERS}


@pytest.fixture(autouse=True)
def small_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fixtures' width, for which nobody publishes a number of heads."""
    monkeypatch.setitem(shapes.HEADS, 16, 2)


def inside(tensors: Tensors, wrapper: str) -> Tensors:
    """The wrapper's name in the middle of every longer name."""
    parts = {name: name.split(".") for name in tensors}
    return {".".join([*p[:2], wrapper, *p[2:]] if len(p) > 3 else p): tensors[name] for name, p in parts.items()}


def before(tensors: Tensors, lead: str) -> Tensors:
    return {f"{lead}.{name}": value for name, value in tensors.items()}


def split_head(tensors: Tensors, head: str) -> tuple[Tensors, Tensors]:
    """All but the head, and the head."""
    inside_head = {name: value for name, value in tensors.items() if name.startswith(f"{head}.")}
    return {name: value for name, value in tensors.items() if name not in inside_head}, inside_head


def behind_dropout(tensors: Tensors, head: str) -> Tensors:
    rest, own = split_head(tensors, head)
    return rest | {name.replace(f"{head}.", f"{head}.1."): value for name, value in own.items()}


def zeros(tensors: Tensors) -> Tensors:
    return {name: torch.zeros_like(value) for name, value in tensors.items()}


ODDITIES: dict[str, Callable[[Tensors], Tensors]] = {
    "data parallel": lambda tensors: before(tensors, "module"),
    "data parallel inside": lambda tensors: inside(tensors, "module"),
    "data parallel under an attribute": lambda tensors: before(tensors, "backbone.module"),
    "compiled": lambda tensors: before(tensors, "_orig_mod"),
    "compiled inside": lambda tensors: inside(tensors, "_orig_mod"),
    "checkpointed inside": lambda tensors: inside(tensors, "_checkpoint_wrapped_module"),
    "sharded inside": lambda tensors: inside(before(tensors, "_fsdp_wrapped_module"), "_fsdp_wrapped_module"),
    "attribute": lambda tensors: before(tensors, "classification_model"),
    "attribute called vit": lambda tensors: before(tensors, "vit"),
    "attribute called backbone": lambda tensors: before(tensors, "backbone"),
    "attribute called net": lambda tensors: before(tensors, "net"),
    "attribute of an attribute": lambda tensors: before(tensors, "task.student_net"),
    "behind a normalisation": lambda tensors: before(tensors, "1"),
    "strategy and model": lambda tensors: before(tensors, "_forward_module.model"),
    "loss beside": lambda tensors: {**before(tensors, "model"), "criterion.weight": torch.ones(5)},
    "loss beside an attribute": lambda tensors: {**before(tensors, "lit"), "criterion.weight": torch.ones(5)},
    "average": lambda tensors: {**before(tensors, "module"), "n_averaged": torch.tensor(3)},
    "average beside": lambda tensors: {**before(zeros(tensors), "model"), **before(tensors, "ema_model.module")},
}
# Of readers that know a publisher by the key under which its script saves.
REFUSED = {(reader, "average beside"): "does not say its architecture" for reader in ("DeiT", "MAE")}
HEAD_ODDITIES: dict[str, Callable[[Tensors, str], Tensors]] = {
    "behind a dropout": behind_dropout,
    "behind a dropout, under an attribute": lambda tensors, head: before(behind_dropout(tensors, head), "lit"),
    "beside an attribute": lambda tensors, head: (
        before(split_head(tensors, head)[0], "backbone") | split_head(tensors, head)[1]
    ),
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path | None, Tensors, Tensors]]:
    """A reader's folder, its tensors, and the module's as they are read from them; each made once."""
    made: dict[str, tuple[Path | None, Tensors, Tensors]] = {}

    def get(reader: str) -> tuple[Path | None, Tensors, Tensors]:
        if reader not in made:
            folder = tmp_path_factory.mktemp("plain") / "model"
            if reader in FOLDERS:
                FOLDERS[reader][0](folder)
                tensors = load_file(folder / "model.safetensors")
                made[reader] = folder, tensors, dict(read_checkpoint(folder).module.state_dict())
            else:
                tensors = FILES[reader][0]()
                folder.mkdir()
                made[reader] = None, tensors, read_file(reader, tensors, folder)
        return made[reader]

    return get


def read_file(reader: str, tensors: Tensors, folder: Path) -> Tensors:
    torch.save({"model": tensors}, folder / "weights.pth")
    return dict(read_checkpoint(folder / "weights.pth", arch=FILES[reader][1]).module.state_dict())


def read(reader: str, folder: Path | None, tensors: Tensors, work: Path) -> Tensors:
    if folder is None:
        return read_file(reader, tensors, work)
    for file in folder.glob("*.json"):
        (work / file.name).write_text(file.read_text())
    save_file({name: value.clone() for name, value in tensors.items()}, work / "model.safetensors")
    return dict(read_checkpoint(work).module.state_dict())


def check_same(found: Tensors, wanted: Tensors) -> None:
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("oddity", ODDITIES)
@pytest.mark.parametrize("reader", READERS)
def test_model_is_the_same_whatever_holds_it(reader: str, oddity: str, plain: Any, tmp_path: Path) -> None:
    """Cases 14 and 15."""
    folder, tensors, wanted = plain(reader)
    odd = ODDITIES[oddity](tensors)
    assert odd.keys() != tensors.keys()
    if (reader, oddity) in REFUSED:
        with pytest.raises(CheckpointError, match=REFUSED[reader, oddity]):
            read(reader, folder, odd, tmp_path)
    else:
        check_same(read(reader, folder, odd, tmp_path), wanted)


@pytest.mark.parametrize("oddity", HEAD_ODDITIES)
@pytest.mark.parametrize("reader", [reader for reader in READERS if HEADS[reader]])
def test_head_is_the_same_wherever_fine_tuning_put_it(reader: str, oddity: str, plain: Any, tmp_path: Path) -> None:
    """Case 13."""
    folder, tensors, wanted = plain(reader)
    odd = HEAD_ODDITIES[oddity](tensors, HEADS[reader])
    assert odd.keys() != tensors.keys()
    check_same(read(reader, folder, odd, tmp_path), wanted)


@pytest.mark.parametrize("reader", READERS)
def test_tensor_beside_the_model_is_named(reader: str, plain: Any, tmp_path: Path) -> None:
    """Case 15."""
    folder, tensors, _ = plain(reader)
    odd = {**before(tensors, "model"), "class_weights": torch.ones(5)}
    if reader == "open_clip":  # what is not of its image tower is of its text tower
        check_same(read(reader, folder, odd, tmp_path), plain(reader)[2])
        return
    with pytest.raises(CheckpointError) as caught:
        read(reader, folder, odd, tmp_path)
    assert "holds all of its architecture's tensors, and 1 tensor beside them" in caught.value.message
    assert "architecture" not in caught.value.hint
    assert caught.value.message.rstrip().endswith("class_weights")


@pytest.mark.parametrize("reader", [reader for reader in READERS if HEADS[reader]])
def test_head_of_two_layers_is_refused_by_what_it_is(reader: str, plain: Any, tmp_path: Path) -> None:
    folder, tensors, _ = plain(reader)
    head = HEADS[reader]
    odd = behind_dropout(tensors, head)
    odd |= {f"{head}.3.weight": torch.ones(4, 5), f"{head}.3.bias": torch.ones(4)}
    what = re.escape(f"a head of 2 layers with weights: {head}.1.bias, {head}.1.weight, {head}.3")
    with pytest.raises(CheckpointError, match=what) as caught:
        read(reader, folder, odd, tmp_path)
    assert "ONNX" in caught.value.hint


@pytest.mark.parametrize("reader", READERS)
def test_tensors_that_would_get_one_name_are_not_mixed(reader: str, plain: Any, tmp_path: Path) -> None:
    """A second head, say, beside the attribute that has its own: neither is taken in silence."""
    folder, tensors, _ = plain(reader)
    name = [name for name in tensors if reader != "open_clip" or name.startswith("visual.")][-1]
    odd = {**before(tensors, "backbone"), name: torch.zeros_like(tensors[name])}
    with pytest.raises(CheckpointError):
        read(reader, folder, odd, tmp_path)


def test_names_that_would_become_one_are_left_as_they_are() -> None:
    tensors = {"blocks.0._orig_mod.x": torch.ones(1), "blocks.0.x": torch.zeros(1)}
    found, notes = unwrap_names(tensors, "file")
    assert (found.keys(), notes) == (tensors.keys(), [])


def test_image_processor_inside_the_processors_configuration_is_read(tmp_path: Path) -> None:
    """Case 06: transformers 5 writes no ``preprocessor_config.json`` with a whole processor."""
    transformers = import_transformers()
    save_transformers("ViTForImageClassification", "ViTConfig", tmp_path, **SIZES)
    processor = transformers.ViTImageProcessor(
        size={"height": 224, "width": 224}, image_mean=[0.4] * 3, image_std=[0.3] * 3, resample=2
    )
    processor.save_pretrained(tmp_path)
    wanted = read_checkpoint(tmp_path)
    stored = json.loads((tmp_path / "preprocessor_config.json").read_text())
    (tmp_path / "preprocessor_config.json").unlink()
    document = {"image_processor": stored, "processor_class": "CLIPProcessor"}
    (tmp_path / "processor_config.json").write_text(json.dumps(document))
    found = read_checkpoint(tmp_path)
    assert found.preprocess == wanted.preprocess
    assert found.preprocess.mean == (0.4, 0.4, 0.4)
    assert found.source.notes == wanted.source.notes
