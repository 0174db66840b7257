"""Who is meant: a person by their id, or by the name that a user typed. An id is never looked up as a name."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches

from doppel.errors import UnknownUserError
from doppel.ids import looks_like_user_id
from doppel.records import User

_NEAREST = 5
# Blanks and marks that Unicode counts as letters, symbols or accents; the others are known by their category.
_INVISIBLE = re.compile("[\u034f\u115f\u1160\u2800\u3164\ufe00-\ufe0f\uffa0]")


def find_user(users: Sequence[User], name: str) -> User:
    """The one of `users` with that Slack id, else with that handle, display or real name.

    As it is typed goes before another case. Raises UnknownUserError that names the nearest, or all who are meant.
    """
    wanted = name.strip().removeprefix("@")
    found = _with_id(users, wanted)
    if not found and not looks_like_user_id(wanted):
        found = _named(users, wanted, as_read) or _named(users, wanted, _folded)
    if len(found) > 1:
        found = [user for user in found if not (user.deleted or user.is_bot)] or found
    if len({user.id for user in found}) == 1:
        # Somebody whom several workspaces list is at home in one of them.
        found = [user for user in found if not user.is_guest] or found
    if len(found) == 1:
        return found[0]
    if found:
        raise UnknownUserError(f'"{name}" fits several people: {_labels(found)}; give the handle or the id.')
    raise UnknownUserError(_nobody(users, name, wanted))


def require_known(found: User | None, user_id: str) -> User:
    """Who was found by that id. Raises UnknownUserError where nobody was."""
    if found is None:
        raise UnknownUserError(f'Nobody has the id "{user_id}" in the workspace; ask again after the next sync.')
    return found


def as_read(name: str) -> str:
    """A name as people read it: however its accents are composed, without what can't be seen, spaces as one."""
    if name.isascii() and name.isprintable():
        return " ".join(name.split())
    seen = (c for c in _INVISIBLE.sub("", name) if c.isspace() or unicodedata.category(c) not in ("Cc", "Cf"))
    return unicodedata.normalize("NFC", " ".join("".join(seen).split()))


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", as_read(name).casefold())


def _with_id(users: Iterable[User], wanted: str) -> list[User]:
    return [user for user in users if user.id == wanted] or [user for user in users if user.id == wanted.upper()]


def _named(users: Iterable[User], wanted: str, fold: Callable[[str], str]) -> list[User]:
    folded = fold(wanted)
    return [user for user in users if folded and folded in map(fold, _names(user))]


def _names(user: User) -> list[str]:
    return [name for name in (user.handle, user.display_name, user.real_name) if name]


def _nobody(users: Sequence[User], name: str, wanted: str) -> str:
    if not users:
        return "The archive knows nobody yet; import a Slack export first."
    by_name: dict[str, list[User]] = {}
    for user in users:
        for known in filter(None, map(_folded, [user.id, *_names(user)])):
            by_name.setdefault(known, []).append(user)
            by_name.setdefault(known.split()[0], []).append(user)
    close = get_close_matches(_folded(wanted), by_name, n=_NEAREST, cutoff=0.5)
    nearest = list(dict.fromkeys(user for known in close for user in by_name[known]))[:_NEAREST]
    called = "Nobody is called" if not looks_like_user_id(wanted) else "Nobody has the id"
    if not nearest:
        return f'{called} "{name}"; give a Slack id, a handle, a display or a real name.'
    return f'{called} "{name}"; the nearest {"is" if len(nearest) == 1 else "are"} {_labels(nearest)}.'


def _labels(users: Iterable[User]) -> str:
    return ", ".join(f"{user.name} (@{user.handle or '?'}, {user.id})" for user in users)
