"""Web API methods that read: the team, its people, its conversations and their messages."""

from __future__ import annotations

from collections.abc import Callable

from tests.fakes.slack.call import FAMILIES, Call, SlackError, encode_cursor
from tests.fakes.slack.channels import Channel, Json, Key, Kind, Window, is_reply, micros, newest_first, oldest_first

Handler = Callable[[Call], Json]
_TYPES: dict[str, Kind] = {"public_channel": "public", "private_channel": "private", "mpim": "mpim", "im": "im"}
_LIST_DEFAULT, _LIST_MOST = 100, 1000
_PAGE_DEFAULT, _PAGE_MOST = 100, 999


def api_test(call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/api.test"""
    if call.text("error"):
        raise SlackError(call.text("error"), args=call.params)
    return {"args": call.params}


def auth_test(call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/auth.test"""
    token, team = call.token, call.workspace
    bot = {"bot_id": team.bot_id} if token.kind == "bot" else {}
    name = team.users[token.user]["name"]
    who = {"user": name, "user_id": token.user, **bot, "is_enterprise_install": False}
    return {"url": team.url, "team": team.name, "team_id": team.team, **who}


def team_info(call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/team.info"""
    team = call.workspace
    domain = team.url.removeprefix("https://").partition(".")[0]
    return {"team": {"id": team.team, "name": team.name, "url": team.url, "domain": domain, "email_domain": ""}}


def bots_info(call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/bots.info"""
    team = call.workspace
    if call.text("bot", team.bot_id) != team.bot_id:
        raise SlackError("bot_not_found")
    who = {"id": team.bot_id, "user_id": team.bot_user, "name": team.bot_name, "app_id": call.slack.app.app_id}
    return {"bot": {**who, "deleted": False, "updated": 0, "icons": {}}}


def users_list(call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/users.list (everyone at once where no limit is given)"""
    default = _LIST_DEFAULT if call.text("limit") else None
    members, metadata = call.page([*call.workspace.users.values()], "user", default, _LIST_MOST)
    return {"members": members, "cache_ts": 0, **metadata}


def users_info(call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/users.info"""
    user = call.workspace.users.get(call.need("user"))
    if user is None:
        raise SlackError("user_not_found")
    return {"user": user}


def usergroups_list(call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/usergroups.list (all at once; the disabled ones only where asked for)"""
    groups = call.workspace.usergroups.values()
    return {"usergroups": [raw for raw in groups if not raw["date_delete"] or call.flag("include_disabled")]}


def conversations_list(call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/conversations.list"""
    return _conversations(call, call.knows)


def users_conversations(call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/users.conversations"""
    user = call.text("user", call.token.user)
    if user not in call.workspace.users:
        raise SlackError("user_not_found")
    return _conversations(call, lambda place: user in place.members and call.knows(place))


def _conversations(call: Call, wanted: Callable[[Channel], bool]) -> Json:
    names = [name.strip() for name in call.text("types", "public_channel").split(",") if name.strip()]
    if not all(name in _TYPES for name in names):
        raise SlackError("invalid_types")
    kinds = {_TYPES[name] for name in names}
    for kind in sorted(kinds):
        call.demand(f"{FAMILIES[kind]}:read")
    places = [place for place in call.workspace.channels.values() if place.kind in kinds and wanted(place)]
    if call.flag("exclude_archived"):
        places = [place for place in places if not place.archived]
    seen = [_seen(call, place) for place in places]
    channels, metadata = call.page(seen, "team", _LIST_DEFAULT, _LIST_MOST)
    return {"channels": channels, **metadata}


def conversations_info(call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/conversations.info"""
    place = call.place()
    call.demand(f"{FAMILIES[place.kind]}:read")
    return {"channel": _seen(call, place)}


def conversations_members(call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/conversations.members"""
    place = call.place()
    call.demand(f"{FAMILIES[place.kind]}:read")
    members, metadata = call.page([{"id": member} for member in place.members], "user", _LIST_DEFAULT, _LIST_MOST)
    return {"members": [member["id"] for member in members], **metadata}


def conversations_history(call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/conversations.history"""
    log, window, cursor = call.readable().log, _window(call), _message_cursor(call)
    if call.slack.behaviour.oldest_without_latest and window.oldest is not None and window.latest is None:
        keys, following = oldest_first(log.history, window, _page_size(call), cursor)
        keys = keys[::-1]
    else:
        keys, following = newest_first(log.history, window, _page_size(call), cursor)
    hidden = call.slack.behaviour.hides_before
    shown = [log[key] for key in keys if not _is_hidden(call, log[key])]
    return {
        "messages": [_message(call, raw) for raw in shown],
        **({"is_limited": True} if hidden else {}),
        "has_more": following is not None,
        "pin_count": 0,
        "channel_actions_ts": None,
        "channel_actions_count": 0,
        **_following(following),
    }


def conversations_replies(call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/conversations.replies; of a reply's ts, that reply alone"""
    log, ts = call.readable().log, call.need("ts")
    if call.token.kind == "bot" and not call.slack.behaviour.bots_read_threads and call.place().kind != "im":
        raise SlackError("not_allowed_token_type")
    thread, asked = log.thread(ts), log.get(ts)
    if not thread or (asked or {}).get("subtype") in ("channel_join", "channel_leave"):
        raise SlackError("thread_not_found")
    cursor = _message_cursor(call)
    keys, following = oldest_first(thread, _window(call), _page_size(call), cursor)
    parent = thread[0] if call.slack.behaviour.parent_on_every_page and not is_reply(log[thread[0]]) else None
    if parent and parent not in keys:
        keys = [parent, *keys]
    messages = [_message(call, log[key]) for key in keys if not _is_hidden(call, log[key])]
    return {"messages": messages, "has_more": following is not None, **_following(following)}


def _seen(call: Call, place: Channel) -> Json:
    return place.as_seen_by(call.token.user, call.workspace.team)


def _page_size(call: Call) -> int:
    size = call.slack.limits.page(call.method, call.limit(_PAGE_DEFAULT, _PAGE_MOST))
    return max(1, size // 2) if call.slack.behaviour.short_pages else size


def _is_hidden(call: Call, raw: Json) -> bool:
    hidden = call.slack.behaviour.hides_before
    return bool(hidden) and float(raw["ts"]) < hidden


def _window(call: Call) -> Window:
    if call.slack.behaviour.ignores_latest:
        return Window()
    return Window(_end(call, "oldest"), _end(call, "latest"), call.flag("inclusive"))


def _end(call: Call, name: str) -> int | None:
    text = call.text(name)
    if text in ("", "0", "now"):
        return None
    if micros(text) < 0:
        raise SlackError(f"invalid_ts_{name}")
    return micros(text)


def _message_cursor(call: Call) -> Key | None:
    text = call.cursor("next_ts")
    if text is None:
        return None
    place, _, number = text.partition("-")
    if not (place.isdigit() and number.isdigit()):
        raise SlackError("invalid_cursor")
    return int(place) - 1, int(number)


def _following(key: Key | None) -> Json:
    if key is None:
        return {}
    return {"response_metadata": {"next_cursor": encode_cursor("next_ts", f"{key[0] + 1}-{key[1]}")}}


def _message(call: Call, raw: Json) -> Json:
    left_out = set() if call.flag("include_all_metadata") else {"metadata"}
    left_out |= set() if call.slack.behaviour.names_latest_reply else {"latest_reply"}
    return {key: value for key, value in raw.items() if key not in left_out} if left_out & raw.keys() else raw


def _any(right: str) -> tuple[str, ...]:
    return tuple(f"{family}:{right}" for family in FAMILIES.values())


METHODS: dict[str, tuple[Handler, tuple[str, ...]]] = {
    "api.test": (api_test, ()),
    "auth.test": (auth_test, ()),
    "team.info": (team_info, ("team:read",)),
    "bots.info": (bots_info, ("users:read",)),
    "users.list": (users_list, ("users:read",)),
    "users.info": (users_info, ("users:read",)),
    "usergroups.list": (usergroups_list, ("usergroups:read",)),
    "users.conversations": (users_conversations, _any("read")),
    "conversations.list": (conversations_list, _any("read")),
    "conversations.info": (conversations_info, _any("read")),
    "conversations.members": (conversations_members, _any("read")),
    "conversations.history": (conversations_history, _any("history")),
    "conversations.replies": (conversations_replies, _any("history")),
}
"""Method -> handler and the scopes of which the token must have one."""
