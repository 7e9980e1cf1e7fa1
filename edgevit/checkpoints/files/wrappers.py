"""unwrap_names: tensors under the names that a model's own publisher gives them, whatever holds the model.

One place for all readers: torch's wrappers stand in the middle of a name too, a training module keeps its model under
any attribute, and fine-tuning puts a dropout before the head.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

from edgevit.core.errors import CheckpointError, list_some

# Data parallelism, torch.compile, checkpointing of activations, FSDP, Lightning's strategies.
_WRAPPERS = frozenset({"_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module", "_forward_module"})
_PREFIXES = ("module.", "model.", "net.", "network.", "timm_model.")
# What a Lightning module keeps beside its model, by its attribute: ``criterion.weight``, ``val_acc.tp``.
_BESIDE = re.compile(r"\w*(criterion|loss|metric|acc|auroc|f1|confusion)\w*\..*")
# First parts of publishers' own names: of whole models, of what transformers puts inside these, and of other parts.
_MODELS = {"vit", "deit", "dinov2", "dinov2_with_registers", "swin", "swinv2", "vision_model", "backbone"}
_INNER = {"embeddings", "encoder"}
_PARTS = {
    *("blocks", "layers", "features", "patch_embed", "cls_token", "pos_embed", "conv_proj", "class_token"),
    "transformer",
}
_HEADS_OF_TRANSFORMERS = {"classifier", "cls_classifier", "distillation_classifier"}
_SHARE = 0.9  # of the tensors, that an attribute must hold to be where the model is
_HEADS = ("head", "head.fc", "heads", "heads.head", "fc", "head_dist", *sorted(_HEADS_OF_TRANSFORMERS))

Tensors = dict[str, Tensor]


def unwrap_names(
    tensors: Mapping[str, Tensor], source: str, containers: Sequence[str] = ()
) -> tuple[Tensors, list[str]]:
    """The tensors under their publisher's names, and notes on what was left out or assumed.

    Args:
        tensors: As they were saved.
        source: For messages.
        containers: Keys of the file under which they lay.

    Raises:
        CheckpointError: A head of several layers.
    """
    found = {_drop_wrappers(name): value for name, value in tensors.items()}
    if len(found) < len(tensors):
        found = dict(tensors)  # two names would become one
    notes: list[str] = []
    while True:
        beside = [name for name in found if _BESIDE.fullmatch(name)]
        inner = found.keys() - beside
        prefix = next((p for p in _PREFIXES if inner and all(name.startswith(p) for name in inner)), None)
        prefix = prefix or _find_attribute(found, containers)
        if prefix is None:
            break
        if prefix in _PREFIXES and beside:
            notes.append(f"dropped what is of losses and metrics beside the model: {list_some(beside, 4)}")
            found = {name: value for name, value in found.items() if name in inner}
        found = {name.removeprefix(prefix): value for name, value in found.items()}
    return _name_heads(found, source, notes), notes


def _drop_wrappers(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _find_attribute(tensors: Mapping[str, Tensor], containers: Sequence[str]) -> str | None:
    """The attribute that holds nearly all tensors, which is no part of a publisher's names; with its dot.

    What stands beside it keeps its name, so that it is refused by that name.
    """
    seconds: dict[str, list[str]] = {}
    for name in tensors:
        first, _, rest = name.partition(".")
        seconds.setdefault(first, []).append(rest.partition(".")[0])
    first, parts = max(seconds.items(), key=lambda item: len(item[1]), default=("", []))
    dinos = first == "backbone" and bool({"teacher", "student"} & set(containers))
    if len(parts) < _SHARE * len(tensors) or first in {*_PARTS, *_INNER, "visual"} or "" in parts or dinos:
        return None
    # transformers' own models stand behind their names: ``vit.embeddings`` beside ``classifier``
    inner = set() if first in _MODELS and first != "backbone" else _INNER
    return f"{first}." if (_MODELS | _HEADS_OF_TRANSFORMERS | _PARTS | inner) & set(parts) else None


def _name_heads(tensors: Tensors, source: str, notes: list[str]) -> Tensors:
    """The one Linear of a head of several modules, such as ``Sequential(Dropout, Linear)``, under the head's name."""
    for head in _HEADS:
        inside = re.compile(rf"{re.escape(head)}\.(\d+)\.(weight|bias)")
        numbers = {match[1] for name in tensors if (match := inside.fullmatch(name))}
        if not numbers or f"{head}.weight" in tensors:
            continue
        if len(numbers) > 1:
            names = [name for name in tensors if inside.fullmatch(name)]
            raise CheckpointError(
                f"{source} has a head of {len(numbers)} layers with weights: {list_some(names, 6)}",
                "a head of one Linear is read; export this model to ONNX, or give --task embed with a file that lacks "
                "its head",
            )
        (number,) = numbers
        notes.append(f"the head is {head}.{number}, behind what has no weights, such as a dropout")
        lead = f"{head}.{number}."
        tensors = {f"{head}.{n.removeprefix(lead)}" if n.startswith(lead) else n: t for n, t in tensors.items()}
    return tensors
