"""Who is meant: a person by the name a user typed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches

from doppel.errors import UnknownUserError
from doppel.records import User

_NEAREST = 5


def find_user(users: Sequence[User], name: str) -> User:
    """The one of `users` with that Slack id, handle, display or real name.

    As it is typed goes before another case. Raises UnknownUserError that names the nearest, or all who are meant.
    """
    wanted = name.strip().removeprefix("@")
    found = _named(users, wanted, str) or _named(users, wanted, str.casefold)
    if len(found) > 1:
        found = [user for user in found if not (user.deleted or user.is_bot)] or found
    if len(found) == 1:
        return found[0]
    if found:
        raise UnknownUserError(f'"{name}" fits several people: {_labels(found)}; give the handle or the id.')
    raise UnknownUserError(_nobody(users, name, wanted))


def _named(users: Iterable[User], wanted: str, fold: Callable[[str], str]) -> list[User]:
    return [user for user in users if wanted and fold(wanted) in map(fold, _names(user))]


def _names(user: User) -> list[str]:
    return [name for name in (user.id, user.handle, user.display_name, user.real_name) if name]


def _nobody(users: Sequence[User], name: str, wanted: str) -> str:
    if not users:
        return "The archive knows nobody yet; import a Slack export first."
    by_name: dict[str, list[User]] = {}
    for user in users:
        for known in _names(user):
            by_name.setdefault(known.casefold(), []).append(user)
            by_name.setdefault(known.casefold().split()[0], []).append(user)
    close = get_close_matches(wanted.casefold(), by_name, n=_NEAREST, cutoff=0.5)
    nearest = list(dict.fromkeys(user for known in close for user in by_name[known]))[:_NEAREST]
    if not nearest:
        return f'Nobody is called "{name}"; give a Slack id, a handle, a display or a real name.'
    return f'Nobody is called "{name}"; the nearest are {_labels(nearest)}.'


def _labels(users: Iterable[User]) -> str:
    return ", ".join(f"{user.name} (@{user.handle or '?'}, {user.id})" for user in users)
