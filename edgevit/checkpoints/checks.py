"""What is wrong with a checkpoint's tensors, all of it in one error."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import torch
from torch import Tensor

from edgevit.checkpoints.names import Names
from edgevit.core.errors import CheckpointError, count_things, format_offenders

_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def check_names(
    found: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    canonical: Mapping[str, str],
    names: Names,
    source: str,
) -> None:
    """Raise CheckpointError where tensors are missing, unexpected or of another shape."""
    theirs = {ours: name for name, ours in canonical.items()}
    # A fixed table needs no weights: it is there already, everything else is on the meta device.
    absent = [n for n, v in expected.items() if n not in found and v.is_meta]
    missing = [names.to_publisher(n, tensors) for n in absent]
    doubled = [n for n, ours in canonical.items() if theirs[ours] != n]
    unexpected = [n for n in tensors if canonical.get(n) not in expected] + doubled
    wrong = {
        theirs[n]: (tuple(tensors[theirs[n]].shape), tuple(expected[n].shape))
        for n, value in found.items()
        if n in expected and value.shape != expected[n].shape
    }
    shapes = [f"{name}: {stored}, expected {wanted}" for name, (stored, wanted) in wrong.items()]
    kinds = {"missing": missing, "unexpected": unexpected, "wrongly shaped": shapes}
    if not any(kinds.values()):
        return
    if len(missing) == sum(v.is_meta for v in expected.values()):
        raise CheckpointError(
            f"{source} holds no tensor of the model that it is said to be; it holds\n"
            + format_offenders(list(tensors)),
            "check that this is a ViT's, DeiT's or Swin's, its architecture, and that no module that holds it "
            "put its own name before these; save the model's own state_dict()",
        )
    if "head.weight" in absent and all(n.startswith("head") for n in absent) and not unexpected and not shapes:
        raise CheckpointError(
            f"{source} has no classifier head ({', '.join(missing)}), and its configuration or architecture states one",
            "name a checkpoint that was fine-tuned for classification; to build its features, let its configuration "
            "state none: num_classes = 0 for timm, a class that ends in Model for transformers",
        )
    if not missing and not shapes and _are_beside(unexpected, canonical, names):
        raise CheckpointError(
            f"{source} holds all of its architecture's tensors, and {count_things(len(unexpected), 'tensor')} beside "
            f"them:\n{format_offenders(unexpected)}",
            "save the model's own state_dict(), without what a training keeps beside it; nothing is left out here "
            "unasked, as a part of the model would change the answers",
        )
    counts = ", ".join(f"{len(v):,} {kind}" for kind, v in kinds.items() if v)
    lists = "\n".join(
        f"{kind}{_find_pattern(wrong) if v is shapes else ''}:\n{format_offenders(v)}" for kind, v in kinds.items() if v
    )
    raise CheckpointError(
        f"{source}: its tensors do not fit its architecture: {counts}\n{lists}",
        "check the architecture that the checkpoint states, or that was given, against its tensors",
    )


def _are_beside(unexpected: list[str], canonical: Mapping[str, str], names: Names) -> bool:
    """Whether none stands where the model's own tensors do, as those of more blocks or of other layers would."""
    own = {names.strip(name).partition(".")[0] for name in canonical}
    return not any(name in canonical or names.strip(name).partition(".")[0] in own for name in unexpected)


def _find_pattern(wrong: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]) -> str:
    """What most of the shapes differ by, `` (384 in place of 192 in 150 of 152)``, which ten of them hardly show."""
    pairs = Counter(
        pair
        for stored, wanted in wrong.values()
        if len(stored) == len(wanted)
        for pair in {(s, w) for s, w in zip(stored, wanted, strict=True) if s != w}
    )
    (stored, wanted), count = next(iter(pairs.most_common(1)), ((0, 0), 0))
    if count < max(2, len(wrong) / 2):
        return ""
    return f" ({stored} in place of {wanted} in {'all' if count == len(wrong) else f'{count} of'} {len(wrong)})"


def check_values(found: Mapping[str, Tensor], canonical: Mapping[str, str], source: str) -> None:
    """Raise CheckpointError where values are no floats, or not finite; all of them are listed."""
    theirs = {ours: name for name, ours in canonical.items()}
    kinds = [
        f"{theirs[n]}: {str(t.dtype).removeprefix('torch.')}{'' if t.layout == torch.strided else f', {t.layout}'}"
        for n, t in found.items()
        if t.dtype not in _FLOATS or t.layout != torch.strided
    ]
    if kinds:
        raise CheckpointError(
            f"{source} has {count_things(len(kinds), 'weight that is', 'weights that are')} not dense floating "
            f"point:\n{format_offenders(kinds)}",
            "read the checkpoint from before it was quantised or pruned",
        )
    broken = []
    for name, value in found.items():
        # Far faster than a look at each: a sum is not finite where a value is not, or where large ones overflow.
        if torch.isfinite(value.sum(dtype=torch.float32)):
            continue
        bad = int((~torch.isfinite(value.float())).sum())
        if bad:
            broken.append(f"{theirs[name]}: {bad} of {value.numel()} values are not finite")
    if broken:
        raise CheckpointError(
            f"{source} has {count_things(len(broken), 'tensor')} with NaN or infinite values:\n"
            + format_offenders(broken),
            "take an earlier checkpoint of the training run, from before it diverged",
        )
