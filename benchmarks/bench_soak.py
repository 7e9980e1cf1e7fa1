"""One engine under load: 4 threads, 10,000 images of mixed sizes and forms, no growth and no other answer.

Sixty images are drawn, from 1 × 1 to 1,300 × 900 pixels, and given as files and bytes of JPEG, PNG, WebP and BMP
(colour, grey, with transparency, CMYK, turned by EXIF), as Pillow images, and as arrays in RGB, BGR, RGBA and grey.
One thread answers each once; then the threads draw from them at random, and every answer must be the very same
numbers. From the warm process to the end, the memory that it holds for itself (``RssAnon``, with all threads waiting)
may grow by 1 MiB. Warm is a process whose threads have answered every image once and 10,000 prepared ones together:
OpenVINO's task scheduler has an allocator of its own, which keeps what its busiest moment took, and that comes late
where threads wait for one another. The C library is told to give every block of 64 KiB or more back to the system when
it is freed, and to have one arena: otherwise what it keeps for later goes up and down by 10 MiB.

    python -m benchmarks.bench_soak BUNDLE [--images 10000] [--threads 4]
    python -m benchmarks.bench_soak BUNDLE --command BUILD/src/api/edgevit_soak

``--command`` asks another runtime, such as the program of the C++ one (``edgevit/runtime/cpp/tests/soak.cpp``): it is
called with BUNDLE, a list of images, threads, images to answer, and prepared images to begin with. A line of the list
is ``WIDTH HEIGHT FORMAT FILE``, FORMAT one of RGB, BGR, RGBA, GREY and FILE raw pixels without padding. It prints
``{"images": …, "wrong": …, "warm_bytes": …, "end_bytes": …}`` on its last line, by the same rule.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import gc
import io
import json
import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgevit.runtime import Predictor, open_bundle
from edgevit.runtime.session import Outputs

IMAGES, THREADS = 10_000, 4
WARM_UP = 10_000  # prepared batches
MOST_GROWTH = 1 << 20
M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8  # of mallopt, malloc.h
STEPS = 10  # as often all threads wait and the memory is read


@dataclasses.dataclass(frozen=True)
class Given:
    """An image as an app gives it."""

    image: Any
    bgr: bool = False


@dataclasses.dataclass(frozen=True)
class Soak:
    """What came of it.

    Attributes:
        images: Answered by the threads.
        wrong: Answers with other numbers than the single thread's.
        resident_bytes: Of the warm process, and after each step.
    """

    images: int
    wrong: int
    resident_bytes: tuple[int, ...]

    @property
    def growth_bytes(self) -> int:
        """From the warm process to the end."""
        return self.resident_bytes[-1] - self.resident_bytes[0]

    @property
    def passed(self) -> bool:
        """Whether nothing was wrong and nothing grew."""
        return self.wrong == 0 and self.growth_bytes <= MOST_GROWTH


def draw_pictures(count: int = 60, seed: int = 0) -> list[Image.Image]:
    """Pictures with structure at several scales, of all sizes and shapes."""
    rng = np.random.default_rng(seed)
    sizes = [(9, 700), (700, 9), (1300, 900), (1, 1), (224, 224)]
    sizes += [(int(w), int(h)) for w, h in rng.integers(16, 900, (count - len(sizes), 2))]
    pictures = []
    for width, height in sizes:
        coarse = rng.integers(0, 256, (max(1, height // 40), max(1, width // 40), 3), np.uint8)
        pictures.append(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    return pictures


def give_all(pictures: Sequence[Image.Image], folder: Path) -> list[Given]:
    """Each picture in one of the forms that a runtime takes."""
    turned = Image.Exif()
    turned[0x0112] = 6
    given = []
    for index, picture in enumerate(pictures):
        kind = index % 12
        array = np.asarray(picture)
        if kind < 4:
            path = folder / f"{index}.{('jpg', 'png', 'webp', 'bmp')[kind]}"
            picture.convert("L" if index % 24 >= 12 else "RGB").save(path)
            given.append(Given(path))
        elif kind == 4:
            given.append(Given(_encode(picture, "JPEG", exif=turned)))
        elif kind == 5:
            given.append(Given(_encode(picture.convert("CMYK"), "JPEG")))
        elif kind == 6:
            given.append(Given(_encode(picture.convert("RGBA"), "PNG")))
        elif kind == 7:
            given.append(Given(picture))
        else:
            rgba = np.dstack([array, array[..., :1]])
            given.append((Given(array), Given(array[..., ::-1], True), Given(rgba), Given(array[..., 0]))[kind - 8])
    return given


def _encode(picture: Image.Image, form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    return stream.getvalue()


def answer(predictor: Predictor, given: Given) -> Outputs:
    """All outputs, as the methods of every task get them."""
    return predictor.run_outputs(predictor.preprocess.apply(given.image, bgr=given.bgr)[None])


def soak(predictor: Predictor, given: Sequence[Given], images: int, threads: int, warm_up: int = WARM_UP) -> Soak:
    """See above."""
    prepared = predictor.preprocess.apply(given[0].image, bgr=given[0].bgr)[None]
    expected = [answer(predictor, one) for one in given]
    share = -(-images // (threads * STEPS))
    meeting = threading.Barrier(threads + 1)
    wrong, failed = [0] * threads, []

    def work(number: int) -> None:
        draw = random.Random(number)
        try:
            for _ in range(warm_up // threads):
                predictor.run_outputs(prepared)
            places = list(range(len(given)))
            for step in range(STEPS + 1):
                for place in draw.choices(places, k=share) if step else places:
                    found = answer(predictor, given[place])
                    wrong[number] += not all(map(np.array_equal, found, expected[place]))
                meeting.wait()  # the memory is read
                meeting.wait()
        except threading.BrokenBarrierError:
            pass
        except BaseException as exc:
            failed.append(exc)
            meeting.abort()

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    resident = []
    try:
        for step in range(STEPS + 1):
            meeting.wait()
            resident.append(read_resident())
            print(f"{step * share * threads} images, {resident[-1] / 2**20:.2f} MiB", flush=True)
            meeting.wait()
    except threading.BrokenBarrierError:
        raise failed[0] from None
    for worker in workers:
        worker.join()
    return Soak(share * threads * STEPS, sum(wrong), tuple(resident))


def read_resident() -> int:
    """Bytes that this process holds for itself."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    lines = [line.split(":") for line in Path("/proc/self/status").read_text().splitlines()]
    return next(int(value.split()[0]) * 1024 for key, value in lines if key == "RssAnon")


