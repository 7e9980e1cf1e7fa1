"""An application around a bundle of edgevit: images in, answers and milliseconds out.

    python main.py bundle photo.jpg another.png
# [[ camera
    python main.py bundle --camera /dev/video0   (needs opencv-python)
    python main.py bundle --camera FOLDER        (the images of a folder, as a camera would give them)
# ]]

How images are resized, what classes are called and how the engine is opened stands in the bundle, so nothing of it
stands here. Exit status: 0 done, 1 some image has no answer, 2 the bundle cannot be opened, answers cannot be written,
or bad usage.
"""

from __future__ import annotations

import sys
import time
import warnings
from typing import Any

import numpy as np
from PIL import Image

from edgevit.cli.terminal import ReaderLeftError, give_up_output, write_line
from edgevit.core.errors import EdgevitError, OutputError
from edgevit.pixels.decode import decode_image
from edgevit.runtime import Predictor, open_bundle


# [[ classify
def print_classes(predictor: Predictor, logits: Any, most: int) -> None:
    """This bundle classifies: the best classes, each with index, probability, the engine's own number and name."""
    from edgevit.runtime.prediction import rank_outputs

    for found in rank_outputs(logits, predictor.labels, predictor.manifest.scores, most):
        # A label may hold anything; write_line() shows other control characters, which a terminal obeys, as escapes.
        label = found.label.replace("\n", "\\n").replace("\t", "\\t")
        share = "" if found.probability is None else f"{100 * found.probability:8.4f} %  "
        write_line(f"  {found.index:5d}  {share}{found.value:12.7g}  {label}")


# ]]
# [[ embed
def print_embedding(embedding: Any) -> None:
    """This bundle gives embeddings: how long the vector is, and how it begins."""
    begin = " ".join(f"{value:.6g}" for value in embedding[:8])
    more = " ..." if len(embedding) > 8 else ""
    write_line(f"  {len(embedding)} numbers, norm {np.linalg.norm(embedding.astype(float)):.6g}: {begin}{more}")


# ]]
# [[ features
def print_features(predictor: Predictor, maps: Any) -> None:
    """This bundle gives feature maps: of each its name, its shape and its mean."""
    for spec, values in zip(predictor.manifest.outputs, maps, strict=True):
        write_line(f"  {spec.name:<10s}{' x '.join(map(str, values.shape))}  mean {values.mean(dtype=float):.6g}")


# ]]
def compute(predictor: Predictor, picture: Any) -> tuple[Any, float, float]:
    """The engine's outputs for a decoded image, and the milliseconds of the resize and of the engine.

    # [[ classify
    An app that does not want to know the times calls ``predictor.classify("photo.jpg", top_k=5)``.
    # ]]
    # [[ embed
    An app that does not want to know the times calls ``predictor.embed("photo.jpg")``.
    # ]]
    # [[ features
    An app that does not want to know the times calls ``predictor.features("photo.jpg")``.
    # ]]
    """
    begin = time.perf_counter()
    pixels = predictor.preprocess.fit(picture)
    resized = time.perf_counter()
    outputs = [values[0] for values in predictor.run_outputs(pixels[None])]
    return outputs, 1e3 * (resized - begin), 1e3 * (time.perf_counter() - resized)


def print_answer(predictor: Predictor, outputs: Any, most: int) -> None:
    """What the engine says of one image."""
    # [[ classify
    print_classes(predictor, outputs[0], most)
    # ]]
    # [[ embed
    print_embedding(outputs[0])
    # ]]
    # [[ features
    print_features(predictor, outputs)
    # ]]


def answer_images(predictor: Predictor, paths: list[str]) -> int:
    """One block of lines for each image; 1 where one has no answer."""
    status = 0
    for path in paths:
        try:
            begin = time.perf_counter()
            picture = decode_image(path)
            decode_ms = 1e3 * (time.perf_counter() - begin)
            outputs, resize_ms, engine_ms = compute(predictor, picture)
        except EdgevitError as error:
            print(f"error: {error.message}\nhint: {error.hint}", file=sys.stderr)
            status = 1
            continue
        size = f"{picture.width} x {picture.height}"
        write_line(f"{path}  {size}  decode {decode_ms:.3f} ms  resize {resize_ms:.3f} ms  engine {engine_ms:.3f} ms")
        print_answer(predictor, outputs, 5)
    return status


