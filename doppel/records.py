"""The records that every part of Doppel hands on. Frozen, plain, and free of any import of ours.

A Slack timestamp (`ts`) is a string of seconds and six decimals, unique within one channel; `ts_key` orders it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

Raw = Mapping[str, Any]
"""JSON as Slack gave it: it is kept as it came, and `doppel.slack` alone knows what it means."""


class ChannelKind(StrEnum):
    """Who may see a channel. `UNKNOWN` is a folder of an export that no list describes: nobody but the operator."""

    PUBLIC = "public"
    PRIVATE = "private"
    MPIM = "mpim"
    IM = "im"
    UNKNOWN = "unknown"


class MessageKind(StrEnum):
    """Who speaks: a person, a bot, or Slack itself (joins, topics, tombstones)."""

    HUMAN = "human"
    BOT = "bot"
    SYSTEM = "system"


def ts_key(ts: str) -> tuple[int, int]:
    """Order key of a Slack timestamp; raises ValueError for a text that is none."""
    seconds, _, micros = ts.partition(".")
    if not (seconds.isascii() and seconds.isdigit() and (not micros or (micros.isascii() and micros.isdigit()))):
        raise ValueError(f"not a Slack timestamp: {ts!r}")
    return int(seconds), int(micros.ljust(6, "0")[:6] or 0)


def ts_seconds(ts: str) -> float:
    """Seconds since the epoch of a Slack timestamp."""
    seconds, micros = ts_key(ts)
    return seconds + micros / 1e6


def name_key(name: str) -> str:
    """A person's name as names are compared."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().removeprefix("@").split())


@dataclass(frozen=True, slots=True)
class User:
    """A member of a workspace; a guest, or someone of another workspace, sees only the channels they are in."""

    team: str
    id: str
    handle: str
    real_name: str = ""
    display_name: str = ""
    is_bot: bool = False
    deleted: bool = False
    is_guest: bool = False

    @property
    def name(self) -> str:
        """The name that others read beside their messages."""
        return self.display_name or self.real_name or self.handle or self.id

    @property
    def names(self) -> frozenset[str]:
        """Every name they have."""
        return frozenset({self.handle, self.real_name, self.display_name} - {""})

    @property
    def unnamed(self) -> User:
        """The same person, called by their id: for what is written down, as jobs and logs are."""
        return replace(self, handle="", real_name="", display_name="")


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel, private channel, group or direct conversation.

    `members` are ids of users who are in it, `uncertain` of those who may be: they don't count where it is asked what
    they may read, and do where it is asked who reads in the channel.
    """

    team: str
    id: str
    name: str
    kind: ChannelKind
    members: Collection[str] = ()
    archived: bool = False
    uncertain: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Message:
    """One message; (team, channel, ts) is its key.

    `text` is all that it says, rendered: real names, plain links, intact code; what was forwarded or attached stands
    below its source. `said` is what of it the author typed, None where that is all. `by_ai` says that a model wrote it
    in the manner of `user`.
    """

    team: str
    channel: str
    ts: str
    author: str
    text: str
    kind: MessageKind = MessageKind.HUMAN
    user: str | None = None
    thread_ts: str | None = None
    said: str | None = None
    by_ai: bool = False

    @property
    def own_text(self) -> str:
        """What the author typed."""
        return self.text if self.said is None else self.said


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages of people that belong together, in the order of time.

    `thread_ts` is the root's timestamp for a thread and None for a time window of a channel without threads.
    """

    team: str
    channel: str
    thread_ts: str | None
    messages: tuple[Message, ...]

    @property
    def first_ts(self) -> str:
        return self.messages[0].ts

    @property
    def last_ts(self) -> str:
        return self.messages[-1].ts


