"""Who is meant: a person by their id, or by the name that a user typed. An id is never looked up as a name."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches

from doppel.archive.forgotten import FORGOTTEN_NAME
from doppel.errors import UnknownUserError
from doppel.ids import looks_like_user_id
from doppel.plain_text import visible
from doppel.records import User

_NEAREST = 5


def find_user(users: Sequence[User], name: str) -> User:
    """A person as one workspace lists them: of several the one where they are at home.

    Raises UnknownUserError as `find_person` does, and where they are at home in several.
    """
    rows = find_person(users, name)
    rows = [user for user in rows if not user.is_guest] or rows
    if len(rows) == 1:
        return rows[0]
    raise UnknownUserError(f'"{name}" is in several workspaces ({_teams(rows)}); say in which with --team.')


def find_person(users: Sequence[User], name: str) -> list[User]:
    """The one person with that Slack id, else with that handle, display or real name; "@" says that a handle is meant.

    Returns how each workspace lists them, first where they are at home: an id is the same person's in all. Everybody is
    a candidate, whoever left too, and no letter's case decides. Raises UnknownUserError that names the nearest, or all
    who are meant.
    """
    wanted = name.strip().removeprefix("@")
    found = _with_id(users, wanted)
    if not found and not looks_like_user_id(wanted):
        # A handle is one person's; others may call themselves like it, and be meant.
        of_handle = _named(users, wanted, lambda user: [user.handle]) if name.strip().startswith("@") else []
        found = of_handle or _named(users, wanted, _names)
    ids = {user.id for user in found}
    if len(ids) > 1:
        raise UnknownUserError(
            f'"{name}" fits several people: {_labels(found)}; give the handle with its @, or the id.'
        )
    if not found:
        raise UnknownUserError(_nobody(users, name, wanted))
    return sorted((user for user in users if user.id in ids), key=lambda user: user.is_guest)


def require_known(found: User | None, user_id: str) -> User:
    """Who was found by that id. Raises UnknownUserError where nobody was."""
    if found is None:
        raise UnknownUserError(f'Nobody has the id "{user_id}" in the workspace; ask again after the next sync.')
    return found


def as_read(name: str) -> str:
    """A name as people read it: however its accents are composed, without what can't be seen, spaces as one."""
    return unicodedata.normalize("NFC", " ".join(visible(name).split()))


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", as_read(name).casefold())


def _with_id(users: Iterable[User], wanted: str) -> list[User]:
    return [user for user in users if user.id == wanted] or [user for user in users if user.id == wanted.upper()]


def _named(users: Iterable[User], wanted: str, names: Callable[[User], list[str]]) -> list[User]:
    folded = _folded(wanted)
    return [user for user in users if folded and folded in map(_folded, names(user))]


def _names(user: User) -> list[str]:
    return [name for name in (user.handle, user.display_name, user.real_name) if name]


def _nobody(users: Sequence[User], name: str, wanted: str) -> str:
    if not users:
        return "The archive knows nobody yet; import a Slack export first."
    by_name: dict[str, list[User]] = {}
    for user in (user for user in users if user.name != FORGOTTEN_NAME):
        for known in filter(None, map(_folded, [user.id, *_names(user)])):
            by_name.setdefault(known, []).append(user)
            by_name.setdefault(known.split()[0], []).append(user)
    close = get_close_matches(_folded(wanted), by_name, n=_NEAREST)
    nearest = list(dict.fromkeys(user for known in close for user in by_name[known]))[:_NEAREST]
    called = "Nobody is called" if not looks_like_user_id(wanted) else "Nobody has the id"
    if not nearest:
        return f'{called} "{name}"; give a Slack id, a handle, a display or a real name.'
    return f'{called} "{name}"; the nearest {"is" if len(nearest) == 1 else "are"} {_labels(nearest)}.'


def _teams(users: Iterable[User]) -> str:
    return ", ".join(user.team for user in users)


def _labels(users: Iterable[User]) -> str:
    return ", ".join(f"{user.name} (@{user.handle or '?'}, {user.id})" for user in users)
