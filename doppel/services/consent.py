"""Recording what people say about their doppelganger, and acting on a no at once."""

from __future__ import annotations

import time

from doppel.access import ConsentAction, ConsentRecord, is_refused
from doppel.adapters import AdapterStore
from doppel.archive.archive import Archive
from doppel.errors import BusyError
from doppel.records import User

POLL_SECONDS = 0.25


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


def sweep(archive: Archive, adapters: AdapterStore) -> None:
    """Delete what is left of the adapters of those who said no: a training may have been killed before it could."""
    for user in archive.users():
        if adapters.folder(user).root.is_dir() and is_refused(archive.consent_records(user)):
            retire(adapters, user, seconds=0)


def retire(adapters: AdapterStore, user: User, seconds: float) -> bool:
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
