"""DeiT's and DeiT III's own files, as ``facebookresearch/deit`` publishes and saves them.

They hold ``{"model": …}`` with timm's names; DeiT III has its layer scale as ``gamma_1``, and positions for the patches
only. Written from its ``main.py``, ``models.py``, ``models_v2.py`` and ``datasets.py``. Sizes follow from the tensors.
Evaluation resizes to the image size over 0.875, and for DeiT III (Touvron et al., 2022, arXiv:2204.07118) to the image
size itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from edgevit.checkpoints.documented import assemble_documented
from edgevit.checkpoints.fields import Size
from edgevit.checkpoints.files.files import CheckpointFiles
from edgevit.checkpoints.shapes import measure_vit
from edgevit.checkpoints.timm import timm
from edgevit.core.errors import CheckpointError
from edgevit.models import ViTConfig
from edgevit.models.model import Model

LAYOUT = "DeiT training checkpoint"

_SIZES = {(192, 12): "tiny", (384, 12): "small", (768, 12): "base"}
_SIZES_3 = {**_SIZES, (512, 12): "medium", (1024, 24): "large", (1280, 32): "huge"}
_HEADS_3 = {512: 8}  # the other widths have the heads of every ViT
_PARTS = {"cls_token", "pos_embed", "patch_embed.proj.weight", "norm.weight", "head.weight"}
_SCALE = "blocks.0.gamma_1"
_ROTARY = re.compile(r"(?i)(^|[^a-z])rope([^a-z]|$)")  # in the name of a file or of the model that was trained
# What timm trains in the same sizes and saves in the same container, and DeiT has not.
_OTHERS = re.compile(r"fc_norm\..*|norm_pre\..*|reg_token|blocks\.\d+\.(ls[12]\.gamma|attn\.[qk]_norm\..*)")


def recognise(files: CheckpointFiles) -> bool:
    """A ViT's classifier under ``model`` or ``model_ema``, in one of DeiT's or DeiT III's sizes and patches."""
    tensors = files.bare_tensors
    if not tensors.keys() >= _PARTS or files.contents.containers not in (("model",), ("model_ema",)):
        return False
    if "global_pool" in files.contents.stated or any(_OTHERS.fullmatch(name) for name in tensors):  # MAE's, or timm's
        return False
    size = _find_size(tensors)
    patches = [(16, 16), (14, 14)] if size == "huge" else [(16, 16)]
    return size is not None and tuple(tensors["patch_embed.proj.weight"].shape[2:]) in patches


def _find_size(tensors: Mapping[str, Tensor]) -> str | None:
    depth = sum(1 for name in tensors if name.endswith(".norm1.weight"))
    sizes = _SIZES_3 if _SCALE in tensors else _SIZES
    return sizes.get((tensors["norm.weight"].numel(), depth))


def read(files: CheckpointFiles, arch: str | None, image_size: Size | None) -> Model:
    """Read a DeiT file; see :func:`edgevit.checkpoints.read_checkpoint`."""
    tensors, notes = files.take_tensors()
    names = timm.find_names(ViTConfig(), tensors)
    found = names.pick(tensors)
    distilled, third = "dist_token" in found, _SCALE in tensors
    if third:
        notes.append(_check_rotary(files))
    scaled: dict[str, Any] = {"layer_scale": True, "position_prefix": False} if third else {}
    described = measure_vit(
        found,
        files.source,
        prefix_tokens=0 if third else 1 + distilled,
        heads=_HEADS_3.get(tensors["norm.weight"].numel()),
        distillation_token=distilled,
        distillation_head="head_dist.weight" in found,
        **scaled,
    )
    kind = "deit3" if third else "deit"
    variant = "distilled_" if distilled else ""
    notes.append("the file does not say whose it is; --arch NAME with timm's name takes timm's preprocessing instead")
    return assemble_documented(
        files,
        tensors,
        described,
        image_size,
        publisher="DeiT",
        layout=LAYOUT,
        architecture=f"{kind}_{_find_size(tensors)}_{variant}patch{described.patch_size[0]}_{described.image_size[0]}",
        names=names,
        crop=1.0 if third else 0.875,
        resampling="bicubic",
        may_lack_head=False,
        notes=notes,
    )


def _check_rotary(files: CheckpointFiles) -> str:
    """A note on the one model with the very tensors of a DeiT III, or an error where the file says that it is that."""
    said = [str(files.contents.stated.get("model", "")), files.weights[0].name]
    if any(_ROTARY.search(text) for text in said):
        raise CheckpointError(
            f"{files.source} is a ViT with rotary positions (RoPE) by its name, and in its tensors a DeiT III",
            "add --arch with timm's name of it, for example --arch vit_small_patch16_rope_ape_224; learned angles "
            "(rope_mixed) are not supported",
        )
    return "read as DeiT III; a ViT with axial RoPE beside its positions has the same tensors, and other answers"
