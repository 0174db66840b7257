"""Slack's users and channels, wherever they come from (export, API), to records."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace

from doppel.ids import is_id
from doppel.plain_text import storable
from doppel.records import Channel, ChannelKind, Raw, User

_CODE = re.compile(r"[A-Za-z0-9_.-]{1,100}")
LIMITS = (
    "is_restricted",
    "is_ultra_restricted",
    "is_stranger",
    "is_invited_user",
    "is_profile_only_user",
)
"""What Slack calls guests, people of other workspaces, and those who have not come yet."""
_GROUP_NAME = "mpdm-"
"""Begins the names that Slack gives to group conversations."""


def user_of(raw: Raw, team: str) -> User:
    """The record of somebody whom `team` lists; who isn't said to be a full member of it is a guest."""
    profile = part_of(raw, "profile")
    return User(
        team=team,
        id=text_of(raw, "id"),
        handle=text_of(raw, "name"),
        real_name=text_of(profile, "real_name") or text_of(raw, "real_name"),
        display_name=text_of(profile, "display_name"),
        is_bot=bool(raw.get("is_bot")),
        deleted=bool(raw.get("deleted")),
        is_guest=_is_guest(raw, team),
    )


def _is_guest(raw: Raw, team: str) -> bool:
    """Unless it says that somebody is at home in `team`; of an organisation's people it says in which workspaces."""
    profile = part_of(raw, "profile")
    if any(part.get(key) for part in (raw, profile) for key in LIMITS):
        return True
    return team not in teams_of(raw)


def teams_of(raw: Raw) -> tuple[str, ...]:
    """The workspaces that somebody is said to be at home in; several where they are an organisation's."""
    if teams := part_of(raw, "enterprise_user").get("teams"):
        return tuple(team for team in teams if isinstance(team, str) and is_id(team)) if isinstance(teams, list) else ()
    home = id_of(raw, "team_id") or id_of(part_of(raw, "profile"), "team")
    return (home,) if home else ()


def channel_of(raw: Raw, team: str, kind: ChannelKind) -> Channel:
    """The record of a channel in a list of that `kind`; one without a name is named by its id."""
    members = raw.get("members")
    return Channel(
        team=team,
        id=text_of(raw, "id"),
        name=channel_name(text_of(raw, "name")) or text_of(raw, "id"),
        kind=_narrowed(raw, kind),
        members=tuple(storable(m) for m in members if isinstance(m, str)) if isinstance(members, list) else (),
        archived=bool(raw.get("is_archived")),
    )


def narrower(one: Channel, other: Channel) -> Channel:
    """A channel that is listed twice, as fewer may read it."""
    others = frozenset(other.members)
    members = tuple(member for member in one.members if member in others)
    return replace(one, kind=_narrowest(one.kind, other.kind), members=members)


def channel_name(text: str) -> str:
    """A channel's name, or its folder's, as names are compared: some systems write an accent as a letter of its own."""
    return unicodedata.normalize("NFC", text)


def text_of(raw: Raw, key: str) -> str:
    """A field's text as it can be stored, "" where it is none."""
    value = raw.get(key)
    return storable(value) if isinstance(value, str) else ""


def part_of(raw: Raw, key: str) -> Raw:
    """A field's fields, none where it has none."""
    value = raw.get(key)
    return value if isinstance(value, dict) else {}


def error_of(answer: object) -> str:
    """Slack's own word for what is wrong in an answer; "" where there is none, or something else than one word."""
    code = text_of(answer, "error") if isinstance(answer, dict) else ""
    return code if _CODE.fullmatch(code) else ""


def id_of(raw: Raw, key: str) -> str:
    """A field's id, "" where it is none."""
    value = text_of(raw, key)
    return value if is_id(value) else ""


def _narrowed(raw: Raw, kind: ChannelKind) -> ChannelKind:
    """The kind as it is listed, or a narrower one that a channel says of itself.

    Other tools keep private conversations among the public channels, flagged or not: without a flag the id and the name
    tell. A channel that was made public keeps its id.
    """
    is_public = raw.get("is_private") is False
    id_, name = text_of(raw, "id"), text_of(raw, "name")
    looks_private = not is_public and id_.startswith("G")
    looks_like_group = not is_public and raw.get("is_mpim") is not False and name.startswith(_GROUP_NAME)
    said = {
        ChannelKind.IM: raw.get("is_im") or id_.startswith("D"),
        ChannelKind.MPIM: raw.get("is_mpim") or looks_like_group,
        ChannelKind.PRIVATE: raw.get("is_private") or raw.get("is_group") or looks_private,
    }
    return _narrowest(kind, *(narrower for narrower, holds in said.items() if holds))


def _narrowest(*kinds: ChannelKind) -> ChannelKind:
    return max(kinds, key=list(ChannelKind).index)
