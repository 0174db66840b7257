"""The web chat in a real browser: what a reader sees and does, and what the engine and the archive get of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, expect

from doppel.errors import InferenceError, StorageError
from doppel.records import Persona, SourcesFound, TextDelta
from doppel.web.chat_session import UNEXPECTED
from doppel.web.http_server import reserve_port, serve
from doppel.web.page import build_app
from tests.browser import chromium
from tests.fakes.engine import Step, Wait, answer, passage
from tests.web_reader import ERIK, INES, PLACE, Reader, Site, everybody

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    # Gradio counts its events with pandas now and then, in a way that pandas is about to leave behind.
    pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting' is deprecated"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"),
]

WIDE, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
SOURCE = passage("Erik Sommer: Kafka goes.\nInes Okafor: relief.", context=["Jun Park: third page this week"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[Site]:
    site, ready = Site(), asyncio.Event()
    listening = reserve_port("127.0.0.1", 0)
    port = listening.getsockname()[1]
    site.url = f"http://127.0.0.1:{port}/"

    examples = ["Why did we drop Kafka?"]
    app = build_app(everybody(site.engine), site.store, lambda: site.status, examples, refresh_seconds=0.5)
    serving = asyncio.create_task(serve(app, listening, ready.set))
    await ready.wait()
    yield site
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    reserve_port("127.0.0.1", port).close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desktop(browser: Browser) -> AsyncIterator[BrowserContext]:
    async with await browser.new_context(viewport=WIDE) as context:  # type: ignore[arg-type]
        yield context


@pytest_asyncio.fixture(loop_scope="module")
async def site(running: Site) -> Site:
    running.engine.reset([ERIK, INES])
    running.feedback, running.replaced, running.fault, running.status = [], [], None, ""
    return running


@pytest_asyncio.fixture(loop_scope="module")
async def reader(site: Site, desktop: BrowserContext) -> AsyncIterator[Reader]:
    reader = await Reader(await desktop.new_page()).open(site.url)
    yield reader
    await reader.page.close()
    assert reader.strayed == []
    assert reader.complaints == []


async def test_an_answer_streams_with_its_label_and_its_sources(site: Site, reader: Reader) -> None:
    rest = asyncio.Event()
    site.engine.script = lambda persona, turns: [
        SourcesFound((SOURCE,)),
        TextDelta("Three people "),
        Wait(rest),
        *answer(persona, "Three people can't run a broker.", [SOURCE]),
    ]
    reply = await reader.ask("Why did we drop Kafka?")
    await expect(reply).to_contain_text("Three people")
    await expect(reader.box).to_have_value("")
    await expect(reader.box).to_be_focused()
    link = reader.sources.get_by_role("link")
    await expect(link).to_have_attribute("href", SOURCE.permalink)
    await expect(link).to_have_attribute("rel", "noopener noreferrer")
    await expect(link).to_have_attribute("target", "_blank")
    await expect(link).to_contain_text("#engineering 10 Mar 2025")
    await expect(reader.sources).to_contain_text("Ines Okafor relief.")
    await expect(reader.sources).to_contain_text("All 3 messages")
    rest.set()
    await expect(reply).to_contain_text("broker.")
    await expect(reply).to_contain_text("Written by an AI in the manner of Erik Sommer, not by Erik Sommer")
    assert await reader.page.title() == "Doppel"
    assert site.engine.asked[0][2] == PLACE


async def test_a_conversation_reaches_the_engine_as_turns(site: Site, reader: Reader) -> None:
    await expect(await reader.ask("one")).to_contain_text("About one")
    await expect(reader.sources).to_contain_text("No earlier messages were found")
    await expect(reader.page.get_by_role("button", name="Send")).to_be_visible()
    await expect(await reader.ask("two")).to_contain_text("About two")
    said = [(turn.text, turn.by_persona) for turn in site.engine.asked[1][1]]
    assert said == [("one", False), ("About one", True), ("two", False)]
    await reader.page.get_by_role("button", name="New conversation").click()
    await expect(reader.answers).to_have_count(0)
    await expect(await reader.ask("three")).to_contain_text("About three")
    assert [turn.text for turn in site.engine.asked[2][1]] == ["three"]


async def test_an_empty_question_asks_nothing(site: Site, reader: Reader) -> None:
    await reader.box.fill("  \n ")
    for act in (reader.box.press("Enter"), reader.page.get_by_role("button", name="Send").click()):
        async with reader.page.expect_response("**/queue/data*"):
            await act
        await reader.page.wait_for_timeout(300)
    await expect(reader.answers).to_have_count(0)
    assert site.engine.asked == []


async def test_an_example_is_asked_by_a_click(site: Site, reader: Reader) -> None:
    await reader.page.get_by_text("Why did we drop Kafka?").click()
    await expect(reader.answers).to_contain_text("About Why did we drop Kafka?")


async def test_thumbs_are_stored_and_taken_back(site: Site, reader: Reader) -> None:
    site.engine.script = lambda persona, turns: answer(persona, "Because.", [SOURCE])
    await expect(await reader.ask("why?")).to_contain_text("Because.")
    await reader.page.get_by_role("button", name="Like", exact=True).click()
    await reader.page.get_by_role("button", name="Liked").click()
    await reader.page.get_by_role("button", name="Dislike").click()
    await expect(reader.page.get_by_role("button", name="Disliked")).to_be_visible()
    await expect(await reader.ask("and then?")).to_contain_text("Because.")
    await expect(reader.page.get_by_role("button", name="Disliked")).to_have_count(1)
    stored = (ERIK, "why?", "Because.", (SOURCE.permalink,))
    assert site.feedback == [(*stored, True), (*stored, None), (*stored, False)]
    assert site.replaced == [None, 1, 2]


async def test_a_thumb_that_cannot_be_stored_is_told(site: Site, reader: Reader) -> None:
    site.fault = StorageError("The disk is full; free some space.")
    await expect(await reader.ask("why?")).to_contain_text("About why?")
    await reader.page.get_by_role("button", name="Like", exact=True).click()
    told = reader.page.get_by_text("The disk is full; free some space.")
    await expect(told).to_be_visible()
    # Several looks at who can be asked later it still stands there, until the reader does something else.
    await asyncio.sleep(1.2)
    await expect(told).to_be_visible()
    site.fault = None
    await reader.page.get_by_role("button", name="Dislike", exact=True).click()
    await expect(told).to_have_count(0)


async def test_a_persona_without_an_adapter_says_so(site: Site, reader: Reader) -> None:
    await expect(reader.page.get_by_text("Adapter v0001 answers.")).to_be_visible()
    await reader.choose("Ines Okafor")
    await expect(reader.page.get_by_text("No adapter yet: the base model answers")).to_be_visible()
    site.engine.script = lambda persona, turns: answer(persona, "Hm.", notes=["Ines Okafor has no adapter yet."])
    await expect(await reader.ask("why?")).to_contain_text("Ines Okafor has no adapter yet.")


async def test_a_new_version_and_a_new_person_appear_without_a_reload(site: Site, reader: Reader) -> None:
    await expect(await reader.ask("one")).to_contain_text("About one")
    site.engine.people = [Persona("T1", "U1", "Erik Sommer", "erik", "v0002"), Persona("T1", "U3", "Jun Park", "jun")]
    site.status = "The model server starts."
    await expect(reader.page.get_by_text("Adapter v0002 answers.")).to_be_visible()
    await expect(reader.page.get_by_text("The model server starts.")).to_be_visible()
    await expect(reader.answers).to_have_count(1)
    await reader.choose("Jun Park")
    await expect(reader.answers).to_have_count(0)
    await expect(await reader.ask("two")).to_contain_text("in the manner of Jun Park")


async def test_someone_who_is_gone_is_answered_for_no_more(site: Site, reader: Reader) -> None:
    await expect(await reader.ask("one")).to_contain_text("About one")
    site.engine.people = []
    await expect(reader.page.get_by_text("Nobody can be asked yet")).to_be_visible()
    await expect(reader.answers).to_have_count(0)
    await reader.ask("two")
    await expect(reader.page.get_by_text("There is nobody to ask yet.")).to_be_visible()
    await expect(reader.box).to_have_value("two")


async def test_an_error_is_a_sentence_and_the_question_can_be_asked_again(site: Site, reader: Reader) -> None:
    site.engine.script = lambda persona, turns: [InferenceError("The model server is away; <b>start</b> it.")]
    reply = await reader.ask("one")
    await expect(reply).to_contain_text("The model server is away; <b>start</b> it.")
    site.engine.script = lambda persona, turns: answer(persona, f"About {turns[-1].text}")
    await reader.page.get_by_role("button", name="Retry").click()
    await expect(reply).to_contain_text("About one")
    await expect(reader.page.get_by_role("button", name="Send")).to_be_visible()
    await expect(await reader.ask("two")).to_contain_text("About two")
    assert [turn.text for turn in site.engine.asked[-1][1]] == ["one", "About one", "two"]


async def test_an_unforeseen_error_is_logged_and_not_shown(
    site: Site, reader: Reader, caplog: pytest.LogCaptureFixture
) -> None:
    site.engine.script = lambda persona, turns: [RuntimeError("a secret of the inside")]
    await expect(await reader.ask("one")).to_contain_text(UNEXPECTED)
    await expect(reader.page.get_by_text("a secret of the inside")).to_have_count(0)
    assert "RuntimeError" in caplog.text
    assert "a secret of the inside" not in caplog.text


async def test_an_error_in_mid_answer_keeps_what_was_written(site: Site, reader: Reader) -> None:
    broken: list[Step] = [SourcesFound((SOURCE,)), TextDelta("We dropped it beca"), InferenceError("It stopped.")]
    site.engine.script = lambda persona, turns: broken
    reply = await reader.ask("why?")
    await expect(reply).to_contain_text("It stopped.")
    await expect(reply).to_contain_text("We dropped it beca")
    await expect(reader.sources.get_by_role("link")).to_have_count(1)


async def test_stop_ends_the_answer_and_keeps_what_was_written(site: Site, reader: Reader) -> None:
    site.engine.script = lambda persona, turns: [TextDelta("A long "), Wait(asyncio.Event())]
    reply = await reader.ask("why?")
    await expect(reply).to_contain_text("A long")
    await reader.ask("while it writes")
    await expect(reader.box).to_have_value("while it writes")
    await reader.page.get_by_role("button", name="Stop").click()
    await expect(reply).to_contain_text("Stopped.")
    await expect(reply).to_contain_text("A long")
    await expect(reader.page.get_by_role("button", name="Send")).to_be_visible()
    await expect(reader.box).to_be_focused()
    assert site.engine.stopped == 1
    assert len(site.engine.asked) == 1


async def test_another_persona_begins_a_new_conversation(site: Site, reader: Reader) -> None:
    site.engine.script = lambda persona, turns: [TextDelta("A long "), Wait(asyncio.Event())]
    await expect(await reader.ask("why?")).to_contain_text("A long")
    await reader.choose("Ines Okafor")
    await expect(reader.page.get_by_role("button", name="Send")).to_be_visible()
    await expect(reader.answers).to_have_count(0)
    assert site.engine.stopped == 1
    site.engine.script = lambda persona, turns: answer(persona, f"{persona.name} here")
    await expect(await reader.ask("who?")).to_contain_text("Ines Okafor here")
    assert [turn.text for turn in site.engine.asked[-1][1]] == ["who?"]


HOSTILE = (
    "![x](https://evil.example/pixel.png) <img src=https://evil.example/i.png onerror=\"document.title='owned'\">"
    "<script>document.title='owned'</script> [click](javascript:document.title='owned') "
    "<a href='https://evil.example/'>there</a> ${document.title='owned'} {{document.title}} "
    "$$\\href{https://evil.example/}{x}$$ ```html\n<iframe src=https://evil.example/f></iframe>\n``` <!channel>"
)


async def test_what_model_and_slack_write_stays_text(site: Site, reader: Reader) -> None:
    site.engine.people = [Persona("T1", "U1", "Erik Sommer", "erik", HOSTILE), INES]
    hostile = passage(f"<b>Eve</b>: {HOSTILE}", channel=HOSTILE)
    foul = passage("Eve: x", ts="1741600009.000100")
    object.__setattr__(foul, "permalink", "javascript:document.title='owned'")
    site.engine.script = lambda persona, turns: answer(persona, HOSTILE, [hostile, foul], notes=[HOSTILE])
    reply = await reader.ask(HOSTILE)
    await expect(reply).to_contain_text("<img src=https://evil.example/i.png")
    await expect(reader.sources).to_contain_text("<script>document.title='owned'</script>")
    await expect(reader.sources).to_contain_text("${document.title='owned'}")
    await expect(reader.sources.get_by_role("link")).to_have_count(1)
    shown = reader.page.locator("#chat, #sources, #about")
    await expect(shown.locator("img, script, iframe, [onerror], a[href*=evil], .katex")).to_have_count(0)
    assert await reader.page.title() == "Doppel"


async def test_the_browser_is_forbidden_to_ask_other_hosts(site: Site, reader: Reader) -> None:
    blocked = "fetch('https://evil.example/').then(() => 'asked', () => 'refused')"
    assert await reader.page.evaluate(blocked) == "refused"
    assert any("Content Security Policy" in complaint for complaint in reader.complaints)
    reader.strayed.clear()
    reader.complaints.clear()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_fits_a_phone_and_follows_the_system(site: Site, browser: Browser, scheme: str) -> None:
    long = "x" * 400
    site.engine.script = lambda persona, turns: answer(
        persona, f"{long}\n```\n{long}\n```", [passage(f"Eve: {long}", channel=long)]
    )
    context = await browser.new_context(viewport=PHONE, color_scheme=scheme)  # type: ignore[arg-type]
    reader = await Reader(await context.new_page()).open(site.url)
    await expect(await reader.ask(long)).to_contain_text("xxx")
    await expect(reader.sources.get_by_role("link")).to_have_count(1)
    await expect(reader.box).to_be_in_viewport(ratio=1)
    await expect(reader.page.get_by_role("button", name="Send")).to_be_in_viewport(ratio=1)
    assert await reader.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    paper = await reader.page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (max(paper) < 60) == (scheme == "dark")
    await context.close()


async def test_two_readers_at_once_do_not_mix(site: Site, desktop: BrowserContext, reader: Reader) -> None:
    gates = {"first": asyncio.Event(), "second": asyncio.Event()}
    site.engine.script = lambda persona, turns: [
        TextDelta("thinking"),
        Wait(gates[turns[-1].text]),
        *answer(persona, f"{persona.name} on {turns[-1].text}"),
    ]
    other = await Reader(await desktop.new_page()).open(site.url)
    await other.choose("Ines Okafor")
    first, second = await reader.ask("first"), await other.ask("second")
    await expect(first).to_contain_text("thinking")
    await expect(second).to_contain_text("thinking")
    gates["second"].set()
    await expect(second).to_contain_text("Ines Okafor on second")
    gates["first"].set()
    await expect(first).to_contain_text("Erik Sommer on first")
    await expect(reader.answers).to_have_count(1)
    await other.page.close()
