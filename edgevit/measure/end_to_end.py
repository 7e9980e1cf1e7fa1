"""measure_end_to_end: what an app waits for, from an image file to the answer, and what each part takes of it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgevit.core.progress import Progress, ignore_progress
from edgevit.core.report.timings import EndToEnd, Spread
from edgevit.measure.latency import without_garbage_collection
from edgevit.pixels.decode import decode_image
from edgevit.runtime.prediction import rank_outputs

if TYPE_CHECKING:
    from edgevit.measure.photo import Photo
    from edgevit.pixels.preprocess import Preprocess
    from edgevit.runtime.session import Outputs, Session

SECONDS = 1.0
ROUNDS = 10
_MOST_CALLS = 5  # a turn


@dataclass(frozen=True)
class App:
    """What answers a photo.

    Attributes:
        session: The opened engine.
        preprocess: From a decoded image to its pixels.
        task: ``classify``, ``embed`` or ``features``.
        labels: Names of the classes.
        scores: What the outputs mean, see :class:`edgevit.core.task.Task`.
    """

    session: Session
    preprocess: Preprocess
    task: str = "classify"
    labels: Sequence[str] | None = None
    scores: str = "softmax"

    def answer(self, photo: Photo, clock: Callable[[], int]) -> tuple[int, int, int, int, int]:
        """Answer once; the clock before decoding and after each of the four parts."""
        start = clock()
        picture = decode_image(photo.data)
        decoded = clock()
        pixels = self.preprocess.fit(picture)
        resized = clock()
        outputs = self.session.run_outputs(pixels[None])
        computed = clock()
        _read_answer(outputs, self)
        return start, decoded, resized, computed, clock()


def measure_end_to_end(
    apps: Mapping[str, App],
    photo: Photo,
    *,
    seconds: float = SECONDS,
    progress: Progress = ignore_progress,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> dict[str, EndToEnd]:
    """Answer one photo over and over, one app after the other in turns: A B, B A and so on.

    Each has ten turns of one to five timed answers, as many as ``seconds`` allow, after a call that is not timed; where
    one answer takes more than a fifth of ``seconds``, there are fewer turns, two at least.

    Args:
        apps: By name.
        photo: What they answer. Its bytes are in memory: reading a disk is not timed.
        seconds: About as long as each is timed.
        progress: Told between the turns.
        clock: Nanoseconds.

    Raises:
        DataError: The photo cannot be decoded.
        DeviceError: An engine failed.
    """
    times: dict[str, list[tuple[int, ...]]] = {name: [] for name in apps}
    order = list(apps)
    with without_garbage_collection():
        # The first answer also pays what the libraries put off until then.
        usual = {name: min(_time(app, photo, clock)[-1] for _ in range(2)) for name, app in apps.items()}
        nanoseconds = seconds * 1e9
        rounds = max(2, min(ROUNDS, int(2 * nanoseconds / max(1, *usual.values())) // 2 * 2))
        calls = {n: max(1, min(_MOST_CALLS, int(nanoseconds / (rounds * max(1, usual[n]))) - 1)) for n in order}
        for turn in range(rounds):
            for place, name in enumerate(order if turn % 2 == 0 else reversed(order)):
                if calls[name] > 1:  # caches and waiting threads are another's
                    apps[name].answer(photo, clock)
                times[name] += [_time(apps[name], photo, clock) for _ in range(calls[name])]
                progress("end to end", turn * len(order) + place + 1, rounds * len(order))
    return {name: _summarize(photo, times[name], len(order), rounds) for name in order}


def _time(app: App, photo: Photo, clock: Callable[[], int]) -> tuple[int, ...]:
    """Nanoseconds of the four parts, and of all."""
    moments = app.answer(photo, clock)
    return (*(later - sooner for sooner, later in itertools.pairwise(moments)), moments[-1] - moments[0])


def _summarize(photo: Photo, times: Sequence[tuple[int, ...]], apps: int, rounds: int) -> EndToEnd:
    low, middle, high = np.percentile(np.asarray(times, np.float64) / 1e6, [25, 50, 75], axis=0)
    decode, resize, engine, answer, whole = (
        Spread(float(m), float(a), float(b)) for a, m, b in zip(low, middle, high, strict=True)
    )
    turns = f"{apps} engines in turns (A B, B A)" if apps > 1 else "one engine by itself"
    return EndToEnd(
        image=photo.name,
        format=photo.format,
        width=photo.width,
        height=photo.height,
        runs=len(times),
        decode=decode,
        resize=resize,
        engine=engine,
        answer=answer,
        whole=whole,
        method=(
            f"{turns}, {rounds} rounds; each answer from the file's bytes in memory, by time.perf_counter_ns, without "
            "garbage collection; medians and quartiles"
        ),
    )


def _read_answer(outputs: Outputs, app: App) -> object:
    """What :class:`edgevit.runtime.Predictor` does with an engine's outputs."""
    values = [output[0] for output in outputs]
    finite = all(np.isfinite(value).all() for value in values)
    return rank_outputs(values[0], app.labels, app.scores) if finite and app.task == "classify" else values
