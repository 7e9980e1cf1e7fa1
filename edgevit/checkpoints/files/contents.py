"""What a weight file holds: one set of weights out of several, and what its training script wrote beside them."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeGuard

from edgevit.core.errors import CheckpointError, list_some
from edgevit.core.notes import note_names

if TYPE_CHECKING:
    from torch import Tensor

WhichWeights = Literal["ema", "model"]

# Where training scripts put the weights: the average over the steps of training (timm's and DeiT's model EMA, DINO's
# teacher), and the last step's.
_AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema", "teacher")
_LAST = ("state_dict", "model", "model_state_dict", "student", "module", "net")
# A module that holds the average beside the model has both in one state dict, each behind the name of its attribute.
_AVERAGED_PARTS = (*_AVERAGED, "ema_model", "averaged_model", "average_model", "swa_model")
# Lightning's WeightAveraging: the average takes the usual place.
_LIGHTNING = "state_dict", "current_model_state", "averaging_state"
_COUNTER = "n_averaged"  # of torch.optim.swa_utils.AveragedModel


@dataclass(frozen=True)
class Contents:
    """One set of weights.

    Attributes:
        tensors: By name, without what wrappers put before every name.
        notes: What was chosen and passed over.
        containers: The keys under which the weights lay, outermost first.
        stated: What the file says of itself beside them: its other top-level values, and its training's arguments.
        which: The set that was taken, where the file has two.
    """

    tensors: Mapping[str, Tensor]
    notes: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()
    stated: Mapping[str, Any] = field(default_factory=dict)
    which: WhichWeights | None = None


def unwrap_weights(loaded: Any, path: Path, which: WhichWeights | None) -> Contents:
    """Find the weights in what a file holds.

    Averaged weights are taken before the last step's, as timm does, unless ``which`` says otherwise.

    Args:
        loaded: Nested mappings with tensors at their ends.
        path: For messages.
        which: The set that is wanted, or ``None`` for the default.

    Raises:
        CheckpointError: There are no named tensors, or not the set that is wanted.
    """
    containers: list[str] = []
    notes: list[str] = []
    stated: dict[str, Any] = {}
    taken: WhichWeights | None = None
    seen: set[str] = set()
    nameless: list[str] = []
    while isinstance(loaded, Mapping):
        averaged, last = _find_sets(loaded)
        nameless += [key for key in _AVERAGED if key not in averaged and _holds_lists(loaded.get(key))]
        stated = {**_read_plain(loaded), **stated}
        order = [*last, *averaged] if which == "model" else [*averaged, *last]
        if not order:
            break
        key = order[0]
        seen.update(("ema",) if averaged else (), ("model",) if last else ())
        if averaged and last:
            taken = "ema" if key in averaged else "model"
            notes.append(_describe_choice(key, taken, [k for k in order if k != key], asked=which is not None))
        elif len(order) > 1:
            notes.append(f"weights are taken from {key!r}; the file also has {', '.join(map(repr, order[1:]))}")
        containers.append(key)
        loaded = {**averaged, **last}[key]
    if _is_tensor(loaded) or not isinstance(loaded, Mapping):
        raise CheckpointError(
            f"{path} holds a {type(loaded).__name__}, not named tensors", "save the model's state_dict()"
        )
    if _COUNTER in loaded and taken is None:
        seen = {"ema"}
    if (which == "ema" and "ema" not in seen) or (which == "model" and seen == {"ema"}):
        _refuse_choice(path, which, containers, nameless)
    if nameless:
        notes.append(note_names("left out ", list(map(repr, nameless)), 5, ", which holds no named tensors"))
    tensors = {str(n): value for n, value in loaded.items() if _is_tensor(value) and n != _COUNTER}
    others = [str(name) for name, value in loaded.items() if not _is_tensor(value)]
    if others and not tensors:
        raise CheckpointError(
            f"{path} holds no tensors where weights are looked for; it has {list_some(sorted(others), 12)}",
            "save only the model's state_dict()",
        )
    if tensors and others:
        notes.append(note_names("ignored what is not a tensor: ", others, 5))
    return Contents(tensors, tuple(notes), tuple(containers), stated, taken)


Sets = dict[str, Mapping[Any, Any]]


def _find_sets(loaded: Mapping[Any, Any]) -> tuple[Sets, Sets]:
    """Sets of weights by the key under which they lie: averaged over training, and the last step's."""
    averaged, last = ({k: loaded[k] for k in keys if _holds_tensors(loaded.get(k))} for keys in (_AVERAGED, _LAST))
    usual, current, state = _LIGHTNING
    if state in loaded and usual in last and _holds_tensors(loaded.get(current)):
        return {usual: loaded[usual]}, {current: loaded[current]}
    return (averaged, last) if averaged or last else _split_sets(loaded)


