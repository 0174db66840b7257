"""The state of a fake workspace: people, channels, messages. Every change tells Slack's event to whoever listens.

    workspace = Workspace()
    ada = workspace.user("ada", "Ada Lovelace")
    general = workspace.channel("general", ada)
    ts = workspace.post(general, ada, "Lunch?")
    workspace.post(general, ada, "Anyone?", thread_ts=ts)

Channels are named by id or name. A channel's system messages (joins, renames, ...) are posted as Slack posts them.
"""

from __future__ import annotations

import functools
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar, cast

from tests.fakes.slack.channels import Channel, Json, Kind, is_reply

Listener = Callable[[Json], None]
_Method = TypeVar("_Method", bound=Callable[..., Any])
_SEEN_BY_ALL = ("channel_created", "channel_rename", "channel_archive", "channel_unarchive", "channel_deleted")
_MAX_REPLY_USERS = 5
TEAM, BOT = "T0FAKE0001", "U0FAKEBOT1"
"""The ids of a workspace and its bot where a test names no others."""


class NotThereError(LookupError):
    """No such user, channel or message; its text is Slack's error code."""


def _locked(method: _Method) -> _Method:
    @functools.wraps(method)
    def wrapper(self: Workspace, *args: Any, **kwargs: Any) -> Any:
        with self.lock:
            return method(self, *args, **kwargs)

    return cast(_Method, wrapper)


