"""The measured table of whole models, in results/tasks.md and in docs/tasks.md, from results/tasks.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.task_models import MODELS

DOCUMENT = Path(__file__).parents[1] / "docs" / "tasks.md"
RESULTS = Path(__file__).parent / "results" / "tasks.json"
TABLE = RESULTS.with_suffix(".md")
BEGIN, END = "<!-- measured -->\n", "<!-- end of measured -->\n"
PARTS = ("parity", "quantize", "latency", "tensorrt")
PARITY_BAR, SQNR_BAR, RATIO_BAR = 1e-4, 25.0, 0.9


def render_table(stored: Mapping[str, Any]) -> str:
    """Markdown: what it was measured on, and a row for every model of the list."""
    machine, versions = stored["machine"], stored["versions"]
    isa = ", ".join(name for name in machine["isa"] if name in ("avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8"))
    lines = [
        f"{machine['cpu']} ({isa}), {machine['cores']} shared cores; "
        + ", ".join(f"{name} {number}" for name, number in versions.items())
        + ".",
        "",
        "| model, input | parity | INT8, dB | NNCF, dB | INT8 over NNCF | attention fused, RTX-30 fp16 | missed |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for model in MODELS:
        row = stored["rows"].get(model.name, {})
        size = f"{model.size[0]} × {model.size[1]}" + (f" ({model.note})" if model.note else "")
        parity, quantized, timed, compiled = (row.get(part, {}) for part in PARTS)
        cells = [
            f"{model.title}, `{model.kind}`, {size}",
            _show_parity(parity),
            _show_noise(quantized, ""),
            _show_noise(quantized, "nncf_"),
            "{:.2f} ({:.2f}–{:.2f})".format(*timed["ratio"]) if "ratio" in timed else "not measured",
            _show_fusion(compiled, model.blocks),
            "; ".join(list_misses(row, model.blocks))
            or ("–" if {*PARTS} <= {*row} else "none that was measured" * bool(row)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def list_misses(row: Mapping[str, Any], blocks: int) -> tuple[str, ...]:
    """Which bars a row misses; what was not measured is no miss, and says so in its cell."""
    parity, quantized, timed, compiled = (row.get(part, {}) for part in PARTS)
    missed = [f"{part}: {figures['failed']}" for part, figures in row.items() if "failed" in figures]
    if parity.get("float64_error", parity.get("error", 0.0)) > PARITY_BAR:
        missed.append("parity")
    if min(quantized.get("sqnr_db", [SQNR_BAR])) < SQNR_BAR:
        missed.append("noise")
    if timed.get("ratio", [RATIO_BAR])[0] > RATIO_BAR:
        missed.append("latency")
    if "reason" in compiled:
        missed.append("does not compile")
    elif compiled.get("fused", blocks) < blocks:
        missed.append("fusion")
    return tuple(missed)


def write_page(text: str, stored: Mapping[str, Any]) -> str:
    """The page with the table between its marks; unchanged where it has none."""
    if BEGIN not in text:
        return text
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}{render_table(stored)}{END}{tail}"


def _show_parity(parity: Mapping[str, Any]) -> str:
    if "error" not in parity:
        return "not measured"
    if "float64_error" not in parity:
        return f"{parity['error']:.1e}"
    own, its = parity["float64_error"], parity["float32_error"]
    return f"{own:.1e} with transformers in float64, of which its float32 is {its:.1e} off"


def _show_noise(quantized: Mapping[str, Any], name: str) -> str:
    text, own = _list(quantized.get(f"{name}sqnr_db")), quantized.get(f"{name}own_choice_db")
    if own is None:
        return text
    return f"{text}; with its own queries, {quantized[f'{name}same_percent']:.1f} % of them the same: {_list(own)}"


def _list(figures: Any) -> str:
    return "not measured" if not figures else ", ".join(f"{figure:.1f}" for figure in figures)


def _show_fusion(compiled: Mapping[str, Any], blocks: int) -> str:
    if "fused" in compiled:
        return f"{compiled['fused']} of {blocks}"
    if "reason" not in compiled:
        return "not measured"
    first, *more = [line.strip().replace("|", "/") for line in compiled["reason"].splitlines()[:4]]
    return f"{first} {'; '.join(more)}"
