"""Which form of queries, keys, values and scale TensorRT-RTX fuses best: layers of every form, model and precision.

Each form (:mod:`benchmarks.attention_forms`) computes the same function and is compiled ahead of time, without a GPU.
The best of a model and precision has attention fused in every block, and then the fewest layers. Layers that only move
numbers are counted and do not rank: one that multiplies by the scale on the way is no fewer. Exits with 1 where another
form is better than the one of the target profiles.

    python -m benchmarks.bench_forms [--models deit_tiny_patch16_224 …] [--precisions fp16 …] [--forms 1 6 …]
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.attention_forms import FORMS, Form, restate_attention
from benchmarks.bench_fusion import ENGINES, count_layers, make_graph
from edgevit.checkpoints import read_checkpoint
from edgevit.core.errors import CompileError
from edgevit.core.target import load_target
from edgevit.models.model import Model
from edgevit.runtime.session import get_runtime
from tests.support.reference import import_timm, randomise, save_timm_folder

MODELS = ("deit_tiny_patch16_224", "deit_small_patch16_224", "swin_tiny_patch4_window7_224")
USED = FORMS[0]
"""What ``qkv = "packed"`` of the target profiles gives."""
RESULTS = Path(__file__).parent / "results" / "fusion_forms.json"


def bench_form(model: Model, form: Form, precision: str, device: str, folder: Path) -> dict[str, Any]:
    """A row: what the compiler made of the form, or why it refused."""
    target = load_target(device)
    row: dict[str, Any] = {"precision": precision, "form": form.name}
    try:
        graph = make_graph(restate_attention(model, form), precision, form.change(target.export))
        record, _ = count_layers(graph, precision, target, folder)
    except CompileError as exc:
        return {**row, "refused": exc.message}
    return {
        **row,
        "device": record.device,
        "layers": record.layers,
        "fused": len(record.attention),
        "blocks": len(record.attention) + len(record.unfused_attention),
        "moves": len(record.moves),
    }


def bench_model(
    name: str, precision: str, forms: Sequence[Form], folder: Path, tell: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    """Rows of the forms."""
    save_timm_folder(randomise(import_timm().create_model(name)), folder / "checkpoint")
    model = read_checkpoint(folder / "checkpoint")
    for form in forms:
        row = {"model": name, **bench_form(model, form, precision, dict(ENGINES)[precision], folder / "engine")}
        tell(f"{name} {precision}, {form.name}: {describe_row(row)}")
        yield row


def describe_row(row: dict[str, Any]) -> str:
    """``100 layers, 12 move; fused 12 of 12``."""
    if "refused" in row:
        return f"refused: {row['refused'].splitlines()[-1].strip()}"
    moves = f", {row['moves']} move" if row["moves"] else ""
    fused = "" if row["fused"] == row["blocks"] else f"; **fused {row['fused']} of {row['blocks']}**"
    return f"{row['layers']}{moves}{fused}"


def rank_row(row: dict[str, Any]) -> tuple[int, int]:
    """Smaller is better: blocks that are not fused, then layers."""
    if "refused" in row:
        return (sys.maxsize, 0)
    return (row["blocks"] - row["fused"], row["layers"])


def list_beaten(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Where another form is better than the one that is used, a sentence each."""
    found = []
    for model, precision in dict.fromkeys((row["model"], row["precision"]) for row in rows):
        group = [row for row in rows if (row["model"], row["precision"]) == (model, precision)]
        best = min(group, key=rank_row)
        own = next((row for row in group if row["form"] == USED.name), None)
        if own is not None and rank_row(best) < rank_row(own):
            found.append(f"{model} {precision}: {best['form']} has {describe_row(best)}, ours {describe_row(own)}")
    return found


def render_table(rows: Sequence[dict[str, Any]], compiler: str) -> str:
    """As Markdown: a line for every form, a column for every model and precision."""
    columns = list(dict.fromkeys((row["model"], row["precision"]) for row in rows))
    cells = {(row["model"], row["precision"], row["form"]): row for row in rows}
    lines = [
        f"Layers of engines by {compiler}, compiled ahead of time for SM86 (fp8: SM89). Nothing was run. Attention is "
        "one kernel in every block unless the cell says otherwise; `move` counts layers that only move numbers. The "
        "first form is the one that the target profiles use.",
        "",
        f"| | q, k, v | scale | product | {' | '.join(f'{_shorten(m)} {p}' for m, p in columns)} |",
        f"|{' --- |' * (4 + len(columns))}",
    ]
    for number, form in enumerate(FORMS, 1):
        found = [cells.get((*column, form.name)) for column in columns]
        texts = [describe_row(row) if row is not None else "–" for row in found]
        lines.append(f"| {' | '.join([str(number), form.projection, form.scale, form.product, *texts])} |")
    beaten = list_beaten(rows)
    lines += ["", *(f"- {text}" for text in beaten)] if beaten else ["", "No form is better anywhere than the first."]
    return "\n".join(lines) + "\n"


def _shorten(model: str) -> str:
    return model.split("_patch")[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS, metavar="NAME")
    names = [precision for precision, _ in ENGINES]
    parser.add_argument("--precisions", nargs="+", default=names, choices=names, metavar="NAME")
    parser.add_argument(
        "--forms", nargs="+", type=int, default=[], metavar="NUMBER", help="of the table's first column"
    )
    wanted = parser.parse_args()
    forms = [form for number, form in enumerate(FORMS, 1) if not wanted.forms or number in wanted.forms]
    stored = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"] if RESULTS.is_file() else []
    known = {(row["model"], row["precision"], row["form"]): row for row in stored}
    order = list(itertools.product(MODELS, names, (form.name for form in FORMS)))
    compiler = " ".join(next(iter(get_runtime("tensorrt_rtx").read_versions().items())))
    rows = [known[key] for key in order if key in known]
    for name, precision in itertools.product(wanted.models, wanted.precisions):
        with tempfile.TemporaryDirectory(prefix="edgevit-") as folder:
            for row in bench_model(name, precision, forms, Path(folder), lambda text: print(text, file=sys.stderr)):
                known[name, precision, row["form"]] = row
                rows = [known[key] for key in order if key in known]
                document = {"compiler": compiler, "rows": rows}
                RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
                RESULTS.with_suffix(".md").write_text(render_table(rows, compiler), encoding="utf-8")
    print(render_table(rows, compiler))
    return 1 if list_beaten(rows) else 0


if __name__ == "__main__":
    sys.exit(main())
