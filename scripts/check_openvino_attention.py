"""Whether this machine's OpenVINO still computes some attentions wrongly, and no others.

``python -m scripts.check_openvino_attention`` computes lone attentions and holds each against numpy and against what
``edgevit/engines/openvino_faults.py`` says of it. It ends with 0 where all are right: OpenVINO is mended, and once no
older version is supported that file can go, with what asks it. With 1 where faults are there as known. With 2 where an
attention is wrong that nothing was known against: add it there, and to ``CASES``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
import onnx_ir as ir

from edgevit.core.isa import TIERS, read_tier
from edgevit.engines.openvino_faults import Executed, list_faults
from edgevit.graph.graph import Graph
from scripts.lone_attention import Feed, LoneAttention, make_attention

WINDOW = (16, 16)  # a window of 4 × 4 tokens
SHAPES = [(1, 1), (1, 33), (1, 198), (2, 198), (3, 66), (5, 17), (16, 16), (31, 64), (49, 49), (65, 66), (198, 198)]
_PROJECTIONS: tuple[tuple[Literal["separate", "normed"], bool], ...] = (
    ("separate", False),
    ("normed", True),
    ("normed", False),
)
CASES: tuple[LoneAttention, ...] = (
    *(LoneAttention(q, n) for q, n in SHAPES),
    # What is added to the scores, in every form
    *(
        LoneAttention(q, n, 4, 16, bias=bias)
        for q, n in ((1, 66), (7, 66))
        for bias in dict.fromkeys(((n,), (1, 1, 1, n), (1, 1, q, n), (1, 4, 1, n), (1, 4, q, n), (1, 4, q, 1)))
    ),
    *(LoneAttention(q, 33, 1, 32, bias=(1, 1, q, 33)) for q in (1, 2)),
    *(LoneAttention(7, 66, bias=bias, scale=True) for bias in ((1, 1, 1, 66), (1, 3, 7, 66))),
    *(LoneAttention(*WINDOW, 3, 16, 4, bias=b) for b in ((4, 3, *WINDOW), (1, 3, *WINDOW), (4, 1, 1, 16))),
    # As many queries as heads
    *(LoneAttention(a, n, a, 16) for a, n in ((2, 66), (4, 33), (12, 12), (16, 16))),
    LoneAttention(*WINDOW, 16, 16, 4, bias=(4, 16, *WINDOW)),
    *(
        LoneAttention(q, 16, 16, 16, projection=projection, moved=moved)
        for q in (15, 16)
        for projection, moved in _PROJECTIONS
    ),
    *(LoneAttention(*WINDOW, 16, 16, projection="packed", moved=moved) for moved in (True, False)),
    *(LoneAttention(5, a, a, 16) for a in (3, 6)),
    # INT8
    *(LoneAttention(q, n, codes="u8") for q, n in ((1, 66), (3, 66), (5, 33), (49, 49), (198, 198))),
    *(LoneAttention(q, 66, codes="u8", bias=bias) for q in (1, 7) for bias in ((1, 1, 1, 66), (1, 3, q, 66))),
    *(LoneAttention(q, 66, codes="i8") for q in (2, 3, 7)),
    LoneAttention(*WINDOW, 16, 16, 4, codes="u8", bias=(4, 16, *WINDOW)),
)
# Decibels that right ones stay above, with room. Seen are 119 and more, 60 (a code of the context rounds otherwise),
# 40, and 27 (codes of all tensors are); wrong ones stay below 16.
RIGHT = {("f32", False): 90.0, ("f32", True): 35.0, ("bf16", False): 30.0, ("bf16", True): 20.0}


@dataclass(frozen=True)
class Finding:
    """What became of a case.

    Attributes:
        case: It.
        executed: In which type, outside of its Q/DQ pairs.
        sqnr_db: Against numpy; −inf where a number is not finite.
        reason: What is known against it; ``None`` where nothing is.
    """

    case: LoneAttention
    executed: Executed
    sqnr_db: float
    reason: str | None

    @property
    def right(self) -> bool:
        """Whether it is as close to numpy as its type allows."""
        return self.sqnr_db > RIGHT[self.executed, self.case.codes is not None]

    @property
    def verdict(self) -> str:
        """In a word or two."""
        if self.reason is None:
            return "right" if self.right else "WRONG, NOT KNOWN"
        return "MENDED" if self.right else "wrong, known"


def list_types() -> tuple[Executed, ...]:
    """What this process's instructions have products of."""
    tier = read_tier()
    return ("f32", "bf16") if tier is not None and TIERS[tier].bf16 else ("f32",)


def check_attentions(
    cases: Sequence[LoneAttention] = CASES, types: Iterable[Executed] | None = None, seed: int = 0
) -> Iterator[Finding]:
    """Compute every case in every type."""
    tier, made = read_tier(), [(case, *make_attention(case, seed)) for case in cases]
    for executed in list_types() if types is None else types:
        for case, model, feed, expected in made:
            faults = list_faults(Graph(ir.serde.deserialize_model(model)), executed, tier)
            found = run_openvino(model, feed, executed)
            yield Finding(case, executed, measure_sqnr(found, expected), faults[0].reason if faults else None)


def run_openvino(model: onnx.ModelProto, feed: Feed, executed: Executed) -> np.ndarray:
    """A model's only result, on one thread."""
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": executed, "INFERENCE_NUM_THREADS": 1}
    compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", settings)
    names = {port.get_any_name() for port in compiled.inputs}
    feed = {name: array for name, array in feed.items() if name in names}
    return next(iter(compiled.create_infer_request().infer(feed).values())).copy()


def measure_sqnr(found: np.ndarray, expected: np.ndarray) -> float:
    """10·log10 of Σ expected² over Σ (found − expected)², in decibels."""
    if not np.isfinite(found).all():
        return -np.inf
    noise = float(((found - expected) ** 2).sum())
    return 10 * float(np.log10((expected**2).sum() / noise)) if noise else np.inf


def main() -> int:
    """Print a line a case; see the head of this file for the exit status."""
    import openvino

    findings = []
    print(f"OpenVINO {openvino.__version__}, {read_tier()}, {' and '.join(list_types())}")
    for found in check_attentions():
        findings.append(found)
        reason = f"  {found.reason}" if found.reason else ""
        codes = f"int8, context {found.case.codes}" if found.case.codes else "float"
        print(f"{found.executed:5} {codes:16} {found.sqnr_db:7.1f} dB  {found.verdict:17} {found.case}{reason}")
    verdicts = [found.verdict for found in findings]
    if "bf16" not in list_types():
        print("No bfloat16 here: a processor with AVX512-BF16 or AMX has to say the rest.")
    print(", ".join(f"{verdicts.count(name)} {name}" for name in dict.fromkeys(verdicts)))
    if "WRONG, NOT KNOWN" in verdicts:
        return 2
    return 1 if "wrong, known" in verdicts else 0


if __name__ == "__main__":
    sys.exit(main())
