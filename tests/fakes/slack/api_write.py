"""Web API methods that write: messages, reactions, views, and what an assistant shows."""

from __future__ import annotations

import secrets
import time

from tests.fakes.slack.api_read import Handler
from tests.fakes.slack.call import FAMILIES, Call, SlackError, open_direct
from tests.fakes.slack.channels import Channel, Json, is_reply

_MAX_TEXT, _MAX_MARKDOWN, _MAX_BLOCKS = 40_000, 12_000, 50


def chat_post_message(call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/chat.postMessage"""
    place = call.writable()
    text, fields = _content(call)
    fields |= author_fields(call)
    thread, broadcast = call.text("thread_ts") or None, call.flag("reply_broadcast")
    ts = call.workspace.post(place.id, call.token.user, text, thread, broadcast=broadcast, **fields)
    return {"channel": place.id, "ts": ts, "message": call.workspace.message(place.id, ts)}


def chat_post_ephemeral(call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/chat.postEphemeral; kept in `ephemerals`, or where Slack takes it and
    shows it to nobody, as in a thread that nobody has replied in, in `unshown`.
    """
    place, user = call.writable(), call.need("user")
    if user not in place.members:
        raise SlackError("user_not_in_channel")
    text, fields = _content(call)
    ts, thread = call.workspace.next_ts(), call.text("thread_ts") or None
    kept = {"channel": place.id, "user": user, "text": text, "thread_ts": thread, "ts": ts}
    shown = call.slack.ephemerals if thread is None or place.log.replies(thread) else call.slack.unshown
    shown.append({**kept, **fields, **author_fields(call)})
    return {"message_ts": ts}


def chat_update(call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/chat.update; none of a message that is streamed"""
    place, raw = _own_message(call, call.need("ts"), "cant_update_message")
    _demand_no_stream(call, raw, "streaming_state_conflict")
    text, fields = _content(call)
    call.workspace.edit(place.id, raw["ts"], text, call.token.user, **fields)
    message = call.workspace.message(place.id, raw["ts"])
    return {"channel": place.id, "ts": raw["ts"], "text": text, "message": message}


def chat_delete(call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/chat.delete; none of a message that is streamed"""
    place, raw = _own_message(call, call.need("ts"), "cant_delete_message")
    _demand_no_stream(call, raw, "cant_delete_message")
    call.workspace.delete(place.id, raw["ts"])
    return {"channel": place.id, "ts": raw["ts"]}


def chat_get_permalink(call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/chat.getPermalink"""
    place, ts = call.place(), call.need("message_ts")
    raw = place.log.get(ts)
    if raw is None:
        raise SlackError("message_not_found")
    link = f"{call.workspace.url}archives/{place.id}/p{ts.replace('.', '')}"
    thread = f"?thread_ts={raw['thread_ts']}&cid={place.id}" if is_reply(raw) else ""
    return {"channel": place.id, "permalink": link + thread}


def reactions_add(call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/reactions.add"""
    return _react(call, remove=False)


def reactions_remove(call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/reactions.remove"""
    return _react(call, remove=True)


def conversations_join(call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/conversations.join"""
    place, user = call.place(), call.token.user
    if place.kind != "public":
        raise SlackError("method_not_supported_for_channel_type")
    if place.archived:
        raise SlackError("is_archived")
    warning = {"warning": "already_in_channel"} if user in place.members else {}
    call.workspace.join(place.id, user)
    return {"channel": place.as_seen_by(user, call.workspace.team), **warning}


def conversations_open(call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/conversations.open"""
    people = [user for user in call.text("users").split(",") if user]
    if not people and not call.text("channel"):
        raise SlackError("users_list_not_supplied")
    if not all(user in call.workspace.users for user in people):
        raise SlackError("user_not_found")
    kind = "im" if len(people) <= 1 else "mpim"
    call.demand(f"{kind}:write")
    channel = call.place().id if not people else open_direct(call.workspace, call.token.user, people)
    place = call.workspace.channels[channel]
    full = call.flag("return_im")
    return {"channel": place.as_seen_by(call.token.user, call.workspace.team) if full else {"id": channel}}


def views_publish(call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/views.publish; kept in `homes`"""
    user = call.need("user_id")
    if user not in call.workspace.users:
        raise SlackError("invalid_arguments")
    view = _view(call, "home")
    call.slack.homes[user] = view
    return {"view": view}


def views_open(call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/views.open; kept in `views`"""
    expires = call.slack.triggers.pop(call.need("trigger_id"), None)
    if expires is None:
        raise SlackError("invalid_trigger_id")
    if time.monotonic() >= expires:
        raise SlackError("expired_trigger_id")
    view = _view(call, "modal")
    call.slack.views[view["id"]] = view
    return {"view": view}


def views_update(call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/views.update"""
    old = call.slack.views.get(call.need("view_id"))
    if old is None:
        raise SlackError("not_found")
    view = {**_view(call, "modal"), "id": old["id"]}
    call.slack.views[old["id"]] = view
    return {"view": view}


def apps_connections_open(call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/apps.connections.open"""
    return {"url": call.slack.sockets.open()}


def note_for_assistant(call: Call) -> Json:
    """assistant.threads.setStatus, .setTitle, .setSuggestedPrompts: kept in `assistant`"""
    if call.place("channel_id").log.get(call.text("thread_ts")) is None and call.text("thread_ts"):
        raise SlackError("thread_not_found")
    call.slack.assistant.append({"method": call.method, **call.params})
    return {}


def _content(call: Call) -> tuple[str, Json]:
    """The text, and the fields that stand beside it in the message."""
    text, markdown = call.text("text"), call.text("markdown_text")
    fields = {name: call.value(name) for name in ("blocks", "attachments", "metadata") if call.params.get(name)}
    if markdown and (text or "blocks" in fields):
        raise SlackError("markdown_text_conflict")
    if not (text or markdown or "blocks" in fields or "attachments" in fields):
        raise SlackError("no_text")
    if len(text) > _MAX_TEXT or len(markdown) > _MAX_MARKDOWN:
        raise SlackError("msg_too_long")
    blocks = fields.get("blocks", [])
    if not isinstance(blocks, list) or len(blocks) > _MAX_BLOCKS:
        raise SlackError("invalid_blocks")
    if markdown:
        fields["blocks"] = [{"type": "markdown", "text": markdown}]
    return text or markdown, fields


def author_fields(call: Call) -> Json:
    """Who a message is by; under another name than the bot's it is a bot_message."""
    if call.token.kind != "bot":
        return {}
    team, app = call.workspace, call.slack.app
    fields: Json = {"bot_id": team.bot_id, "app_id": app.app_id}
    profile = {"id": team.bot_id, "app_id": app.app_id, "name": team.bot_name, "team_id": team.team, "deleted": False}
    masks = {name: call.text(name) for name in ("username", "icon_url", "icon_emoji") if call.text(name)}
    if not masks:
        return {**fields, "bot_profile": profile}
    call.demand("chat:write.customize")
    icons = {"emoji": masks["icon_emoji"]} if "icon_emoji" in masks else {}
    if "icon_url" in masks:
        icons |= {f"image_{size}": masks["icon_url"] for size in (36, 48, 72)}
    name = masks.get("username", team.bot_name)
    return {**fields, "subtype": "bot_message", "username": name, **({"icons": icons} if icons else {})}


def _own_message(call: Call, ts: str, otherwise: str) -> tuple[Channel, Json]:
    place = call.place()
    raw = place.log.get(ts)
    if raw is None:
        raise SlackError("message_not_found")
    own = raw.get("bot_id") == call.workspace.bot_id if call.token.kind == "bot" else False
    if not own and raw.get("user") != call.token.user:
        raise SlackError(otherwise)
    return place, raw


def _demand_no_stream(call: Call, raw: Json, otherwise: str) -> None:
    stream = call.slack.streams.get((call.text("channel"), raw["ts"]))
    if stream and not stream.stopped_by_user and time.monotonic() < stream.ends:
        raise SlackError(otherwise)


def _react(call: Call, remove: bool) -> Json:
    place, ts = call.place(), call.need("timestamp")
    if place.archived:
        raise SlackError("is_archived")
    call.workspace.react(place.id, ts, call.token.user, call.need("name").strip(":"), remove=remove)
    return {}


def _view(call: Call, kind: str) -> Json:
    view = call.value("view")
    if not isinstance(view, dict) or view.get("type") != kind or not isinstance(view.get("blocks"), list):
        raise SlackError("invalid_arguments", response_metadata={"messages": [f"[ERROR] view is no {kind}"]})
    own = {"team_id": call.workspace.team, "app_id": call.slack.app.app_id, "bot_id": call.workspace.bot_id}
    return (
        {"id": f"V{secrets.token_hex(5).upper()}", "hash": secrets.token_hex(4), "state": {"values": {}}} | own | view
    )


_WRITE = tuple(f"{family}:write" for family in FAMILIES.values())
_ASSISTANT = ("assistant:write", "chat:write")
METHODS: dict[str, tuple[Handler, tuple[str, ...]]] = {
    "chat.postMessage": (chat_post_message, ("chat:write",)),
    "chat.postEphemeral": (chat_post_ephemeral, ("chat:write",)),
    "chat.update": (chat_update, ("chat:write",)),
    "chat.delete": (chat_delete, ("chat:write",)),
    "chat.getPermalink": (chat_get_permalink, ()),
    "reactions.add": (reactions_add, ("reactions:write",)),
    "reactions.remove": (reactions_remove, ("reactions:write",)),
    "conversations.join": (conversations_join, ("channels:join",)),
    "conversations.open": (conversations_open, _WRITE),
    "apps.connections.open": (apps_connections_open, ("connections:write",)),
    "views.publish": (views_publish, ()),
    "views.open": (views_open, ()),
    "views.update": (views_update, ()),
    "assistant.threads.setStatus": (note_for_assistant, _ASSISTANT),
    "assistant.threads.setTitle": (note_for_assistant, ("assistant:write",)),
    "assistant.threads.setSuggestedPrompts": (note_for_assistant, ("assistant:write",)),
}
