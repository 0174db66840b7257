"""The JSON files of an export, read whole where they are small and entry by entry where they are large."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from doppel.records import Raw
from doppel.slack.block_text import dicts
from doppel.slack.json_stream import abouts, elements, encoding_of
from doppel.slack.members import channel_name, id_of, part_of, text_of
from doppel.slack.messages import timestamp
from doppel.slack.source import Parts, Source

_WHOLE_BYTES = 2 * 2**20
"""Files up to here are read at once, larger ones element by element, and twice: a file that breaks off counts for none.
"""
_REPLIES = "slackdump_thread_replies"
"""Where slackdump puts the replies of a thread: into the message that they answer."""
_ID_KEYS = ("channel_id", "channel", "id")
_CHANNEL_KEYS = ("channel_info", "channel", "ci")
"""Where tools say whose messages a file holds."""
_OF_CHANNEL = frozenset({"channel", "channel_id", "channel_name", "channel_info"})
"""Where messages say of which channel they are."""
_KINDS = ("C", "D", "G")
"""How the ids of channels begin."""


@dataclass(slots=True)
class Conversation:
    """What a file says of whose messages it holds: ids of channels, and names that stand without one; `called` is an id
    or a name to know it by. `head` is what it says before its messages do.
    """

    ids: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    named: str = ""
    head: Conversation | None = None

    @property
    def called(self) -> str:
        return next(iter(sorted(self.ids or self.names)), self.named)

    def take(self, said: Raw, name: str = "") -> None:
        """Take in what one object says of itself, which may have a `name`."""
        parts = [part_of(said, key) for key in _CHANNEL_KEYS]
        told = [*(id_of(said, key) for key in _ID_KEYS), *(id_of(part, "id") for part in parts)]
        ids = {id_ for id_ in told if id_[:1] in _KINDS}
        names = {name, *(text_of(part, "name") for part in parts)}
        # A word where an id could stand is a name.
        names |= {text_of(said, key) for key in ("channel", "channel_name") if id_of(said, key)[:1] not in _KINDS}
        names = {channel_name(name.removeprefix("#").lower()) for name in names} - {""}
        self.named = self.named or next(iter(sorted(names)), "")
        self.ids |= ids
        self.names |= set() if ids else names


def stated_by(raw: Raw) -> Raw:
    """What a message says of the channel it is of."""
    return {key: raw[key] for key in _OF_CHANNEL & raw.keys()}


class ExportFiles:
    """The files of an export by their names within it; `source` has them under the names that `paths` gives them."""

    def __init__(self, source: Source, paths: Mapping[Parts, Parts]) -> None:
        self._source = source
        self._paths = dict(paths)
        self._broken: dict[Parts, bool] = {}
        self._said: dict[Parts, Conversation] = {}

    def __contains__(self, parts: Parts) -> bool:
        return parts in self._paths

    def __iter__(self) -> Iterator[Parts]:
        return iter(sorted(self._paths))

    def check(self, files: Iterable[Parts]) -> None:
        """Raise BadInputError where what is to be read mustn't be."""
        self._source.check(self._paths[parts] for parts in files)

    def size(self, parts: Parts) -> int:
        """Of a file, in bytes."""
        return self._source.files[self._paths[parts]]

    def load(self, parts: Parts) -> Iterable[Any] | None:
        """The entries in a file, None where it holds none; may be gone through again and again."""
        if self.size(parts) > _WHOLE_BYTES:
            return None if self._is_broken(parts) else _Streamed(self._source, self._paths[parts])
        with self._source.open(self._paths[parts]) as file:
            entries = _entries(file.read())
        return None if entries is None else list(_with_replies(entries))

    def stamps(self, parts: Parts) -> Iterator[str]:
        """The timestamps of the messages in a file."""
        for raw in self.load(parts) or ():
            ts = timestamp(raw.get("ts")) if isinstance(raw, dict) else None
            if ts:
                yield ts

    def has_messages(self, parts: Parts) -> bool:
        """Whether a file, whatever it is called, holds messages of Slack."""
        dated = (raw for raw in self.load(parts) or () if isinstance(raw, dict) and timestamp(raw.get("ts")))
        return any(raw.get("type") == "message" or isinstance(raw.get("text"), str) for raw in dated)

    def conversation(self, parts: Parts) -> Conversation:
        """The channels that a file, and each of its messages, says it is of."""
        if len(parts) > 1:
            return self._read_conversation(parts)
        # Of a whole channel's file it is asked twice.
        if parts not in self._said:
            self._said[parts] = self._read_conversation(parts)
        return self._said[parts]

    def _read_conversation(self, parts: Parts) -> Conversation:
        found, entries = Conversation(), self.load(parts)
        if entries is None:
            return found
        with self._source.open(self._paths[parts]) as file:
            for said in abouts(file):
                found.take(said, text_of(said, "name") if "ts" not in said else "")
        found.head = Conversation({*found.ids}, {*found.names}, found.named)
        for raw in entries:
            if isinstance(raw, dict) and (stated := stated_by(raw)):
                found.take(stated)
        return found

    def _is_broken(self, parts: Parts) -> bool:
        """Whether a large file holds nothing to read, or breaks off."""
        if parts not in self._broken:
            try:
                for _ in _Streamed(self._source, self._paths[parts]):
                    pass
                self._broken[parts] = False
            except ValueError:
                self._broken[parts] = True
        return self._broken[parts]


@dataclass(frozen=True, slots=True)
class _Streamed:
    """The entries in a large file."""

    source: Source
    file: Parts

    def __iter__(self) -> Iterator[Any]:
        with self.source.open(self.file) as file:
            yield from _with_replies(elements(file))


def _entries(data: bytes) -> Iterable[Any] | None:
    """The entries that are all of `data`; bytes that don't fit its encoding are replaced rather than the file lost."""
    try:
        found = json.loads(data.decode(encoding_of(data), errors="replace"))
        if isinstance(found, list):
            return found
    except (ValueError, RecursionError):
        # Slower, but it knows other shapes, and leaves out only the element that is nested too deep.
        pass
    try:
        return list(elements(io.BytesIO(data)))
    except ValueError:
        return None


def _with_replies(entries: Iterable[Any]) -> Iterator[Any]:
    for entry in entries:
        if isinstance(entry, dict) and _REPLIES in entry:
            yield {key: value for key, value in entry.items() if key != _REPLIES}
            yield from dicts(entry[_REPLIES])
        else:
            yield entry


def has_id(entry: Any) -> bool:
    """Whether an entry of a list says an id, whatever it is."""
    return isinstance(entry, dict) and text_of(entry, "id") != ""
