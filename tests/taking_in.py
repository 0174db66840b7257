"""What comes into an archive without a Slack: an export, or what events tell."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from doppel.archive import Archive
from doppel.ingest import EventStore, ImportReport, import_export
from doppel.slack.events import Change
from doppel.slack.export import open_export
from tests.fakes.export_builder import ExportBuilder
from tests.fakes.slack import TEAM


def take_in(archive: Archive, builder: ExportBuilder) -> ImportReport:
    """Import an export."""
    with TemporaryDirectory() as folder, open_export(builder.zip(Path(folder) / "export.zip")) as export:
        return import_export(archive, export)


def take(archive: Archive, *changes: tuple[Change, float]) -> bool:
    """Take up what happened, each with the second in which it did."""
    return EventStore(archive, TEAM).take([(change, round(at * 1_000_000)) for change, at in changes])
