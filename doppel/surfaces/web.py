"""The web chat: a Gradio page that converts what happens in the browser into calls of the engine, and back."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Protocol

import gradio as gr
from fastapi import FastAPI

from doppel.access import ReadPolicy
from doppel.errors import DoppelError
from doppel.records import Persona
from doppel.surfaces import markup
from doppel.surfaces.hosting import OwnHostOnly
from doppel.surfaces.talk import UNEXPECTED, Exchange, ReplyEngine, Talk

log = logging.getLogger(__name__)

READERS_AT_ONCE = 500
STYLESHEET = Path(__file__).with_name("web.css")
ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'%3E%3Ccircle cx='12' cy='16' "
    "r='9' fill='%230f766e'/%3E%3Ccircle cx='20' cy='16' r='8' fill='none' stroke='%230f766e' stroke-width='2.5' "
    "stroke-dasharray='3 2.4'/%3E%3C/svg%3E"
)
# Gradio writes a message's HTML into its label for screen readers, which read the message itself well.
HEAD = f"""<link rel="icon" href="{ICON}">
<meta name="color-scheme" content="light dark">
<script>
new MutationObserver(() => document.querySelectorAll("#chat [data-testid][aria-label]").forEach(
    (message) => message.removeAttribute("aria-label")
)).observe(document, {{subtree: true, childList: true, attributeFilter: ["aria-label"]}});
</script>"""
# Where there is no mouse, focus would open a keyboard over the page.
FOCUS = "() => matchMedia('(hover: hover)').matches && document.querySelector('#question textarea').focus()"
PLACEHOLDER = (
    "<h2>What would they say?</h2>"
    "<p>An AI answers in the manner of a colleague, and shows the Slack threads that it drew on.</p>"
)
NOBODY = "There is nobody to ask yet."
OUTDATED = "Doppel was restarted since this page was opened; reload it."

Updates = dict[Any, Any]


class Feedback(Protocol):
    """Stores what a reader thought of an answer; `sources` are permalinks, `liked` is None for a thumb withdrawn."""

    def __call__(
        self, persona: Persona, question: str, reply: str, sources: Sequence[str], liked: bool | None
    ) -> None: ...


def build_app(
    engine: ReplyEngine,
    feedback: Feedback,
    place: ReadPolicy,
    status: Callable[[], str] | None = None,
    examples: Sequence[str] = (),
    refresh_seconds: float = 10,
) -> FastAPI:
    """The web chat as an ASGI app.

    What may be read is `place`; `status` is a sentence about the model server, or nothing. People and status are
    looked up again every `refresh_seconds`.
    """
    app = FastAPI(title="Doppel", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(OwnHostOnly)
    page = _Page(engine, feedback, place, status, examples, refresh_seconds)
    mounted: FastAPI = gr.mount_gradio_app(
        app,
        page.blocks,
        path="/",
        theme=gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        css_paths=STYLESHEET,
        head=HEAD,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        show_error=False,
        max_file_size=1,
    )
    return mounted


class _Page:
    """The components, and what happens when a reader uses them."""

    def __init__(
        self,
        engine: ReplyEngine,
        feedback: Feedback,
        place: ReadPolicy,
        status: Callable[[], str] | None,
        examples: Sequence[str],
        refresh_seconds: float,
    ) -> None:
        self._engine = engine
        self._feedback = feedback
        self._place = place
        self._status = status
        with gr.Blocks(title="Doppel", analytics_enabled=False, fill_width=True) as self.blocks:
            self._talk = gr.State(Talk())
            self._lay_out(examples)
            self._wire(gr.Timer(refresh_seconds))
        self.blocks.max_threads = READERS_AT_ONCE
        self.blocks.queue(default_concurrency_limit=None, api_open=False)

    def _lay_out(self, examples: Sequence[str]) -> None:
        with gr.Row(elem_id="top"):
            _html("<h1>Doppel</h1>", elem_id="brand")
            self._who = gr.Dropdown(label="Whom to ask", elem_id="who", container=False, min_width=0)
            with gr.Column(elem_id="about", min_width=0):
                self._about = _html()
                self._news = _html()
            self._new = gr.Button("New conversation", elem_id="new", size="sm", min_width=0)
        with gr.Row(elem_id="desk"):
            with gr.Column(elem_id="talk", min_width=0):
                self._chat = gr.Chatbot(
                    label="Conversation",
                    elem_id="chat",
                    show_label=False,
                    height=None,
                    layout="bubble",
                    buttons=[],
                    render_markdown=False,
                    latex_delimiters=[],
                    allow_tags=False,
                    allow_file_downloads=False,
                    placeholder=PLACEHOLDER,
                    examples=[{"text": question} for question in examples] or None,
                )
                with gr.Row(elem_id="ask"):
                    self._box = gr.Textbox(
                        label="Your question",
                        show_label=False,
                        placeholder="Ask a question …",
                        elem_id="question",
                        max_lines=6,
                        autofocus=True,
                        container=False,
                        min_width=0,
                    )
                    self._send = gr.Button("Send", variant="primary", elem_id="send", min_width=0)
                    self._stop = gr.Button("Stop", variant="stop", elem_id="stop", visible=False, min_width=0)
            with gr.Column(elem_id="side", min_width=0):
                self._sources = _html(markup.sources_html(()), elem_id="sources")

    def _wire(self, timer: gr.Timer) -> None:
        answer: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        # Only answers go through Gradio's queue: it has one stream for a page, and closes it when the first of several
        # events in it is done, so that an answer which began while another event ended would never be shown.
        quick = {**answer, "queue": False}
        people = [self._who, self._about, self._news, self._chat, self._sources]
        everything = [*people, self._box, self._send, self._stop]
        gr.on([self.blocks.load, timer.tick], self._refresh, [self._talk], people, **quick)
        self._who.input(self._choose, [self._talk, self._who], people, **quick)
        self._new.click(self._restart, [self._talk], people, **quick)
        self._stop.click(self._halt, [self._talk], [], **quick)
        self._chat.like(self._like, [self._talk], [self._news], **quick)
        gr.on([self._box.submit, self._send.click], self._ask, [self._talk, self._box], everything, **answer)
        self._chat.example_select(self._ask_example, [self._talk], everything, **answer)
        self._chat.retry(self._retry, [self._talk], everything, **answer)
        gr.on([self._who.input, self._new.click, self._send.click, self._stop.click, self._chat.retry], js=FOCUS)

    async def _refresh(self, talk: Talk) -> Updates:
        """Look up again who can be asked; the conversation stays unless its persona is gone."""
        try:
            people = await self._engine.personas()
            status = await asyncio.to_thread(self._status) if self._status else ""
        except Exception as error:
            return {self._news: markup.trouble_html(sentence(error))}
        updates: Updates = {self._news: markup.status_html(status)}
        if people != talk.people:
            talk.people = people
            updates |= self._meet(talk)
        return updates

    def _meet(self, talk: Talk) -> Updates:
        """Take up the people that are new, and the versions that are."""
        assert talk.people is not None
        now = talk.known(talk.persona.user_id if talk.persona else "")
        talk.persona = now or talk.persona
        updates = {self._about: markup.persona_html(now)} if now else self._begin(talk, next(iter(talk.people), None))
        value = talk.persona.user_id if talk.persona else None
        return updates | {self._who: gr.update(choices=choices(talk.people), value=value)}

    async def _choose(self, talk: Talk, user_id: str) -> Updates:
        return self._begin(talk, talk.known(user_id))

    async def _restart(self, talk: Talk) -> Updates:
        return self._begin(talk, talk.persona)

    def _begin(self, talk: Talk, persona: Persona | None) -> Updates:
        talk.restart(persona)
        return {
            self._chat: [],
            self._sources: markup.sources_html(()),
            self._about: markup.persona_html(persona),
        }

    async def _ask(self, talk: Talk, text: str) -> AsyncIterator[Updates]:
        question = text.strip()
        if talk.people is None:
            # Asked before the page had loaded wholly.
            yield await self._refresh(talk)
        if talk.persona is None:
            yield {self._news: markup.trouble_html(NOBODY)}
        elif question and not talk.busy:
            yield {self._box: ""}
            async for updates in self._answer(talk, question):
                yield updates

    async def _ask_example(self, talk: Talk, chosen: gr.SelectData) -> AsyncIterator[Updates]:
        async for updates in self._ask(talk, chosen.value["text"]):
            yield updates

    async def _retry(self, talk: Talk) -> AsyncIterator[Updates]:
        if talk.exchanges and not talk.busy:
            async for updates in self._answer(talk, talk.exchanges.pop().question):
                yield updates

    async def _answer(self, talk: Talk, question: str) -> AsyncIterator[Updates]:
        yield self._buttons(busy=True)
        listed: object = None
        async with aclosing(talk.ask(self._engine, question, self._place)) as states:
            async for exchange in states:
                thumbs = [{True: "Like", False: "Dislike", None: None}[e.liked] for e in talk.exchanges]
                updates: Updates = {self._chat: gr.update(value=messages(talk.exchanges), feedback_value=thumbs)}
                if exchange.sources is not listed:
                    listed = exchange.sources
                    updates[self._sources] = markup.sources_html(talk.exchanges)
                yield updates
        yield self._buttons(busy=talk.busy)

    def _buttons(self, busy: bool) -> Updates:
        return {self._send: gr.update(visible=not busy), self._stop: gr.update(visible=busy)}

    async def _halt(self, talk: Talk) -> None:
        talk.stop()

    async def _like(self, talk: Talk, thumb: gr.LikeData) -> str:
        """Store a thumb; Gradio counts messages, and says "" where it was taken back."""
        if thumb.index // 2 >= len(talk.exchanges):
            return markup.trouble_html(OUTDATED)
        exchange = talk.exchanges[thumb.index // 2]
        links = [source.permalink for source in exchange.sources or ()]
        exchange.liked = thumb.liked if isinstance(thumb.liked, bool) else None
        try:
            await asyncio.to_thread(
                self._feedback, exchange.persona, exchange.question, exchange.text, links, exchange.liked
            )
        except Exception as error:
            return markup.trouble_html(sentence(error))
        return ""


def _html(content: str = "", **options: Any) -> Any:
    return gr.HTML(content, apply_default_css=False, js_on_load=None, **options)


def sentence(error: Exception) -> str:
    """What the reader is told about an error; one that nobody foresaw is logged."""
    if isinstance(error, DoppelError):
        return str(error)
    log.error("The web chat failed.", exc_info=error)
    return UNEXPECTED


def messages(exchanges: Sequence[Exchange]) -> list[dict[str, str]]:
    """A conversation as Gradio shows it: a question and its answer are two messages."""
    shown = []
    for exchange in exchanges:
        shown.append({"role": "user", "content": markup.text_html(exchange.question)})
        shown.append({"role": "assistant", "content": markup.answer_html(exchange)})
    return shown


def choices(people: Sequence[Persona]) -> list[tuple[str, str]]:
    """Names to choose from, with the handle where two people have the same."""
    names = Counter(person.name for person in people)
    return [(f"{p.name} (@{p.handle})" if names[p.name] > 1 else p.name, p.user_id) for p in people]
