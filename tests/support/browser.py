"""A page in headless Chromium, through the browser's own protocol on two pipes: no driver, no package."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@dataclass
class Tab:
    """One tab; what its pages say on the console, and whatever they fail to load, is in ``messages``."""

    reader: Any
    writer: Any
    session: str = ""
    messages: list[str] = field(default_factory=list)
    _calls: int = 0

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._calls += 1
        order = {"id": self._calls, "method": method, "params": parameters}
        if self.session:
            order["sessionId"] = self.session
        self.writer.write(json.dumps(order).encode() + b"\0")
        self.writer.flush()
        while (answer := self._read()).get("id") != self._calls:
            self._note(answer)
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def wait_for(self, method: str) -> None:
        while (answer := self._read()).get("method") != method:
            self._note(answer)

    def open(self, page: Path, width: int, height: int = 900, *, dark: bool = False) -> None:
        """Show a file; returns when it is loaded."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Emulation.setEmulatedMedia", features=scheme)
        self.call("Page.navigate", url=page.resolve().as_uri())
        self.wait_for("Page.loadEventFired")

    def evaluate(self, expression: str) -> Any:
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def photograph(self, out: Path, *, most: int = 12000) -> None:
        """The whole page from its top, at most so many pixels of it."""
        width, height = self.evaluate("[innerWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": width, "height": min(height, most), "scale": 1}
        answer = self.call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        out.write_bytes(base64.b64decode(answer["data"]))

    def _read(self) -> dict[str, Any]:
        found = bytearray()
        while (byte := self.reader.read(1)) != b"\0":
            assert byte, "the browser has left"
            found += byte
        return json.loads(found)

    def _note(self, event: dict[str, Any]) -> None:
        if event.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
            self.messages.append(json.dumps(event["params"]))
        if event.get("method") == "Network.requestWillBeSent":
            url = event["params"]["request"]["url"]
            if not url.startswith(("file:", "data:")):
                self.messages.append(f"asked for {url}")


@contextlib.contextmanager
def open_tab() -> Iterator[Tab]:
    """A browser of its own, with one tab."""
    assert CHROMIUM is not None
    orders, ours = os.pipe()
    theirs, answers = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
        options += ["--disable-dev-shm-usage", "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"]
        script = f'exec "$0" "$@" 3<&{orders} 4>&{answers}'
        process = subprocess.Popen(
            ["bash", "-c", script, CHROMIUM, *options],  # sh need not know numbers of two digits
            pass_fds=(orders, answers),
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        os.close(orders)
        os.close(answers)
        with os.fdopen(theirs, "rb") as reader, os.fdopen(ours, "wb") as writer:
            try:
                tab = Tab(reader, writer)
                target = tab.call("Target.createTarget", url="about:blank")["targetId"]
                tab.session = tab.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
                for domain in ("Page", "Log", "Runtime", "Network"):
                    tab.call(f"{domain}.enable")
                yield tab
            finally:
                process.terminate()
                process.wait()
