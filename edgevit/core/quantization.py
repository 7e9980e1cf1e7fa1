"""Quantization: what a recipe decides about INT8, and what a quantiser reports.

Only the standard library: recipes and reports hold these nouns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from edgevit.core.schema import refuse
from edgevit.core.task import Task, TaskName

Observer: TypeAlias = Literal["minmax", "percentile", "mse", "output", "loss"]
Products: TypeAlias = Literal["auto", "float", "scores", "both"]
Activations: TypeAlias = Literal["int8", "float"]
Rounding: TypeAlias = Literal["nearest", "gptq"]
SiteChoice: TypeAlias = Literal["int8", "float"]
SitePrecision: TypeAlias = Literal["int8", "fp8", "float"]

SQNR_DB, SQNR_DB_OF_EMBEDDINGS, SQNR_DB_OF_MAPS = 27.5, 31.5, 37.0
"""What sites stay float for: of logits and features; of embeddings, whose neighbours are told apart by small angles;
and of what a whole model gives, whose numbers are looked at one by one."""

RANDOM_MARK = "calibrated on random pixels: for latency trials, not for use"
"""Of a bundle and a verdict."""


@dataclass(frozen=True)
class Quantization:
    """``[quantization]`` of a recipe: how a float graph becomes an INT8 one.

    Attributes:
        images: Calibration images that ranges and weights are fitted on, a seeded, class-balanced sample.
        activations: ``int8``, or ``float`` for weights only: a quarter of the size, and float arithmetic.
        weight_bits: 8, or 4 with ``activations = "float"``, where the engine library runs that: weights in groups of
            ``weight_group`` input channels with a scale each.
        weight_group: Largest group of 4-bit weights.
        observer: How the range of a Linear's input is chosen: by the error of its ``output``; by that with tokens
            weighted by what they do to the logits (``loss``, :mod:`edgevit.quantize.token_importance`); or by its
            range and histogram (:mod:`edgevit.quantize.observers`).
        percentile: Of the observer ``percentile``: share of values inside the range, in percent.
        products: Which products of attention may be INT8: none, queries·keys, both, or (``auto``) those that gain
            speed with the engine library.
        sqnr_db: Sites stay float, those first that make most noise for the time that INT8 saves there, until the
            outputs keep this SQNR in dB on calibration images; by default as :data:`SQNR_DB` has it.
        float_share: The share of all sites' arithmetic that may stay float for it
            (:func:`edgevit.quantize.sensitivity.estimate_costs`).
        float_gain: Decibels that a percent of the arithmetic in float has to buy beyond 31.5 dB; 0 for any.
        rotate: Rotate the residual stream (:mod:`edgevit.models.folds.residual_rotation`).
        center: Move the input of a symmetric engine's second MLP Linear so that zero is in the middle.
        center_attention: Where products of attention are INT8: bring the mean of every channel of keys and values to
            zero (:mod:`edgevit.quantize.methods.attention_centring`).
        class_token: The class token's MLP apart in the second half of a ViT, for engine libraries that are as fast with
            it (:mod:`edgevit.models.folds.class_token_mlp`).
        class_token_share: Attention to the class token divided among it and the copies that pad a ViT's tokens
            (:mod:`edgevit.models.folds.class_token_share`).
        equalize: Bring the channels of queries and keys to the same ranges, and those of values closer to one another
            (:mod:`edgevit.quantize.methods.channel_equalization`).
        row_gain: Raise softmax's rows in front of their quantiser (:mod:`edgevit.quantize.methods.probability_gain`).
        norm_scale: Bring the channels of a LayerNorm's output to one range
            (:mod:`edgevit.quantize.methods.norm_scale`).
        smooth: SmoothQuant between GELU and the second MLP Linear, α chosen per site from a grid that contains off.
        bias_correction: Keep the mean of every Linear's output, on quantised inputs.
        rounding: Of weights: to the nearest, or by GPTQ against the quantised inputs.
        observers: Site name or pattern to another observer than ``observer``; a later entry overrides. Of Linears that
            read one activation, which has one range, the first that is named counts.
        sites: Site name or pattern (``blocks.*.mlp.fc2``) to ``int8`` or ``float``; a later entry overrides.
    """

    images: int = 512
    activations: Activations = "int8"
    weight_bits: Literal[8, 4] = 8
    weight_group: int = 64
    observer: Observer = "output"
    percentile: float = 99.99
    products: Products = "auto"
    sqnr_db: float | None = None
    float_share: float = 0.25
    float_gain: float = 0.75
    rotate: bool = True
    center: bool = True
    center_attention: bool = True
    class_token: bool = True
    class_token_share: bool = True
    equalize: bool = True
    row_gain: bool = True
    norm_scale: bool = False
    smooth: bool = True
    bias_correction: bool = True
    rounding: Rounding = "gptq"
    observers: Mapping[str, Observer] = field(default_factory=dict)
    sites: Mapping[str, SiteChoice] = field(default_factory=dict)

    def __post_init__(self) -> None:
        refuse(
            (self.images < 1, f"images = {self.images} is not above 0"),
            (self.weight_bits == 4 and self.activations != "float", 'weight_bits = 4 asks for activations = "float"'),
            (not 16 <= self.weight_group <= 1024, f"weight_group = {self.weight_group} is not between 16 and 1024"),
            (not 50 < self.percentile <= 100, f"percentile = {self.percentile} is not between 50 and 100"),
            (not -20 <= (self.sqnr_db or 0) <= 100, f"sqnr_db = {self.sqnr_db} is not between -20 and 100"),
            (not 0 <= self.float_share <= 1, f"float_share = {self.float_share} is not between 0 and 1"),
            (not 0 <= self.float_gain <= 100, f"float_gain = {self.float_gain} is not between 0 and 100"),
        )

    def choose_sqnr_db(self, task: Task) -> float:
        """The recipe's, or the task's."""
        if self.sqnr_db is not None:
            return self.sqnr_db
        return SQNR_DB_OF_MAPS if task.is_whole else SQNR_DB_OF_EMBEDDINGS if task.name == "embed" else SQNR_DB

    def uses_observer(self, name: Observer) -> bool:
        """Whether it chooses the range of any site."""
        return name == self.observer or name in self.observers.values()


@dataclass(frozen=True)
class SiteRecord:
    """What became of one site.

    Attributes:
        name: ``blocks.3.mlp.fc2``, ``blocks.3.attn/context``.
        precision: ``int8`` or ``float``; in an FP8 graph ``fp8`` or ``float``.
        reason: Why it is float; empty where it is quantised.
        sqnr_db: Logit SQNR where only this site is quantised, in dB; ``None`` where it was not measured.
    """

    name: str
    precision: SitePrecision
    reason: str = ""
    sqnr_db: float | None = None


@dataclass(frozen=True)
class SetBack:
    """What was tried to bring INT8 or FP8 inside the accuracy budget, by figures from the choice's calibration images.

    Attributes:
        sites: Set back to float, the most harmful first; none where the budget was not met.
        quantized: Quantised sites before.
        tried: Most sites that were set back in a trial.
        trials: Engines that were compiled and judged with sites set back.
        images: Images of every judgement.
        before: Drop of top-1 in points with no site set back; without labels, agreement in percent.
        after: The same with ``sites`` set back, or with the ``tried`` where the budget was not met.
        labelled: Whether the figures are drops.
        task: Of ``features`` the figures are the SQNR of the worst level in dB, of ``embed`` recall@1 in percent or
            drops of the nearest neighbours' vote.
    """

    sites: tuple[str, ...]
    quantized: int
    tried: int
    trials: int
    images: int
    before: float
    after: float
    labelled: bool
    task: TaskName = "classify"


@dataclass(frozen=True)
class QuantizationRecord:
    """What a quantiser did: part of the report.

    Attributes:
        images: Calibration images that it saw.
        random: Whether these were random pixels, so that the result is only for timing.
        sites: In the order of execution.
        groups: Logit SQNR in dB where all sites of a pattern (``blocks.*.mlp.fc2``) and no others are quantised.
        fallback: Sites that were set back to float for the damage that they do: by the quantiser itself, then for the
            accuracy budget.
        set_back: What the accuracy budget took; ``None`` where the graph met it, or could not be judged by it.
        seconds: By step.
        notes: Whatever somebody who reads the report should know, one sentence each.
    """

    images: int
    random: bool = False
    sites: tuple[SiteRecord, ...] = ()
    groups: Mapping[str, float] = field(default_factory=dict)
    fallback: tuple[str, ...] = ()
    set_back: SetBack | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def worst(self) -> tuple[SiteRecord, ...]:
        """Sites by the damage that each does alone, the worst first; those that were not measured are left out."""
        measured = [s for s in self.sites if s.sqnr_db is not None]
        return tuple(sorted(measured, key=lambda s: s.sqnr_db if s.sqnr_db is not None else math.inf))
