"""Forgetting a person: archive, adapters, running server, jobs and index, one after the other."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from doppel.adapters import AdapterStore, adapter_name
from doppel.app_context import AppContext
from doppel.archive.archive import Archive
from doppel.archive.forgetting import Forgotten
from doppel.errors import BusyError, DoppelError, JobError
from doppel.ingest import forget_person
from doppel.jobs.queue import Jobs
from doppel.logs import remove_lines
from doppel.records import User
from doppel.services.consent import retire
from doppel.services.jobs import as_job, request_of

PATIENCE_SECONDS = 20.0
"""How long forgetting waits for a training under way to stop."""

COUNTED = ("messages", "copies", "posts", "answers", "feedback", "questions", "requests", "voices", "drafts")
"""What is counted of what went from the archive."""

TRAINING = "A training was under way; it sees at its next step that it must stop, and deletes all that it made."
SCRUBBING = "The archive's files could not be written anew while others read them; run the same command once more."
JOBS = "The jobs' database could not be written anew, which takes out their name; run the same command once more."


@dataclass(frozen=True, slots=True)
class Receipt:
    """What forgetting a person removed. `name` is what they were called, `adapters` are versions; `pending` says what
    is still to be done, as sentences.
    """

    user: User
    name: str
    with_messages: bool
    adapters: tuple[str, ...]
    archive: Forgotten
    pending: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Index:
    """What became of the search index: how many chunks and which versions went, and why it isn't done, if so."""

    chunks: int = 0
    versions: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()


def forget(
    context: AppContext, archive: Archive, person: User, messages: bool, by: str, called: Collection[str] = ()
) -> Receipt:
    """Everything but the index, which a reindex sets right, and the running server, which `unload` does.

    It is of one workspace; `called` are names that they have in others.
    """
    receipt = forget_stored(archive, context.adapters(), person, messages, by, called)
    pending = receipt.pending
    try:
        with Jobs(context.settings) as jobs:
            jobs.forget_person(person)
            jobs.scrub()
    except JobError:
        pending += (JOBS,)
    remove_lines(context.settings.logs_dir, person.names)
    return replace(receipt, pending=pending)


def forget_in_all(
    context: AppContext, archive: Archive, rows: Sequence[User], messages: bool, by: str
) -> list[Receipt]:
    """The same of a person in every workspace that lists them."""
    called = frozenset[str]().union(*(row.names for row in rows))
    return [forget(context, archive, row, messages, by, called) for row in rows]


def together(receipts: Sequence[Receipt]) -> Receipt:
    """What forgetting a person removed in several workspaces, as of the first."""
    first, parts = receipts[0], [receipt.archive for receipt in receipts]
    removed = {name: sum(getattr(part, name) for part in parts) for name in COUNTED}
    archive = replace(first.archive, **removed, revision=max(part.revision for part in parts))
    adapters = tuple(version for receipt in receipts for version in receipt.adapters)
    pending = tuple(dict.fromkeys(sentence for receipt in receipts for sentence in receipt.pending))
    return replace(first, adapters=adapters, archive=archive, pending=pending)


async def unload(context: AppContext, person: User, versions: Iterable[str]) -> None:
    """Make a running server forget those versions, so that their weights leave its memory."""
    from doppel.inference.vllm_process import forget_adapters

    await forget_adapters(context.settings, [adapter_name(person, version) for version in versions])


def ask_reindex(context: AppContext, revision: int) -> str | None:
    """Queue the job that makes the index anew; None where there is no index."""
    if not context.has_index():
        return None
    with Jobs(context.settings) as jobs:
        return jobs.ask(request_of(context.settings, "reindex", _words(revision)))[0].id


def _words(revision: int) -> list[str]:
    # Without it this would be taken for a reindex that runs already, and may have read what is forgotten now.
    return ["--revision", str(revision)]


def clean_index(context: AppContext, archive: Archive, revision: int) -> Index:
    """Make the index anew without what was forgotten up to that revision of the archive, and wait for it."""
    if not context.has_index():
        return Index()
    before = context.index().names()
    try:
        removed = int(as_job(context, "reindex", _words(revision), detach=False).data.get("removed", 0))
        reason = "" if context.is_index_clean(archive.clean_revision()) else "something else wrote it meanwhile"
    except DoppelError as error:
        removed, reason = 0, str(error).rstrip(".")
    gone = tuple(sorted(set(before) - set(context.index().names())))
    pending = f"The index still holds what was forgotten, and shows none of it ({reason}); run `doppel reindex`."
    return Index(removed, gone, (pending,) if reason else ())


def forget_stored(
    archive: Archive, adapters: AdapterStore, user: User, messages: bool, by: str, called: Collection[str] = ()
) -> Receipt:
    """Record that `user` is forgotten, which stops the persona, then delete the adapter and, if so wanted, `messages`.

    The index is left to a reindex: see `Archive.clean_revision`. Doing it again finishes what was left pending.
    """
    versions = adapters.folder(user).names()
    forgotten = forget_person(archive, user, messages, by, called)
    pending = [] if retire(adapters, user, PATIENCE_SECONDS) else [TRAINING]
    try:
        archive.scrub()
    except BusyError:
        pending.append(SCRUBBING)
    gone = sorted(set(versions) - set(adapters.folder(user).names()))
    return Receipt(user, user.name, messages, tuple(gone), forgotten, tuple(pending))


def told(receipt: Receipt) -> list[str]:
    """What was removed, as words for people."""
    gone = receipt.archive
    words = [
        f"{len(receipt.adapters)} versions of the adapter",
        f"{gone.answers} answers",
        f"{gone.feedback} votes on answers",
        f"{gone.drafts} drafts",
        f"{gone.questions} open questions",
    ]
    return [*words, f"{gone.messages} messages"] if receipt.with_messages else words
