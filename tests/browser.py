"""Chromium for the tests that look at pages; they skip where it is absent."""

import contextlib
import importlib.util
import shutil

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@contextlib.contextmanager
def open_tab(width):
    """An empty tab, ``width`` pixels wide, of a browser that ends with the block."""
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("the package playwright is not installed: pip install playwright")
    if CHROMIUM is None:
        pytest.skip("no chromium on PATH: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--enable-unsafe-swiftshader"],  # WebGL without a GPU
            timeout=90_000,
        )
        tab = browser.new_page(viewport={"width": width, "height": 900})
        tab.set_default_timeout(60_000)
        yield tab
        browser.close()
