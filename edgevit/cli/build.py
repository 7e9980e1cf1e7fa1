"""``edgevit build``: a checkpoint to a bundle."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from edgevit.cli.options import (
    LABELS,
    TEMPLATES,
    WEIGHTS,
    on_option,
    preprocess_options,
    read_batch,
    read_levels,
    read_preprocess,
    read_size,
    read_source,
    refuse_missing,
)
from edgevit.cli.output import Output, output_options
from edgevit.core.task import WHOLE_TASKS

TASKS = ("auto", "classify", "embed", "features", *WHOLE_TASKS)
SCORES = ("softmax", "sigmoid", "identity")
PRECISIONS = ("auto", "fp32", "fp16", "bf16", "int8", "fp8")


@click.command("build", short_help="Build a bundle from a checkpoint, and measure it.")
@click.argument("source")
@click.option("--target", required=True, metavar="NAME", help="Profile to build for, or a TOML file of your own.")
@click.option(
    "--task",
    type=click.Choice(TASKS),
    help="What it computes; auto: logits, or without a head embeddings, or of a whole model what its config.json says.",
)
@click.option("--normalize", is_flag=True, help="Embeddings of length 1.")
@click.option("--levels", type=read_levels, metavar="N,N,…", help="Stages or blocks that give features, from 0.")
@click.option("--tokens", is_flag=True, help="Features as tokens (B, h·w, C), not as maps (B, C, h, w).")
@click.option("--level-norm/--no-level-norm", default=None, help="A ViT's last norm on its features, or not.")
@click.option(
    "--scores", type=click.Choice(SCORES), help="What outputs mean: one class, labels by themselves, numbers."
)
@click.option("--precision", type=click.Choice(PRECISIONS), help="One precision, or the best inside the budget.")
@click.option("--calibration", metavar="DATA|random", help="Images to calibrate int8 and fp8 on, and to choose by.")
@click.option("--validation", type=click.Path(path_type=Path), metavar="DATA", help="Held-out images to judge by.")
@click.option("--max-drop", type=click.FloatRange(0, 100), metavar="POINTS", help="Top-1 that may be lost (0.5).")
@click.option("--min-cosine", type=click.FloatRange(0, 1), metavar="COSINE", help="Of embeddings, on average (0.99).")
@click.option("--min-recall", type=click.FloatRange(0, 100), metavar="PERCENT", help="Of embeddings without labels.")
@click.option("--min-sqnr", type=click.FloatRange(-20, 200), metavar="DB", help="Of the worst level or output (20).")
@click.option("--min-kept", type=click.FloatRange(0, 100), metavar="PERCENT", help="Of the float model's answers (80).")
@click.option("--max-latency", type=click.FloatRange(0, min_open=True), metavar="MS", help="Largest p50 latency.")
@click.option("--batch", type=read_batch, metavar="N|MIN:OPT:MAX", help="Images a call, or a range of them (1).")
@click.option(
    "--image-size", type=read_size, metavar="PIXELS|HxW", help="Height and width, instead of the checkpoint's own."
)
@click.option("--arch", metavar="NAME", help="Architecture, for a file of bare weights (deit_tiny_patch16_224).")
@WEIGHTS
@LABELS
@TEMPLATES
@preprocess_options
@click.option("--recipe", metavar="NAME", help="A recipe, or a TOML file such as a bundle's recipe.toml.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), metavar="N", help="For everything that is drawn (0).")
@click.option("--skip-bad-images", is_flag=True, help="Go on without images that cannot be read, and count them.")
@click.option("--accept-chance", is_flag=True, help="Go on where the float model answers labelled images by chance.")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="The bundle (./SOURCE-TARGET).")
@click.option("--report", "page", is_flag=True, help="Write a page to look at beside the bundle (DIR.html).")
@on_option
@output_options
def command(
    output: Output, source: str, target: str, out: Path | None, host: str | None, page: bool, **options: Any
) -> int:
    """Build a bundle from a checkpoint, and measure it.

    SOURCE is a folder as timm or transformers save them, a file of bare weights with --arch, an ONNX file, or a hub id.
    DATA is a folder with a folder per class, or a CSV with the columns file and label.

    int8 needs calibration images: 32 or more, better 512. --calibration random takes random pixels instead: enough to
    measure latency, and never an engine to use.

    --labels makes a classifier of a CLIP or SigLIP with its text tower, and a detector of an OWL-ViT or OWLv2: a text
    file with a label a line. Each is put into the publisher's template, "a photo of a {}.", or into those of
    --templates, whose mean is taken.

    --task embed gives the features that the head would read, --task features those of chosen levels, for detectors and
    segmenters: the four stages of a Swin, four blocks of a ViT.

    Without --validation the verdict says "parity only": the engine computes what the checkpoint does, but nobody has
    counted right answers. A target whose engine cannot be compiled here ends in a portable bundle. With --on, the
    device compiles and measures it over ssh, and the finished bundle comes back.

    \b
    Examples:
      edgevit build ./my_model --target intel-cpu \\
          --calibration train/ --validation val/
      edgevit build ./my_model --target intel-cpu --precision int8 \\
          --calibration train.csv
      edgevit build ./my_model --target intel-cpu --calibration random --report
      edgevit build ./my_model --target cpu --precision fp32 --out ./bundle
      edgevit build ./my_model --target intel-cpu --calibration photos/ \\
          --task embed --normalize
      edgevit build ./clip --target intel-cpu --calibration photos/ \\
          --labels labels.txt
      edgevit build ./my_model --target intel-cpu --task features --levels 1,2,3
      edgevit build weights.pth --arch vit_small_patch16_224 --target intel-cpu
      edgevit build ./my_model --target jetson --batch 1:4:8
      edgevit build ./my_model --target jetson --on user@board
      edgevit build model.onnx --target intel-cpu --validation val/ \\
          --mean 0.5 --std 0.5 --resize 256
    """
    from edgevit.build.build import build_model
    from edgevit.cli.page.sources import find_problem
    from edgevit.cli.page.write import require_page_packages, write_page
    from edgevit.cli.verdict import describe_result, exit_status, shorten_path, show_result
    from edgevit.core.errors import EdgevitError
    from edgevit.core.memory import collect_new_alone
    from edgevit.core.target import load_target

    if page:
        require_page_packages()
    calibration, recipe = options["calibration"], options["recipe"]
    refuse_missing(
        {
            "SOURCE": read_source(source),
            "--target": target if target.endswith(".toml") else None,
            "--calibration": None if calibration == "random" else calibration,
            "--validation": options["validation"],
            "--labels": options["labels"],
            "--templates": options["templates"],
            "--recipe": recipe if recipe and recipe.endswith(".toml") else None,
        }
    )
    profile = load_target(target)
    arguments: dict[str, Any] = {
        "out": out or Path(f"{_name_of(source)}-{profile.name}"),
        "recipe": _read_recipe(options),
        "budget": _read_budget(options),
        **{
            name: options[name]
            for name in (
                *("calibration", "validation", "arch", "weights", "labels", "templates"),
                *("skip_bad_images", "accept_chance"),
            )
        },
        "preprocess": read_preprocess(options),
        "note": output.note,
    }
    beside = arguments["out"].with_name(f"{arguments['out'].name}.html")
    if page and os.path.lexists(beside) and (problem := find_problem(beside)) is not None:
        raise problem
    with output.progress() as progress, collect_new_alone():
        if host is None:
            result = build_model(source, profile, progress=progress, **arguments)
        else:
            from edgevit.remote.build_on import build_on

            log = output.listen_to(host)
            result = build_on(host, source, profile, progress=progress, log=log, **arguments)
    written = None
    if page and result.bundle is not None:
        written = result.bundle.with_name(f"{result.bundle.name}.html")
        try:
            write_page([result.bundle], written)
        except EdgevitError:
            show_result(output, result)  # the bundle is written
            raise
    shown = {} if not page else {"page": None if written is None else str(written)}
    output.document({**describe_result(result), **shown})
    show_result(output, result)
    if page:
        output.line(f"report: {shorten_path(written) if written is not None else 'none was written'}")
    return exit_status(result.report)


def _name_of(source: str) -> str:
    """``./models/my_model/`` and ``my_model.safetensors`` to ``my_model``; ``timm/deit@main`` to ``deit``."""
    path = Path(source)
    name = path.resolve().name if os.path.exists(source) else path.name.partition("@")[0]
    if not os.path.isfile(source):  # False for what no path can be
        return name
    return name.removesuffix(path.suffix).removesuffix(".weights")  # Keras' vit.weights.h5


def _read_recipe(options: dict[str, Any]) -> Any:
    """The recipe that --recipe names, with what other options say on top."""
    from dataclasses import replace

    from edgevit.core.recipe import Recipe, load_recipe

    recipe = load_recipe(options["recipe"]) if options["recipe"] else Recipe()
    given = {name: options[name] for name in ("precision", "batch", "image_size", "seed") if options[name] is not None}
    return replace(recipe, task=_read_task(recipe.task, options), **given)


def _read_task(task: Any, options: dict[str, Any]) -> Any:
    """The recipe's task, with what options say on top; another --task begins anew."""
    from dataclasses import replace

    from edgevit.core.errors import RecipeError
    from edgevit.core.task import Task

    given: dict[str, Any] = {}
    if options["normalize"]:
        given["normalize"] = True
    if options["levels"] is not None:
        given["levels"] = options["levels"]
    if options["tokens"]:
        given["layout"] = "tokens"
    if options["scores"] is not None:
        given["scores"] = options["scores"]
    if options["level_norm"] is not None:
        given["norm"] = options["level_norm"]
    try:
        if options["task"] is not None and options["task"] != task.name:
            return Task(options["task"], **given)
        return replace(task, **given)
    except ValueError as exc:
        raise RecipeError(str(exc), "give the --task that the option is for, and levels as in --levels 0,2,3") from exc


def _read_budget(options: dict[str, Any]) -> Any:
    from edgevit.core.target import Budget

    given = {
        "max_drop_points": options["max_drop"],
        "max_latency_ms": options["max_latency"],
        "min_cosine": options["min_cosine"],
        "min_level_sqnr_db": options["min_sqnr"],
        "min_kept": None if options["min_kept"] is None else options["min_kept"] / 100,
        "min_recall": None if options["min_recall"] is None else options["min_recall"] / 100,
    }
    return Budget(**{name: value for name, value in given.items() if value is not None})
