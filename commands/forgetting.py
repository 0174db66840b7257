"""Forgetting a person: archive, adapters, running server, jobs and index, one after the other."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.jobs import as_job, request_of
from commands.run import Run, UserName, command
from doppel.console import Result
from doppel.errors import DoppelError, JobError
from doppel.plain_text import lines

if TYPE_CHECKING:
    from doppel.archive.archive import Archive
    from doppel.consent import Receipt
    from doppel.records import User

app = typer.Typer()

JOBS = "The jobs' database could not be written anew, which takes out their name; run the same command once more."


@dataclass(frozen=True, slots=True)
class Index:
    """What became of the search index: how many chunks and which versions went, and why it isn't done, if so."""

    chunks: int = 0
    versions: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()


@command(app, "forget")
def forget_(
    run: Run,
    user: UserName,
    messages: Annotated[bool, typer.Option("--messages", help="Also everything that USER wrote.")] = False,
    by: Annotated[str, typer.Option("--by", help="Who enters this; your login if left out.")] = "",
) -> Result:
    """Forget USER for good: adapter, answers and feedback. It asks nothing and can't be undone."""
    with run.archive() as archive:
        person = archive.find_user(user)
        receipt = forget(run, archive, person, messages, by or getpass.getuser())
        asyncio.run(unload(run, person, receipt.adapters))
        index = clean_index(run, archive, receipt.archive.revision) if messages else Index()
    data = _as_data(receipt, index)
    return Result(data, _as_text(receipt, data))


def forget(run: Run, archive: Archive, person: User, messages: bool, by: str) -> Receipt:
    """Everything but the index, which a reindex sets right, and the running server, which `unload` does."""
    from doppel import consent
    from doppel.jobs.queue import Jobs
    from doppel.logs import remove_lines

    receipt = consent.forget(archive, run.adapters(), person, messages, by)
    pending = receipt.pending
    try:
        with Jobs(run.settings) as jobs:
            jobs.forget_person(person)
            jobs.scrub()
    except JobError:
        pending += (JOBS,)
    remove_lines(run.settings.logs_dir, person.names)
    return replace(receipt, pending=pending)


async def unload(run: Run, person: User, versions: Iterable[str]) -> None:
    """Make a running server forget those versions, so that their weights leave its memory."""
    from doppel.adapters import adapter_name
    from doppel.server import forget_adapters

    await forget_adapters(run.settings, [adapter_name(person, version) for version in versions])


def ask_reindex(run: Run, revision: int) -> str | None:
    """Queue the job that makes the index anew; None where there is no index."""
    from doppel.jobs.queue import Jobs

    if not _has_index(run):
        return None
    with Jobs(run.settings) as jobs:
        return jobs.ask(request_of(run.settings, "reindex", _words(revision)))[0].id


def _words(revision: int) -> list[str]:
    # Without it this would be taken for a reindex that runs already, and may have read what is forgotten now.
    return ["--revision", str(revision)]


def _has_index(run: Run) -> bool:
    from indexing.reindex import CACHE_FILE

    folder = run.index()
    return bool(folder.names()) or (folder.root / CACHE_FILE).exists()


def clean_index(run: Run, archive: Archive, revision: int) -> Index:
    """Make the index anew without what was forgotten up to that revision of the archive, and wait for it."""
    from indexing.reindex import is_clean

    if not _has_index(run):
        return Index()
    before = run.index().names()
    try:
        removed = int(as_job(run, "reindex", _words(revision), detach=False).data.get("removed", 0))
        reason = "" if is_clean(run.index(), archive.clean_revision()) else "something else wrote it meanwhile"
    except DoppelError as error:
        removed, reason = 0, str(error).rstrip(".")
    gone = tuple(sorted(set(before) - set(run.index().names())))
    pending = f"The index still holds what was forgotten, and shows none of it ({reason}); run `doppel reindex`."
    return Index(removed, gone, (pending,) if reason else ())


def _as_data(receipt: Receipt, index: Index) -> dict[str, Any]:
    archive = receipt.archive
    counted = ("messages", "copies", "posts", "answers", "feedback", "questions", "requests", "voices", "drafts")
    removed: dict[str, Any] = {name: getattr(archive, name) for name in counted}
    removed |= {"adapters": list(receipt.adapters), "chunks": index.chunks, "index_versions": list(index.versions)}
    return {
        "who": receipt.name,
        "user_id": receipt.user.id,
        "when": archive.record.at,
        "by": archive.record.by,
        "with_messages": receipt.with_messages,
        "removed": removed,
        "pending": [*receipt.pending, *index.pending],
    }


def _as_text(receipt: Receipt, data: dict[str, Any]) -> str:
    from doppel.consent import told

    index = [f"{data['removed']['chunks']} chunks of the index"] if receipt.with_messages else []
    head = f"{receipt.name} ({receipt.user.id}) was forgotten at {data['when']}, entered by {data['by']}."
    return lines([head, f"Removed: {', '.join([*told(receipt), *index])}.", *data["pending"]])
