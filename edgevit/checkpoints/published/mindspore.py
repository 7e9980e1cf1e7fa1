"""MindSpore: ``.ckpt`` files (and its ``.safetensors``) of MindCV's ViT and Swin.

Written from MindCV 0.3 (``vit.py``, ``swintransformer.py``, ``transforms_factory.py``) and MindSpore 2's defaults,
which differ from torch's: GELU is its tanh form, LayerNorm's epsilon is 1e-7 where the model gives none.
"""

from __future__ import annotations

from edgevit.checkpoints.documented import assemble_documented
from edgevit.checkpoints.fields import Size
from edgevit.checkpoints.files.files import CheckpointFiles
from edgevit.checkpoints.names import Names, Rows, nest
from edgevit.checkpoints.shapes import describe_size, find_masked_size, measure_swin, measure_vit
from edgevit.core.errors import CheckpointError
from edgevit.core.notes import note_names
from edgevit.models import ModelConfig
from edgevit.models.model import Model

LAYOUT = "MindSpore checkpoint (MindCV)"

_EPSILON = 1e-7
_TRAINING = {
    r"(adam_[mv]|moment[12]|moments?|momentum|accum|velocity|exp_avg(_sq)?|mean_(square|gradient))\..*": (
        "the optimiser's state"
    ),
    r"(beta[12]_power|global_step|learning_rate|lr|epoch_num|step_num|scale_sense|loss_scale|(current_)?iterator_step"
    r"|last_overflow_iterator_step|growth_tracker|append_info)": "the training's state",
}


def _norm(ours: str, theirs: str) -> dict[str, tuple[str, ...]]:
    return {f"{ours}.weight": (f"{theirs}.gamma",), f"{ours}.bias": (f"{theirs}.beta",)}


VIT_NAMES = Names(
    {
        **{name: (name,) for name in ("cls_token", "pos_embed", "patch_embed.proj.*", "head.*")},
        **{f"blocks.{{i}}.{p}.*": (f"blocks.{{i}}.{p}.*",) for p in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")},
        **_norm("blocks.{i}.norm1", "blocks.{i}.norm1"),
        **_norm("blocks.{i}.norm2", "blocks.{i}.norm2"),
        **_norm("norm", "norm"),
        **_norm("fc_norm", "fc_norm"),
    },
    dropped=_TRAINING,
)
_BLOCK: Rows = {
    **{f"{part}.*": f"{part}.*" for part in ("attn.q", "attn.k", "attn.v", "attn.proj", "mlp.fc1", "mlp.fc2")},
    "bias.table": "attn.relative_bias.relative_position_bias_table",
    **_norm("norm1", "norm1"),
    **_norm("norm2", "norm2"),
}
_MERGING: Rows = {**_norm("norm", "norm"), "reduction.weight": "reduction.weight"}
# Stages are appended to a list, and MindSpore names what is appended after the first parameter that is there already:
# stage 0 is called 0, stage 1 is called 0.blocks.1. A stage ends with the merging that leads to the next.
SWIN_NAMES = Names(
    {
        "patch_embed.proj.*": ("patch_embed.proj.*",),
        **_norm("patch_norm", "patch_embed.norm"),
        **nest("layers.{i}.blocks.{j}.", ["layers.{i}.blocks.{j}.", "0.blocks.{i}.blocks.{j}."], _BLOCK),
        **nest("layers.0.blocks.{j}.", ["0.blocks.{j}."], _BLOCK),
        **nest("layers.{i}.downsample.", ["layers.{i-1}.downsample.", "0.blocks.{i-1}.downsample."], _MERGING),
        **nest("layers.1.downsample.", ["0.downsample."], _MERGING),
        **_norm("norm", "norm"),
        "head.*": ("classifier.*",),
    },
    dropped={
        **_TRAINING,
        r".*relative_bias\.index": "an index that follows from the window",
        r".*attn_mask": "a mask that follows from the window",
    },
)
_SIZES = {(768, 12): "b", (1024, 24): "l"}


def recognise(files: CheckpointFiles) -> bool:
    """A ViT's or Swin's first block, its norm with MindSpore's names."""
    first = {f"{stage}blocks.0.norm1.gamma" for stage in ("", "0.", "layers.0.")}
    return not first.isdisjoint(files.bare_tensors)


def read(files: CheckpointFiles, arch: str | None, image_size: Size | None) -> Model:
    """Read a MindSpore checkpoint; see :func:`edgevit.checkpoints.read_checkpoint`."""
    tensors, notes = files.take_tensors()
    if arch is not None:
        raise CheckpointError(
            f"{files.source} is a MindSpore checkpoint, whose tensors say what it is", "leave --arch out"
        )
    numbers = sorted(name for name, value in tensors.items() if not value.ndim)  # no parameter of a model is one
    if numbers:
        tensors = {name: value for name, value in tensors.items() if value.ndim}
        notes.append(note_names("dropped numbers that are the training's state: ", numbers, 6))
    described: ModelConfig
    if "blocks.0.norm1.gamma" in tensors:
        names = VIT_NAMES
        found = names.pick(tensors)
        moved = "fc_norm.weight" in found
        described = measure_vit(
            found,
            files.source,
            norm_eps=_EPSILON,
            activation="gelu_tanh",
            pool="mean" if moved else "token",
            norm_before_pool=not moved,
            norm_after_pool=moved,
        )
        size = _SIZES.get((described.width, described.depth))
        name = f"vit_{size}_{described.patch_size[0]}_{described.image_size[0]}" if size else describe_size(described)
    else:
        names = SWIN_NAMES
        described = measure_swin(
            names.pick(tensors),
            files.source,
            activation="gelu_tanh",
            merging_norm_eps=_EPSILON,
            image_size=find_masked_size(tensors),
            window_fit="smaller",
            pad="before_shift",
        )
        tiny = (described.width, described.depths) == (96, (2, 2, 6, 2))
        name = "swin_tiny" if tiny else describe_size(described)
    return assemble_documented(
        files,
        tensors,
        described,
        image_size,
        publisher="MindCV",
        layout=LAYOUT,
        architecture=name,
        names=names,
        notes=notes,
    )
