"""Taking an export in: people, channels, then messages in batches, all within the transaction of the caller.

A row is replaced only by what is newer: a later edit, or the same edit seen by an export of a later day. So importing
again changes nothing, a later export adds and updates, and an older one doesn't undo.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import groupby
from time import monotonic

from sqlalchemy import Connection, insert, update

from doppel.archive import tables
from doppel.archive.changes import note_change
from doppel.archive.cleaning import clean_messages
from doppel.archive.consent_and_feedback import now
from doppel.archive.directory import merge_directory
from doppel.archive.merging import Merger, merge_authors, take_back
from doppel.archive.reading import counts
from doppel.archive.rendering import render_again
from doppel.plain_text import storable
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


def import_export(connection: Connection, export: Export, progress: Progress | None = None) -> ImportReport:
    """Take in an export within the transaction of `connection`.

    Raises BadInputError where it holds no message that could be read, unless nobody ever said anything there.
    """
    started, cleaned = monotonic(), 0
    directory, changed = merge_directory(connection, export)
    render_again(connection, directory, changed)
    merger = Merger(connection, directory, micros(export.as_of), export.skipped, export.users)
    for channel, of_channel in groupby(export.messages(progress), key=lambda pair: pair[0].id):
        merger.take(directory.channel_ids[channel], (raw for _, raw in of_channel))
    if not (merger.added or merger.updated or merger.unchanged):
        export.require_sound()
    for stand_in, channels in export.of_several.items():
        take_back(connection, directory.team, stand_in, channels)
    if merger.unwanted.until:
        # What was forgotten may have come after its copies, or was forgotten by a Doppel that knew fewer of these.
        cleaned = clean_messages(connection, merger.directory, merger.unwanted)
    merge_authors(connection, directory)
    _merge_url(connection, directory.team, export)
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
    _log(connection, directory.team, merger.unwanted.file_name(export.path.name), micros(export.as_of), report)
    return report


def _merge_url(connection: Connection, team: str, export: Export) -> None:
    t, as_of = tables.workspaces, micros(export.as_of)
    if export.url:
        newer = update(t).where(t.c.team == team, t.c.as_of < as_of)
        connection.execute(newer.values(url=export.url, as_of=as_of))


def _log(connection: Connection, team: str, name: str, as_of: int, report: ImportReport) -> None:
    entry = {"at": now(), "team": team, "name": storable(name), "as_of": as_of}
    connection.execute(insert(tables.imports).values(**entry, counts=asdict(report)))
