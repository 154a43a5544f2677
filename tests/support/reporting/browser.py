"""A headless Chromium for tests of the report; they skip where it is absent."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def opened(page: Path, **settings: Any) -> Iterator[tuple[Any, list[str]]]:
    """The page in a browser, and what went wrong: console messages, errors, requests elsewhere."""
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install 'g2dbench[browser]'"
    )
    executable = next(filter(None, map(shutil.which, NAMES)), None)
    if executable is None:
        pytest.skip(f"no Chromium on this machine: none of {', '.join(NAMES)} is installed")
    complaints: list[str] = []
    address = page.as_uri()
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        tab = browser.new_page(**settings)
        tab.on("console", lambda message: complaints.append(f"console: {message.text}"))
        tab.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        tab.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))

        def check(request: Any) -> None:
            if request.url.split("#")[0] != address and not request.url.startswith("data:"):
                complaints.append(f"request: {request.url}")

        tab.on("request", check)
        tab.goto(address)
        tab.wait_for_selector("html[data-ready=yes]", state="attached", timeout=20_000)
        yield tab, complaints
        browser.close()
