"""``edgevit run``: what a bundle sees in images."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgevit.cli.options import check_option, key_option, read_score
from edgevit.cli.output import WHOLE_LISTS, Output, output_options
from edgevit.core.task import ANSWERED_TASKS

if TYPE_CHECKING:
    from edgevit.cli.dense_answers import Shown
    from edgevit.core.errors import DataError
    from edgevit.core.progress import Progress
    from edgevit.runtime import Predictor
    from edgevit.runtime.canary import Check

_FEW = 20  # images, which are answered before anybody could read how many are


@click.command("run", short_help="What a bundle sees in images, as a table and drawn over them.")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="IMAGE...")
@click.option("--top-k", type=click.IntRange(1), default=5, show_default=True, metavar="K", help="Answers an image.")
@click.option(
    "--save",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Embeddings to a .npy file, features to a .npz file; of depth, masks, boxes and poses the numbers and a "
    "picture of every image, into a folder.",
)
@click.option("--threshold", type=read_score, metavar="SCORE", help="What a box's score has to be above.")
@click.option(
    "--box",
    "boxes",
    multiple=True,
    metavar="L,T,R,B",
    help="Left, top, right and bottom of a person, for poses; may be repeated. By default the whole image.",
)
@click.option("--skip-bad-images", is_flag=True, help="Answer the others where an image cannot be read.")
@check_option
@key_option
@output_options
def command(
    output: Output,
    bundle: Path,
    images: tuple[Path, ...],
    top_k: int,
    save: Path | None,
    threshold: float | None,
    boxes: tuple[str, ...],
    skip_bad_images: bool,
    check: Check,
    public_key: Path | None,
) -> None:
    """What a bundle sees in images: their classes, or whatever else it was built for.

    Of a folder all images are taken, at any depth.

    Embeddings are saved as one array (images, C), features as one array (images, …) for every level, float32, in the
    order of the images. Depth, classes of pixels, boxes and poses are in the image's own pixels; for each image
    NAME.npz has the numbers, and NAME.png is the image with the answer drawn over it.

    \b
    Examples:
      edgevit run ./bundle photo.jpg
      edgevit run ./bundle *.jpg --top-k 1 --json
      edgevit run ./bundle photos/ --skip-bad-images
      edgevit run ./embedder *.jpg --save embeddings.npy
      edgevit run ./backbone photo.jpg --save features.npz
      edgevit run ./detector photos/ --threshold 0.3 --save found/
    """
    from edgevit.cli.dense_answers import answer_file, plan_saves, read_options
    from edgevit.core.errors import DataError, OutputError, format_offenders, shorten_lists
    from edgevit.core.progress import ignore_progress
    from edgevit.core.quantization import RANDOM_MARK
    from edgevit.pixels.decode import decode_image
    from edgevit.pixels.listing import list_images
    from edgevit.runtime import open_bundle
    from edgevit.runtime.bundle import refuse_inside

    files, offenders = list_images(images)
    missing = [str(file) for file in files if not os.path.exists(file)]
    if missing and not os.path.exists(bundle):
        raise DataError(
            f"neither the bundle nor {len(missing)} of {len(files)} images are there:\n"
            + format_offenders([str(bundle), *missing]),
            "name the folder that edgevit build wrote, and image files behind it",
        )
    if save is not None:
        refuse_inside(save)
    if missing and not skip_bad_images:  # before the engine is opened, and with all that is wrong
        _, undecodable = _answer_all(decode_image, files, ignore_progress)
        raise _refuse_images([*offenders, *undecodable], len(files) + len(offenders))
    with open_bundle(bundle, check=check, public_key=public_key) as opened:
        task = opened.manifest.task
        answered = task in ANSWERED_TASKS
        suffix = ".npy" if task == "embed" else ".npz" if task in ("features", "map") else None
        if save is not None and not answered and save.suffix != suffix:
            what = f"{task} saves {suffix} files" if suffix else "classes are printed, or written by --json"
            raise OutputError(f"--save {save} does not fit the bundle's task: {what}", "give another --save, or none")
        options = read_options(task, threshold, boxes)
        places = plan_saves(save, files) if answered else {}
        if opened.manifest.for_trials:
            output.note(f"warning: {bundle} was {RANDOM_MARK}")
        if assumed := opened.manifest.assumed:
            output.note(
                f"warning: nothing said how its images are prepared: {', '.join(assumed)} are assumed, and answers "
                "need not be the model's"
            )
        for difference in opened.differences:
            output.note(f"note: {difference}")
        output.note(f"canary: {opened.canary.describe()}")
        answer: dict[str, Callable[[Path], Any]] = {
            "classify": partial(opened.classify, top_k=top_k),
            "embed": opened.embed,
            "features": opened.features,
            "map": opened.outputs,
            **dict.fromkeys(ANSWERED_TASKS, partial(answer_file, opened, places, options)),
        }
        with output.progress() as progress:
            found, bad = _answer_all(answer[task], files, progress)
        bad = [*offenders, *bad]
        if bad and not (skip_bad_images and found):
            raise _refuse_images(bad, len(files) + len(offenders), "give others" if skip_bad_images else None)
        if bad:
            output.note(f"{len(bad)} of {len(files) + len(offenders)} images cannot be used and are left out:")
            output.note(shorten_lists(_list_bad(bad), WHOLE_LISTS))
        if task == "classify":
            _show_classes(output, opened, found, bad)
        elif answered:
            _show_dense(output, opened, found, bad)
            if save is not None:
                output.line(f"saved: {save}")
        else:
            _show_arrays(output, opened, found, bad, save)


def _show_dense(
    output: Output, opened: Predictor, found: Sequence[tuple[Path, Shown]], bad: Sequence[tuple[str, str]]
) -> None:
    from edgevit.cli.dense_answers import HEADERS, RIGHT
    from edgevit.cli.tables import make_table

    canary = opened.canary.status
    output.document([*({**shown.document, "canary": canary} for _, shown in found), *_list_errors(bad)])
    headers = HEADERS[opened.manifest.task]
    table = make_table(["image", *headers], right=RIGHT & set(headers))
    for file, shown in found:
        for number, row in enumerate(shown.rows):
            table.add_row("" if number else str(file), *row)
        if shown.more:
            table.add_row("", f"… {shown.more} more", *[""] * (len(headers) - 1))
    output.show(table)


def _answer_all(
    answer: Callable[[Path], Any], files: Sequence[Path], progress: Progress
) -> tuple[list[tuple[Path, Any]], list[tuple[str, str]]]:
    """Answers by image, of one that is named twice two of them; and (file, reason) of images that cannot be decoded."""
    from edgevit.core.errors import DataError

    found: list[tuple[Path, Any]] = []
    bad: list[tuple[str, str]] = []
    for done, file in enumerate(files, 1):
        try:
            found.append((file, answer(file)))
        except DataError as exc:
            bad.append((str(file), exc.message.removeprefix(f"{file}: ")))
        if len(files) > _FEW:
            progress("images", done, len(files))
    return found, bad


def _list_bad(bad: Sequence[tuple[str, str]]) -> str:
    from edgevit.core.errors import format_offenders

    return format_offenders([f"{file}: {reason}" for file, reason in bad])


def _refuse_images(bad: Sequence[tuple[str, str]], images: int, hint: str | None = None) -> DataError:
    from edgevit.core.errors import DataError

    return DataError(
        f"{len(bad)} of {images} image{'s' if images > 1 else ''} cannot be used:\n{_list_bad(bad)}",
        hint or "name image files or folders of images; --skip-bad-images goes on without these",
    )


def _list_errors(bad: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    return [{"image": file, "error": reason} for file, reason in bad]


def _show_classes(
    output: Output, opened: Predictor, found: Sequence[tuple[Path, Any]], bad: Sequence[tuple[str, str]]
) -> None:
    from edgevit.cli.tables import make_table
    from edgevit.core.schema import to_data

    canary = opened.canary.status
    answers = [{"image": str(file), "predictions": to_data(answer), "canary": canary} for file, answer in found]
    output.document([*answers, *_list_errors(bad)])
    figure = "value" if opened.manifest.scores == "identity" else "probability"
    table = make_table(["image", "class", "label", figure], right={"class", figure})
    for file, answer in found:
        for rank, guess in enumerate(answer):
            said = f"{guess.value:.6g}" if guess.probability is None else f"{guess.probability:.2%}"
            table.add_row("" if rank else str(file), str(guess.index), _show_label(guess.label), said)
    output.show(table)


def _show_label(label: str) -> str:
    """On one line, and visible: a bundle's labels may hold anything."""
    return label.replace("\n", "\\n").replace("\t", "\\t") or '""'


