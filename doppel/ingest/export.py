"""Taking an export in: people, channels, then messages in batches, all within one transaction.

A row is replaced only by what is newer: a later edit, or the same edit seen by an export of a later day. So importing
again changes nothing, a later export adds and updates, and an older one doesn't undo.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from time import monotonic

from sqlalchemy import Connection, insert, select

from doppel.archive import Archive, tables
from doppel.archive.changes import note_change
from doppel.archive.channels import channel_values, hide_channels, merge_channels, moved_channels, take_lists
from doppel.archive.consent_and_feedback import now
from doppel.archive.directory import merge_people, merge_team, rekey_named, take_url
from doppel.archive.forgotten import read_tombstones
from doppel.archive.messages import take_back
from doppel.archive.reading import counts
from doppel.errors import BusyError
from doppel.ids import PLACEHOLDER
from doppel.ingest.forgetting import clean_messages
from doppel.ingest.merge import Merger, merge_authors
from doppel.ingest.names import read_directory
from doppel.ingest.render import render_again
from doppel.plain_text import storable
from doppel.records import Channel, ChannelKind
from doppel.slack.export import Export, Progress
from doppel.timestamps import micros


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did. `messages`, `users`, `channels` and `threads` count the whole archive as it is now."""

    messages: int
    added: int
    updated: int
    unchanged: int
    skipped: dict[str, int]
    users: int
    channels: int
    threads: int
    seconds: float


def import_export(archive: Archive, export: Export, progress: Progress | None = None) -> ImportReport:
    """Take in an export, whole or not at all.

    Raises BusyError while another process imports, BadInputError where it holds no message that could be read, unless
    nobody ever said anything there.
    """
    with archive.exclusive():
        with archive.writing() as connection:
            report = _import(connection, export, progress)
        # It counts anyway.
        with suppress(BusyError):
            archive.settle()
    return report


def _import(connection: Connection, export: Export, progress: Progress | None) -> ImportReport:
    started, cleaned = monotonic(), 0
    channel_ids, changed = _merge_directory(connection, export)
    render_again(connection, export.team, changed)
    directory = read_directory(connection, export.team)
    merger = Merger(connection, directory, micros(export.as_of), export.skipped, export.users())
    for channel, of_channel in groupby(export.messages(progress), key=lambda pair: pair[0].id):
        merger.take(channel_ids[channel], (raw for _, raw in of_channel))
    if not (merger.added or merger.updated or merger.unchanged):
        export.require_sound()
    for stand_in, channels in export.of_several.items():
        take_back(connection, directory.team, channel_ids[stand_in], channels)
    if merger.tombstones.until:
        # What was forgotten may have come after its copies, or was forgotten by a Doppel that knew fewer of these.
        cleaned = clean_messages(connection, merger.directory, merger.tombstones)
    merge_authors(connection, directory)
    if export.url:
        take_url(connection, directory.team, export.url, micros(export.as_of))
    report = ImportReport(
        **asdict(counts(connection)),
        added=merger.added,
        updated=merger.updated,
        unchanged=merger.unchanged,
        skipped={reason: count for reason, count in sorted(export.skipped.items()) if count},
        seconds=round(monotonic() - started, 3),
    )
    if changed or merger.changed or cleaned:
        note_change(connection, directory.team)
    _log(connection, directory.team, merger.tombstones.file_name(export.path.name), micros(export.as_of), report)
    return report


def _merge_directory(connection: Connection, export: Export) -> tuple[dict[str, str], set[str]]:
    """Take in people and channels; returns the channels' ids in the archive by those in the export, and the ids that
    read differently now.
    """
    as_of = micros(export.as_of)
    export.team = team = merge_team(connection, export.teams, export.channels)
    tombstones = read_tombstones(connection, team)
    changed = merge_people(connection, team, export.users(), as_of)
    nameless = [user for user in export.users() if user.id in tombstones.nameless] if tombstones.nameless else []
    moved = moved_channels(connection, team)
    known = {channel.id: tombstones.channel(channel, nameless) for channel in export.channels}
    now = {id_: replace(channel, id=moved.get(channel.id, channel.id)) for id_, channel in known.items()}
    ids, places = _merge_channels(connection, team, now.values(), as_of)
    return {id_: ids[channel.id] for id_, channel in now.items()}, changed | places


def _merge_channels(
    connection: Connection, team: str, channels: Iterable[Channel], as_of: int
) -> tuple[dict[str, str], set[str]]:
    """Take in channels; returns their ids in the archive by those in the export, and the ids that read differently.

    A channel that a later export no longer lists keeps its id and name, but from then on who may read it is unknown.
    """
    t = tables.channels
    stored = {row.id: row for row in connection.execute(select(t).where(t.c.team == team).order_by(t.c.as_of, t.c.id))}
    listed = {channel.id: channel for channel in channels if channel.kind is not ChannelKind.UNKNOWN}
    delisted = {id_: stored[placeholder].as_of for id_, placeholder in rekey_named(connection, team, listed.values())}
    real = [row for row in stored.values() if not row.id.startswith(PLACEHOLDER) and row.id not in listed]
    called_so = Counter(row.name for row in real)
    alone = {PLACEHOLDER + row.name: row.id for row in real if called_so[row.name] == 1}
    ids = {channel.id: channel.id for channel in listed.values()}
    unlisted = [channel for channel in channels if channel.kind is ChannelKind.UNKNOWN]
    ids |= {channel.id: alone.get(channel.id, channel.id) for channel in unlisted}
    guesses = [channel_values(channel) for channel in unlisted if ids[channel.id] not in {*stored, *listed}]
    changed = merge_channels(connection, team, map(channel_values, listed.values()), as_of)
    changed |= take_lists(connection, team, {id_: channel.members for id_, channel in listed.items()}, as_of)
    delisted |= {ids[channel.id]: as_of for channel in unlisted if ids[channel.id] in stored}
    for id_, seen in delisted.items():
        changed |= hide_channels(connection, team, [id_], seen)
    return ids, changed | merge_channels(connection, team, guesses, as_of)


def _log(connection: Connection, team: str, name: str, as_of: int, report: ImportReport) -> None:
    entry = {"at": now(), "team": team, "name": storable(name), "as_of": as_of}
    connection.execute(insert(tables.imports).values(**entry, counts=asdict(report)))
