"""Turns the conversations in `script/` into `sample-workspace/`, a Slack export. Same scripts, same bytes.

    python examples/build.py [TARGET]

`script/team.toml` lists people and channels; `script/<channel>.txt` holds what was said. Times are UTC.

    == 2025-03-05                  a day
    08:40 jun: why postgres?       a message; `+3` behind the time means three days later
    | and not mongo?               one more line of it
      08:52 ines: because …        two spaces in: a reply in the thread of the message above
      ~ :eyes: jun tova :+1: bram  about the message above: reactions; also `~ edited 09:03`, `~ pin`,
      ~ file plan.png "The plan"   and a file with its title
    07:58 jun: /join               also /topic …, /purpose …, /deleted and, in a thread, /broadcast …
    # a comment

What may stand in a text: see `rich_text.py`.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tomllib
import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

from rich_text import Json, record, rich_text

HERE = Path(__file__).resolve().parent
ALPHABET = "0123456789ABCDEFGHJKLMNPQRSTUVWXYZ"
HEAD = re.compile(r"(  )?(\d\d:\d\d)(?:\+(\d+))? (\w+): (?:/(\w+) ?)?(.*)")
MIMETYPES = {"png": "image/png", "jpg": "image/jpeg", "csv": "text/csv"}


def digest(*parts: object) -> bytes:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).digest()


def slack_id(letter: str, *parts: object) -> str:
    return f"{letter}0" + "".join(ALPHABET[byte % len(ALPHABET)] for byte in digest(letter, *parts)[:9])


def write(path: Path, content: list[Json]) -> None:
    """JSON as Slack prints it: four spaces, ASCII, slashes escaped."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=4).replace("/", "\\/"), encoding="utf-8")


@dataclass
class Line:
    """One message as the script has it."""

    at: datetime
    handle: str
    command: str
    text: str
    marks: list[str] = field(default_factory=list)
    replies: list[Line] = field(default_factory=list)


def read_script(path: Path) -> list[Line]:
    roots: list[Line] = []
    day = date.min
    for number, raw in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        body = raw.strip()
        if body.startswith("== "):
            day = date.fromisoformat(body[3:])
        elif found := HEAD.fullmatch(raw):
            inside, clock, days, handle, command, text = found.groups()
            at = datetime.combine(day + timedelta(days=int(days or 0)), time.fromisoformat(clock), UTC)
            siblings = roots[-1].replies if inside else roots
            if at < max((before.at for before in roots[-1:] + siblings[-1:]), default=at):
                raise SystemExit(f"{path.name}:{number}: earlier than the message before it")
            siblings.append(Line(at, handle, command or "", text))
        elif roots and body[:1] in ("|", "~"):
            last = (roots[-1].replies or roots)[-1] if raw.startswith("  ") else roots[-1]
            last.marks += [body[2:]] * (body[0] == "~")
            last.text += f"\n{body[2:]}" * (body[0] == "|")
        elif body and not raw.startswith("#"):
            raise SystemExit(f"{path.name}:{number}: not understood: {raw}")
    return roots


