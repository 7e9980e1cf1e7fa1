"""Submissions: work that a few threads do in the background, bounded, so that a camera cannot outrun its engine."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from edgevit.core.errors import DeviceError, EdgevitError

if TYPE_CHECKING:
    from concurrent.futures import Future

Answer = TypeVar("Answer")


class QueueFullError(EdgevitError):
    """As many images as the queue takes wait for their answers, and the caller does not want to wait."""


class Submissions:
    """Threads and their queue, in the order of submission.

    Args:
        threads: How many.
        size: Most that may be taken in and not done, those under way counted.
    """

    def __init__(self, threads: int, size: int) -> None:
        from concurrent.futures import ThreadPoolExecutor  # imports what an app that waits for each answer needs not

        self.size = size
        self._pool = ThreadPoolExecutor(threads, "edgevit")
        self._room = threading.Condition()
        self._taken = 0
        self._closed = False
        self._within = threading.local()

    def submit(self, work: Callable[[], Answer], *, block: bool = True) -> Future[Answer]:
        """Have something done.

        Args:
            work: What; it is called in another thread, and what it returns or raises is the future's.
            block: Wait until there is room.

        Raises:
            QueueFullError: There is none, and ``block`` is false.
            DeviceError: Closed, also while this call waited.
        """
        with self._room:
            while self._taken >= self.size and not self._closed:
                if not block:
                    raise QueueFullError(
                        f"{self.size} images are on their way, which is as many as the queue takes",
                        "wait for one of them, drop this one, or open with a larger queue_size",
                    )
                self._room.wait()
            self._refuse_closed()
            future = self._pool.submit(self._do, work)
            self._taken += 1
        future.add_done_callback(self._make_room)  # also of one that its caller cancels
        return future

    def close(self) -> None:
        """Wait for what is under way; what has not begun ends with a :class:`DeviceError`."""
        with self._room:
            self._closed = True
            self._room.notify_all()
        # a future's callback may close what it was an answer of, in the thread that it would wait for
        self._pool.shutdown(wait=not getattr(self._within, "yes", False))

    def _do(self, work: Callable[[], Answer]) -> Answer:
        self._within.yes = True
        with self._room:
            self._refuse_closed()
        return work()

    def _refuse_closed(self) -> None:
        if self._closed:
            raise DeviceError("the engine was closed before it came to this image", "open it again")

    def _make_room(self, future: object) -> None:
        with self._room:
            self._taken -= 1
            self._room.notify()
