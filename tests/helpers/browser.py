"""Chromium without a window, driven over its own pipe: no driver, no port, no package.

Messages are JSON that ends in a zero byte, written to file descriptor 3 of the browser and read
from its 4 (the DevTools protocol).
"""

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 120.0  # seconds, on a loaded machine


def find() -> str | None:
    """The browser's program, if one is installed."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """A tab. `complaints` are the errors and warnings of its console so far."""

    def __init__(self, read: int, write: int):
        self._read, self._write, self._buffer, self._last = read, write, b"", 0
        self._session: str | None = None
        self.complaints: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.requests: list[str] = []

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol, and what it answers."""
        self._last += 1
        number = self._last
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        answer = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def open(self, file: Path, width: int, height: int = 900, scale: float = 1) -> None:
        """Opens a report and waits until its charts are drawn."""
        self.resize(width, height, scale)
        self.requests.clear()
        self.call("Page.navigate", url=file.resolve().as_uri())
        self.wait("document.body && document.body.dataset.drawn === 'true'")

    def resize(self, width: int, height: int = 900, scale: float = 1) -> None:
        """Sets the size of the window in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )

    def wait(self, condition: str) -> None:
        """Waits until an expression is true."""
        deadline = time.monotonic() + PATIENCE
        while not self.run(f"Boolean({condition})"):
            assert time.monotonic() < deadline, f"{condition} never came true: {self.complaints}"
            time.sleep(0.05)

    def picture(self, out: Path, whole: bool = True) -> None:
        """Saves a screenshot as PNG."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        out.write_bytes(base64.b64decode(shot["data"]))

    def _next(self) -> dict[str, Any]:
        """The next answer; events are taken note of."""
        while True:
            while b"\0" not in self._buffer:
                assert select.select([self._read], [], [], PATIENCE)[0], "the browser is silent"
                part = os.read(self._read, 1 << 20)
                assert part, "the browser is gone"
                self._buffer += part
            text, _, self._buffer = self._buffer.partition(b"\0")
            message = json.loads(text)
            if "id" in message:
                return message
            self._note(message.get("method", ""), message.get("params", {}))

    def _note(self, event: str, params: dict[str, Any]) -> None:
        if event == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params["exceptionDetails"])[:500])
        if event == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            said = [str(one.get("value", one.get("description"))) for one in params["args"]]
            self.complaints.append(f"{params['type']}: {' '.join(said)}")
        if event == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(params["entry"]["text"])
        if event == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])


@contextlib.contextmanager
def page(program: str, profile: Path, dark: bool = False) -> Iterator[Page]:
    """A browser with one tab; it is ended at the end."""
    to_browser, write = os.pipe()
    read, from_browser = os.pipe()
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
    options += ["--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run"]
    options += [f"--user-data-dir={profile}", "--disable-background-networking"]
    # File descriptors 3 and 4 are what the browser listens on and speaks to.
    command = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
    process = subprocess.Popen(
        ["bash", "-c", command, "bash", program, *options],
        pass_fds=(to_browser, from_browser),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_browser)
    os.close(from_browser)
    try:
        tab = Page(read, write)
        scheme = "dark" if dark else "light"
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        tab.call("Emulation.setEmulatedMedia", features=features)
        yield tab
    finally:
        process.terminate()
        process.wait(30)
        os.close(read)
        os.close(write)