# [[ camera
def answer_camera(predictor: Predictor, source: str) -> int:
    """One thread takes frames from the camera and never waits for the engine, which answers the newest ones here."""
    import threading

    from camera import FrameQueue, read_frames

    queue = FrameQueue(2)
    capture = threading.Thread(target=read_frames, args=(source, queue), daemon=True)
    capture.start()
    begin, answered = time.perf_counter(), 0
    try:
        while (frame := queue.pop()) is not None:
            outputs, resize_ms, engine_ms = compute(predictor, frame)
            answered += 1
            pace = f"{answered / (time.perf_counter() - begin):.1f} frames/s  {queue.dropped} dropped"
            write_line(f"frame {answered}  {pace}  resize {resize_ms:.3f} ms  engine {engine_ms:.3f} ms")
            print_answer(predictor, outputs, 1)
    except KeyboardInterrupt:
        queue.close()
    write_line(f"{queue.taken} frames: {answered} answered, {queue.dropped} dropped")
    if queue.problem:
        hint = "check the camera, or the images of the folder"
        if not queue.taken:
            hint = "name a device such as /dev/video0, or a folder of images"
        print(f"error: {queue.problem}\nhint: {hint}", file=sys.stderr)
    return 0 if not queue.problem else 1 if queue.taken else 2


# ]]
def main(arguments: list[str]) -> int:
    """The exit status."""
    # [[ !camera
    options = [argument for argument in arguments if argument.startswith("-")]
    # ]]
    # [[ camera
    live = len(arguments) == 3 and arguments[1] == "--camera"
    options = [argument for argument in (arguments[::2] if live else arguments) if argument.startswith("-")]
    # ]]
    if len(arguments) < 2 or options:
        # [[ !camera
        print("usage: python main.py BUNDLE IMAGE...", file=sys.stderr)
        # ]]
        # [[ camera
        print("usage: python main.py BUNDLE IMAGE... | --camera DEVICE_OR_FOLDER", file=sys.stderr)
        # ]]
        return 2
    if sys.stdout is None:  # as `>&-` leaves it
        print("error: standard output is closed\nhint: send it to a file, or to /dev/null", file=sys.stderr)
        return 2
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # such an image is refused, with a sentence
    try:
        # threads are the fastest of the build's, settings={"threads": 2} changes them; public_key="key.pem" refuses a
        # bundle that was not signed with that key
        with open_bundle(arguments[0]) as predictor:
            # [[ classify
            if predictor.manifest.task != "classify":
                print(f"error: this app is for the task classify, not {predictor.manifest.task}", file=sys.stderr)
                return 2
            # ]]
            # [[ embed
            if predictor.manifest.task != "embed":
                print(f"error: this app is for the task embed, not {predictor.manifest.task}", file=sys.stderr)
                return 2
            # ]]
            # [[ features
            if predictor.manifest.task != "features":
                print(f"error: this app is for the task features, not {predictor.manifest.task}", file=sys.stderr)
                return 2
            # ]]
            for difference in predictor.differences:
                print(f"note: {difference}", file=sys.stderr)
            # The first call is slower: it allocates what the others use again.
            predictor.run_outputs(np.zeros((1, predictor.preprocess.height, predictor.preprocess.width, 3), np.uint8))
            # [[ camera
            if live:
                return answer_camera(predictor, arguments[2])
            # ]]
            return answer_images(predictor, arguments[1:])
    except ReaderLeftError:  # as `head` does
        give_up_output()
        return 0
    except EdgevitError as error:
        if isinstance(error, OutputError):  # standard output is full
            give_up_output()
        print(f"error: {error.message}\nhint: {error.hint}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
