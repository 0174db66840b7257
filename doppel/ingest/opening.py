"""The archive, opened: what it holds reads as this version of Doppel reads Slack."""

from __future__ import annotations

from pathlib import Path

from doppel.archive import Archive
from doppel.archive.database import backend_of, open_engine
from doppel.ingest.render import render_outdated


def open_archive(where: Path | str, workspace_url: str = "") -> Archive:
    """The archive in a file, or behind a Postgres URL, created if there is none; use it as a context manager.

    `workspace_url` goes before what the export says. What an earlier version of Doppel read otherwise is read again.
    """
    backend = backend_of(where)
    archive = Archive(open_engine(backend), backend, workspace_url)
    try:
        render_outdated(archive)
    except BaseException:
        archive.close()
        raise
    return archive