def _show_arrays(
    output: Output,
    opened: Predictor,
    answers: Sequence[tuple[Path, Any]],
    bad: Sequence[tuple[str, str]],
    save: Path | None,
) -> None:
    """Shape, mean, deviation and extremes of every array; with several images also the cosines of embeddings."""
    import numpy as np

    from edgevit.cli.tables import make_table

    embeds = opened.manifest.task == "embed"
    images = [file for file, _ in answers]
    found: list[dict[str, Any]] = [{"embedding": answer} if embeds else dict(answer) for _, answer in answers]
    if save is not None:
        _save(save, found)
    rows = [
        {
            "image": str(image),
            "output": name,
            "shape": list(values.shape),
            "mean": float(values.mean()),
            "std": float(values.std()),
            "min": float(values.min()),
            "max": float(values.max()),
            **({"length": float(np.linalg.norm(values)), "values": values.tolist()} if embeds else {}),
            "canary": opened.canary.status,
        }
        for image, arrays in zip(images, found, strict=True)
        for name, values in arrays.items()
    ]
    output.document([*rows, *_list_errors(bad)])
    figures = ["mean", "std", "min", "max", *(["length"] if embeds else [])]
    table = make_table(["image", "output", "shape", *figures], right={"shape", *figures})
    first = next(iter(found[0]))
    for row in rows:
        shape = "×".join(str(side) for side in row["shape"])
        name = row["image"] if row["output"] == first else ""
        table.add_row(name, row["output"], shape, *(f"{row[key]:.3g}" for key in figures))
    output.show(table)
    if embeds and len(images) > 1:
        unit = np.stack([arrays["embedding"] / np.linalg.norm(arrays["embedding"]) for arrays in found])
        cosines = unit @ unit[0]
        output.line()
        near = make_table(["image", f"cosine with {images[0].name}"], right={f"cosine with {images[0].name}"})
        for image, cosine in zip(images[1:], cosines[1:], strict=True):
            near.add_row(str(image), f"{cosine:.4f}")
        output.show(near)
    if save is not None:
        output.line(f"saved: {save}")


def _save(path: Path, found: list[dict[str, Any]]) -> None:
    import numpy as np

    from edgevit.core.errors import OutputError

    arrays = {name: np.stack([one[name] for one in found]) for name in found[0]}
    try:
        if path.suffix == ".npy":
            np.save(path, arrays["embedding"])
        else:
            np.savez(path, **arrays)  # type: ignore[arg-type]
    except OSError as exc:
        raise OutputError(f"{path} cannot be written: {exc.strerror or exc}", "check the path and free space") from exc
