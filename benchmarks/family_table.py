"""The figures of the families benchmark as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any


def render_table(document: Mapping[str, Any], judge: Callable[[Mapping[str, Any]], Sequence[str]]) -> str:
    """``results/families.md``.

    Args:
        document: ``results/families.json``.
        judge: Why a row is not as it is to be.
    """
    lines = [
        "# The smallest of each family",
        "",
        "Real sizes, random weights, 32 calibration and 32 held-out photos without labels. `sites`: INT8 of all. `dB`:",
        "SQNR of the INT8 engine's answers on the held-out photos, of features that of the worst level. `agree` says",
        "nothing with random weights and is not judged. `attention`: blocks whose attention is one TensorRT kernel.",
        "",
        "| family | tested as | chosen | sites | dB | agree | cosine | noisiest alone | fp16 layers | attention | |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in document["rows"]:
        cells = [row["family"], f"`{row['model']}`", *_list_int8(row.get("int8")), *_list_fp16(row.get("fp16"))]
        lines.append(f"| {' | '.join(cells)} | {'; '.join(judge(row)) or _conclude(row)} |")
    notes = [
        f"- `{row['model']}`: {note}"
        for row in document["rows"]
        for note in (*row.get("int8", {}).get("notes", ()), *row.get("fp16", {}).get("notes", ()))
    ]
    machine = document["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in sorted(machine.get("packages", {}).items()))
    if notes:
        lines += ["", *notes]
    return "\n".join([*lines, "", f"Measured on {machine.get('cpu', 'an unknown processor')}; {packages}.", ""])


def _conclude(row: Mapping[str, Any]) -> str:
    missing = [part for part in ("int8", "fp16") if part not in row]
    return f"{', '.join(missing)} not run" if missing else "sane"


def _list_int8(int8: Mapping[str, Any] | None) -> list[str]:
    if int8 is None or "error" in int8:
        return ["–"] * 6
    found = next(v for v in int8["variants"] if v["name"] == "int8")
    level, counts = found["worst_level_db"], int8["sites"]
    site, alone = next(iter(int8["worst"].items()), ("–", 0.0))
    return [
        int8["chosen"] or "none",
        f"{counts['int8']} of {counts['int8'] + counts['float']}",
        _show(found["sqnr_db"] if level is None else level, ".1f"),
        _show(found["agreement_percent"], ".0f"),
        _show(found["cosine_mean"], ".5f"),
        f"`{site}` {alone:.1f}",
    ]


def _list_fp16(fp16: Mapping[str, Any] | None) -> list[str]:
    if fp16 is None or "layers" not in fp16:
        return ["–"] * 2
    return [str(fp16["layers"]), f"{fp16['fused']} of {fp16['blocks']}"]


def _show(figure: float | None, form: str) -> str:
    return "–" if figure is None else format(figure, form)
