"""Slack's users and channels, wherever they come from (export, API), to records."""

from __future__ import annotations

from doppel.records import Channel, ChannelKind, User
from doppel.slack.markup import Raw, clean


def user_of(raw: Raw, team: str) -> User:
    """The record of a member of `team`; foreign guests count as its members too."""
    profile = raw.get("profile")
    profile = profile if isinstance(profile, dict) else {}
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
    home = text_of(raw, "team_id")
    limited = any(raw.get(key) for key in ("is_restricted", "is_ultra_restricted", "is_stranger"))
    return limited or (team.startswith("T") and home.startswith("T") and home != team)


def channel_of(raw: Raw, team: str, kind: ChannelKind) -> Channel:
    """The record of a channel in a list of that `kind`; one without a name is named by its id."""
    members = raw.get("members")
    return Channel(
        team=team,
        id=text_of(raw, "id"),
        name=text_of(raw, "name") or text_of(raw, "id"),
        kind=_narrowed(raw, kind),
        members=tuple(clean(m) for m in members if isinstance(m, str)) if isinstance(members, list) else (),
        archived=bool(raw.get("is_archived")),
    )


def text_of(raw: Raw, key: str) -> str:
    """A field's text as it can be stored, "" where it is none."""
    value = raw.get(key)
    return clean(value) if isinstance(value, str) else ""


def _narrowed(raw: Raw, kind: ChannelKind) -> ChannelKind:
    """Exports made by other tools keep private conversations in channels.json and mark them there."""
    for key, narrower in (
        ("is_im", ChannelKind.IM),
        ("is_mpim", ChannelKind.MPIM),
        ("is_private", ChannelKind.PRIVATE),
    ):
        if kind is ChannelKind.PUBLIC and raw.get(key):
            return narrower
    return kind
