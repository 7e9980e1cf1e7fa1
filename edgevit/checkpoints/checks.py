"""What is wrong with a checkpoint's tensors, all of it in one error."""

from __future__ import annotations

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
    """Raise CheckpointError where tensors are missing, unexpected or of another shape; ten of each are listed."""
    theirs = {ours: name for name, ours in canonical.items()}
    # A fixed table needs no weights: it is there already, everything else is on the meta device.
    absent = [n for n, v in expected.items() if n not in found and v.is_meta]
    missing = [names.to_publisher(n, tensors) for n in absent]
    doubled = [n for n, ours in canonical.items() if theirs[ours] != n]
    unexpected = [n for n in tensors if canonical.get(n) not in expected] + doubled
    shapes = [
        f"{theirs[n]}: {tuple(tensors[theirs[n]].shape)}, expected {tuple(expected[n].shape)}"
        for n, value in found.items()
        if n in expected and value.shape != expected[n].shape
    ]
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
            f"{source} has no classifier head ({', '.join(missing)}), and its configuration states one",
            "name a checkpoint that was fine-tuned for classification, or state 0 classes there to build its features",
        )
    counts = ", ".join(f"{len(v)} {kind}" for kind, v in kinds.items() if v)
    lists = "\n".join(f"{kind}:\n{format_offenders(v)}" for kind, v in kinds.items() if v)
    raise CheckpointError(
        f"{source} does not fit its architecture: {counts} tensors\n{lists}",
        "check the architecture that the checkpoint states, or that was given, against its tensors",
    )


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
            f"{source} has {count_things(len(kinds), 'weight that is', 'weights that are')} not dense floating point:\n{format_offenders(kinds)}",
            "read the checkpoint from before it was quantised or pruned",
        )
    broken = []
    for name, value in found.items():
        bad = int((~torch.isfinite(value.float())).sum())
        if bad:
            broken.append(f"{theirs[name]}: {bad} of {value.numel()} values are not finite")
    if broken:
        raise CheckpointError(
            f"{source} has {count_things(len(broken), 'tensor')} with NaN or infinite values:\n{format_offenders(broken)}",
            "take an earlier checkpoint of the training run, from before it diverged",
        )