def ask_command(
    command: str,
    bundle: Path,
    pictures: Sequence[Image.Image],
    images: int,
    threads: int,
    warm_up: int = WARM_UP,
) -> Soak:
    """The same by another runtime's program."""
    with tempfile.TemporaryDirectory(prefix="edgevit-soak-") as name:
        folder, lines = Path(name), []
        for index, picture in enumerate(pictures):
            form = ("RGB", "BGR", "RGBA", "GREY")[index % 4]
            array = np.asarray(picture.convert({"BGR": "RGB", "GREY": "L"}.get(form, form)))
            file = folder / f"{index}.raw"
            file.write_bytes(np.ascontiguousarray(array[..., ::-1] if form == "BGR" else array).tobytes())
            lines.append(f"{picture.width} {picture.height} {form} {file}\n")
        (folder / "images.txt").write_text("".join(lines), encoding="utf-8")
        call = [command, str(bundle), str(folder / "images.txt"), str(threads), str(images), str(warm_up)]
        done = subprocess.run(call, check=True, stdout=subprocess.PIPE, text=True)
    said = json.loads(done.stdout.splitlines()[-1])
    return Soak(said["images"], said["wrong"], (said["warm_bytes"], said["end_bytes"]))


def main() -> int:
    """Exit status 1 where an answer was another or the process grew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--threads", type=int, default=THREADS)
    parser.add_argument("--warm-up", type=int, default=WARM_UP, help="prepared batches before")
    parser.add_argument("--command", help="another runtime's program")
    options = parser.parse_args()
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 64 << 10)
    ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)
    pictures = draw_pictures()
    if options.command:
        found = ask_command(options.command, options.bundle, pictures, options.images, options.threads, options.warm_up)
    else:
        with tempfile.TemporaryDirectory(prefix="edgevit-soak-") as folder, open_bundle(options.bundle) as predictor:
            given = give_all(pictures, Path(folder))
            found = soak(predictor, given, options.images, options.threads, options.warm_up)
    growth = f"{found.growth_bytes / 2**20:+.2f} MiB since it was warm"
    print(f"{found.images} images, {found.wrong} wrong, {growth}: {'passed' if found.passed else 'FAILED'}")
    return 0 if found.passed else 1


if __name__ == "__main__":
    sys.exit(main())
