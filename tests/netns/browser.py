"""A headless Chromium for tests, driven by the WebDriver protocol (W3C) through chromedriver."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM, DRIVER = "chromium", "chromedriver"
_ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.*",
)

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def is_there() -> bool:
    """Whether Chromium and its driver are installed."""
    return all(shutil.which(program) for program in (CHROMIUM, DRIVER))


class Browser:
    """One window."""

    def __init__(self, address: str) -> None:
        self._session = address

    def _ask(self, method: str, path: str, **body: Any) -> Any:
        return ask(method, f"{self._session}{path}", body if method == "POST" else None)

    def go(self, url: str) -> None:
        self._ask("POST", "/url", url=url)

    def run(self, script: str, *arguments: Any) -> Any:
        """What the body of a function returns in the page, also later (a promise)."""
        return self._ask("POST", "/execute/sync", script=script, args=list(arguments))

    def develop(self, command: str, **parameters: Any) -> Any:
        """A command of Chromium's DevTools protocol."""
        return self._ask("POST", "/goog/cdp/execute", cmd=command, params=parameters)

    def prefer(self, **features: str) -> None:
        """Media features, such as prefers_color_scheme="dark"."""
        named = [{"name": n.replace("_", "-"), "value": value} for n, value in features.items()]
        self.develop("Emulation.setEmulatedMedia", features=named)

    def resize(self, width: int, height: int) -> None:
        self.develop(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """A PNG of what is in the window, or of the whole page."""
        found = self.develop("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))

    def log(self) -> list[dict[str, Any]]:
        """What the page has complained of since the last call: errors, refused resources."""
        entries: list[dict[str, Any]] = self._ask("POST", "/se/log", type="browser")
        return entries

    def wait(self, script: str, *arguments: Any, seconds: float = 10) -> Any:
        """What a script returns as soon as that is true."""
        until = time.monotonic() + seconds
        while not (found := self.run(script, *arguments)):
            if time.monotonic() > until:
                raise AssertionError(f"not so in {seconds} s: {script} {arguments}")
            time.sleep(0.1)
        return found


def ask(method: str, url: str, body: Any = None) -> Any:
    """The value of an answer of the driver."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with _OPENER.open(request, timeout=60) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        raise AssertionError(json.load(error)["value"]["message"]) from None


@contextmanager
def browser(port: int, profile: Path) -> Iterator[Browser]:
    """A window with an empty profile; the driver listens on this port."""
    words = [shutil.which(DRIVER) or DRIVER, f"--port={port}", f"--log-path={profile}.log"]
    driver = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    root = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 20
        while True:
            try:
                ask("GET", f"{root}/status")
                break
            except OSError:
                if time.monotonic() > until or driver.poll() is not None:
                    raise
                time.sleep(0.1)
        options = {
            "binary": shutil.which(CHROMIUM),
            "args": [*_ARGUMENTS, f"--user-data-dir={profile}"],
        }
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        made = ask("POST", f"{root}/session", {"capabilities": {"alwaysMatch": wanted}})
        session = f"{root}/session/{made['sessionId']}"
        try:
            yield Browser(session)
        finally:
            ask("DELETE", session)
    finally:
        driver.terminate()
        driver.wait(20)
