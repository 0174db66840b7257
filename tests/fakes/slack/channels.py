"""A channel of the fake Slack, and its messages in the order of their timestamps.

Messages are Slack's raw JSON and never change in place: a change puts a new object where the old one was, so that what
was handed out stays as it was. Pages are found by bisection.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal

Json = dict[str, Any]
Kind = Literal["public", "private", "mpim", "im"]
Key = tuple[int, int]
"""A message's place: microseconds since the epoch, and a number that tells two of the same timestamp apart."""

_TS = re.compile(r"(\d+)(?:\.(\d{1,6}))?")


def micros(ts: object) -> int:
    """Microseconds since the epoch of a Slack timestamp, -1 of what is none."""
    match = _TS.fullmatch(str(ts))
    return int(match[1]) * 1_000_000 + int((match[2] or "").ljust(6, "0")) if match else -1


def is_reply(raw: Json) -> bool:
    """Whether a message answers another in a thread."""
    return bool(raw.get("thread_ts")) and raw.get("thread_ts") != raw.get("ts")


def is_broadcast(raw: Json) -> bool:
    """Whether a reply was also sent to the channel."""
    return raw.get("subtype") in ("thread_broadcast", "reply_broadcast")


class MessageLog:
    """The messages of one channel. `history` holds what stands in the channel itself, `thread()` one thread."""

    def __init__(self) -> None:
        self.history: list[Key] = []
        self._raws: dict[Key, Json] = {}
        self._by_ts: dict[str, Key] = {}
        self._threads: dict[str, list[Key]] = {}
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._raws)

    def __iter__(self) -> Iterator[Json]:
        return (self._raws[key] for key in sorted(self._raws))

    def __getitem__(self, key: Key) -> Json:
        return self._raws[key]

    def get(self, ts: object) -> Json | None:
        """The message of a timestamp."""
        key = self._by_ts.get(str(ts))
        return None if key is None else self._raws[key]

    def thread(self, ts: str) -> list[Key]:
        """A parent and its replies; of a message without a thread, itself; nothing where there is no such message."""
        own = self._by_ts.get(ts)
        return self._threads.get(ts) or ([] if own is None else [own])

    def replies(self, ts: str) -> list[Json]:
        """The replies to a parent."""
        return [self._raws[key] for key in self._threads.get(ts, ()) if is_reply(self._raws[key])]

    def load(self, raws: Iterable[Json]) -> list[Json]:
        """Take in many messages at once; returns the replies whose parent is missing, which stand in the history."""
        keys = [self._store(raw) for raw in raws]
        orphans = []
        for key in keys:
            raw = self._raws[key]
            if is_reply(raw) and str(raw["thread_ts"]) not in self._by_ts:
                orphans.append(raw)
            for places in self._places(raw):
                places.append(key)
        for places in (self.history, *self._threads.values()):
            places.sort()
        return orphans

    def add(self, raw: Json) -> None:
        """Take in one message."""
        key = self._store(raw)
        for places in self._places(raw):
            insort(places, key)

    def replace(self, raw: Json) -> None:
        """Put a message in the place of the one with its timestamp."""
        self._raws[self._by_ts[str(raw["ts"])]] = raw

    def remove(self, ts: str) -> None:
        """Take a message out."""
        key = self._by_ts.pop(ts)
        for places in (*self._places(self._raws.pop(key)), self._threads.get(ts, [])):
            at = bisect_left(places, key)
            if at < len(places) and places[at] == key:
                del places[at]

    def _store(self, raw: Json) -> Key:
        key = (micros(raw.get("ts")), next(self._numbers))
        self._raws[key] = raw
        self._by_ts.setdefault(str(raw.get("ts")), key)
        return key

    def _places(self, raw: Json) -> Iterator[list[Key]]:
        """The lists that a message belongs in; a thread's list begins with its parent."""
        thread_ts = str(raw.get("thread_ts") or raw.get("ts"))
        parent = self._by_ts.get(thread_ts)
        if is_reply(raw):
            if thread_ts not in self._threads:
                self._threads[thread_ts] = [] if parent is None else [parent]
            yield self._threads[thread_ts]
        if not is_reply(raw) or is_broadcast(raw) or parent is None:
            yield self.history


@dataclass(frozen=True)
class Window:
    """A range of timestamps, whose ends belong to it where `inclusive`; a missing end is open."""

    oldest: int | None = None
    latest: int | None = None
    inclusive: bool = False

    def cut(self, keys: list[Key]) -> tuple[int, int]:
        """Where the range begins and ends in a sorted list."""
        low, high = 0, len(keys)
        if self.oldest is not None:
            low = bisect_left(keys, (self.oldest + (not self.inclusive), -1))
        if self.latest is not None:
            high = bisect_left(keys, (self.latest + self.inclusive, -1))
        return low, max(low, high)


def newest_first(keys: list[Key], window: Window, limit: int, cursor: Key | None) -> tuple[list[Key], Key | None]:
    """A page beginning at the cursor and going back in time, and the next page's cursor."""
    low, high = window.cut(keys)
    if cursor is not None:
        high = min(high, bisect_right(keys, cursor))
    start = max(low, high - limit)
    return keys[start:high][::-1], keys[start - 1] if start > low else None


def oldest_first(keys: list[Key], window: Window, limit: int, cursor: Key | None) -> tuple[list[Key], Key | None]:
    """A page beginning at the cursor and going forward in time, and the next page's cursor."""
    low, high = window.cut(keys)
    if cursor is not None:
        low = max(low, bisect_left(keys, cursor))
    end = min(high, low + limit)
    return keys[low:end], keys[end] if end < high else None


@dataclass
class Channel:
    """One conversation: a public or private channel, or a direct one between two (`im`) or more (`mpim`)."""

    id: str
    name: str
    kind: Kind = "public"
    created: int = 0
    creator: str = ""
    members: list[str] = field(default_factory=list)
    archived: bool = False
    topic: Json = field(default_factory=lambda: {"value": "", "creator": "", "last_set": 0})
    purpose: Json = field(default_factory=lambda: {"value": "", "creator": "", "last_set": 0})
    previous_names: list[str] = field(default_factory=list)
    log: MessageLog = field(default_factory=MessageLog)
    general: bool = False

    @property
    def type(self) -> str:
        """The kind as `channel_type` of an event names it."""
        return {"public": "channel", "private": "group", "mpim": "mpim", "im": "im"}[self.kind]

    def as_seen_by(self, user: str, team: str) -> Json:
        """The conversation object that the Web API gives a member or another."""
        base: Json = {"id": self.id, "created": self.created, "is_archived": self.archived, "context_team_id": team}
        if self.kind == "im":
            other = next((member for member in self.members if member != user), user)
            return base | {
                "is_im": True,
                "user": other,
                "is_org_shared": False,
                "is_user_deleted": False,
                "priority": 0,
            }
        return base | {
            "name": self.name,
            "name_normalized": self.name,
            "is_channel": self.kind == "public",
            "is_group": self.kind == "private",
            "is_im": False,
            "is_mpim": self.kind == "mpim",
            "is_private": self.kind != "public",
            "is_general": self.general,
            "is_shared": False,
            "is_ext_shared": False,
            "is_org_shared": False,
            "is_member": user in self.members,
            "unlinked": 0,
            "creator": self.creator,
            "topic": self.topic,
            "purpose": self.purpose,
            "previous_names": self.previous_names,
            "num_members": len(self.members),
        }