def _holds_tensors(value: object) -> bool:
    return isinstance(value, Mapping) and any(_is_tensor(v) or _holds_tensors(v) for v in value.values())


def _holds_lists(value: object) -> bool:
    """Whether tensors lie in lists, as torch_ema's shadow parameters, which do not say what they are."""
    values = list(value.values()) if isinstance(value, Mapping) else [value]
    return any(isinstance(v, (list, tuple)) and any(_is_tensor(t) for t in v) for v in values)


def _split_sets(loaded: Mapping[Any, Any]) -> tuple[Sets, Sets]:
    """Two sets of one state dict, ``ema_model.…`` beside ``model.…``; nothing where there are no two.

    An average has the names and shapes of what it averages: a teacher that was another model is none.
    """
    tensors = {str(name): value for name, value in loaded.items() if _is_tensor(value)}
    for key in _AVERAGED_PARTS:
        lead = f"{key}.module." if any(name.startswith(f"{key}.module.") for name in tensors) else f"{key}."
        average = {name.removeprefix(lead): t for name, t in tensors.items() if name.startswith(lead)}
        rest = {name: t for name, t in tensors.items() if not name.startswith(f"{key}.")}
        first = next(iter(average), "")
        ends = [name.removesuffix(first) for name in rest if average and name.endswith(first)]
        for prefix in ends:
            if all(f"{prefix}{n}" in rest and rest[f"{prefix}{n}"].shape == t.shape for n, t in average.items()):
                current = {name.removeprefix(prefix): t for name, t in rest.items() if name.startswith(prefix)}
                return {key: average}, {prefix.rstrip(".") or "model": current}
    return {}, {}


def _is_tensor(value: object) -> TypeGuard[Tensor]:
    from torch import Tensor  # seconds of loading, which those who only name a choice of weights need not wait for

    return isinstance(value, Tensor)


def _describe_choice(key: str, taken: WhichWeights, others: list[str], *, asked: bool) -> str:
    what = "averaged over training" if taken == "ema" else "of the last step"
    other = "model" if taken == "ema" else "ema"
    default = "" if asked else ", the default where a file has both"
    return (
        f"weights are taken from {key!r}, {what} (--weights {taken}{default}); "
        f"the file also has {', '.join(map(repr, others))} (--weights {other})"
    )


def _refuse_choice(path: Path, which: WhichWeights, containers: list[str], nameless: list[str]) -> None:
    wanted, held = (
        ("averaged weights", "the last step's") if which == "ema" else ("weights of the last step", "averaged weights")
    )
    place = f" under {'.'.join(containers)!r}" if containers else ""
    lists = f"; {list_some(list(map(repr, nameless)), 5)} holds no named tensors" if nameless and which == "ema" else ""
    raise CheckpointError(f"{path} has no {wanted}, only {held}{place}{lists}", "leave --weights out")


def _read_plain(loaded: Mapping[Any, Any]) -> dict[str, Any]:
    """Numbers and texts beside the weights, and the fields of ``args`` under their own names."""
    plain: dict[str, Any] = {}
    args = loaded.get("args")
    if isinstance(args, (Namespace, Mapping)):
        fields = vars(args) if isinstance(args, Namespace) else args
        plain |= {str(key): value for key, value in fields.items() if _is_plain(value)}
    return plain | {str(key): value for key, value in loaded.items() if _is_plain(value)}


def _is_plain(value: object) -> bool:
    if isinstance(value, Mapping):  # timm's model_kwargs
        return len(value) <= 16 and all(isinstance(k, str) and _is_plain(v) for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return len(value) <= 16 and all(_is_plain(v) for v in value)
    return isinstance(value, (str, int, float, bool))
