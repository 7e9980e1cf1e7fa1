"""Frames of a camera, or of a folder of images that are played as one, and the queue between them and an engine."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from edgevit.core.errors import EdgevitError
from edgevit.pixels.decode import decode_image

FRAMES_PER_SECOND = 30  # of a folder


class FrameQueue:
    """At most ``most`` frames. Where the engine is slower, the oldest is dropped: the camera never waits.

    Attributes:
        taken: Frames that were pushed.
        dropped: Those that nobody will see.
        problem: Why there are no more frames, where that is an error.
    """

    def __init__(self, most: int) -> None:
        self.taken = self.dropped = 0
        self.problem = ""
        self._frames: deque[Image.Image] = deque()
        self._most = most
        self._closed = False
        self._filled = threading.Condition()

    def push(self, frame: Image.Image) -> bool:
        """Add a frame; never waits for the reader. Whether further ones are wanted."""
        with self._filled:
            if len(self._frames) == self._most:
                self._frames.popleft()
                self.dropped += 1
            self._frames.append(frame)
            self.taken += 1
            self._filled.notify()
            return not self._closed

    def pop(self) -> Image.Image | None:
        """Wait for the oldest frame; ``None`` once the queue is closed and empty."""
        with self._filled:
            while not self._frames and not self._closed:
                self._filled.wait()
            return self._frames.popleft() if self._frames else None

    def close(self, problem: str = "") -> None:
        """No more frames will come."""
        with self._filled:
            self.problem = problem
            self._closed = True
            self._filled.notify_all()


def read_frames(source: str, queue: FrameQueue) -> None:
    """Push frames until there are no more, or the queue is closed.

    Args:
        source: A device such as ``/dev/video0``, or a folder.
        queue: It is closed at the end, with the reason where that is an error.
    """
    problem = ""
    try:
        path = Path(source)
        if path.exists() and not path.is_dir() and not path.is_char_device():
            raise ValueError(f"{source} is neither a camera nor a folder")
        for frame in _play_folder(path) if path.is_dir() else _read_camera(source):
            if not queue.push(frame):
                break
    except EdgevitError as error:
        problem = error.message
    except Exception as error:
        problem = str(error)
    finally:
        queue.close(problem)


def _play_folder(folder: Path) -> Iterator[Image.Image]:
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not files:
        raise ValueError(f"{folder} has no .jpg or .png files")
    due = time.perf_counter()
    for path in files:
        time.sleep(max(0.0, due - time.perf_counter()))
        due += 1 / FRAMES_PER_SECOND
        yield decode_image(path)


def _read_camera(source: str) -> Iterator[Image.Image]:
    try:
        import cv2
    except ImportError:
        raise ValueError("a camera is read by OpenCV: pip install opencv-python-headless") from None
    camera = cv2.VideoCapture(source)
    try:
        if not camera.isOpened():
            raise ValueError(f"{source} is no camera that OpenCV can open, and no folder")
        while True:
            found, frame = camera.read()
            if not found:
                raise ValueError(f"{source} gives no more frames")
            yield Image.fromarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
    finally:
        camera.release()
