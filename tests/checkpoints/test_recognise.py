"""A file of one publisher is never taken for another's."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

from edgevit.checkpoints import READERS
from edgevit.checkpoints.files.files import find_files
from edgevit.models.layers import sincos_positions
from tests.support.published.dino import dino_checkpoint, name_as_dinov2, name_as_dinov3
from tests.support.published.jax import SMALL, make_arrays
from tests.support.published.swin import save_swin
from tests.support.published.torchvision import build_swin, build_vit
from tests.support.reference import build_timm, import_transformers
from tests.support.small_checkpoints import small_tensors, write_folder

FIXTURES = Path(__file__).parent / "mindspore"
KERAS = Path(__file__).parent / "keras"


def write_transformers(folder: Path) -> Path:
    transformers = import_transformers()
    config = transformers.ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    transformers.ViTForImageClassification(config).save_pretrained(folder)
    return folder


def write_torch(content: object, folder: Path) -> Path:
    torch.save(content, folder / "weights.pth")
    return folder / "weights.pth"


def write_bare_transformers(folder: Path) -> Path:
    write_transformers(folder)
    (folder / "config.json").unlink()
    return folder / "model.safetensors"


def write_jax(folder: Path) -> Path:
    np.savez(folder / "w.npz", **make_arrays(**SMALL))
    return folder / "w.npz"


def write_mae(folder: Path, fine_tuned: bool) -> Path:
    pool = {"global_pool": "avg"} if fine_tuned else {"num_classes": 0}
    state = build_timm("vit_base_patch16_224", depth=1, **pool).state_dict()
    if not fine_tuned:
        state["pos_embed"] = sincos_positions((14, 14), 768, 1)
    return write_torch({"model": state}, folder)


def write_swin(folder: Path, name: str = "swin_tiny_patch4_window7_224") -> Path:
    save_swin(build_timm(name, depths=(1, 1), num_heads=(3, 6)), folder / "w.pth")
    return folder / "w.pth"


def write_dino(folder: Path) -> Path:
    both = [build_timm("vit_tiny_patch16_224", num_classes=0, depth=1) for _ in range(2)]
    return write_torch(dino_checkpoint(*both), folder)


def make_dinov2(chunks: int = 0) -> dict[str, torch.Tensor]:
    return name_as_dinov2(build_timm("vit_small_patch14_dinov2", depth=1, img_size=28).state_dict(), chunks)


def write_open_clip(folder: Path) -> Path:
    names = (
        "visual.class_embedding",
        "visual.conv1.weight",
        "visual.ln_post.weight",
        "text_projection",
    )
    return write_torch({name: torch.ones(8) for name in names}, folder)


# What a publisher writes, and the reader that it is for.
SAMPLES: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "timm folder": ("timm", write_folder),
    "transformers folder": ("transformers", write_transformers),
    "torchvision vit": ("torchvision", lambda f: write_torch(build_vit().state_dict(), f)),
    "torchvision swin": ("torchvision", lambda f: write_torch(build_swin().state_dict(), f)),
    "torchvision in a training checkpoint": (
        "torchvision",
        lambda f: write_torch({"model": build_vit().state_dict(), "epoch": 1}, f),
    ),
    "jax": ("jax", write_jax),
    "mindspore vit": ("mindspore", lambda f: Path(shutil.copy(FIXTURES / "vit.ckpt", f))),
    "mindspore swin": ("mindspore", lambda f: Path(shutil.copy(FIXTURES / "swin.ckpt", f))),
    "mindspore training": ("mindspore", lambda f: Path(shutil.copy(FIXTURES / "training.ckpt", f))),
    "keras preset": ("keras", lambda f: Path(shutil.copytree(KERAS / "vit", f / "vit"))),
    "keras backbone": ("keras", lambda f: Path(shutil.copytree(KERAS / "bfloat16", f / "vit"))),
    "keras archive": ("keras", lambda f: Path(shutil.copy(KERAS / "deit.keras", f))),
    "keras bare": ("keras", lambda f: Path(shutil.copy(KERAS / "swin.weights.h5", f))),
    "deit": ("deit", lambda f: write_torch({"model": build_timm("deit_tiny_patch16_224").state_dict()}, f)),
    "deit distilled": (
        "deit",
        lambda f: write_torch({"model": build_timm("deit_tiny_distilled_patch16_224").state_dict()}, f),
    ),
    "mae fine-tuned": ("mae", lambda f: write_mae(f, True)),
    "mae pre-trained": ("mae", lambda f: write_mae(f, False)),
    "swin": ("swin", write_swin),
    "swin v2": ("swin", lambda f: write_swin(f, "swinv2_tiny_window8_256")),
    "dino": ("dino", write_dino),
    "dinov2 backbone": ("dinov2", lambda f: write_torch(make_dinov2(), f)),
    "dinov3 backbone": (
        "dinov3",
        lambda f: write_torch(name_as_dinov3(build_timm("vit_small_patch16_dinov3_qkvb", depth=1)), f),
    ),
    "dinov2 training": (
        "dinov2",
        lambda f: write_torch({"teacher": {f"backbone.{n}": t for n, t in make_dinov2(chunks=1).items()}}, f),
    ),
    "open_clip": ("open_clip", write_open_clip),
    "open_clip, timm's tower": ("open_clip", lambda f: write_torch({"visual.trunk.cls_token": torch.ones(1)}, f)),
    "bare, timm's dinov2": (
        "bare",
        lambda f: write_torch(build_timm("vit_small_patch14_dinov2", depth=1, img_size=28).state_dict(), f),
    ),
    "bare, timm's names": ("bare", lambda f: write_torch(small_tensors(), f)),
    "bare, timm's training checkpoint": (
        "bare",
        lambda f: write_torch({"arch": "vit", "state_dict": build_timm("vit_tiny_patch16_224").state_dict()}, f),
    ),
    "bare, timm's swin": (
        "bare",
        lambda f: write_torch(
            build_timm("swin_tiny_patch4_window7_224", depths=(1, 1), num_heads=(3, 6)).state_dict(), f
        ),
    ),
    "bare, timm's swin v2": (
        "bare",
        lambda f: write_torch(build_timm("swinv2_tiny_window8_256", depths=(1, 1), num_heads=(3, 6)).state_dict(), f),
    ),
    "bare, transformers' names": ("bare", write_bare_transformers),
}


@pytest.mark.parametrize("sample", list(SAMPLES))
def test_every_reader_but_its_own_passes_a_file_over(tmp_path: Path, sample: str) -> None:
    publisher, write = SAMPLES[sample]
    files = find_files(write(tmp_path))
    recognised = {name for name, path in READERS.items() if import_module(path).recognise(files)}
    # A bare weight file is what no publisher recognised: it takes any, and stands last.
    assert recognised - {"bare"} == {publisher} - {"bare"}
    assert "bare" in recognised or files.config
    assert list(READERS)[-1] == "bare"


def test_every_reader_has_a_sample() -> None:
    # An ONNX file is known by its name, before anything is read.
    assert next(iter(READERS)) == "onnx"
    assert {publisher for publisher, _ in SAMPLES.values()} == set(READERS) - {"onnx"}
