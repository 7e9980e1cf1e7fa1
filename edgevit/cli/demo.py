"""``edgevit demo``: the whole line on the models and images that ship with the package."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgevit.cli.output import Output, output_options

if TYPE_CHECKING:
    from edgevit.build.conclude import BuildResult
    from edgevit.cli.demo_models import DigitFiles

CALIBRATED = 100
"""Images that INT8 is calibrated on: enough for models as small as these, and the demonstration stays short."""
SHOWN = 4
"""Test images whose predictions are printed."""


@click.command("demo", short_help="Run the whole line on models that ship with the package.")
@click.option("--target", metavar="NAME", help="Profile to build for (intel-cpu with OpenVINO installed, else cpu).")
@click.option("--out", type=click.Path(path_type=Path), default=Path("demo-bundles"), show_default=True, metavar="DIR")
@output_options
def command(output: Output, target: str | None, out: Path) -> int:
    """Run the whole line on a small ViT and a small Swin that read handwritten digits.

    Writes the digits as PNG files, builds and measures a bundle for each model, opens both as a device app would, and
    shows what they see in images that they were not trained on. The last lines name a page with both side by side, and
    the command that makes an app around one of them.

    \b
    Examples:
      edgevit demo
      edgevit demo --target cpu --out /tmp/demo
    """
    from edgevit.build.build import build_model
    from edgevit.cli.demo_models import MODELS, write_digits
    from edgevit.cli.verdict import describe_result, exit_status, show_result
    from edgevit.core.memory import collect_new_alone
    from edgevit.core.quantization import Quantization
    from edgevit.core.recipe import Recipe
    from edgevit.core.target import load_target

    profile = load_target(target or _choose_target())
    files = write_digits(out / "digits")
    results: dict[str, BuildResult] = {}
    for name, checkpoint in MODELS.items():
        output.note(f"building {name}_digits for {profile.name}")
        with output.progress() as progress, _one_torch_thread(), collect_new_alone():
            results[name] = build_model(
                str(checkpoint),
                profile,
                out=out / f"{name}_digits-{profile.name}",
                recipe=Recipe(quantization=Quantization(images=CALIBRATED)),
                calibration=files.calibration,
                validation=files.validation,
                progress=progress,
            )
        output.line()
        output.line(f"{name}_digits for {profile.name}")
        show_result(output, results[name])
    predictions = _predict(results, files)
    page = _write_page(output, results, out)
    described = {n: describe_result(r) for n, r in results.items()}
    output.document({"builds": described, "predictions": predictions, "page": None if page is None else str(page)})
    if any(name in row for row in predictions for name in MODELS):
        _show_predictions(output, predictions)
    output.line()
    if page is not None:
        output.line(f"report: {page}")
    if (command := _suggest_app(results)) is not None:
        output.line(f"app:    {command}")
    return max(exit_status(result.report) for result in results.values())


@contextlib.contextmanager
def _one_torch_thread() -> Iterator[None]:
    """Models as small as these wait for torch's threads longer than they compute, above all on a busy machine."""
    try:
        import torch
    except ImportError:  # the build says so, with the line that installs it
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _choose_target() -> str:
    from edgevit.core.target import load_target
    from edgevit.engines.availability import target_status

    return "intel-cpu" if target_status(load_target("intel-cpu")).runnable else "cpu"


def _predict(results: dict[str, BuildResult], files: DigitFiles) -> list[dict[str, Any]]:
    """The first held-out images through every bundle that has an engine, as a device app would."""
    from edgevit.runtime import open_bundle

    images = sorted(files.validation.glob("*/*.png"), key=lambda path: path.name)[:SHOWN]
    rows: list[dict[str, Any]] = [{"image": str(path), "label": path.parent.name} for path in images]
    for name, result in results.items():
        if result.bundle is None or result.manifest is None or result.manifest.engine is None:
            continue
        with open_bundle(result.bundle) as predictor:
            for row, path in zip(rows, images, strict=True):
                first = predictor.classify(path, top_k=1)[0]
                row[name] = {"label": first.label, "probability": first.probability}
    return rows


def _write_page(output: Output, results: dict[str, BuildResult], out: Path) -> Path | None:
    """Both bundles side by side; without the packages for it a note says how to get them."""
    from edgevit.cli.page.write import write_page
    from edgevit.core.errors import MissingPackageError

    bundles = [result.bundle for result in results.values() if result.bundle is not None]
    if not bundles:
        return None
    try:
        write_page(bundles, out / "report.html")
    except MissingPackageError as exc:
        output.note(f"no report page: {exc.message} ({exc.hint})")
        return None
    return out / "report.html"


def _suggest_app(results: dict[str, BuildResult]) -> str | None:
    """The command that makes an app around the first bundle with an engine."""
    from edgevit.cli.app.write import is_opened_in_cpp
    from edgevit.core.command import write_command

    for result in results.values():
        engine = None if result.manifest is None else result.manifest.engine
        if result.bundle is not None and engine is not None:
            language = "cpp" if is_opened_in_cpp(engine.backend) else "python"
            return write_command("new-app", "my-app", "--bundle", result.bundle, "--language", language)
    return None


def _show_predictions(output: Output, rows: list[dict[str, Any]]) -> None:
    """Digits side by side in block characters, and below each what the models say."""
    import numpy as np
    from PIL import Image
    from rich.table import Table

    from edgevit.cli.demo_models import MODELS, draw_digit

    table = Table.grid(padding=(0, 3, 0, 0))
    drawings = ["\n".join(draw_digit(np.asarray(Image.open(row["image"])))) for row in rows]
    table.add_row("", *drawings)
    table.add_row("image", *(Path(row["image"]).name for row in rows))
    table.add_row("label", *(row["label"] for row in rows))
    for name in MODELS:
        cells = [f"{row[name]['label']} ({row[name]['probability']:.1%})" for row in rows if name in row]
        if cells:
            table.add_row(name, *cells)
    output.line()
    output.line("Held-out images, through the bundles:")
    output.show(table)
