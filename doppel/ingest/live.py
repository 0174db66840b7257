"""Slack's messages as records, without storing them, and without what was forgotten."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from doppel.archive.archive import Archive
from doppel.archive.database import reading
from doppel.archive.forgotten import read_unwanted
from doppel.records import Message
from doppel.slack.markup import Names, Raw
from doppel.slack.messages import timestamp, translate
from doppel.timestamps import micros


def read_live(
    archive: Archive,
    team: str,
    channel: str,
    raws: Sequence[Raw],
    names: Names,
    people: Mapping[str, str],
    bots: Collection[str],
) -> list[Message]:
    """Messages of a channel as Slack gives them now, in the order of time.

    `names` tell how ids read in them, `people` what their authors are called; `bots` are the ids of users that are
    bots. What somebody wrote who had it forgotten is left out, also where another's message brings it along.
    """
    found = []
    with reading(archive._engine, archive.place) as connection:
        unwanted = read_unwanted(connection, team)
        names = unwanted.names(names)
        for raw in raws:
            ts = timestamp(raw.get("ts"))
            if ts is None or unwanted.covers(raw.get("user"), micros(ts)):
                continue
            message = translate(unwanted.cleaned(raw, micros(ts)), team, channel, names, bots)
            if message:
                found.append(message.record)
    said = [replace(m, author=people.get(m.user or "", m.author)) for m in found]
    return sorted(said, key=lambda m: micros(m.ts))
