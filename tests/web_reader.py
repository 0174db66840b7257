"""The web chat served for a test, and somebody who reads it in a browser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from playwright.async_api import Locator, Page, expect

from doppel.access import ReadPolicy
from doppel.records import Persona
from doppel.web.chat_session import Reader as WebReader
from doppel.web.page import Readers
from tests.fakes.engine import FakeEngine

ERIK = Persona("T1", "U1", "Erik Sommer", "erik", "v0001")
INES = Persona("T1", "U2", "Ines Okafor", "ines")
PLACE = ReadPolicy(public=True)


def everybody(engine: FakeEngine) -> Readers:
    """Nobody signs in."""
    return lambda _: WebReader(engine, PLACE)


@dataclass
class Site:
    """The running web chat, and what it was told; `fault` is raised where feedback is stored."""

    engine: FakeEngine = field(default_factory=lambda: FakeEngine([ERIK, INES]))
    feedback: list[tuple[Persona, str, str, tuple[str, ...], bool | None]] = field(default_factory=list)
    replaced: list[int | None] = field(default_factory=list)
    fault: Exception | None = None
    status: str = ""
    url: str = ""

    def store(
        self,
        persona: Persona,
        question: str,
        reply: str,
        sources: Sequence[str],
        liked: bool | None,
        replaces: int | None = None,
    ) -> int:
        if self.fault:
            raise self.fault
        self.feedback.append((persona, question, reply, tuple(sources), liked))
        self.replaced.append(replaces)
        return len(self.feedback)


class Reader:
    """Somebody at a browser: opens the page, asks, and looks. `strayed` are requests to other hosts."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.box = page.get_by_label("Your question")
        self.answers = page.get_by_test_id("bot")
        self.sources = page.get_by_role("region", name="Sources")
        self.strayed: list[str] = []
        self.complaints: list[str] = []

    async def open(self, url: str) -> Reader:
        def note(address: str) -> None:
            if not address.startswith((url, "data:", "blob:")):
                self.strayed.append(address)

        self.page.on("request", lambda request: note(request.url))
        self.page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        await self.page.goto(url)
        await expect(self.page.get_by_label("Whom to ask")).to_have_value("Erik Sommer")
        return self

    async def ask(self, question: str) -> Locator:
        """Ask, and give the answer's place."""
        number = await self.answers.count()
        await self.box.fill(question)
        await self.box.press("Enter")
        return self.answers.nth(number)

    async def choose(self, name: str) -> None:
        await self.page.get_by_label("Whom to ask").click()
        await self.page.get_by_role("option", name=name).click()
