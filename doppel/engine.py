"""The story of one answer: may it be given, what was said about it, the prompt, the model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import aclosing
from typing import Protocol

from doppel.access import (
    ChannelKey,
    ConsentRecord,
    Place,
    has_consent,
    is_paused,
    require_awake,
    require_consent,
    require_still,
)
from doppel.adapters import AdapterInfo, AdapterStore, serving_adapter
from doppel.artifacts import Version
from doppel.config import Settings
from doppel.errors import ConsentError, NotReadableError, UnknownUserError
from doppel.inference import Adapter, InferenceClient, Sampling
from doppel.limits import require_length
from doppel.prompt import Prompt, Tokenizer, render
from doppel.records import (
    Channel,
    Finished,
    Message,
    Passage,
    Persona,
    Reply,
    ReplyEvent,
    SourcesFound,
    TextDelta,
    Turn,
    User,
)
from doppel.secrets import masked_pieces

STYLE_EXAMPLES = 8
MIN_STYLE_CHARS = 40
CUT_OFF = "…"
"""Ends an answer that was not at its end."""
LOOK_SECONDS = 1.0
"""How often it is looked, while an answer is written, whether it may be."""


class Retriever(Protocol):
    """Finds conversations within the channels that may be read."""

    def retrieve(self, query: str, channels: frozenset[ChannelKey], k: int) -> list[Passage]: ...


class Directory(Protocol):
    """What the engine reads of the archive."""

    def users(self, team: str | None = None) -> list[User]: ...

    def channels(self) -> list[Channel]: ...

    def get_user(self, team: str, user_id: str) -> User: ...

    def consent_records(self, user: User | None = None) -> list[ConsentRecord]: ...

    def clean_revision(self) -> int: ...

    def messages_of(
        self, team: str, user_id: str, limit: int = 100, channels: Collection[ChannelKey] | None = None
    ) -> list[Message]: ...


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
        archive: Directory,
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

    async def persona(self, user_id: str, team: str | None = None) -> Persona:
        """The person of an id, in the engine's workspace or in `team`.

        Raises UnknownUserError, and ConsentError for one who did not agree.
        """
        user = await asyncio.to_thread(self._user, user_id, team or self._team or "")
        return await asyncio.to_thread(self._persona, user)

    async def nearness(self, text: str, place: Place) -> float:
        """The largest cosine of `text` and what is found for it that may be read in `place`; 0 where nothing is.

        Raises TooLongError.
        """
        require_length(text, self._settings.question_chars)
        readable = place.readable(await asyncio.to_thread(self._archive.channels))
        found = await asyncio.to_thread(self._retriever.retrieve, text, readable, self._settings.top_k)
        return max((passage.score for passage in found), default=0.0)

    async def reply(self, persona: Persona, turns: Sequence[Turn], place: Place) -> AsyncIterator[ReplyEvent]:
        """Answer the last of `turns` as `persona`, from what may be read in `place`.

        Yields SourcesFound, then TextDelta after TextDelta, then Finished, their secrets masked. Raises ConsentError,
        also in mid-answer, NotReadableError, ArtifactError, InferenceError, or TooLongError for the last of `turns`.
        """
        require_length(turns[-1].text, self._settings.question_chars)
        started = time.monotonic()
        user = await asyncio.to_thread(self._user, persona.user_id, persona.team)
        watch = _Watch(self._archive, user)
        await asyncio.to_thread(watch.begin)
        persona = await asyncio.to_thread(self._persona, user)
        readable = place.readable(await asyncio.to_thread(self._archive.channels))
        adapter, notes = await asyncio.to_thread(self._adapter, user, readable)
        passages = await asyncio.to_thread(self._retriever.retrieve, turns[-1].text, readable, self._settings.top_k)
        examples = [] if adapter else await asyncio.to_thread(self._style, user, readable)
        prompt = await asyncio.to_thread(self._prompt, persona, turns, passages, examples)
        await asyncio.to_thread(watch.look)
        yield SourcesFound(prompt.passages, notes)
        text, tokens, first, ending, unmasked = "", 0, 0.0, "", masked_pieces()
        async with aclosing(self._client.stream(prompt.ids, adapter, self._sampling(), user.team)) as pieces:
            async for piece in pieces:
                if watch.is_due:
                    await asyncio.to_thread(watch.look)
                first, tokens = first or time.monotonic() - started, piece.tokens
                ending = CUT_OFF if piece.is_cut else ""
                if shown := unmasked.feed(piece.text):
                    text += shown
                    yield TextDelta(shown)
        await asyncio.to_thread(watch.look)
        if shown := unmasked.close() + ending:
            text += shown
            yield TextDelta(shown)
        seconds = time.monotonic() - started
        yield Finished(
            Reply(persona, text.strip(), prompt.passages, len(prompt.ids), tokens, first or seconds, seconds, notes)
        )

    def _personas(self) -> list[Persona]:
        agreed = {(r.team, r.user_id) for r in self._archive.consent_records()}
        users = [user for user in self._archive.users(self._team) if (user.team, user.id) in agreed]
        ledger = {(user.team, user.id): self._archive.consent_records(user) for user in users}
        awake = [user for user in users if has_consent(r := ledger[user.team, user.id]) and not is_paused(r)]
        found = [self._as_persona(user) for user in awake]
        return sorted(found, key=lambda p: (p.version is None, p.name.casefold()))

    def _user(self, user_id: str, team: str) -> User:
        if self._team not in (None, team):
            raise UnknownUserError(f"This is answered within the workspace {self._team} alone.")
        return self._archive.get_user(team, user_id)

    def _persona(self, user: User) -> Persona:
        records = self._archive.consent_records(user)
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

    def _style(self, user: User, readable: frozenset[ChannelKey]) -> list[str]:
        recent = self._archive.messages_of(user.team, user.id, 20 * STYLE_EXAMPLES, readable)
        return [m.own_text for m in recent if len(m.own_text) >= MIN_STYLE_CHARS][:STYLE_EXAMPLES]

    def _prompt(
        self, persona: Persona, turns: Sequence[Turn], passages: Sequence[Passage], examples: Sequence[str]
    ) -> Prompt:
        settings = self._settings
        return render(
            persona.name,
            turns,
            self._tokenizer,
            settings.prompt_tokens,
            passages=passages,
            context_tokens=settings.context_tokens,
            examples=examples,
        )

    def _sampling(self) -> Sampling:
        settings = self._settings
        return Sampling(
            settings.answer_tokens,
            settings.temperature,
            settings.top_p,
            self._tokenizer.end_id,
            settings.frequency_penalty,
        )


class _Watch:
    """Whether an answer that is being written may still be: its person agrees, and nobody's messages were forgotten,
    for they may stand in the prompt. Methods block.
    """

    def __init__(self, archive: Directory, user: User) -> None:
        self._archive, self._user = archive, user
        self._records: list[ConsentRecord] = []
        self._clean, self._looked = 0, 0.0

    @property
    def is_due(self) -> bool:
        return time.monotonic() - self._looked >= LOOK_SECONDS

    def begin(self) -> None:
        """Remember how things stand."""
        self._records, self._clean = self._archive.consent_records(self._user), self._archive.clean_revision()
        self._looked = time.monotonic()

    def look(self) -> None:
        """Raise ConsentError where the answer must stop."""
        records = self._archive.consent_records(self._user)
        require_still(self._user, self._records, records)
        require_awake(self._user, records)
        if self._archive.clean_revision() != self._clean:
            raise ConsentError("Somebody's messages were removed while this was being written; ask again.")
        self._looked = time.monotonic()
