"""merge_adapter: a LoRA adapter's weights added to those of its base model, W + B·A·scale, as PEFT merges them.

Hu et al. 2021, arXiv:2106.09685; the scale is alpha / r, or alpha / √r with rank-stabilised LoRA (Kalajdzievski 2023,
arXiv:2312.03732). What a plain LoRA has not (DoRA, other kinds of adapters) is refused by its name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgevit.checkpoints.files.wrappers import HEADS
from edgevit.core.errors import CheckpointError, count_things, format_offenders

if TYPE_CHECKING:
    from torch import Tensor

CONFIG_FILE = "adapter_config.json"
WEIGHT_FILES = ("adapter_model.safetensors", "adapter_model.bin")
MERGE_HINT = "merge it where it was trained (model.merge_and_unload() of PEFT), save that, and read it"
_LEAD = "base_model.model."
_HOLDERS = re.compile(r"\.(modules_to_save(\.default)?|base_layer)\.")
# transformers 5 gives modules, after which PEFT names what it adapts, other names than its files have; a backbone
# that was saved by itself has none before its parts.
_NAMES_OF_ONE = (
    (re.compile(r"^(vit|deit|dinov2|dinov2_with_registers|swin|swinv2)\."), ""),
    (re.compile(r"\bencoder\.layer\."), "layers."),
    (re.compile(r"\battention\.(?:attention|self)\.(q|k|v)(?:uery|ey|alue)\b"), r"attention.\1_proj"),
    (re.compile(r"\battention\.output\.dense\b"), "attention.o_proj"),
    (re.compile(r"\bintermediate\.dense\b"), "mlp.fc1"),
    (re.compile(r"\boutput\.dense\b"), "mlp.fc2"),
)
_PAIR = re.compile(r"(?P<module>.+)\.lora_(?P<part>[AB])(\.default)?\.weight")


def merge_adapter(
    base: Mapping[str, Tensor], adapter: Mapping[str, Tensor], config: Mapping[str, Any], source: str
) -> tuple[dict[str, Tensor], str]:
    """The merged weights, under the base model's names, and a note.

    Args:
        base: The base model's.
        adapter: The adapter's: ``base_model.model.<module>.lora_A.weight`` and the like, and modules that were trained
            whole (``modules_to_save``); a head among them may be one that the base model lacks.
        config: ``adapter_config.json``.
        source: For messages.

    Raises:
        CheckpointError: Another kind of adapter, or one that does not fit the base model; all that does not fit.
    """
    check_adapter(config, source)
    pairs: dict[str, dict[str, Tensor]] = {}
    whole: dict[str, Tensor] = {}
    for name, value in adapter.items():
        bare = _HOLDERS.sub(".", name.removeprefix(_LEAD))
        if match := _PAIR.fullmatch(bare):
            pairs.setdefault(match["module"], {})[match["part"]] = value
        else:
            whole[bare] = value
    merged = dict(base)
    stored = {_unify(name): name for name in base}
    # A head that was trained with the adapter is whole in it, and a base that was pretrained without one has none.
    places = {name: stored.get(_unify(name), name if name.rpartition(".")[0] in HEADS else "") for name in whole}
    problems = [f"{name}: not in the base model" for name, place in places.items() if not place]
    merged |= {place: whole[name] for name, place in places.items() if place}
    for module, pair in pairs.items():
        place = stored.get(_unify(f"{module}.weight"), "")
        weight = base.get(place)
        if weight is None or pair.keys() != {"A", "B"}:
            what = "not in the base model" if weight is None else f"only lora_{next(iter(pair))}"
            problems.append(f"{module}: {what}")
            continue
        first, second = pair["A"].double(), pair["B"].double()
        change = second.flatten(1) @ first.flatten(1) * _find_scale(module, first.shape[0], config)
        if change.numel() != weight.numel():
            problems.append(f"{module}: for a weight of {tuple(change.shape)}, not {tuple(weight.shape)}")
            continue
        merged[place] = (weight.double() + change.reshape(weight.shape)).to(weight.dtype)
    if problems:
        raise CheckpointError(
            f"{source} does not fit its base model:\n{format_offenders(problems)}",
            f"check that base_model_name_or_path names the model that it was trained on, or {MERGE_HINT}",
        )
    saved = f", and {count_things(len(whole), 'tensor')} of modules that were trained whole" if whole else ""
    return merged, f"a LoRA adapter is merged into {count_things(len(pairs), 'layer')}{saved}"


def check_adapter(config: Mapping[str, Any], source: str) -> None:
    """Raise CheckpointError for an adapter that is no plain LoRA."""
    kind = config.get("peft_type")
    others = {
        f"an adapter of kind {kind}": kind != "LORA",
        "an adapter with DoRA": bool(config.get("use_dora")),
        "an adapter of layers that are stored transposed (fan_in_fan_out)": bool(config.get("fan_in_fan_out")),
    }
    found = [what for what, is_so in others.items() if is_so]
    if found:
        raise CheckpointError(f"{source} is {' and '.join(found)}; a plain LoRA can be merged here", MERGE_HINT)


def holds_lora(tensors: Mapping[str, Tensor]) -> bool:
    """Whether some of them are an adapter's."""
    return any(".lora_A." in name for name in tensors)


def split_unmerged(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The base model's tensors and the adapter's of a model that was saved with its LoRA layers beside their base."""
    adapter = {name: value for name, value in tensors.items() if ".lora_" in name or ".modules_to_save." in name}
    base = {
        name.removeprefix(_LEAD).replace(".base_layer.", ".").replace(".original_module.", "."): value
        for name, value in tensors.items()
        if name not in adapter
    }
    return base, adapter


def _unify(name: str) -> str:
    """One name for a tensor that has several."""
    for pattern, usual in _NAMES_OF_ONE:
        name = pattern.sub(usual, name)
    return name


def _find_scale(module: str, rank: int, config: Mapping[str, Any]) -> float:
    """PEFT's: the first pattern that fits a name overrides alpha; the rank is that of the weights themselves."""
    patterns = (config.get("alpha_pattern") or {}).items()
    alphas = (value for pattern, value in patterns if re.fullmatch(rf"(.*\.)?({pattern})", module))
    alpha = float(next(alphas, config.get("lora_alpha", 8)))
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
