"""Recording what people say about their doppelganger, and acting on a no at once."""

from __future__ import annotations

import time
from dataclasses import dataclass

from doppel.access import ConsentAction, ConsentRecord, is_refused
from doppel.adapters import AdapterStore
from doppel.archive.archive import Archive
from doppel.archive.forgetting import Forgotten
from doppel.errors import BusyError
from doppel.records import User

PATIENCE_SECONDS = 20.0
"""How long forgetting waits for a training under way to stop."""
POLL_SECONDS = 0.25

TRAINING = "A training was under way; it sees at its next step that it must stop, and deletes all that it made."
SCRUBBING = "The archive's files could not be written anew while others read them; run the same command once more."


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


def grant(archive: Archive, user: User, by: str) -> ConsentRecord:
    """Record that `user` agreed."""
    return archive.record_consent(user, ConsentAction.GRANT, by)


def revoke(archive: Archive, adapters: AdapterStore, user: User, by: str) -> tuple[ConsentRecord, list[str]]:
    """Record that `user` withdrew, which stops the persona, then delete the adapter.

    Returns the record and the names of the versions that went. A training run under way sees the record at its next
    step and deletes everything itself.
    """
    record = archive.record_consent(user, ConsentAction.REVOKE, by)
    try:
        return record, adapters.retire(user)
    except BusyError:
        return record, []


def forget(archive: Archive, adapters: AdapterStore, user: User, messages: bool, by: str) -> Receipt:
    """Record that `user` is forgotten, which stops the persona, then delete the adapter and, if so wanted, `messages`.

    The index is left to a reindex: see `Archive.clean_revision`. Doing it again finishes what was left pending.
    """
    versions = adapters.folder(user).names()
    forgotten = archive.forget(user, messages, by)
    pending = [] if _retire(adapters, user, PATIENCE_SECONDS) else [TRAINING]
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


def sweep(archive: Archive, adapters: AdapterStore) -> None:
    """Delete what is left of the adapters of those who said no: a training may have been killed before it could."""
    for user in archive.users():
        if adapters.folder(user).root.is_dir() and is_refused(archive.consent_records(user)):
            _retire(adapters, user, seconds=0)


def _retire(adapters: AdapterStore, user: User, seconds: float) -> bool:
    """Whether nothing is left of somebody's adapters; False where a training holds them for longer."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            adapters.retire(user)
            return True
        except BusyError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(POLL_SECONDS)
