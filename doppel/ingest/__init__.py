"""Slack's payloads into the archive, wherever they come from: an export, Slack's API, its events.

Here alone a payload becomes records, and those rows; the archive knows no Slack, and Slack's shapes no archive.
"""

from doppel.ingest.event_store import EventStore
from doppel.ingest.export import ImportReport, import_export
from doppel.ingest.forgetting import forget_person
from doppel.ingest.opening import open_archive
from doppel.ingest.sync_store import SyncStore

__all__ = ["EventStore", "ImportReport", "SyncStore", "forget_person", "import_export", "open_archive"]