class Workspace:
    def __init__(self, script: Path) -> None:
        self.script = script
        team = tomllib.loads((script / "team.toml").read_text(encoding="utf-8"))
        self.domain: str = team["workspace"]["domain"]
        self.team_id = slack_id("T", self.domain)
        self.created = int(datetime.combine(team["workspace"]["created"], time(8), UTC).timestamp())
        self.people: dict[str, Json] = {person["handle"]: person for person in team["people"]}
        self.bots: dict[str, Json] = {bot["handle"]: bot for bot in team["bots"]}
        self.channels: list[Json] = team["channels"]
        self.dms: dict[str, list[str]] = {dm["script"]: dm["members"] for dm in team["dms"]}
        self.user_ids = {handle: slack_id("U", handle) for handle in self.people | self.bots}
        self.channel_ids = {channel["name"]: slack_id("C", channel["name"]) for channel in self.channels}
        self.pins: dict[str, list[Json]] = {channel: [] for channel in [*self.channel_ids, *self.dms]}

    def upload(self, handle: str, at: int, name: str, title: str) -> Json:
        file_id, user, kind = slack_id("F", handle, at, name), self.user_ids[handle], Path(name).suffix[1:]
        home = f"https://{self.domain}.slack.com/files"
        about = record(id=file_id, created=at, timestamp=at, name=name, title=title, mimetype=MIMETYPES[kind])
        about |= record(filetype=kind, pretty_type=kind.upper(), user=user, user_team=self.team_id, mode="hosted")
        about |= record(size=20_000 + int.from_bytes(digest(file_id)[:2]), is_external=False, is_public=True)
        return about | record(
            url_private=f"{home}-pri/{self.team_id}-{file_id}/{name}",
            url_private_download=f"{home}-pri/{self.team_id}-{file_id}/download/{name}",
            permalink=f"{home}/{user}/{file_id}/{name}",
        )

    def message(self, line: Line, ts: str) -> Json:
        user, team = self.user_ids[line.handle], self.team_id
        text, parts = rich_text(line.text, self.user_ids, self.channel_ids)
        base = record(type="message", ts=ts)
        if bot := self.bots.get(line.handle):
            title, _, detail = text.partition(" | ")
            more = {"attachments": [record(id=1, color="a30200", fallback=detail, text=detail)]} if detail else {}
            own = record(text=title, username=bot["name"], bot_id=slack_id("B", line.handle))
            return base | record(subtype="bot_message", **own, icons={"emoji": bot["icon"]}, **more)
        if line.command == "deleted":
            return base | record(subtype="tombstone", text="This message was deleted.", user="USLACKBOT", hidden=True)
        if line.command in ("join", "topic", "purpose"):
            shown = "has joined the channel" if line.command == "join" else f"set the channel {line.command}: {text}"
            new = {line.command: line.text} if line.text else {}
            return base | record(subtype=f"channel_{line.command}", user=user, text=f"<@{user}> {shown}", **new)
        key = digest(user, ts)
        result = record(user=user, **base, client_msg_id=str(uuid.UUID(bytes=key[:16], version=4)), text=text)
        result |= record(team=team, user_team=team, source_team=team, user_profile=self.profile(line.handle))
        result["blocks"] = [record(type="rich_text", block_id=key.hex()[-5:], elements=parts)]
        for mark in line.marks:
            word, _, rest = mark.partition(" ")
            if word == "edited":
                moment = datetime.combine(line.at.date(), time.fromisoformat(rest), UTC)
                result["edited"] = record(user=user, ts=f"{int(moment.timestamp())}.000000")
            elif word == "file":
                name, _, title = rest.partition(" ")
                result |= record(files=[self.upload(line.handle, int(float(ts)), name, title.strip('"'))], upload=False)
            elif word != "pin":
                for name, who in re.findall(r":(\S+):([ \w]+)", mark):
                    users = [self.user_ids[handle] for handle in who.split()]
                    result.setdefault("reactions", []).append(record(name=name, users=users, count=len(users)))
        return result

    def conversation(self, script: str) -> list[Json]:
        """All messages of one channel, in the order of their time stamps."""
        minutes: Counter[datetime] = Counter()
        found: list[Json] = []

        def add(line: Line) -> Json:
            place = minutes[line.at]  # the messages of one minute keep their order, twelve seconds apart
            minutes[line.at] += 1
            salt = digest(script, line.at, line.handle, place)
            seconds = int(line.at.timestamp()) + place * 12 + salt[0] % 12
            message = self.message(line, f"{seconds}.{int.from_bytes(salt[1:5]) % 10**6:06d}")
            found.append(message)
            self.pins[script] += [message] * ("pin" in line.marks)
            return message

        for line in read_script(self.script / f"{script}.txt"):
            root = add(line)
            replies = [add(reply) for reply in line.replies]
            if not replies:
                continue
            who = [record(user=reply.get("user") or reply["bot_id"], ts=reply["ts"]) for reply in replies]
            users = list(dict.fromkeys(entry["user"] for entry in who))
            root |= record(thread_ts=root["ts"], reply_count=len(who), reply_users_count=len(users))
            root |= record(latest_reply=who[-1]["ts"], reply_users=users, replies=who)
            root |= record(is_locked=False, subscribed=False)
            for said, reply in zip(line.replies, replies, strict=True):
                reply |= record(thread_ts=root["ts"], parent_user_id=root.get("user") or root["bot_id"])
                if said.command == "broadcast":
                    reply |= record(subtype="thread_broadcast", root=dict(root))
        return sorted(found, key=lambda message: str(message["ts"]))

    def profile(self, handle: str) -> Json:
        name, mark = (self.people | self.bots)[handle]["name"], digest("avatar", handle).hex()[:12]
        names = record(first_name=name.split()[0], real_name=name, display_name=handle, team=self.team_id, name=handle)
        image = f"https://{self.domain}.slack.com/avatars/{mark}_72.png"
        return record(avatar_hash=mark, image_72=image, **names, is_restricted=False, is_ultra_restricted=False)

    def user(self, handle: str) -> Json:
        entry, is_bot = (self.people | self.bots)[handle], handle in self.bots
        result = record(id=self.user_ids[handle], team_id=self.team_id, name=handle, deleted=False, is_bot=is_bot)
        result |= record(real_name=entry["name"], tz=entry.get("tz"), tz_offset=3600 * entry.get("hours", 0))
        result["profile"] = self.profile(handle) | {"title": entry.get("title", "")}
        return result | record(is_admin=handle in ("bram", "ines"), is_owner=handle == "bram", updated=self.created)

    def channel(self, channel: Json) -> Json:
        name, creator = channel["name"], self.user_ids[channel["creator"]]
        result = record(id=self.channel_ids[name], name=name, created=self.created, creator=creator, is_archived=False)
        if not channel.get("private"):
            result["is_general"] = name == "general"
        result["members"] = [self.user_ids[handle] for handle in channel.get("members", self.people)]
        for about in ("topic", "purpose"):
            result[about] = record(value=channel[about], creator=creator, last_set=self.created)
        for message in self.pins[name]:
            pin = record(id=message["ts"], type="C", created=int(float(message["ts"])) + 60, user=message["user"])
            result.setdefault("pins", []).append(pin | {"owner": message["user"]})
        return result

    def export(self, target: Path) -> None:
        if target.is_dir() and any(target.iterdir()) and not (target / "users.json").is_file():
            raise SystemExit(f"{target} holds something else than an export")
        for stale in target.glob("**/*.json"):
            stale.unlink()
        dm_ids = {script: slack_id("D", script) for script in self.dms}
        folders = {name: name for name in self.channel_ids} | dm_ids
        for script, folder in folders.items():
            days: dict[date, list[Json]] = {}
            for message in self.conversation(script):
                days.setdefault(datetime.fromtimestamp(float(message["ts"]), UTC).date(), []).append(message)
            for day, messages in days.items():
                write(target / folder / f"{day}.json", messages)
        hook = record(user_id=self.user_ids["ines"], user_name="ines", date=str(self.created), change_type="added")
        hook |= record(service_type="Incoming WebHooks", channel=self.channel_ids["ops"])
        members = {script: [self.user_ids[handle] for handle in handles] for script, handles in self.dms.items()}
        lists: dict[str, list[Json]] = {
            "users": [self.user(handle) for handle in self.user_ids],
            "channels": [self.channel(channel) for channel in self.channels if not channel.get("private")],
            "groups": [self.channel(channel) for channel in self.channels if channel.get("private")],
            "dms": [record(id=dm_ids[dm], created=self.created, members=members[dm]) for dm in self.dms],
            "integration_logs": [hook | {"service_id": str(int.from_bytes(digest(bot)[:5]))} for bot in self.bots],
            "mpims": [],
            "canvases": [],
        }
        for name, content in lists.items():
            write(target / f"{name}.json", content)


if __name__ == "__main__":
    Workspace(HERE / "script").export(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "sample-workspace")
