"""Slack's messages as records, without storing them, and without what was forgotten."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from doppel.access import ChannelKey
from doppel.archive import reading
from doppel.archive.archive import Archive
from doppel.archive.forgotten import read_tombstones
from doppel.ingest.copies import Copies
from doppel.ingest.event_store import listening
from doppel.records import Message, Raw
from doppel.slack.markup import Names
from doppel.slack.messages import timestamp, translate
from doppel.timestamps import micros


def may_lack(archive: Archive, channel: ChannelKey, ts: str, thread_ts: str | None) -> bool:
    """Whether what was said before `ts` may be missing in the archive: a thread whose root isn't there, or a channel
    that was not read up to then.
    """
    with archive.reading() as connection:
        if thread_ts is not None:
            return not reading.has_message(connection, channel, thread_ts)
        current = listening(connection, channel[0])
        return not reading.is_read(connection, channel, ts, current.since if current else None)


def read_live(
    archive: Archive,
    team: str,
    channel: str,
    raws: Sequence[Raw],
    names: Names,
    people: Mapping[str, str],
    bots: Collection[str],
) -> list[Message]:
    """Messages of a channel as Slack gives them now, in the order of time; what is no message is left out.

    `names` tell how ids read in them, `people` what their authors are called; `bots` are the ids of users that are
    bots. What somebody wrote who had it forgotten is left out, also where another's message brings it along.
    """
    found = []
    with archive.reading() as connection:
        tombstones = read_tombstones(connection, team)
        copies = Copies(tombstones)
        names = copies.names(names) if tombstones.nameless else names
        for raw in raws:
            ts = timestamp(raw.get("ts"))
            if ts is None or tombstones.covers(raw.get("user"), micros(ts)):
                continue
            # Nothing keeps anybody from nesting blocks without end.
            with suppress(RecursionError):
                message = translate(copies.removed(raw, micros(ts)), team, channel, names, bots)
                if message:
                    found.append(message.record)
    said = [replace(m, author=people.get(m.user or "", m.author)) for m in found]
    return sorted(said, key=lambda m: micros(m.ts))
