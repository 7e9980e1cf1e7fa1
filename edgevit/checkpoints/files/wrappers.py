"""unwrap_names: tensors under the names that a model's own publisher gives them, whatever holds the model.

One place for all readers: torch's wrappers stand in the middle of a name too, a training module keeps its model under
any attribute, and fine-tuning puts a dropout before the head.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from edgevit.core.errors import CheckpointError, list_some
from edgevit.core.notes import note_names

if TYPE_CHECKING:
    from torch import Tensor

    Tensors: TypeAlias = dict[str, Tensor]

# Data parallelism, torch.compile, checkpointing of activations, FSDP, Lightning's strategies.
_WRAPPERS = frozenset(
    {"module", "_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module", "_fpw_module", "_forward_module"}
)
_PREFIXES = ("model.", "net.", "network.", "timm_model.")
# What a Lightning module keeps beside its model, by its attribute: ``criterion.weight``, ``val_acc.tp``.
_BESIDE = re.compile(r"\w*(criterion|loss|metric|acc|auroc|f1|confusion)\w*\..*")
# Names that transformers' own models put before their parts.
_MODELS = frozenset({"vit", "deit", "dinov2", "dinov2_with_registers", "swin", "swinv2", "vision_model"})
# What every whole model has directly: the part that reads the image, by each publisher's name, or such a name.
_EMBEDDINGS = frozenset({"patch_embed", "embeddings", "conv_proj", "features", "class_embedding"})
_VISUAL = "visual"  # open_clip's image tower, which is read with this name
_SHARE = 0.9  # of the tensors, that an attribute must hold to be where the model is
_DEEPEST = 3  # attributes of attributes that are looked into
HEADS = (
    *("head", "head.fc", "heads", "heads.head", "fc", "head_dist"),
    *("classifier", "cls_classifier", "distillation_classifier"),
)
"""What publishers call a Linear that gives classes."""
_RENAMED = {"heads": "heads.head"}  # torchvision's, which fine-tuning replaces as a whole


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
    held = any(name.partition(".")[0] in _WRAPPERS for name in tensors)
    while True:
        inner = [name for name in found if not _BESIDE.fullmatch(name)]
        prefix = next((p for p in _PREFIXES if inner and all(name.startswith(p) for name in inner)), None)
        prefix = prefix or _find_attribute(inner, containers)
        if prefix is None:
            break
        held = True
        beside = [name for name in inner if not name.startswith(prefix)]
        if beside:
            notes.append(note_names(f"the model is what lies under {prefix!r}; beside it: ", beside, 4))
        found = {name.removeprefix(prefix): value for name, value in found.items()}
    losses = [name for name in found if held and _BESIDE.fullmatch(name)]
    if losses and len(losses) < len(found):
        notes.append(note_names("dropped what is of losses and metrics beside the model: ", losses, 4))
        found = {name: value for name, value in found.items() if name not in losses}
    return _name_heads(found, source, notes), notes


def _drop_wrappers(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _find_attribute(names: Iterable[str], containers: Sequence[str]) -> str | None:
    """The attribute, or attribute of an attribute, that holds nearly all tensors and a whole model; with its dot.

    What stands beside it keeps its name, so that it is refused by that name.
    """
    paths = [name.split(".") for name in names]
    path: tuple[str, ...] = ()
    while len(path) < _DEEPEST and paths:
        within = [p for p in paths if tuple(p[: len(path)]) == path and len(p) > len(path) + 1]
        (first, count), *_ = Counter(p[len(path)] for p in within).most_common(1) or [("", 0)]
        dinos = first == "backbone" and not {"teacher", "student"}.isdisjoint(containers)
        if count < _SHARE * len(paths) or first == _VISUAL or dinos:
            return None
        path = (*path, first)
        parts = {p[len(path)] for p in within if p[len(path) - 1] == first}
        # transformers' own: ``vit.embeddings`` stands beside ``classifier``.
        usual = {"embeddings"} if first in _MODELS else set()
        if parts & ({_VISUAL, *_MODELS, *_EMBEDDINGS} - usual):
            prefix = ".".join(path) + "."
            stripped = Counter(".".join(p).removeprefix(prefix) for p in paths)
            return prefix if max(stripped.values()) == 1 else None  # else two names would become one
    return None


def _name_heads(tensors: Tensors, source: str, notes: list[str]) -> Tensors:
    """The one Linear of a head of several modules, such as ``Sequential(Dropout, Linear)``, under the head's name."""
    for head in HEADS:
        inside = re.compile(rf"{re.escape(head)}(?P<number>\.\d+)?\.(weight|bias)")
        layers = {match["number"] or "" for name in tensors if (match := inside.fullmatch(name))}
        if len(layers) > 1:
            names = sorted(name for name in tensors if inside.fullmatch(name))
            raise CheckpointError(
                f"{source} has a head of {len(layers)} layers with weights: {list_some(names, 6)}",
                "a head of one Linear is read; export this model to ONNX, or give --task embed with a file that lacks "
                "its head",
            )
        place, usual = f"{head}{''.join(layers)}", _RENAMED.get(head, head)
        if not layers or place == usual or any(name.startswith(f"{usual}.") and usual != head for name in tensors):
            continue
        notes.append(f"the head is {place}; what has no weights beside it, as dropout, is not stored")
        tensors = {f"{usual}{n.removeprefix(place)}" if inside.fullmatch(n) else n: t for n, t in tensors.items()}
    return tensors
