"""The story of one answer: may it be given, what was said about it, the prompt, the model."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from doppel.access import (
    Audience,
    ChannelKey,
    has_consent,
    is_paused,
    require_awake,
    require_consent,
    require_still,
)
from doppel.adapters import AdapterInfo, AdapterStore, serving_adapter
from doppel.archive.snapshots import Snapshot
from doppel.artifacts import Version
from doppel.config import PACKAGED_BASE_MODEL, Settings
from doppel.engine.confidence import confidence
from doppel.engine.prompt import Prompt, Tokenizer, render
from doppel.engine.queries import queries
from doppel.engine.redaction import masked_pieces
from doppel.engine.support import is_small_talk
from doppel.errors import ConsentError, NotReadableError, UnknownUserError
from doppel.inference.client import Adapter, InferenceClient, Sampling
from doppel.limits import require_length
from doppel.records import (
    Dialogue,
    Finished,
    Passage,
    Persona,
    Query,
    Reply,
    ReplyEvent,
    Sentence,
    SourcesFound,
    Span,
    TextDelta,
    User,
)
from doppel.services.answer_check import AnswerCheck

if TYPE_CHECKING:
    from doppel.app_context import AppContext
    from doppel.archive import archive as archives
    from doppel.inference.vllm_process import ModelServer

STYLE_EXAMPLES = 8
MIN_STYLE_CHARS = 40
NEAREST = 3
"""Sources that are named where nothing answers."""
NOT_FOUND = "Nothing that I may read here answers this; {name} may know."
CUT_OFF = "…"
"""Ends an answer that was not at its end."""
LOOK_SECONDS = 1.0
"""How often it is looked, while an answer is written, whether it may be."""


class Retriever(Protocol):
    """Finds conversations within the channels that may be read."""

    def look_up(
        self,
        queries: Sequence[Query],
        scopes: Sequence[frozenset[ChannelKey]],
        k: int,
        source: Snapshot,
        exclude: Span | None = None,
    ) -> list[list[Passage]]:
        """For each scope the best conversations of its channels but for `exclude`, as they stand in `source`."""
        ...

    def likeness(self, text: str, others: Sequence[str]) -> list[float]:
        """The cosine of a text and each of `others`."""
        ...


class Archive(Protocol):
    """What the engine reads of the archive."""

    def snapshot(self, team: str | None = None) -> Snapshot:
        """People, channels and consent of one workspace or of all, as of now."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """What was found for a `dialogue` that an `audience` may read, best first, as of `snapshot`."""

    dialogue: Dialogue
    audience: Audience
    passages: tuple[Passage, ...]
    snapshot: Snapshot

    @property
    def similarity(self) -> float:
        """The largest cosine of the question and a passage; 0 where nothing was found."""
        return max((passage.score for passage in self.passages), default=0.0)


class EndOfTurn(Tokenizer, Protocol):
    """A tokenizer that knows the token that ends an answer."""

    @property
    def end_id(self) -> int: ...


class Engine:
    """Answers as a persona. Every answer is checked anew: consent, version and readable channels may have changed.

    With a `team` it knows the people of that workspace alone.
    """

    def __init__(
        self,
        settings: Settings,
        archive: Archive,
        retriever: Retriever,
        adapters: AdapterStore,
        tokenizer: EndOfTurn,
        client: InferenceClient,
        team: str | None = None,
    ) -> None:
        self._settings = settings
        self._archive = archive
        self._retriever = retriever
        self._adapters = adapters
        self._tokenizer = tokenizer
        self._client = client
        self._team = team

    def within(self, team: str) -> Engine:
        """The same for the people of one workspace."""
        return Engine(
            self._settings, self._archive, self._retriever, self._adapters, self._tokenizer, self._client, team
        )

    async def personas(self) -> list[Persona]:
        """Everyone who agreed, by name; those with an adapter first."""
        return await asyncio.to_thread(self._personas)

    async def persona(self, user_id: str, team: str | None = None, snapshot: Snapshot | None = None) -> Persona:
        """The person of an id, in the engine's workspace or in `team`, as of `snapshot` or of now.

        Raises UnknownUserError, and ConsentError for one who did not agree.
        """
        team = team or self._team or ""
        self._require_within(team)
        seen = await asyncio.to_thread(self._archive.snapshot, team) if snapshot is None else snapshot
        return self._persona(seen, seen.get_user(team, user_id))

    async def look_up(self, dialogue: Dialogue, audiences: Sequence[Audience], snapshot: Snapshot) -> list[Found]:
        """What is found for `dialogue` by each of `audiences`, embedded once. Raises TooLongError, ArtifactError."""
        require_length(dialogue.question, self._settings.question_chars)
        scopes = [snapshot.readable(audience) for audience in audiences]
        found = await asyncio.to_thread(
            self._retriever.look_up,
            queries(dialogue.turns),
            scopes,
            self._settings.top_k,
            snapshot,
            dialogue.span,
        )
        return [
            Found(dialogue, audience, tuple(each), snapshot) for audience, each in zip(audiences, found, strict=True)
        ]

    async def reply(
        self,
        persona: Persona,
        dialogue: Dialogue,
        audience: Audience,
        found: Found | None = None,
        is_draft: bool = False,
    ) -> AsyncIterator[ReplyEvent]:
        """Answer the question of `dialogue` as `persona`, from what `audience` may read.

        A draft, which its person reads and may change before anybody else sees it, is never refused and left as it is.
        It isn't looked up again where `found` is what there is for that question there. Yields SourcesFound, then
        TextDelta after TextDelta, then Finished, their secrets masked. Raises ConsentError, also in mid-answer,
        NotReadableError, ArtifactError, InferenceError, or TooLongError for the question.
        """
        require_length(dialogue.question, self._settings.question_chars)
        started = time.monotonic()
        self._require_within(persona.team)
        is_found = found is not None and (found.dialogue.question, found.audience) == (dialogue.question, audience)
        seen = found.snapshot if found and is_found else await asyncio.to_thread(self._archive.snapshot, self._team)
        user = seen.get_user(persona.team, persona.user_id)
        persona, watch = self._persona(seen, user), _Watch(self._archive, user, seen)
        readable = seen.readable(audience)
        adapter, notes = await asyncio.to_thread(self._adapter, user, readable)
        if found is None or not is_found:
            (found,) = await self.look_up(dialogue, [audience], seen)
        sure = confidence(dialogue.question, found.passages)
        if not is_draft and self._refuses(dialogue, persona.name, sure):
            async for event in _refusal(persona, found.passages[:NEAREST], notes, sure, started):
                yield event
            return
        examples = [] if adapter else await asyncio.to_thread(self._style, seen, user, readable)
        prompt = await asyncio.to_thread(self._prompt, persona, dialogue, found.passages, examples)
        check = AnswerCheck(self._retriever.likeness, dialogue, persona, prompt.passages, self._drops and not is_draft)
        if watch.is_due:
            await asyncio.to_thread(watch.look)
        yield SourcesFound(prompt.passages, notes)
        text, tokens, first, ending, unmasked = "", 0, 0.0, "", masked_pieces()
        async with aclosing(self._client.stream(prompt.ids, adapter, self._sampling(), user.team)) as pieces:
            async for piece in pieces:
                if watch.is_due:
                    await asyncio.to_thread(watch.look)
                first, tokens = first or time.monotonic() - started, piece.tokens
                ending = CUT_OFF if piece.is_cut else ""
                for shown in await check.feed(unmasked.feed(piece.text)):
                    text += shown.text
                    yield shown
        rest = await check.close(unmasked.close() + ending)
        await asyncio.to_thread(watch.look)
        for shown in rest:
            text += shown.text
            yield shown
        seconds, parts = time.monotonic() - started, check.sentences
        yield Finished(
            Reply(
                persona,
                text.strip(),
                prompt.passages,
                len(prompt.ids),
                tokens,
                first or seconds,
                seconds,
                notes,
                sure,
                any(part.source is not None for part in parts),
                parts,
                secrets.token_hex(8),
            )
        )

    def _personas(self) -> list[Persona]:
        seen = self._archive.snapshot(self._team)
        awake = [u for u in seen.people_with_consent() if has_consent(r := seen.consent(u)) and not is_paused(r)]
        found = [self._as_persona(user) for user in awake]
        return sorted(found, key=lambda p: (p.version is None, p.name.casefold()))

    def _require_within(self, team: str) -> None:
        if self._team not in (None, team):
            raise UnknownUserError(f"This is answered within the workspace {self._team} alone.")

    def _persona(self, seen: Snapshot, user: User) -> Persona:
        records = seen.consent(user)
        require_consent(user, records)
        require_awake(user, records)
        return self._as_persona(user)

    def _as_persona(self, user: User) -> Persona:
        version = self._adapters.folder(user).current_name()
        return Persona(user.team, user.id, user.name, user.handle, version)

    def _adapter(self, user: User, readable: frozenset[ChannelKey]) -> tuple[Adapter | None, tuple[str, ...]]:
        """The adapter that may be used here, and what the reader should know if there is none."""
        version: Version | None = self._adapters.published(user)
        if version is None:
            return None, (f"{user.name} has no adapter yet: this is the base model with examples of their messages.",)
        info = AdapterInfo.of(version)
        if info.base_model != self._settings.base_model:
            note = f"The adapter of {user.name} was trained on {info.base_model}: this is the base model alone."
            return None, (note,)
        if not info.channels <= readable:
            raise NotReadableError(
                f"The adapter of {user.name} learned from channels that may not be read here; allow them, or train it "
                "on fewer (DOPPEL_TRAIN_CHANNELS)."
            )
        return serving_adapter(user, version), ()

    def _style(self, seen: Snapshot, user: User, readable: frozenset[ChannelKey]) -> list[str]:
        recent = seen.messages_of(user, 20 * STYLE_EXAMPLES, readable)
        return [m.own_text for m in recent if len(m.own_text) >= MIN_STYLE_CHARS][:STYLE_EXAMPLES]

    def _prompt(
        self, persona: Persona, dialogue: Dialogue, passages: Sequence[Passage], examples: Sequence[str]
    ) -> Prompt:
        settings = self._settings
        return render(
            persona.name,
            dialogue,
            self._tokenizer,
            settings.prompt_tokens,
            passages=passages,
            context_tokens=settings.context_tokens,
            examples=examples,
        )

    @property
    def _drops(self) -> bool:
        """Whether sentences that nothing carries are left out."""
        check = self._settings.answer_check
        return check == "quote" or (check == "auto" and self._settings.base_model == PACKAGED_BASE_MODEL)

    def _refuses(self, dialogue: Dialogue, name: str, sure: float) -> bool:
        """Whether nothing was found that answers: the conversation itself may, and small talk needs nothing."""
        if sure >= self._settings.min_confidence or is_small_talk(dialogue.question, name):
            return False
        return not any(not turn.by_ai for turn in dialogue.turns[:-1])

    def _sampling(self) -> Sampling:
        settings = self._settings
        return Sampling(
            settings.answer_tokens,
            settings.temperature,
            settings.top_p,
            self._tokenizer.end_id,
            settings.frequency_penalty,
        )


@asynccontextmanager
async def answering(
    context: AppContext, archive: archives.Archive, own: bool = False
) -> AsyncIterator[tuple[Engine, ModelServer]]:
    """The engine, and the vLLM server behind it, which may still be starting; with `own` none of another process.

    Raises InferenceError.
    """
    from doppel.inference.vllm_process import model_server
    from doppel.models.base_model import ChatTokenizer, base_model_path

    base = await asyncio.to_thread(base_model_path, context.settings, context.console.say)
    async with (
        model_server(context.settings, base, context.console.say, own) as server,
        InferenceClient(server.endpoint, server.wait_ready) as client,
    ):
        tokenizer = await asyncio.to_thread(ChatTokenizer, base)
        retriever = context.retriever(archive)
        yield Engine(context.settings, archive, retriever, context.adapters(), tokenizer, client), server


async def _refusal(
    persona: Persona, nearest: tuple[Passage, ...], notes: tuple[str, ...], sure: float, started: float
) -> AsyncIterator[ReplyEvent]:
    """An answer that says that there is none, the same whatever there is elsewhere."""
    text = NOT_FOUND.format(name=persona.name)
    yield SourcesFound(nearest, notes)
    yield TextDelta(text)
    seconds, parts = time.monotonic() - started, (Sentence(text),)
    yield Finished(
        Reply(persona, text, nearest, 0, 0, seconds, seconds, notes, sure, False, parts, secrets.token_hex(8))
    )


class _Watch:
    """Whether an answer that is being written may still be: its person agrees, and nobody's messages were forgotten,
    for they may stand in the prompt. Methods block.
    """

    def __init__(self, archive: Archive, user: User, seen: Snapshot) -> None:
        """`seen` is how things stand at the beginning."""
        self._archive, self._user, self._team, self._looked = archive, user, seen.team, seen.taken
        self._records, self._clean = seen.consent(user), seen.clean

    @property
    def is_due(self) -> bool:
        return time.monotonic() - self._looked >= LOOK_SECONDS

    def look(self) -> None:
        """Raise ConsentError where the answer must stop."""
        now = self._archive.snapshot(self._team)
        records = now.consent(self._user)
        require_still(self._user, self._records, records)
        require_awake(self._user, records)
        if now.clean != self._clean:
            raise ConsentError("Somebody's messages were removed while this was being written; ask again.")
        self._looked = now.taken
