"""MAE's own files: ``{"model": …}`` with timm's names, pre-trained or fine-tuned, of ``facebookresearch/mae``.

Written from its ``models_mae.py``, ``models_vit.py``, ``main_finetune.py`` and ``util/datasets.py``. A fine-tuned model
pools the mean of its patches, and its norm comes behind that, unless it was trained with ``--cls_token``. Evaluation
resizes to 256 for 224 pixels, and to the image size above.
"""

from __future__ import annotations

import dataclasses
import math

import torch

from edgevit.checkpoints.documented import assemble_documented
from edgevit.checkpoints.fields import Size
from edgevit.checkpoints.files.contents import Contents
from edgevit.checkpoints.files.files import CheckpointFiles
from edgevit.checkpoints.published import bare
from edgevit.checkpoints.shapes import at_image_size, describe_size, measure_vit
from edgevit.checkpoints.timm import timm
from edgevit.models import ViTConfig
from edgevit.models.layers import sincos_positions
from edgevit.models.model import Model

LAYOUT = "MAE checkpoint"

_SIZES = {(768, 12): "base", (1024, 24): "large", (1280, 32): "huge"}
_PARTS = {"cls_token", "pos_embed", "patch_embed.proj.weight"}
_DECODER = {r"decoder_.*": "MAE's decoder, for pre-training alone"}


def recognise(files: CheckpointFiles) -> bool:
    """A ViT under ``model`` with MAE's decoder, its fixed positions, or the norm that its fine-tuning moves."""
    if files.config or not files.weights:
        return False
    contents = files.contents
    names = contents.tensors.keys()
    if contents.containers != ("model",) or not names >= _PARTS or any(".ls1." in n or ".gamma_1" in n for n in names):
        return False
    moved = "fc_norm.weight" in names and "norm.weight" not in names
    return "decoder_pos_embed" in names or moved or "global_pool" in contents.stated or _has_fixed_positions(contents)


def _has_fixed_positions(contents: Contents) -> bool:
    """Whether the positions are sines and cosines, which MAE stores and does not train."""
    stored = contents.tensors["pos_embed"]
    side = math.isqrt(max(stored.shape[1] - 1, 0)) if stored.ndim == 3 else 0
    if not side or side * side != stored.shape[1] - 1 or stored.shape[2] % 4 or not stored.is_floating_point():
        return False
    return torch.allclose(stored.float(), sincos_positions((side, side), stored.shape[2], 1), atol=1e-3)


def read(files: CheckpointFiles, arch: str | None, image_size: Size | None) -> Model:
    """Read an MAE file; see :func:`edgevit.checkpoints.read_checkpoint`.

    With ``arch`` it is a bare weight file, for which timm's documentation counts.
    """
    if arch is not None:
        return bare.read(files, arch, image_size)
    tensors, notes = files.take_tensors()
    names = timm.find_names(ViTConfig(), tensors)
    names = dataclasses.replace(names, dropped={**names.dropped, **_DECODER})
    found = {ours: tensors[theirs] for theirs, ours in names.to_canonical(tensors).items()}
    moved = "fc_norm.weight" in found
    described = measure_vit(
        found,
        files.source,
        pool="mean" if moved else "token",
        norm_before_pool=not moved,
        norm_after_pool=moved,
    )
    config = at_image_size(described, image_size)
    native = described.image_size
    size = _SIZES.get((config.width, config.depth))
    name = f"vit_{size}_patch{config.patch_size[0]}" if size else describe_size(config)
    resized = native if native[0] > 224 else (int(native[0] * 256 / 224), int(native[1] * 256 / 224))
    return assemble_documented(
        files,
        tensors,
        publisher="MAE",
        layout=LAYOUT,
        architecture=name,
        config=config,
        native=native,
        names=names,
        resized=resized,
        resampling="bicubic",
        may_lack_head=True,
        notes=notes,
    )
