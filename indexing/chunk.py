"""Conversations to chunks: at most 1000 characters, cut between messages. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

from langchain_text_splitters import RecursiveCharacterTextSplitter

from doppel.engine.prompt import label, line
from doppel.labels import INDENT, SOURCE, indented
from doppel.records import Chunk, Conversation, Message

CHUNK_CHARS = 1000
NAME_CHARS = 80
"""Slack's own limit; a longer name must not eat the room of what was said."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """A line of a chunk: a whole message, or part `number` of one that is too long."""

    message: Message
    number: int
    line: str


def chunk(conversation: Conversation) -> list[Chunk]:
    """The chunks of a conversation, in order: "Name: text" lines, as many to a chunk as fit into 1000 characters.

    Filled from the front, so what is said later changes the last chunk or adds chunks, and leaves the others alone.
    Only a message that is longer than a chunk is split, at paragraphs, lines or words; each part repeats the name, and
    of what another wrote the head that says so, and white space at the cuts is dropped.
    """
    return [_chunk(conversation, pieces) for pieces in _packed(conversation)]


def _packed(conversation: Conversation) -> Iterator[list[_Piece]]:
    packed: list[_Piece] = []
    size = 0
    for piece in (piece for message in conversation.messages for piece in _pieces(message)):
        if packed and size + 1 + len(piece.line) > CHUNK_CHARS:
            yield packed
            packed, size = [], 0
        size += len(piece.line) + bool(packed)
        packed.append(piece)
    if packed:
        yield packed


def _pieces(message: Message) -> list[_Piece]:
    name = label(message.author[:NAME_CHARS])
    whole = line(name, message.text)
    if len(whole) <= CHUNK_CHARS:
        return [_Piece(message, 0, whole)]
    room = CHUNK_CHARS - len(line(name, ""))
    parts = (part for head, text in _sections(message.text) for part in _split(head, text, room))
    return [_Piece(message, number, f"{name}: {part}") for number, part in enumerate(parts)]


def _sections(text: str) -> Iterator[tuple[str, str]]:
    """A message by who says what: the head of what another wrote, "" for the author's own, and the text below it."""
    for is_another, rows in groupby(text.splitlines(), lambda row: row.startswith(INDENT) or bool(SOURCE.match(row))):
        if not is_another:
            yield "", "\n".join(rows)
            continue
        head, kept = "", list[str]()
        for row in rows:
            if found := SOURCE.match(row):
                yield head, "\n".join(kept)
                head, kept = found[0], []
            kept.append(row.removeprefix(head))
        yield head, "\n".join(kept)


def _split(head: str, text: str, room: int) -> list[str]:
    """Parts of a text, each below the head; cut once they are indented, which makes them longer."""
    return [head + part for part in _splitter(room - len(head)).split_text(indented(text))]


@lru_cache
def _splitter(size: int) -> RecursiveCharacterTextSplitter:
    return RecursiveCharacterTextSplitter(chunk_size=size, chunk_overlap=0)


def _chunk(conversation: Conversation, pieces: list[_Piece]) -> Chunk:
    first, last = pieces[0].message, pieces[-1].message
    text = "\n".join(piece.line for piece in pieces)
    place = (conversation.team, conversation.channel, conversation.thread_ts or "", first.ts, last.ts)
    return Chunk(
        id=text_hash("\n".join((*place, str(pieces[0].number), text))),
        team=conversation.team,
        channel=conversation.channel,
        thread_ts=conversation.thread_ts,
        first_ts=first.ts,
        last_ts=last.ts,
        conversation_first_ts=conversation.first_ts,
        conversation_last_ts=conversation.last_ts,
        authors=tuple(dict.fromkeys(piece.message.author for piece in pieces)),
        text=text,
    )


def text_hash(text: str) -> str:
    """32 hexadecimal digits by which equal texts are known."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
