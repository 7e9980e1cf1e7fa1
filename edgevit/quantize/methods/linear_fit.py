"""Fit the Linears that read one activation: its grid, their weights and their biases."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgevit.core.quantization import Quantization
from edgevit.graph.linears import find_bias_value, weight_of
from edgevit.quantize.grid import Grid
from edgevit.quantize.methods.activation_grid import choose_grid
from edgevit.quantize.methods.bias_correction import correct_bias
from edgevit.quantize.methods.gptq import DAMPING, LARGEST_CODE, round_gptq
from edgevit.quantize.methods.moments import Moments, MomentSums
from edgevit.quantize.methods.smooth import list_factors, make_affine
from edgevit.quantize.methods.weight_pairs import limit_pairs
from edgevit.quantize.methods.weight_scale import LARGEST_CODE_4, choose_group_scales, choose_weight_scale, find_group
from edgevit.quantize.observers import OBSERVERS
from edgevit.quantize.placement import GridKind, Placement
from edgevit.quantize.plan import Affine, SitePlan, spread_scale
from edgevit.quantize.statistics import TensorStatistics

Values = npt.NDArray[np.float32]

_SEARCH_MACS = 3e8  # of one candidate range
_LEAST_ROWS = 1024
_CHUNK = 2048  # tokens that are quantised at a time: copies of all of them would double the memory
_TOKENS_PER_CHANNEL = 10  # with fewer, a fit to the tokens is held back in proportion


def fit_linears(
    group: Sequence[ir.Node],
    tokens: Values,
    placement: Placement,
    quantization: Quantization,
    *,
    image: bool = False,
    scalable: bool = False,
    statistics: TensorStatistics | None = None,
    shares: Values | None = None,
) -> tuple[SitePlan, ...]:
    """Plans for Linears of one activation, without the names of their inputs.

    Args:
        group: The Linears.
        tokens: ``(T, K) float32``: the activation in the model that is quantised up to here, before it is itself.
        placement: The engine library's grids.
        quantization: Which methods are used.
        image: The activation is the uint8 image, which needs no grid of its own.
        scalable: Factors and a centre may stand in front of the quantiser.
        statistics: What calibration saw of the activation, for the recipe's observer; where absent, the range is chosen
            by the error of the Linears' outputs.
        shares: ``(T,)``: how much each token's error counts in that choice; all the same where absent.
    """
    weights = [np.ascontiguousarray(weight_of(node)) for node in group]
    affine, grid = None, None
    if quantization.activations == "float":
        pass
    elif image:
        grid = Grid(1.0, 0, 0, 255)
    elif statistics is not None:
        choose_range = OBSERVERS[quantization.observer]
        low, high = choose_range(statistics, placement.linear, quantization.percentile / 100)
        grid = Grid.from_range(placement.linear, low, high)
    else:
        biased = all(_read_bias(node) is not None for node in group)  # a centre needs one to be undone in
        every = np.concatenate(weights, axis=1)
        grid, affine = _choose_grid(tokens, every, placement, quantization, scalable, biased, shares)
    wanted = tokens.mean(axis=0, dtype=np.float64)
    if affine is not None:
        wanted = (wanted - affine.center) * affine.factor
    sums, count = MomentSums(), len(tokens)
    for start in range(0, count, _CHUNK):
        sums.add(_quantize(tokens[start : start + _CHUNK], grid, affine))
    del tokens  # what follows needs as much memory again
    moments = sums.finish()
    del sums
    plans = []
    for node, weight in zip(group, weights, strict=True):
        own = weight if affine is None else weight / affine.factor[:, None]
        bias = _read_bias(node)
        codes, scale = _round(
            own, moments, quantization, count, corrected=bias is not None, paired=placement.paired_weights
        )
        stored = codes * spread_scale(scale, len(codes))
        if bias is not None and affine is not None:  # W·x = (W / f)·(x − c)·f + W·c
            bias = bias + (affine.center * affine.factor) @ own
        if bias is not None and quantization.bias_correction:
            bias = correct_bias(bias, own, stored, wanted, moments.mean)
        grids = () if grid is None else (grid,)
        plans.append(SitePlan((), grids, codes, scale, bias, affine))
    return tuple(plans)


def choose_factors(
    tokens: Values, weight: Values, placement: Placement, quantization: Quantization
) -> npt.NDArray[np.float32]:
    """Factors ``(K,)`` on the channels of a Linear's input with which a grid disturbs its output least; ones for "off".

    For an input whose producer takes the factors in, whatever the engine library multiplies in front of a quantiser.

    Args:
        tokens: ``(T, K) float32``: a sample of the input.
        weight: ``(K, N) float32``.
        placement: The engine library's grids.
        quantization: The recipe's.
    """
    free = dataclasses.replace(placement, channel_scales=True)
    alone = dataclasses.replace(quantization, center=False, smooth=True)
    affine = _choose_grid(tokens, weight, free, alone, scalable=True, biased=False)[1]
    return np.ones(len(weight), np.float32) if affine is None else affine.factor


def _quantize(tokens: Values, grid: Grid | None, affine: Affine | None) -> Values:
    moved = tokens if affine is None else (tokens - affine.center) * affine.factor
    return moved if grid is None else grid.apply(moved)


def _round(
    weight: Values, moments: Moments, quantization: Quantization, tokens: int, *, corrected: bool, paired: bool
) -> tuple[npt.NDArray[np.int8], Values]:
    largest = LARGEST_CODE if quantization.weight_bits == 8 else LARGEST_CODE_4
    importance = np.diag(moments.covariance) + moments.mean**2
    if quantization.rounding == "nearest":
        importance = np.ones(len(weight))
    paired = paired and quantization.activations == "int8"  # otherwise weights are widened, and multiplied in float
    group = find_group(len(weight), quantization.weight_group) if quantization.weight_bits == 4 else None
    if group is None:
        scale = choose_weight_scale(weight, importance, largest, paired=paired)
    else:
        scale = choose_group_scales(weight, group, importance, largest)
    steps = scale if group is None else spread_scale(scale, len(weight))
    if quantization.rounding == "nearest":
        codes = np.clip(np.rint(weight / steps), -largest, largest)
        return (limit_pairs(codes) if paired else codes).astype(np.int8), scale
    hessian = moments.covariance
    if not (corrected and quantization.bias_correction):  # nothing else answers for the mean
        hessian = hessian + np.outer(moments.mean, moments.mean)
    scarce = max(1.0, _TOKENS_PER_CHANNEL * len(weight) / tokens)
    damping = DAMPING * scarce
    return round_gptq(weight, steps, hessian, damping=damping, largest_code=largest, paired=paired), scale


def _read_bias(node: ir.Node) -> Values | None:
    value = find_bias_value(node)
    if value is None or value.const_value is None:
        return None
    return value.const_value.numpy().astype(np.float32)


def _choose_grid(
    values: Values,
    weight: Values,
    placement: Placement,
    quantization: Quantization,
    scalable: bool,
    biased: bool,
    shares: Values | None = None,
) -> tuple[Grid, Affine | None]:
    """Candidates come from all tokens; the loss is that of the second half of the images.

    Channels that fire on few images would otherwise be scaled and clipped to the images seen.
    """
    kind: GridKind = placement.linear
    judged = values[len(values) // 2 :] if len(values) > 1 else values
    rows = max(_LEAST_ROWS, int(_SEARCH_MACS / weight.size))
    stride = max(1, len(judged) // rows)
    sample = judged[::stride]
    share = np.ones(len(sample), np.float32) if shares is None else shares[-len(judged) :: stride]
    low, high = values.min(axis=0), values.max(axis=0)
    sample = np.concatenate([sample, low[None], high[None]])  # the ends of the range belong to the search
    center = scalable and biased and quantization.center and kind == "i8"
    factors = (
        list_factors(values[: len(values) // 2 or 1], weight)
        if scalable and quantization.smooth and placement.channel_scales
        else ()
    )
    candidates = list(factors) or [np.ones(values.shape[1], np.float32)]
    best: tuple[float, Grid, Affine | None] | None = None
    for factor in candidates:
        own = weight / factor[:, None]
        scale = np.abs(own).max(axis=0) / LARGEST_CODE
        scale[scale == 0] = 1.0
        stored = np.rint(own / scale) * scale
        plain = sample * factor
        middles = (0.0, *(np.quantile(plain.max(axis=1), q) / 2 for q in (0.5, 0.9, 1.0))) if center else (0.0,)
        target = plain[:-2] @ own
        for middle in middles:
            moved = plain - np.float32(middle)

            def measure(
                error: Values,
                moved: Values = moved,
                target: Values = target,
                own: Values = own,
                stored: Values = stored,
                middle: float = middle,
            ) -> float:
                noise = (moved + error)[:-2] @ stored + np.float32(middle) * own.sum(axis=0) - target
                return float(share @ np.square(noise - noise.mean(axis=0)).sum(axis=1, dtype=np.float64))

            grid = choose_grid(kind, moved, measure)
            loss = measure(grid.apply(moved) - moved)
            if best is None or loss < best[0] * 0.995:
                plain_grid = middle == 0 and np.all(factor == 1)
                best = (loss, grid, None if plain_grid else make_affine(plain, factor, float(middle)))
    assert best is not None
    return best[1], best[2]
