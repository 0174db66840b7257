"""The web chat: a Gradio page that converts what happens in the browser into calls of the engine, and back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import gradio as gr
from fastapi import FastAPI, Request

from doppel.errors import DoppelError
from doppel.fair_queue import Asker, FairQueue
from doppel.limits import QUESTION_CHARS, TooLongError, require_length
from doppel.logs import log_failure
from doppel.records import Persona
from doppel.web import markup
from doppel.web.auth import SIGN_OUT, VISITOR
from doppel.web.body_limit import LimitedBody
from doppel.web.chat_session import UNEXPECTED, ChatSession, Exchange, InTurn, Reader
from doppel.web.http_server import OwnHostOnly
from doppel.web.origins import OwnOriginOnly

log = logging.getLogger(__name__)

READERS_AT_ONCE = 500
HERE = Path(__file__).parent
# Where there is no mouse, focus would open a keyboard over the page.
FOCUS = "() => matchMedia('(hover: hover)').matches && document.querySelector('#question textarea').focus()"
PLACEHOLDER = (
    "<h2>What would they say?</h2>"
    "<p>An AI answers in the manner of a colleague, and shows the Slack threads that it drew on.</p>"
)
NOBODY = "There is nobody to ask yet."
EXCHANGES = 100
"""Questions of one conversation, at most."""
LONG_TALK = f"A conversation may have {EXCHANGES} questions; begin a new one."
OUTDATED = "Doppel was restarted since this page was opened; reload it."

Updates = dict[Any, Any]


class Feedback(Protocol):
    """Stores what a reader thought of an answer; `sources` are permalinks, `liked` is None for a thumb withdrawn.

    Returns the id under which it is stored, if it has one: the next thumb on that answer `replaces` it.
    """

    def __call__(
        self,
        persona: Persona,
        question: str,
        reply: str,
        sources: Sequence[str],
        liked: bool | None,
        replaces: int | None = None,
    ) -> int | None: ...


class Readers(Protocol):
    """Knows who reads, as things stand; called for every question, in a thread."""

    def __call__(self, visitor: str | None) -> Reader:
        """Whom a visitor can ask, and what they may read; None where nobody signs in."""
        ...


def build_app(
    readers: Readers,
    feedback: Feedback,
    status: Callable[[], str] | None = None,
    examples: Sequence[str] = (),
    refresh_seconds: float = 10,
    signs_in: bool = False,
    question_chars: int = QUESTION_CHARS,
    queue: FairQueue | None = None,
    public_url: str = "",
) -> FastAPI:
    """The web chat as an ASGI app, for its own pages: those of the address that is asked, and of `public_url`.

    Questions have `question_chars` at most; answers wait for a place in `queue`, if there is one.

    `status` is a sentence about the model server, or nothing. People and status are looked up again every
    `refresh_seconds`. Where a visitor `signs_in`, something before it must put who that is into the request's scope.
    """
    page = _Page(readers, feedback, status, examples, refresh_seconds, question_chars, queue)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await page.end()

    app = FastAPI(title="Doppel", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.add_middleware(LimitedBody)
    app.add_middleware(OwnOriginOnly, public_url=public_url)
    app.add_middleware(OwnHostOnly)
    mounted: FastAPI = gr.mount_gradio_app(
        app,
        page.blocks,
        path="/",
        auth_dependency=_visitor if signs_in else None,
        theme=gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        css_paths=HERE / "page.css",
        head_paths=HERE / "page_head.html",
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
        readers: Readers,
        feedback: Feedback,
        status: Callable[[], str] | None,
        examples: Sequence[str],
        refresh_seconds: float,
        question_chars: int,
        queue: FairQueue | None,
    ) -> None:
        self._readers = readers
        self._question_chars, self._queue = question_chars, queue
        self._feedback = feedback
        self._status = status
        self._answering: set[ChatSession] = set()
        with gr.Blocks(title="Doppel", analytics_enabled=False, fill_width=True) as self.blocks:
            self._session = gr.State(ChatSession())
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
            self._visitor = _html(elem_id="visitor")
            self._new = gr.Button("New conversation", elem_id="new", size="sm", min_width=0)
        with gr.Row(elem_id="desk"):
            with gr.Column(elem_id="talk", min_width=0):
                self._chat = _chatbot(examples)
                with gr.Row(elem_id="ask"):
                    self._box = _question()
                    self._send = gr.Button("Send", variant="primary", elem_id="send", min_width=0)
                    self._stop = gr.Button("Stop", variant="stop", elem_id="stop", visible=False, min_width=0)
            with gr.Column(elem_id="side", min_width=0):
                self._sources = _html(markup.sources_html(()), elem_id="sources")

    def _wire(self, timer: gr.Timer) -> None:
        answer: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        # What is done at once must not wait in line behind answers.
        quick = {**answer, "queue": False}
        people = [self._who, self._about, self._news, self._chat, self._sources, self._visitor]
        everything = [*people, self._box, self._send, self._stop]
        gr.on([self.blocks.load, timer.tick], self._refresh, [self._session], people, **quick)
        self._who.input(self._choose, [self._session, self._who], people, **quick)
        self._new.click(self._restart, [self._session], people, **quick)
        self._stop.click(self._halt, [self._session], [], **quick)
        # By default Gradio drops what comes while the last is under way.
        self._chat.like(self._like, [self._session], [self._news], **quick, trigger_mode="multiple")
        gr.on([self._box.submit, self._send.click], self._ask, [self._session, self._box], everything, **answer)
        self._chat.example_select(self._ask_example, [self._session], everything, **answer)
        self._chat.retry(self._retry, [self._session], everything, **answer)
        gr.on([self._who.input, self._new.click, self._send.click, self._stop.click, self._chat.retry], js=FOCUS)

    async def _refresh(self, session: ChatSession, request: gr.Request) -> Updates:
        """Look up again who can be asked; the conversation stays unless its persona is gone."""
        _require_owner(session, request)
        try:
            reader = await self._reader(request)
            people = await reader.engine.personas()
            status = await asyncio.to_thread(self._status) if self._status else ""
        except Exception as error:
            return {self._news: markup.trouble_html(sentence(error))}
        updates: Updates = {
            self._news: markup.trouble_html(session.trouble) if session.trouble else markup.status_html(status),
            self._visitor: markup.visitor_html(reader.name, SIGN_OUT),
        }
        if people != session.people:
            session.people = people
            updates |= self._meet(session)
        return updates

    def _meet(self, session: ChatSession) -> Updates:
        """Take up the people that are new, and the versions that are."""
        assert session.people is not None
        now = session.known(session.persona.key if session.persona else "")
        session.persona = now or session.persona
        updates = (
            {self._about: markup.persona_html(now)} if now else self._begin(session, next(iter(session.people), None))
        )
        value = session.persona.key if session.persona else None
        return updates | {self._who: gr.update(choices=markup.choices(session.people), value=value)}

    async def _reader(self, request: gr.Request) -> Reader:
        return await asyncio.to_thread(self._readers, request.username)

    async def _choose(self, session: ChatSession, key: str, request: gr.Request) -> Updates:
        _require_owner(session, request)
        return self._begin(session, session.known(key))

    async def _restart(self, session: ChatSession, request: gr.Request) -> Updates:
        _require_owner(session, request)
        return self._begin(session, session.persona)

    def _begin(self, session: ChatSession, persona: Persona | None) -> Updates:
        session.restart(persona)
        return {
            self._chat: [],
            self._sources: markup.sources_html(()),
            self._about: markup.persona_html(persona),
        }

    async def _ask(self, session: ChatSession, text: object, request: gr.Request) -> AsyncIterator[Updates]:
        _require_owner(session, request)
        question = text.strip() if isinstance(text, str) else ""
        if trouble := self._refusal(session, question):
            yield self._tell(session, trouble)
            return
        if session.people is None:
            # Asked before the page had loaded wholly.
            yield await self._refresh(session, request)
        if session.persona is None:
            yield self._tell(session, NOBODY)
        elif question and not session.busy:
            yield {self._box: "", self._news: self._cleared(session)}
            async for updates in self._answer(session, question, request):
                yield updates
        else:
            yield self._nothing()

    def _refusal(self, session: ChatSession, question: str) -> str:
        """Why something is not asked, as a sentence, or ""."""
        try:
            require_length(question, self._question_chars)
        except TooLongError as error:
            return str(error)
        return LONG_TALK if len(session.exchanges) >= EXCHANGES else ""

    async def _ask_example(
        self, session: ChatSession, chosen: gr.SelectData, request: gr.Request
    ) -> AsyncIterator[Updates]:
        text = chosen.value.get("text") if isinstance(chosen.value, dict) else None
        async for updates in self._ask(session, text, request):
            yield updates

    async def _retry(self, session: ChatSession, request: gr.Request) -> AsyncIterator[Updates]:
        _require_owner(session, request)
        if session.exchanges and not session.busy:
            async for updates in self._answer(session, session.exchanges.pop().question, request):
                yield updates
        else:
            yield self._nothing()

    def _tell(self, session: ChatSession, trouble: str) -> Updates:
        """Say what is wrong with what the reader just did."""
        session.trouble = trouble
        return {self._news: markup.trouble_html(trouble)}

    def _cleared(self, session: ChatSession) -> Any:
        """The news without the trouble that stood there, if one did."""
        stood, session.trouble = session.trouble, ""
        return "" if stood else gr.skip()

    def _nothing(self) -> Updates:
        """Leaves the page as it is: Gradio takes a generator that yields nothing for a fault."""
        return {self._news: gr.skip()}

    async def _answer(self, session: ChatSession, question: str, request: gr.Request) -> AsyncIterator[Updates]:
        try:
            reader = await self._reader(request)
        except Exception as error:
            yield self._tell(session, sentence(error))
            return
        if session.busy:
            # Asked twice at the same time.
            yield self._nothing()
            return
        engine = InTurn(reader.engine, self._queue, _asker(request)) if self._queue else reader.engine
        listed: object = None
        self._answering.add(session)
        try:
            async with aclosing(session.ask(engine, question, reader.audience, reader.name)) as states:
                async for exchange in states:
                    updates = self._shown(session)
                    if exchange.sources is not listed:
                        listed = exchange.sources
                        updates[self._sources] = markup.sources_html(session.exchanges)
                    yield updates
        finally:
            self._answering.discard(session)

    async def end(self) -> None:
        """Stop every answer."""
        await asyncio.gather(*(session.end() for session in self._answering))

    def _shown(self, session: ChatSession) -> Updates:
        """The conversation as it stands.

        The properties are the same every time: Gradio sends differences, and its page applies them in place, so that
        a property which is there once and not the next time may be gone before the page has read it.
        """
        thumbs = [{True: "Like", False: "Dislike", None: None}[exchange.liked] for exchange in session.exchanges]
        return {
            self._chat: gr.update(value=markup.messages(session.exchanges), feedback_value=thumbs),
            self._send: gr.update(visible=not session.busy),
            self._stop: gr.update(visible=session.busy),
        }

    async def _halt(self, session: ChatSession, request: gr.Request) -> None:
        _require_owner(session, request)
        session.stop()

    async def _like(self, session: ChatSession, thumb: gr.LikeData, request: gr.Request) -> Updates:
        """Store a thumb; Gradio counts messages, and says "" where it was taken back."""
        _require_owner(session, request)
        exchange = _exchange(session, thumb.index)
        if exchange is None:
            return self._tell(session, OUTDATED)
        links = [source.permalink for source in exchange.sources or ()]
        exchange.liked = thumb.liked if isinstance(thumb.liked, bool) else None
        keep = partial(self._feedback, exchange.persona, exchange.question, exchange.text, links, exchange.liked)
        if exchange.vote is not None:
            keep = partial(keep, replaces=exchange.vote)
        try:
            exchange.vote = await asyncio.to_thread(keep)
        except Exception as error:
            return self._tell(session, sentence(error))
        return {self._news: self._cleared(session)}


def _exchange(session: ChatSession, index: object) -> Exchange | None:
    """The answer that stands at `index` in the page, where one was given to its end; a browser may send anything."""
    if (
        not isinstance(index, int)
        or isinstance(index, bool)
        or index % 2 == 0
        or not 0 <= index // 2 < len(session.exchanges)
    ):
        return None
    exchange = session.exchanges[index // 2]
    return exchange if exchange.text and not exchange.open else None


def _asker(request: gr.Request) -> Asker:
    """Whose turn it must be: who signed in, else the page."""
    team, _, user = (request.username or "").partition("/")
    return (team, user) if user else ("", str(request.session_hash))


def _require_owner(session: ChatSession, request: gr.Request) -> None:
    """Raise what shows as an error where somebody reaches for a conversation that is another's."""
    if not session.belongs_to(request.username):
        raise gr.Error(OUTDATED, print_exception=False)


def _visitor(request: Request) -> str | None:
    """Who signed in, as what stands before the page found out."""
    visitor: str | None = request.scope.get(VISITOR)
    return visitor


def _chatbot(examples: Sequence[str]) -> Any:
    return gr.Chatbot(
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


def _question() -> Any:
    return gr.Textbox(
        label="Your question",
        elem_id="question",
        show_label=False,
        placeholder="Ask a question …",
        max_lines=6,
        autofocus=True,
        container=False,
        min_width=0,
    )


def _html(content: str = "", **options: Any) -> Any:
    return gr.HTML(content, apply_default_css=False, js_on_load=None, **options)


def sentence(error: Exception) -> str:
    """What the reader is told about an error; one that nobody foresaw is logged."""
    if isinstance(error, DoppelError):
        return str(error)
    log_failure(log, "The web chat failed", error)
    return UNEXPECTED
