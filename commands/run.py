"""What every command has in common: its options, the parts it works with, and errors as sentences."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from doppel.config import DOTENV, Settings, load_settings, secret_variables
from doppel.console import Console, Result, quiet_libraries
from doppel.jobs.reports import JobConsole, Reports
from doppel.logs import log_to
from doppel.private import keep_files_private, readable_secrets, secure_data_folder

if TYPE_CHECKING:
    from doppel.adapters import AdapterStore
    from doppel.archive.archive import Archive
    from doppel.artifacts import VersionedFolder
    from indexing.embed import SentenceEmbedder
    from indexing.retrieve import IndexRetriever

LOG = "doppel.log"

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="The data folder (or DOPPEL_DATA_DIR).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Detach = Annotated[bool, typer.Option("--detach", help="Don't wait: `doppel jobs show` tells how it goes.")]
UserName = Annotated[str, typer.Argument(metavar="USER", help="Slack id, handle, display name or real name.")]


@dataclass(frozen=True, slots=True)
class Run:
    """What every command works with."""

    settings: Settings
    console: Console

    @property
    def is_job(self) -> bool:
        """Whether this process is a job's: then it does the work itself instead of asking for it."""
        return isinstance(self.console, JobConsole)

    def archive(self) -> Archive:
        """The archive, opened; use it as a context manager."""
        from doppel.archive.archive import Archive

        return Archive.open(self.settings.archive_at, self.settings.workspace_url)

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


def command(
    group: typer.Typer, name: str, hidden: bool = False
) -> Callable[[Callable[..., Result]], Callable[..., None]]:
    """Make a function of a Run and its own parameters a command, with --data-dir, --json and errors as sentences."""

    def register(body: Callable[..., Result]) -> Callable[..., None]:
        @functools.wraps(body)
        def wrapper(ctx: typer.Context, *, json: bool, data_dir: Path | None, **given: Any) -> None:
            outer = ctx.find_root().params
            execute(body, json or outer["json"], data_dir or outer["data_dir"], given)

        signature = inspect.signature(body, eval_str=True)
        kind = inspect.Parameter.KEYWORD_ONLY
        own = [p.replace(kind=kind) for key, p in signature.parameters.items() if key != "run"]
        shared = [
            inspect.Parameter("ctx", kind, annotation=typer.Context),
            *own,
            inspect.Parameter("data_dir", kind, default=None, annotation=DataDir),
            inspect.Parameter("json", kind, default=False, annotation=AsJson),
        ]
        wrapper.__signature__ = signature.replace(parameters=shared, return_annotation=None)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {p.name: p.annotation for p in shared}
        group.command(name, hidden=hidden)(wrapper)
        return wrapper

    return register


def execute(body: Callable[..., Result], as_json: bool, data_dir: Path | None, given: dict[str, Any]) -> None:
    keep_files_private()
    quiet_libraries()
    reports = Reports.inherited()
    console = JobConsole(reports) if reports else Console(as_json)
    load = functools.partial(load_settings, os.environ, DOTENV, data_dir=data_dir)
    wrong_usage: typer.BadParameter | None = None
    with console.guarded(lambda: load().logs_dir / LOG):
        try:
            run = Run(load(), console)
            log_to(run.settings.logs_dir / LOG, run.settings.log_level)
            for warning in (secure_data_folder(run.settings.data_dir), readable_secrets(DOTENV, secret_variables())):
                if warning:
                    console.say(warning)
            console.result(body(run, **given))
        except typer.BadParameter as error:
            wrong_usage = error
    if wrong_usage:
        raise wrong_usage