class Workspace:
    """A team with one app installed, whose bot is `bot_user`. Hold `lock` to read while others write."""

    def __init__(
        self,
        team: str = TEAM,
        name: str = "Acme",
        url: str = "https://acme.slack.com/",
        clock: Callable[[], float] = time.time,
        bot_user: str = BOT,
        bot_id: str = "B0FAKEBOT1",
    ) -> None:
        self.team, self.name, self.url = team, name, url
        self.bot_user, self.bot_id, self.bot_name = bot_user, bot_id, "doppel"
        self.lock = threading.RLock()
        self.users: dict[str, Json] = {}
        self.usergroups: dict[str, Json] = {}
        self.channels: dict[str, Channel] = {}
        self.events: deque[Json] = deque(maxlen=100_000)
        self.left_out: dict[str, int] = {}
        self.orphans: list[tuple[str, str]] = []
        self.completed_parents: list[tuple[str, str]] = []
        self._listeners: list[Listener] = []
        self._clock, self._last, self._ids = clock, 0, 0
        self.user(self.bot_name, "Doppel", id=bot_user, is_bot=True, profile={"bot_id": bot_id})

    @classmethod
    def from_export(
        cls, path: Path | str, bot_in: Collection[Kind] = ("public", "private", "mpim", "im"), **more: Any
    ) -> Workspace:
        """The workspace of an export (ZIP or folder); `bot_in` names the kinds of channel that the bot is in.

        Every message stands in its channel as the export holds it. Folders that no list names are counted in
        `left_out`; replies without a parent stand in the history, as `orphans` lists. A parent without `reply_count`
        gets one, since no client could find its replies; `completed_parents` lists those. By default the bot is in
        every channel, which a real one never is: it can't be in the direct messages of two people.
        """
        from tests.fakes.slack.export import load

        return load(Path(path), bot_in, **more)

    def listen(self, listener: Listener) -> None:
        """Call `listener` with each event that the bot may see, under the lock: it must be quick."""
        self._listeners.append(listener)

    def unlisten(self, listener: Listener) -> None:
        """Stop what `listen` began."""
        self._listeners.remove(listener)

    @_locked
    def emit(self, event: Json) -> None:
        """Send any event; those of the changes below are sent by themselves."""
        event = {"event_ts": self.next_ts(), **event} if "event_ts" not in event else event
        self.events.append(event)
        if self.bot_sees(event):
            for listener in self._listeners:
                listener(event)

    def bot_sees(self, event: Json) -> bool:
        """Whether Slack sends an event to an app whose bot is in some channels only."""
        channel = event.get("channel") or event.get("item", {}).get("channel")
        place = self.channels.get(channel["id"] if isinstance(channel, dict) else str(channel))
        if place is None or (place.kind == "public" and event["type"] in _SEEN_BY_ALL):
            return True
        return self.bot_user in place.members or event["type"] in ("channel_left", "group_left")

    @_locked
    def next_ts(self) -> str:
        """A timestamp of now that was never given before."""
        self._last = max(self._last + 1, int(self._clock() * 1e6))
        return f"{self._last // 1_000_000}.{self._last % 1_000_000:06d}"

    @_locked
    def find(self, channel: str) -> Channel:
        """The channel of an id or a name (with or without #); raises NotThereError."""
        found = self.channels.get(channel)
        name = channel.removeprefix("#")
        found = found or next((place for place in self.channels.values() if place.name == name), None)
        if found is None:
            raise NotThereError("channel_not_found")
        return found

    @_locked
    def message(self, channel: str, ts: str) -> Json:
        """A message as it stands; raises NotThereError."""
        raw = self.find(channel).log.get(ts)
        if raw is None:
            raise NotThereError("message_not_found")
        return raw

    @_locked
    def user(self, name: str, real_name: str = "", *, id: str | None = None, is_bot: bool = False, **more: Any) -> str:
        """Someone joins the team; returns their id. `more` goes into the user object, `profile` into the profile."""
        user_id = id or self._new_id("U")
        profile = {
            "real_name": real_name or name,
            "display_name": "" if is_bot else name,
            "team": self.team,
            **more.pop("profile", {}),
        }
        self.users[user_id] = {
            "id": user_id,
            "team_id": self.team,
            "name": name,
            "real_name": real_name or name,
            "deleted": False,
            "is_bot": is_bot,
            "is_app_user": False,
            "updated": int(self._clock()),
            "profile": profile,
            **more,
        }
        self.emit({"type": "team_join", "user": self.users[user_id]})
        return user_id

    @_locked
    def update_user(self, user: str, **changes: Any) -> None:
        """Change a user object; `profile` is merged into the profile."""
        old = self._user(user)
        profile = {**old.get("profile", {}), **changes.pop("profile", {})}
        self.users[user] = {**old, **changes, "profile": profile, "updated": int(self._clock())}
        self.emit({"type": "user_change", "user": self.users[user], "cache_ts": int(self._clock())})

    @_locked
    def channel(
        self, name: str = "", *members: str, kind: Kind = "public", id: str | None = None, bot: bool = True, **more: Any
    ) -> str:
        """Open a channel; returns its id. The bot is in it unless `bot` is False. `more` are fields of Channel."""
        channel_id = id or self._new_id("D" if kind == "im" else "C")
        people = [*dict.fromkeys([*members, *([self.bot_user] if bot else [])])]
        for place in ("topic", "purpose"):
            if isinstance(more.get(place), str):
                more[place] = {"value": more[place], "creator": people[0] if people else "", "last_set": 0}
        more = {"created": int(self._clock()), "creator": people[0] if people else "", **more}
        self.channels[channel_id] = Channel(channel_id, name, kind, members=people, **more)
        event = {"im": "im_created", "public": "channel_created"}.get(kind)
        if event:
            self.emit({"type": event, "channel": self._brief(channel_id), "user": people[0] if people else ""})
        elif bot:
            self.emit({"type": "group_joined", "channel": self._brief(channel_id)})
        return channel_id

    @_locked
    def post(
        self,
        channel: str,
        user: str | None,
        text: str,
        thread_ts: str | None = None,
        *,
        broadcast: bool = False,
        ts: str | None = None,
        **more: Any,
    ) -> str:
        """Say something; returns its timestamp. `broadcast` sends a reply to the channel, too; `more` goes into the
        message. Raises NotThereError."""
        place = self.find(channel)
        raw: Json = {"type": "message", "ts": ts or self.next_ts(), "text": text, "team": self.team}
        if user is not None:
            raw["user"] = user
        if not {"bot_id", "subtype"} & more.keys():
            raw["client_msg_id"] = str(uuid.uuid4())
        if thread_ts and thread_ts != raw["ts"]:
            raw |= self._reply(place, thread_ts, broadcast)
        raw |= more
        place.log.add(raw)
        if is_reply(raw):
            self._count_replies(place, raw["thread_ts"])
        self._tell(place, {**raw, "event_ts": raw["ts"]})
        said = raw.get("subtype", "bot_message") in ("bot_message", "thread_broadcast")
        if said and place.kind != "im" and f"<@{self.bot_user}>" in text:
            self._tell(place, {**raw, "type": "app_mention", "event_ts": raw["ts"]})
        return str(raw["ts"])

    @_locked
    def edit(self, channel: str, ts: str, text: str, user: str | None = None, **more: Any) -> None:
        """Change a message's text; blocks that `more` doesn't give are dropped, since they held the old one."""
        old = self.message(channel, ts)
        kept = {key: value for key, value in old.items() if key != "blocks"}
        edited = {"user": user or old.get("user", self.bot_user), "ts": self.next_ts()}
        self.replace(channel, {**kept, "text": text, "edited": edited, **more})

    @_locked
    def replace(self, channel: str, raw: Json, quietly: bool = False) -> None:
        """Put a message in the place of the one with its timestamp, and tell it as message_changed."""
        place, old = self.find(channel), self.message(channel, raw["ts"])
        place.log.replace(raw)
        if not quietly:
            self._tell_hidden(place, "message_changed", message=raw, previous_message=old)

    @_locked
    def delete(self, channel: str, ts: str) -> None:
        """Delete a message; a parent with replies leaves a tombstone, which goes with its last reply."""
        place, old = self.find(channel), self.message(channel, ts)
        if place.log.replies(ts):
            kept = {key: value for key, value in old.items() if key in _THREAD_FIELDS}
            self.replace(channel, {**_TOMBSTONE, "ts": ts, "thread_ts": ts, **kept})
            return
        place.log.remove(ts)
        self._tell_hidden(place, "message_deleted", deleted_ts=ts, previous_message=old)
        parent = place.log.get(old["thread_ts"]) if is_reply(old) else None
        if parent:
            self._count_replies(place, parent["ts"])
            if parent.get("subtype") == "tombstone" and not place.log.replies(parent["ts"]):
                self.delete(channel, parent["ts"])

    @_locked
    def react(self, channel: str, ts: str, user: str, name: str, *, remove: bool = False) -> None:
        """Add a reaction, or remove it; raises NotThereError where there is none to remove or it is there already."""
        place, raw = self.find(channel), self.message(channel, ts)
        users = {item["name"]: list(item["users"]) for item in raw.get("reactions", ())}
        if (user in users.get(name, ())) != remove:
            raise NotThereError("no_reaction" if remove else "already_reacted")
        users[name] = [other for other in users.get(name, []) if other != user] + ([] if remove else [user])
        reactions = [{"name": name, "users": who, "count": len(who)} for name, who in users.items() if who]
        rest = {key: value for key, value in raw.items() if key != "reactions"}
        place.log.replace({**rest, "reactions": reactions} if reactions else rest)
        item = {"type": "message", "channel": place.id, "ts": ts}
        kind = "reaction_removed" if remove else "reaction_added"
        self.emit({"type": kind, "user": user, "reaction": name, "item_user": raw.get("user", ""), "item": item})

    @_locked
    def join(self, channel: str, user: str, inviter: str | None = None) -> None:
        """Someone becomes a member."""
        place = self.find(channel)
        if user in place.members:
            return
        place.members.append(user)
        more = {"inviter": inviter} if inviter else {}
        self._say(place, user, "channel_join", "has joined the channel", **more)
        self._tell_member("member_joined_channel", place, user, **more)

    @_locked
    def leave(self, channel: str, user: str) -> None:
        """Someone stops being a member; to the bot itself Slack says channel_left or group_left."""
        place = self.find(channel)
        if user not in place.members:
            return
        self._say(place, user, "channel_leave", "has left the channel")
        place.members.remove(user)
        self._tell_member("member_left_channel", place, user)
        if user == self.bot_user:
            self.emit({"type": f"{_prefix(place)}_left", "channel": place.id, "actor_id": user})

    @_locked
    def rename_channel(self, channel: str, name: str, user: str | None = None) -> None:
        """Give a channel another name."""
        place = self.find(channel)
        old, place.name = place.name, name
        place.previous_names = [old, *place.previous_names]
        text = f'has renamed the channel from "{old}" to "{name}"'
        self._say(place, user or place.creator, "channel_name", text, old_name=old, name=name)
        self.emit({"type": f"{_prefix(place)}_rename", "channel": self._brief(place.id)})

    @_locked
    def archive_channel(self, channel: str, user: str | None = None, *, archived: bool = True) -> None:
        """Archive a channel, or open it again."""
        place, word = self.find(channel), "archive" if archived else "unarchive"
        self._say(place, user or place.creator, f"channel_{word}", f"{word}d the channel")
        place.archived = archived
        self.emit({"type": f"{_prefix(place)}_{word}", "channel": place.id, "user": user or place.creator})

    @_locked
    def set_topic(self, channel: str, topic: str, user: str | None = None) -> None:
        """Set a channel's topic."""
        place = self.find(channel)
        author = user or place.creator
        place.topic = {"value": topic, "creator": author, "last_set": int(self._clock())}
        self._say(place, author, "channel_topic", f"set the channel topic: {topic}", topic=topic)

    @_locked
    def convert_to_private(self, channel: str, user: str | None = None) -> None:
        """Make a public channel private."""
        place = self.find(channel)
        place.kind = "private"
        text = "made this channel *private*. Now, it can only be viewed or joined by invitation."
        self._say(place, user or place.creator, "channel_convert_to_private", text)

    @_locked
    def delete_channel(self, channel: str, user: str | None = None) -> None:
        """Delete a channel with all it holds."""
        place = self.find(channel)
        actor = user or place.creator
        self.emit({"type": f"{_prefix(place)}_deleted", "channel": place.id, "actor_id": actor})
        del self.channels[place.id]

    def _user(self, user: str) -> Json:
        if user not in self.users:
            raise NotThereError("user_not_found")
        return self.users[user]

    def _new_id(self, letter: str) -> str:
        self._ids += 1
        return f"{letter}0NEW{self._ids:05d}"

    def _brief(self, channel: str) -> Json:
        place = self.channels[channel]
        return {"id": place.id, "name": place.name, "name_normalized": place.name, "created": place.created}

    def _reply(self, place: Channel, thread_ts: str, broadcast: bool) -> Json:
        parent = place.log.get(thread_ts)
        if parent is None or is_reply(parent):
            raise NotThereError("thread_not_found")
        fields: Json = {"thread_ts": thread_ts, "parent_user_id": parent.get("user", "")}
        return fields | ({"subtype": "thread_broadcast", "root": parent} if broadcast else {})

    def _count_replies(self, place: Channel, ts: str) -> None:
        parent, replies = place.log.get(ts), place.log.replies(ts)
        if parent is None:
            return
        rest = {key: value for key, value in parent.items() if key not in _THREAD_FIELDS}
        place.log.replace({**rest, **thread_fields(ts, replies)} if replies else rest)

    def _say(self, place: Channel, user: str, subtype: str, text: str, **more: Any) -> None:
        self.post(place.id, user, f"<@{user}> {text}", subtype=subtype, **more)

    def _tell(self, place: Channel, event: Json) -> None:
        self.emit({**event, "channel": place.id, "channel_type": place.type})

    def _tell_hidden(self, place: Channel, subtype: str, **more: Any) -> None:
        ts = self.next_ts()
        self._tell(place, {"type": "message", "subtype": subtype, "hidden": True, "ts": ts, "event_ts": ts, **more})

    def _tell_member(self, kind: str, place: Channel, user: str, **more: Any) -> None:
        letter = "C" if place.kind == "public" else "G"
        self.emit({"type": kind, "user": user, "channel": place.id, "channel_type": letter, "team": self.team, **more})


def thread_fields(ts: str, replies: list[Json]) -> Json:
    """What Slack keeps on a parent about its replies."""
    users = [*dict.fromkeys(str(raw.get("user") or raw.get("bot_id") or "") for raw in replies)]
    return {
        "thread_ts": ts,
        "reply_count": len(replies),
        "reply_users_count": len(users),
        "latest_reply": replies[-1]["ts"],
        "reply_users": users[:_MAX_REPLY_USERS],
        "is_locked": False,
        "subscribed": False,
    }


_THREAD_FIELDS = (
    "thread_ts",
    "reply_count",
    "reply_users_count",
    "latest_reply",
    "reply_users",
    "is_locked",
    "subscribed",
    "replies",
)
_TOMBSTONE: Json = {
    "type": "message",
    "subtype": "tombstone",
    "text": "This message was deleted.",
    "user": "USLACKBOT",
    "hidden": True,
}


def _prefix(place: Channel) -> str:
    return "channel" if place.kind == "public" else "group"
