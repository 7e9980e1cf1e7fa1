"""What a weight file holds: one set of weights out of several, and what its training script wrote beside them."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from edgevit.errors import CheckpointError

WhichWeights = Literal["ema", "model"]

# Where training scripts put the weights: the average over the steps of training (timm's and DeiT's model EMA, DINO's
# teacher), and the last step's.
_AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema", "teacher")
_LAST = ("state_dict", "model", "model_state_dict", "student")


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
    while isinstance(loaded, Mapping):
        averaged, last = (_find_filled(loaded, keys) for keys in (_AVERAGED, _LAST))
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
        loaded = loaded[key]
    if isinstance(loaded, Tensor) or not isinstance(loaded, Mapping):
        raise CheckpointError(
            f"{path} holds a {type(loaded).__name__}, not named tensors", "save the model's state_dict()"
        )
    if (which == "ema" and "ema" not in seen) or (which == "model" and seen == {"ema"}):
        _refuse_choice(path, which, containers)
    tensors = {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}
    others = [str(name) for name, value in loaded.items() if not isinstance(value, Tensor)]
    if tensors and others:
        notes.append(f"ignored what is not a tensor: {_shorten(others)}")
    return Contents(tensors, tuple(notes), tuple(containers), stated, taken)


def _find_filled(loaded: Mapping[Any, Any], keys: tuple[str, ...]) -> list[str]:
    return [key for key in keys if isinstance(loaded.get(key), Mapping) and loaded[key]]


def _describe_choice(key: str, taken: WhichWeights, others: list[str], *, asked: bool) -> str:
    what = "averaged over training" if taken == "ema" else "of the last step"
    other = "model" if taken == "ema" else "ema"
    default = "" if asked else ", the default where a file has both"
    return (
        f"weights are taken from {key!r}, {what} (--weights {taken}{default}); "
        f"the file also has {', '.join(map(repr, others))} (--weights {other})"
    )


def _refuse_choice(path: Path, which: WhichWeights, containers: list[str]) -> None:
    wanted, held = (
        ("averaged weights", "the last step's") if which == "ema" else ("weights of the last step", "averaged weights")
    )
    place = f" under {'.'.join(containers)!r}" if containers else ""
    raise CheckpointError(f"{path} has no {wanted}, only {held}{place}", "leave --weights out")


def _read_plain(loaded: Mapping[Any, Any]) -> dict[str, Any]:
    """Numbers and texts beside the weights, and the fields of ``args`` under their own names."""
    plain: dict[str, Any] = {}
    args = loaded.get("args")
    if isinstance(args, (Namespace, Mapping)):
        fields = vars(args) if isinstance(args, Namespace) else args
        plain |= {str(key): value for key, value in fields.items() if _is_plain(value)}
    return plain | {str(key): value for key, value in loaded.items() if _is_plain(value)}


def _is_plain(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return len(value) <= 16 and all(_is_plain(v) for v in value)
    return isinstance(value, (str, int, float, bool))


def _shorten(names: list[str], limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
