"""Work in the background: bounded, in order, and ended by closing."""

from __future__ import annotations

import threading

import pytest

from edgevit.core.errors import DeviceError
from edgevit.runtime.submissions import QueueFullError, Submissions

LONG = 30  # seconds, after which a test has failed


class Gate:
    """Work that waits until it is let through."""

    def __init__(self) -> None:
        self.begun, self.open = threading.Event(), threading.Event()

    def __call__(self) -> str:
        self.begun.set()
        assert self.open.wait(LONG)
        return "done"


def test_full_queue_refuses_whoever_does_not_wait_and_takes_again_when_there_is_room() -> None:
    queue, gate = Submissions(1, 2), Gate()
    first, second = queue.submit(gate), queue.submit(lambda: 2)
    with pytest.raises(QueueFullError, match="2 images are on their way") as caught:
        queue.submit(lambda: 3, block=False)
    assert "queue_size" in caught.value.hint
    gate.open.set()
    assert (first.result(LONG), second.result(LONG)) == ("done", 2)
    assert queue.submit(lambda: 4).result(LONG) == 4
    queue.close()


def test_full_queue_lets_the_caller_wait_until_there_is_room() -> None:
    queue, gate = Submissions(1, 1), Gate()
    queue.submit(gate)
    waited: list[object] = []
    caller = threading.Thread(target=lambda: waited.append(queue.submit(lambda: 5).result(LONG)))
    caller.start()
    caller.join(0.05)
    assert caller.is_alive()
    gate.open.set()
    caller.join(LONG)
    assert waited == [5]
    queue.close()


def test_one_that_its_caller_cancels_makes_room() -> None:
    queue, gate = Submissions(1, 2), Gate()
    queue.submit(gate)
    assert gate.begun.wait(LONG)
    assert queue.submit(lambda: 1).cancel()
    queue.submit(lambda: 2, block=False)
    gate.open.set()
    queue.close()


def test_error_is_the_futures_and_leaves_the_threads_at_work() -> None:
    queue = Submissions(1, 2)
    with pytest.raises(ZeroDivisionError):
        queue.submit(lambda: 1 / 0).result(LONG)
    assert queue.submit(lambda: 7).result(LONG) == 7
    queue.close()


def test_closing_ends_what_is_under_way_and_refuses_the_rest() -> None:
    queue, gate = Submissions(1, 2), Gate()
    under_way, waiting = queue.submit(gate), queue.submit(lambda: "never")
    assert gate.begun.wait(LONG)
    refused: list[BaseException] = []

    def submit_one_more() -> None:
        try:
            queue.submit(lambda: "never")
        except DeviceError as exc:
            refused.append(exc)

    blocked = threading.Thread(target=submit_one_more)
    closer = threading.Thread(target=queue.close)
    blocked.start()
    closer.start()
    blocked.join(LONG)  # it is told at once, though the work goes on
    assert closer.is_alive()
    gate.open.set()
    closer.join(LONG)
    assert under_way.result(0) == "done"
    with pytest.raises(DeviceError, match="closed before it came"):
        waiting.result(0)
    assert [type(exc) for exc in refused] == [DeviceError]
    with pytest.raises(DeviceError, match="closed"):
        queue.submit(lambda: 1)
    queue.close()


def test_closing_in_a_futures_callback_waits_for_nobody() -> None:
    queue, closed = Submissions(1, 2), threading.Event()

    def close(future: object) -> None:
        queue.close()
        closed.set()

    gate = Gate()
    queue.submit(gate).add_done_callback(close)
    gate.open.set()
    assert closed.wait(LONG)
