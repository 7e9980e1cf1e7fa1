"""A canonical module from a config and a publisher's tensors; everything that does not fit is listed at once."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from edgevit.checkpoints.names import Names
from edgevit.checkpoints.resample import Size, resample_bias_table, resample_positions
from edgevit.errors import CheckpointError, format_offenders
from edgevit.models import ModelConfig, SwinConfig, ViTConfig, build_module

_PACKED = re.compile(r"(.*\.attn\.)qkv(\.weight|\.bias)")
_STAGE = re.compile(r"layers\.(\d+)\.blocks\.(\d+)\.bias\.table")


def assemble_module(
    config: ModelConfig, tensors: Mapping[str, Tensor], names: Names, stored_size: Size, source: str
) -> tuple[nn.Module, list[str]]:
    """Fill a canonical module.

    Args:
        config: As the checkpoint describes it, at the image size that is wanted; the number of classes is the head's.
        tensors: By the publisher's names.
        names: The publisher's table.
        stored_size: Image height and width that the checkpoint's position embeddings are for.
        source: For messages.

    Returns:
        The module, float32, in evaluation mode and without gradients; and notes.

    Raises:
        CheckpointError: Listing all missing, unexpected and wrongly shaped tensors, tensors that are not floating point,
            or tensors with values that are not finite.
    """
    notes = []
    dropped = names.find_dropped(tensors)
    for reason, which in dropped.items():
        notes.append(f"dropped {len(which)} tensor{'s' if len(which) > 1 else ''} ({reason}): {_shorten(which)}")
    left = {n: t for n, t in tensors.items() if not any(n in which for which in dropped.values())}
    canonical = names.to_canonical(left)
    config, note = _take_classes(config, left, canonical)
    notes += note
    with torch.device("meta"):
        module = build_module(config)
    expected = _split_packed(module.state_dict(), canonical.values())
    found = {ours: left[theirs] for theirs, ours in canonical.items()}
    _resample(config, found, expected, stored_size, notes)
    _check_names(found, expected, left, canonical, names, source)
    _check_values(found, canonical, source)
    notes += _describe_types(found.values())
    weights = {name: found.get(name, value) for name, value in expected.items()}
    weights = {name: value.float().contiguous() for name, value in _pack(weights).items()}
    module.load_state_dict(weights, strict=True, assign=True)
    return module.eval().requires_grad_(False), notes


def _take_classes(
    config: ModelConfig, tensors: Mapping[str, Tensor], canonical: Mapping[str, str]
) -> tuple[ModelConfig, list[str]]:
    heads = [tensors[theirs] for theirs, ours in canonical.items() if ours == "head.weight"]
    if not heads:
        return config, []  # reported with whatever else is missing
    classes = int(heads[0].shape[0]) if heads[0].ndim == 2 else config.classes
    if classes in (0, config.classes):
        return config, []
    note = f"the configuration says {config.classes} classes, the head has {classes}; the head counts"
    return dataclasses.replace(config, classes=classes), [note]


def _split_packed(expected: dict[str, Tensor], found: Iterable[str]) -> dict[str, Tensor]:
    """Expect q, k and v apart where the publisher keeps them apart."""
    if not any(re.search(r"\.attn\.[qkv]\.", name) for name in found):
        return expected
    apart = {}
    for name, value in expected.items():
        if match := _PACKED.fullmatch(name):
            for part, rows in zip("qkv", value.chunk(3), strict=True):
                apart[f"{match[1]}{part}{match[2]}"] = rows
        else:
            apart[name] = value
    return apart


def _pack(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    packed = {}
    for name, value in weights.items():
        match = re.fullmatch(r"(.*\.attn\.)([qkv])(\.weight|\.bias)", name)
        if match is None:
            packed[name] = value
        elif match[2] == "q":
            parts = [weights[f"{match[1]}{part}{match[3]}"] for part in "qkv"]
            packed[f"{match[1]}qkv{match[3]}"] = torch.cat(parts)
    return packed


def _resample(
    config: ModelConfig, found: dict[str, Tensor], expected: Mapping[str, Tensor], stored_size: Size, notes: list[str]
) -> None:
    if isinstance(config, ViTConfig):
        _resample_positions(config, found, stored_size, notes)
    else:
        _resample_biases(config, found, expected, notes)


def _resample_positions(config: ViTConfig, found: dict[str, Tensor], stored_size: Size, notes: list[str]) -> None:
    positions = found.get("pos_embed")
    if positions is None:
        return
    prefix = config.prefix_tokens if config.position_prefix else 0
    if positions.ndim != 3 or positions.shape[0] != 1 or positions.shape[2] != config.width:
        return  # reported as wrongly shaped
    patches = positions.shape[1] - prefix
    old = stored_size[0] // config.patch_size[0], stored_size[1] // config.patch_size[1]
    if patches != old[0] * old[1]:  # the configuration is of another size than the weights
        side = math.isqrt(max(patches, 0))
        if side * side != patches or not side:
            return
        old = (side, side)
    if old != config.grid:
        found["pos_embed"] = resample_positions(positions, prefix, old, config.grid)
        notes.append(
            f"position embeddings resampled from {old[0]} × {old[1]} to {config.grid[0]} × {config.grid[1]} patches"
        )


def _resample_biases(
    config: SwinConfig, found: dict[str, Tensor], expected: Mapping[str, Tensor], notes: list[str]
) -> None:
    if config.window_fit == "smaller":
        return  # transformers keeps the table of the full window
    resized = set()
    for name, table in list(found.items()):
        match = _STAGE.fullmatch(name)
        if match is None or name not in expected or table.ndim != 2 or table.shape == expected[name].shape:
            continue
        side = math.isqrt(table.shape[0])
        if side * side != table.shape[0] or side % 2 == 0 or table.shape[1] != expected[name].shape[1]:
            continue
        old = ((side + 1) // 2, (side + 1) // 2)
        new = config.block_window(int(match[1]), int(match[2]))[0]
        found[name] = resample_bias_table(table, old, new)
        resized.add(f"stage {match[1]}: {old[0]} × {old[1]} to {new[0]} × {new[1]}")
    if resized:
        notes.append(f"relative position biases resampled for another window ({'; '.join(sorted(resized))})")


def _check_names(
    found: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    canonical: Mapping[str, str],
    names: Names,
    source: str,
) -> None:
    theirs = {ours: name for name, ours in canonical.items()}
    # A fixed table needs no weights: it is there already, everything else is on the meta device.
    missing = [names.to_publisher(n, tensors) for n, v in expected.items() if n not in found and v.is_meta]
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
            f"{source} holds no tensor of the model that it is said to be; it holds\n{format_offenders(list(tensors), 10)}",
            "check that this is a ViT's, DeiT's or Swin's classifier, and its architecture",
        )
    if not unexpected and not shapes and all(n.startswith("head") for n in expected if n not in found and expected[n].is_meta):
        raise CheckpointError(
            f"{source} has no classifier head ({', '.join(missing)}): it gives features, and a build needs classes",
            "name a checkpoint that was fine-tuned for classification",
        )
    counts = ", ".join(f"{len(v)} {kind}" for kind, v in kinds.items() if v)
    lists = "\n".join(f"{kind}:\n{format_offenders(v)}" for kind, v in kinds.items() if v)
    raise CheckpointError(
        f"{source} does not fit its architecture: {counts} tensor{'s' if sum(map(len, kinds.values())) > 1 else ''}\n{lists}",
        "check the architecture that the checkpoint states, or that was given, against its tensors",
    )


def _check_values(found: Mapping[str, Tensor], canonical: Mapping[str, str], source: str) -> None:
    theirs = {ours: name for name, ours in canonical.items()}
    kinds = [
        f"{theirs[n]}: {str(t.dtype).removeprefix('torch.')}{'' if t.layout == torch.strided else f', {t.layout}'}"
        for n, t in found.items()
        if t.dtype not in (torch.float32, torch.float16, torch.bfloat16, torch.float64) or t.layout != torch.strided
    ]
    if kinds:
        raise CheckpointError(
            f"{source} has {len(kinds)} weights that are not dense floating point:\n{format_offenders(kinds)}",
            "read the checkpoint from before it was quantised or pruned",
        )
    broken = []
    for name, value in found.items():
        bad = int((~torch.isfinite(value.float())).sum())
        if bad:
            broken.append(f"{theirs[name]}: {bad} of {value.numel()} values are not finite")
    if broken:
        raise CheckpointError(
            f"{source} has {len(broken)} tensors with NaN or infinite values:\n{format_offenders(broken)}",
            "take an earlier checkpoint of the training run, from before it diverged",
        )


def _describe_types(values: Iterable[Tensor]) -> list[str]:
    other = sorted({str(v.dtype).removeprefix("torch.") for v in values if v.dtype != torch.float32})
    return [f"weights stored as {' and '.join(other)} are converted to float32"] if other else []


def _shorten(items: list[str], limit: int = 4) -> str:
    return ", ".join(items[:limit]) + (f" and {len(items) - limit} more" if len(items) > limit else "")
