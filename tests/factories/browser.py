"""A headless Chromium for tests of pages."""

import contextlib
import shutil
from collections.abc import Iterator

import pytest


@contextlib.contextmanager
def browser() -> Iterator:
    """A headless Chromium; skips, saying why, where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright's Python package is not installed")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"]
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu", "--no-first-run", *quiet]
        )
        yield chromium
        chromium.close()
