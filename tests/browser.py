"""A headless Chromium for tests: found, launched, and with its requests written down."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser, Playwright, async_playwright, expect

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
MISSING = "no Chromium: install one, or name it in the environment variable CHROMIUM"


def find_chromium(playwright: Playwright) -> str | None:
    """The path of CHROMIUM, of a browser on PATH, or of Playwright's own."""
    candidates = [os.environ.get("CHROMIUM"), *map(shutil.which, NAMES), playwright.chromium.executable_path]
    return next((path for path in candidates if path and Path(path).is_file()), None)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A browser; without one the test is skipped, and fails where CI is set."""
    async with async_playwright() as playwright:
        path = find_chromium(playwright)
        if path is None:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(MISSING)
        browser = await playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        try:
            yield browser
        finally:
            await browser.close()


async def ask_in_browser(url: str, persona: str, question: str) -> tuple[str, list[str]]:
    """Ask what the web chat at `url` offers, as a reader does; the answer's text and the sources' links."""
    async with chromium() as browser:
        page = await browser.new_page()
        await page.goto(url)
        await expect(page.get_by_label("Whom to ask")).to_have_value(persona)
        await page.get_by_text(question).click()
        await expect(page.get_by_test_id("bot").first).to_contain_text("Written by an AI", timeout=90_000)
        await expect(page.get_by_role("button", name="Stop")).to_be_hidden(timeout=90_000)
        links = page.get_by_role("region", name="Sources").get_by_role("link")
        return await page.get_by_test_id("bot").first.inner_text(), [
            str(await link.get_attribute("href")) for link in await links.all()
        ]
