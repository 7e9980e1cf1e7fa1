"""What holds a model, and what fine-tuning put before its head, is the same to every reader."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from edgevit.checkpoints import read_checkpoint
from edgevit.checkpoints.files.wrappers import unwrap_names
from edgevit.core.errors import CheckpointError
from tests.support.reference import (
    build_timm,
    import_timm,
    import_torchvision,
    import_transformers,
    randomise,
    save_timm_folder,
)

Tensors = dict[str, Tensor]


def make_timm(name: str) -> Tensors:
    return dict(build_timm(name, num_classes=5).state_dict())


def make_timm_folder(folder: Path) -> None:
    save_timm_folder(randomise(import_timm().create_model("vit_tiny_patch16_224", depth=1, num_classes=5)), folder)


def make_transformers(kind: str, folder: Path) -> None:
    transformers = import_transformers()
    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    }
    if kind == "Swin":
        sizes = {"embed_dim": 16, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4, "image_size": 32}
    config = getattr(transformers, f"{kind}Config")(num_labels=5, **sizes)
    randomise(getattr(transformers, f"{kind}ForImageClassification")(config)).save_pretrained(folder)


def make_torchvision() -> Tensors:
    module = import_torchvision().models.VisionTransformer(32, 16, 1, 12, 768, 64, num_classes=5)
    return dict(randomise(module).state_dict())


# Name to what makes a folder, or the tensors of a file; the architecture to give with it; the Linear that is its head.
FOLDERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "timm folder": (make_timm_folder, "head"),
    "transformers ViT": (lambda folder: make_transformers("ViT", folder), "classifier"),
    "transformers Swin": (lambda folder: make_transformers("Swin", folder), "classifier"),
}
FILES: dict[str, tuple[Callable[[], Tensors], str | None, str]] = {
    "timm ViT": (
        lambda: dict(build_timm("vit_tiny_patch16_224", num_classes=5).state_dict()),
        "vit_tiny_patch16_224",
        "head",
    ),
    "DeiT": (lambda: make_timm("deit_tiny_patch16_224"), None, "head"),
    "torchvision": (make_torchvision, None, "heads.head"),
}
READERS = (*FOLDERS, *FILES)


def inside(tensors: Tensors, wrapper: str) -> Tensors:
    """The wrapper's name in the middle of every longer name."""
    parts = {name: name.split(".") for name in tensors}
    return {".".join([*p[:2], wrapper, *p[2:]] if len(p) > 3 else p): tensors[name] for name, p in parts.items()}


def before(tensors: Tensors, lead: str) -> Tensors:
    return {f"{lead}.{name}": value for name, value in tensors.items()}


ODDITIES: dict[str, Callable[[Tensors, str], Tensors]] = {
    "data parallel": lambda tensors, head: before(tensors, "module"),
    "compiled inside": lambda tensors, head: inside(tensors, "_orig_mod"),
    "checkpointed inside": lambda tensors, head: inside(tensors, "_checkpoint_wrapped_module"),
    "sharded inside": lambda tensors, head: inside(before(tensors, "_fsdp_wrapped_module"), "_fsdp_wrapped_module"),
    "attribute": lambda tensors, head: before(tensors, "classification_model"),
    "attribute called vit": lambda tensors, head: before(tensors, "vit"),
    "attribute called backbone": lambda tensors, head: before(tensors, "backbone"),
    "strategy and model": lambda tensors, head: before(tensors, "_forward_module.model"),
    "loss beside": lambda tensors, head: {**before(tensors, "model"), "criterion.weight": torch.ones(5)},
    "dropout before the head": lambda tensors, head: {
        name.replace(f"{head}.", f"{head}.1.") if name.startswith(f"{head}.") else name: value
        for name, value in tensors.items()
    },
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


@pytest.mark.parametrize("oddity", ODDITIES)
@pytest.mark.parametrize("reader", READERS)
def test_model_is_the_same_whatever_holds_it(reader: str, oddity: str, plain: Any, tmp_path: Path) -> None:
    """Cases 13, 14 and 15."""
    folder, tensors, wanted = plain(reader)
    head = FOLDERS[reader][1] if reader in FOLDERS else FILES[reader][2]
    odd = ODDITIES[oddity](tensors, head)
    assert odd.keys() != tensors.keys()
    found = read(reader, folder, odd, tmp_path)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("reader", READERS)
def test_tensor_beside_the_model_is_named(reader: str, plain: Any, tmp_path: Path) -> None:
    folder, tensors, _ = plain(reader)
    odd = {**before(tensors, "model"), "class_weights": torch.ones(5)}
    with pytest.raises(CheckpointError) as caught:
        read(reader, folder, odd, tmp_path)
    assert "1 unexpected tensors" in caught.value.message
    assert caught.value.message.rstrip().endswith("class_weights")


@pytest.mark.parametrize("reader", READERS)
def test_head_of_two_layers_is_refused_by_what_it_is(reader: str, plain: Any, tmp_path: Path) -> None:
    folder, tensors, _ = plain(reader)
    head = FOLDERS[reader][1] if reader in FOLDERS else FILES[reader][2]
    odd = ODDITIES["dropout before the head"](tensors, head)
    odd |= {f"{head}.3.weight": torch.ones(4, 5), f"{head}.3.bias": torch.ones(4)}
    with pytest.raises(
        CheckpointError, match=rf"a head of 2 layers with weights: {head}\.1\.bias, {head}\.1\.weight, {head}\.3"
    ) as caught:
        read(reader, folder, odd, tmp_path)
    assert "ONNX" in caught.value.hint


def test_names_that_would_become_one_are_left_as_they_are() -> None:
    tensors = {"blocks.0._orig_mod.x": torch.ones(1), "blocks.0.x": torch.zeros(1)}
    found, notes = unwrap_names(tensors, "file")
    assert (found.keys(), notes) == (tensors.keys(), [])


def test_image_processor_inside_the_processors_configuration_is_read(tmp_path: Path) -> None:
    """Case 06: transformers 5 writes no ``preprocessor_config.json`` with a whole processor."""
    transformers = import_transformers()
    make_transformers("ViT", tmp_path)
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
