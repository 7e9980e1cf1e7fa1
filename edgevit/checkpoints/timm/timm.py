"""timm: a hub folder, ``config.json`` with an ``architecture`` beside ``model.safetensors`` or ``pytorch_model.bin``.

Written from timm 1.0 (``vision_transformer.py``, ``deit.py``, ``eva.py``, ``swin_transformer.py``, ``_hub.py``). The
same folder wrapped by transformers (``model_type`` ``timm_wrapper``) is read too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from edgevit.checkpoints.architectures import Architecture, find_architecture
from edgevit.checkpoints.assemble import Plan, assemble_model
from edgevit.checkpoints.fields import Fields, Size
from edgevit.checkpoints.files.files import CheckpointFiles
from edgevit.checkpoints.labels import read_scores
from edgevit.checkpoints.names import Names, Rows, nest
from edgevit.checkpoints.preprocess_configs import read_timm_preprocess
from edgevit.checkpoints.timm.config import describe_config
from edgevit.checkpoints.timm.eva import join_biases, order_channels
from edgevit.checkpoints.timm.vit import NOT_USED, find_projection, find_vit_names
from edgevit.core.errors import CheckpointError
from edgevit.models import ModelConfig, SwinV2Config, ViTConfig
from edgevit.models.model import Model
from edgevit.pixels.preprocess import Preprocess

LAYOUT = "timm hub folder"

_BLOCKS = "layers.{i}.blocks.{j}."
_BLOCK = ("norm1.*", "attn.qkv.*", "attn.proj.*", "norm2.*", "mlp.fc1.*", "mlp.fc2.*")
V2_BLOCK: Rows = {
    "attn.q_norm.logit_scale": "attn.logit_scale",
    "bias.hidden_weight": "attn.cpb_mlp.0.weight",
    "bias.hidden_bias": "attn.cpb_mlp.0.bias",
    "bias.out_weight": "attn.cpb_mlp.2.weight",
}
_SWIN = {
    "patch_embed.proj.*": ("patch_embed.proj.*",),
    "patch_norm.*": ("patch_embed.norm.*",),
    **nest(_BLOCKS, [_BLOCKS], {part: part for part in _BLOCK}),
    **nest(_BLOCKS, [_BLOCKS], {"bias.table": "attn.relative_position_bias_table"}),
    "norm.*": ("norm.*",),
    "head.*": ("head.fc.*", "head.*"),
}
_SWIN_V2 = {**_SWIN, **nest(_BLOCKS, [_BLOCKS], V2_BLOCK)}
_NOT_USED_V2 = {**NOT_USED, r".*relative_coords_table": "offsets that follow from the window"}
_MERGING = {"norm.*": "norm.*", "reduction.weight": "reduction.weight"}
_NEW = nest("layers.{i}.downsample.", ["layers.{i}.downsample."], _MERGING)
# Before timm 0.9, as in Microsoft's files, a stage ended with the merging that leads to the next.
_OLD = nest("layers.{i}.downsample.", ["layers.{i-1}.downsample."], _MERGING)
SWIN_NAMES, OLD_SWIN_NAMES = (Names({**_SWIN, **merging}, dropped=NOT_USED) for merging in (_NEW, _OLD))
SWIN_V2_NAMES, OLD_SWIN_V2_NAMES = (Names({**_SWIN_V2, **m}, dropped=_NOT_USED_V2) for m in (_NEW, _OLD))

CFG_KEYS = ("mean", "std", "crop_pct", "interpolation")


def recognise(files: CheckpointFiles) -> bool:
    """A ``config.json`` that names an ``architecture``."""
    return "architecture" in files.config and files.config.get("model_type", "timm_wrapper") == "timm_wrapper"


def read(files: CheckpointFiles, arch: str | None, image_size: Size | None) -> Model:
    """Read a timm hub folder; see :func:`edgevit.checkpoints.read_checkpoint`."""
    files.require_weights()
    where = f"{files.source}/config.json"
    stored = files.config
    fields = Fields(stored, where)
    name = fields.text("architecture", "")
    args = fields.mapping("model_args")
    cfg = fields.mapping("pretrained_cfg") or stored  # one flat table before timm 0.9
    fields.finish(dict)
    architecture = find_architecture(name)
    if arch is not None and find_architecture(arch).name != architecture.name:
        raise CheckpointError(
            f"{where} says architecture {name!r}, not {arch!r}", "leave --arch out: it is for bare weight files"
        )
    tensors, notes = files.take_tensors()
    tensors = join_biases(tensors)
    defaults = {"global_pool": cfg.get("global_pool") or stored.get("global_pool"), "input_size": cfg.get("input_size")}
    config, native = describe_config(architecture, args, defaults, tensors, image_size, where)
    stated = cfg if any(cfg.get(key) for key in CFG_KEYS) else {}
    preprocess, assumed = find_preprocess(stated, architecture, native, config.image_size)
    tensors = order_channels(architecture.rope, args, config, tensors)
    labels = stored.get("label_names") or cfg.get("label_names") or stored.get("labels") or stored.get("id2label")
    tag = str(cfg.get("tag") or name.partition(".")[2])
    config, tensors = find_projection(config, tensors, architecture.name, tag, labels)
    classes = next((c for c in (args, stored, cfg) if isinstance(c.get("num_classes"), int)), {}).get("num_classes")
    plan = Plan(
        layout=LAYOUT + (" wrapped by transformers" if "model_type" in stored else ""),
        architecture=name,
        config=config,
        names=find_names(config, tensors),
        preprocess=preprocess,
        stored_size=native,
        stated_classes=classes,
        may_lack_head=classes in (None, 0),
        labels=labels,
        labels_key="label_names",
        scores=read_scores(stored, where),  # which transformers adds where it wraps the folder
        notes=(*notes, *assumed),
    )
    return assemble_model(files, plan, tensors)


def find_preprocess(
    stated: Mapping[str, Any], architecture: Architecture, native: Size, size: Size
) -> tuple[Preprocess, tuple[str, ...]]:
    """What a checkpoint states in timm's keys, or what timm documents where it states nothing; and notes.

    The weights are for the size ``native``, and the model will run at ``size``.
    """
    preprocess, assumed = read_timm_preprocess(stated or architecture.pretrained_cfg, native)
    preprocess = preprocess if native == size else preprocess.with_size(*size)
    what = f"timm's default for {architecture.name} is assumed: {preprocess.describe()}"
    return preprocess, assumed if stated else (f"preprocessing is not stored; {what}",)


def find_names(config: ModelConfig, tensors: Iterable[str]) -> Names:
    """The table for a family, and for Swin the one of the age of these tensors."""
    if isinstance(config, ViTConfig):
        return find_vit_names(config)
    old = "layers.0.downsample.reduction.weight" in tensors
    if isinstance(config, SwinV2Config):
        return OLD_SWIN_V2_NAMES if old else SWIN_V2_NAMES
    return OLD_SWIN_NAMES if old else SWIN_NAMES
