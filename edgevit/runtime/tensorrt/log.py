"""The one logger that TensorRT gets in this process.

TensorRT keeps the first logger that it is given for as long as any of its objects lives, and ignores others: two
loggers would miss one another's messages. What is said is kept for those who listen; nothing goes to the screen.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from edgevit.core.errors import format_last_lines


@dataclass
class Said:
    """Messages while somebody listened.

    Attributes:
        messages: All of them, in order.
        errors: Those of errors.
    """

    messages: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def describe(self) -> str:
        """The last lines of the errors, indented, each on a line of its own behind a colon; empty without any."""
        lines = format_last_lines([line.strip() for error in self.errors for line in error.splitlines()], 6)
        return f":{lines}" if lines else ""


@functools.cache
def get_log(library: Any) -> Any:
    """The process's logger for ``tensorrt`` or ``tensorrt_rtx``; ``listen()`` of it collects messages."""

    class Log(library.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            library.ILogger.__init__(self)
            self._listeners: list[Said] = []
            self._lock = threading.Lock()

        def log(self, severity: Any, message: str) -> None:
            """Called by the library, from its own threads too."""
            levels = library.ILogger.Severity
            with self._lock:
                for said in self._listeners:
                    said.messages.append(message)
                    if severity in (levels.ERROR, levels.INTERNAL_ERROR):
                        said.errors.append(message)

        @contextmanager
        def listen(self) -> Iterator[Said]:
            said = Said()
            with self._lock:
                self._listeners.append(said)
            try:
                yield said
            finally:
                with self._lock:
                    self._listeners = [other for other in self._listeners if other is not said]

    return Log()
