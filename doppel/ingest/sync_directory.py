"""Who and what there is: the workspace, its people, and the channels to be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from doppel.errors import BadInputError, SlackError, SlackTokenError
from doppel.plain_text import line
from doppel.records import Channel, ChannelKind, User
from doppel.slack.api import Json, SlackApi
from doppel.slack.block_text import dicts
from doppel.slack.members import channel_of, id_of, text_of, user_of
from doppel.slack.messages import timestamp
from doppel.timestamps import micros

PAGE = 200
GROUP_TRIES = 6
"""How often user groups are asked for: messages can be read without."""
PUBLIC = "public_channel"
_MOST = 2**31 - 1
"""Members that a channel can have, and a database keep."""
_NOT_FOR_ALL = {"private_channel": "Private channels", "mpim": "Group conversations"}


@dataclass(frozen=True, slots=True)
class Facts:
    """What Slack lists with a channel; `created` is microseconds since the epoch, `is_member` None if not said."""

    created: int
    is_member: bool | None
    num_members: int | None


@dataclass(frozen=True, slots=True)
class Listed:
    """What Slack lists now; `channels` are those that are wanted, `groups` the handles of user groups by id."""

    team: str
    url: str
    users: tuple[User, ...]
    all_channels: tuple[Channel, ...]
    channels: tuple[Channel, ...]
    facts: dict[str, Facts]
    groups: dict[str, str]


def read_listed(api: SlackApi, wanted: Sequence[str], warn: Callable[[str], None]) -> Listed:
    """Ask Slack for them; `wanted` are names or ids of channels, all if there are none.

    Raises SlackError, BadInputError where nothing is called so.
    """
    identity = api.call("auth.test")
    team = id_of(identity, "team_id")
    if not team:
        raise SlackError("Slack names no workspace for this token; check SLACK_BOT_TOKEN and SLACK_API_URL.")
    people = (raw for page in api.pages("users.list", "members", limit=PAGE) for raw in page)
    users = tuple(user_of(raw, team) for raw in people if isinstance(raw, dict) and id_of(raw, "id"))
    raws = {text_of(raw, "id"): raw for raw in _channels(api, warn)}
    channels = tuple(channel_of(raw, team, _kind(raw)) for raw in raws.values())
    facts = {id_: _facts(raw) for id_, raw in raws.items()}
    return Listed(team, text_of(identity, "url"), users, channels, _wanted(channels, wanted), facts, _groups(api, warn))


def _channels(api: SlackApi, warn: Callable[[str], None]) -> list[Json]:
    """Public channels, and the private ones and group conversations that the bot is in, as far as it may list them."""
    try:
        return _list(api, ",".join((PUBLIC, *_NOT_FOR_ALL)))
    except SlackError as error:
        if error.code != "missing_scope":
            raise
    found = _list(api, PUBLIC)
    for kind, what in _NOT_FOR_ALL.items():
        try:
            found += _list(api, kind)
        except SlackError as error:
            if error.code != "missing_scope":
                raise
            warn(f"{what} are left out: {error}")
    return found


def _groups(api: SlackApi, warn: Callable[[str], None]) -> dict[str, str]:
    """What user groups are called; none where Slack refuses to say it, as messages can be read without."""
    try:
        found = api.call("usergroups.list", tries=GROUP_TRIES, include_disabled="true").get("usergroups")
    except SlackTokenError:
        raise
    except SlackError as error:
        warn(f"User groups read as their ids: {error}")
        return {}
    named = {id_of(raw, "id"): text_of(raw, "handle") or text_of(raw, "name") for raw in dicts(found)}
    handles = {id_: line(handle).strip().lstrip("@") for id_, handle in named.items() if id_.startswith("S")}
    return {id_: handle for id_, handle in handles.items() if handle}


def _list(api: SlackApi, types: str) -> list[Json]:
    pages = api.pages("conversations.list", "channels", types=types, limit=PAGE)
    return [raw for page in pages for raw in page if isinstance(raw, dict) and id_of(raw, "id")]


def _wanted(channels: Sequence[Channel], names: Sequence[str]) -> tuple[Channel, ...]:
    if not names:
        return tuple(channels)
    by_name = {channel.name: channel for channel in channels} | {channel.id: channel for channel in channels}
    for name in names:
        if name.removeprefix("#") not in by_name:
            near = get_close_matches(name.removeprefix("#"), by_name, n=3)
            hint = f"; the nearest are {', '.join(near)}" if near else "; a private channel must have the bot in it"
            raise BadInputError(f'Slack shows the app no channel "{name}"{hint}.')
    return tuple(dict.fromkeys(by_name[name.removeprefix("#")] for name in names))


def _kind(raw: Json) -> ChannelKind:
    """Slack lists all kinds together, so that one is public must be said."""
    return ChannelKind.PUBLIC if raw.get("is_private") is False else ChannelKind.PRIVATE


def _facts(raw: Json) -> Facts:
    created, members, is_member = timestamp(raw.get("created")), raw.get("num_members"), raw.get("is_member")
    return Facts(
        created=micros(created) if created else 0,
        is_member=is_member if isinstance(is_member, bool) else None,
        num_members=members if isinstance(members, int) and 0 <= members <= _MOST else None,
    )
