"""MAE's own files: ``{"model": …}`` with timm's names, pre-trained or fine-tuned, of ``facebookresearch/mae``.

Written from its ``models_mae.py``, ``models_vit.py``, ``main_finetune.py`` and ``util/datasets.py``. A fine-tuned model
pools the mean of its patches, and its norm comes behind that, unless it was trained with ``--cls_token``. Evaluation
resizes to 256 for 224 pixels, and to the image size above.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from edgevit.checkpoints.documented import assemble_documented
from edgevit.checkpoints.fields import Size
from edgevit.checkpoints.files.files import CheckpointFiles
from edgevit.checkpoints.shapes import describe_size, measure_vit
from edgevit.checkpoints.timm import timm
from edgevit.models import ViTConfig
from edgevit.models.layers import sincos_positions
from edgevit.models.model import Model

LAYOUT = "MAE checkpoint"

_SIZES = {(768, 12): "base", (1024, 24): "large", (1280, 32): "huge"}
_PARTS = {"cls_token", "pos_embed", "patch_embed.proj.weight"}
_DECODER = {r"decoder_.*": "MAE's decoder, only for pre-training"}


def recognise(files: CheckpointFiles) -> bool:
    """A ViT under ``model`` with MAE's decoder, its fixed positions, or the norm that its fine-tuning moves."""
    names = files.bare_tensors.keys()
    if not names >= _PARTS or files.contents.containers != ("model",):
        return False
    if any(".ls1." in name or ".gamma_1" in name for name in names):
        return False
    if "decoder_pos_embed" in names or ("fc_norm.weight" in names and "norm.weight" not in names):
        return True
    return "global_pool" in files.contents.stated or _is_fixed(files.bare_tensors["pos_embed"])


def _is_fixed(stored: Tensor) -> bool:
    """Whether positions are sines and cosines, which MAE stores and does not train."""
    side = math.isqrt(max(stored.shape[1] - 1, 0)) if stored.ndim == 3 else 0
    if not side or side * side != stored.shape[1] - 1 or stored.shape[2] % 4 or not stored.is_floating_point():
        return False
    return torch.allclose(stored.float(), sincos_positions((side, side), stored.shape[2], 1), atol=1e-3)


def read(files: CheckpointFiles, arch: str | None, image_size: Size | None) -> Model:
    """Read an MAE file; see :func:`edgevit.checkpoints.read_checkpoint`."""
    tensors, notes = files.take_tensors()
    names = timm.find_names(ViTConfig(), tensors)
    names = dataclasses.replace(names, dropped={**names.dropped, **_DECODER})
    found = names.pick(tensors)
    moved = "fc_norm.weight" in found
    described = measure_vit(
        found,
        files.source,
        pool="mean" if moved else "token",
        norm_before_pool=not moved,
        norm_after_pool=moved,
    )
    size = _SIZES.get((described.width, described.depth))
    return assemble_documented(
        files,
        tensors,
        described,
        image_size,
        publisher="MAE",
        layout=LAYOUT,
        architecture=f"vit_{size}_patch{described.patch_size[0]}" if size else describe_size(described),
        names=names,
        crop=1.0 if described.image_size[0] > 224 else 0.875,
        resampling="bicubic",
        notes=notes,
    )