@dataclass(frozen=True, slots=True)
class Span:
    """Where a conversation stands: the thread of `thread_ts`, or what was said outside of threads from `first_ts` to
    `last_ts`.
    """

    team: str
    channel: str
    thread_ts: str | None
    first_ts: str
    last_ts: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """At most 1000 characters of one conversation, as it is embedded.

    `id` is derived from where it stands and what it says, so an unchanged chunk keeps its id. `first_ts` and `last_ts`
    are those of its own messages, `conversation_first_ts` and `conversation_last_ts` of the conversation it was cut
    from. `authors` are names in order of appearance.
    """

    id: str
    team: str
    channel: str
    thread_ts: str | None
    first_ts: str
    last_ts: str
    conversation_first_ts: str
    conversation_last_ts: str
    authors: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Query:
    """A text to search for, and how much, above 0, its hits count beside those of the question's other queries."""

    text: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk found by a search.

    `score` is the cosine similarity of its embedding and the first query's, `best_score` the largest of all queries';
    `word_rank` is its place, from 1, in the order by the words of the first query, None where it doesn't stand there.
    `fused_score` is above 0 and at most 1, which it is where the chunk leads every order of every query.
    """

    chunk: Chunk
    score: float
    best_score: float | None = None
    word_rank: int | None = None
    fused_score: float | None = None


@dataclass(frozen=True, slots=True)
class Passage:
    """One conversation around the best chunk found in it.

    `lines` are "Name: text", one a message; `focus` is the range [start, stop) of those the chunk covers; `quote` is
    the chunk's text; `permalink` leads to the chunk's first message; scores and rank are those of the chunk's Hit;
    `stamps` are the timestamps of the lines.
    """

    channel_name: str
    thread_ts: str | None
    first_ts: str
    last_ts: str
    lines: tuple[str, ...]
    focus: tuple[int, int]
    quote: str
    permalink: str
    score: float
    best_score: float | None = None
    word_rank: int | None = None
    fused_score: float | None = None
    stamps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Turn:
    """Something said to or by the persona in the conversation that is to be answered; `by_ai` if a model wrote it."""

    author: str
    text: str
    by_persona: bool = False
    by_ai: bool = False


@dataclass(frozen=True, slots=True)
class Dialogue:
    """What is to be answered: what was said in the order of time, the question last, and where.

    `channel` is the channel's name and `topic` its topic; both are "" where it is none that has members: in a direct
    conversation, the web chat, the terminal. `span` tells where the conversation stands in the archive, None where it
    doesn't.
    """

    turns: tuple[Turn, ...]
    channel: str = ""
    topic: str = ""
    span: Span | None = None

    @property
    def question(self) -> str:
        return self.turns[-1].text

    @property
    def is_thread(self) -> bool:
        """Whether the first turn is a thread's root."""
        return self.span is not None and self.span.thread_ts is not None


@dataclass(frozen=True, slots=True)
class KeptEdit:
    """What a person made of a reply that Doppel drafted for them, sent at `sent_ts` in `channel`.

    It answers the message `answered_ts` of that channel or, where that is "", the `question` that they gave themselves.
    """

    team: str
    channel: str
    sent_ts: str
    answered_ts: str
    question: str
    text: str


@dataclass(frozen=True, slots=True)
class Persona:
    """A person who can be answered for. `version` is None where no adapter is published."""

    team: str
    user_id: str
    name: str
    handle: str
    version: str | None = None

    @property
    def key(self) -> str:
        """Which of all workspaces' people it is."""
        return f"{self.team}/{self.user_id}"


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of an answer, and the number of the source that carries it; None where none does."""

    text: str
    source: int | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """One finished answer; times in seconds. `notes` are sentences for the reader (no adapter yet, and the like).

    `confidence` is how sure it is that something was found that answers, from 0 to 1; `grounded` says that something of
    the answer is carried by a source or by the conversation; `id` tells nothing.
    """

    persona: Persona
    text: str
    sources: tuple[Passage, ...]
    prompt_tokens: int
    completion_tokens: int
    first_token_seconds: float
    seconds: float
    notes: tuple[str, ...] = ()
    confidence: float = 0.0
    grounded: bool = False
    sentences: tuple[Sentence, ...] = ()
    id: str = ""


@dataclass(frozen=True, slots=True)
class SourcesFound:
    """First event of an answer: what was looked up for it, and what the reader should know, as sentences."""

    sources: tuple[Passage, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of the answer's text; `source` is the number of what carries the sentence that ends with it."""

    text: str
    source: int | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """Last event of an answer."""

    reply: Reply


ReplyEvent = SourcesFound | TextDelta | Finished
