"""Recording what people say about their doppelganger, and acting on a no at once."""

from __future__ import annotations

from doppel.access import ConsentAction, ConsentRecord
from doppel.adapters import AdapterStore
from doppel.archive.archive import Archive
from doppel.errors import BusyError
from doppel.records import User


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
