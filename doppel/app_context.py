"""The composition root: builds the parts of Doppel once, for commands, server and tests.

It alone of this package knows the packages `indexing` and `training`, by name, and loads them when they are needed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from doppel.config import Settings
from doppel.console import Console
from doppel.errors import ArtifactError
from doppel.jobs.reports import JobConsole

if TYPE_CHECKING:
    from doppel.adapters import AdapterStore
    from doppel.archive.archive import Archive
    from doppel.artifacts import VersionedFolder
    from indexing.embed import SentenceEmbedder
    from indexing.retrieve import IndexRetriever

COMMAND = (sys.executable, str(Path(__file__).resolve().parent.parent / "app.py"))
"""What runs a command of Doppel, as a job's process does."""


@dataclass(frozen=True, slots=True)
class AppContext:
    """The settings, where to say what is going on, and the parts that they make."""

    settings: Settings
    console: Console

    @property
    def is_job(self) -> bool:
        """Whether this process is a job's: then it does the work itself instead of asking for it."""
        return isinstance(self.console, JobConsole)

    def archive(self) -> Archive:
        """The archive, opened; use it as a context manager."""

        from doppel.ingest import open_archive

        return open_archive(self.settings.archive_at, self.settings.workspace_url)

    @contextmanager
    def exclusively(self, what: str) -> Iterator[None]:
        """Hold the right to do something that one process may do on a data folder. Raises BusyError."""
        from filelock import FileLock, Timeout

        from doppel.errors import BusyError

        self.settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.settings.run_dir.mkdir(exist_ok=True)
        try:
            with FileLock(self.settings.run_dir / f"{what}.lock", timeout=0):
                yield
        except Timeout:
            raise BusyError(f"Another `doppel {what}` works on {self.settings.data_dir}; stop it first.") from None

    def adapters(self) -> AdapterStore:
        """The adapters of the data folder."""
        from doppel.adapters import AdapterStore

        return AdapterStore(self.settings.adapters_dir)

    def index(self) -> VersionedFolder:
        """The index of the data folder."""
        from doppel.artifacts import VersionedFolder

        return VersionedFolder(self.settings.index_dir, "index", "build it with `doppel reindex --full`")

    def embedder(self) -> SentenceEmbedder:
        """The embedding model of the settings."""
        from indexing.embed import SentenceEmbedder

        return SentenceEmbedder(self.settings.embedding_model, self.settings.device)

    def retriever(self, archive: Archive) -> IndexRetriever:
        """The search over the index."""
        from indexing.retrieve import IndexRetriever

        return IndexRetriever(self.index(), self.embedder(), archive)

    def has_index(self) -> bool:
        """Whether there is any version of an index, or what an interrupted reindex left of one."""
        from indexing.reindex import CACHE_FILE

        folder = self.index()
        return bool(folder.names()) or (folder.root / CACHE_FILE).exists()

    def require_index(self) -> None:
        """Raise ArtifactError where there is no index to search."""
        if self.index().current_name() is None:
            raise ArtifactError("There is no index yet; run `doppel reindex`.")

    def is_index_clean(self, clean_revision: int) -> bool:
        """Whether no version of the index can hold what was forgotten up to that revision of the archive."""
        from indexing.reindex import is_clean

        return is_clean(self.index(), clean_revision)

    def is_index_due(self, revision: int) -> bool:
        """Whether the index lacks what the archive holds at that revision."""
        from indexing.reindex import is_due

        return is_due(self.index(), revision)
