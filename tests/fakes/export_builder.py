"""Small exports in Slack's own shape, written as a ZIP or as a folder."""

from __future__ import annotations

import json
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

Json = dict[str, Any]


class ExportBuilder:
    """An export that is put together call by call; `put` adds or breaks any file of it."""

    def __init__(self, team: str = "T1") -> None:
        self.team = team
        self.lists: dict[str, list[Json]] = {"users": [], "channels": []}
        self.days: dict[str, list[Any]] = {}
        self.files: dict[str, bytes] = {}

    def user(self, id_: str, handle: str, real_name: str = "", display_name: str = "", **more: Any) -> Self:
        return self._list("users", self._person(id_, handle, real_name, display_name, more))

    def person(self, id_: str, handle: str, real_name: str = "", display_name: str = "", **more: Any) -> Self:
        """Somebody of the whole organisation."""
        return self._list("org_users", self._person(id_, handle, real_name, display_name, more))

    def channel(self, id_: str, name: str, *members: str, list_: str = "channels", **more: Any) -> Self:
        return self._list(list_, {"id": id_, "name": name, "members": list(members), **more})

    def say(self, folder: str, ts: Any, text: Any, user: str | None = "U1", **more: Any) -> Self:
        """A message; it goes to the day of its `ts`, or to a fixed one where that is none."""
        raw = {"type": "message", "ts": ts, "text": text, **more}
        return self.entry(folder, raw if user is None else {**raw, "user": user})

    def entry(self, folder: str, raw: Any) -> Self:
        """Anything that stands in a day file."""
        self.days.setdefault(f"{folder}/{_day(raw)}.json", []).append(raw)
        return self

    def put(self, path: str, data: bytes | str) -> Self:
        """A file as it is, over what would be there."""
        self.files[path] = data.encode() if isinstance(data, str) else data
        return self

    def without(self, list_: str) -> Self:
        """Leave a list out, such as "users"."""
        del self.lists[list_]
        return self

    def contents(self) -> dict[str, bytes]:
        """Every file of the export by its path."""
        lists = {f"{name}.json": json.dumps(entries).encode() for name, entries in self.lists.items()}
        return lists | {path: json.dumps(raws).encode() for path, raws in self.days.items()} | self.files

    def zip(self, path: Path, wrapped_in: str = "") -> Path:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name, data in self.contents().items():
                file.writestr(wrapped_in + name, data)
        return path

    def folder(self, path: Path) -> Path:
        for name, data in self.contents().items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
        return path

    def _person(self, id_: str, handle: str, real_name: str, display_name: str, more: Json) -> Json:
        profile = {"real_name": real_name, "display_name": display_name}
        return {"id": id_, "team_id": self.team, "name": handle, "profile": profile, **more}

    def _list(self, name: str, entry: Json) -> Self:
        self.lists.setdefault(name, []).append(entry)
        return self


def _day(raw: Any) -> str:
    try:
        return datetime.fromtimestamp(float(raw["ts"]), UTC).date().isoformat()
    except (KeyError, TypeError, ValueError, OverflowError):
        return "2024-01-01"


def small_team() -> ExportBuilder:
    """Three people, a bot, a public channel with a thread, and a private one."""
    return (
        ExportBuilder()
        .user("U1", "ada", "Ada Lovelace", "Ada")
        .user("U2", "grace", "Grace Hopper")
        .user("U3", "alan", "Alan Turing", deleted=True)
        .user("U9", "deploybot", "Deploy Bot", is_bot=True)
        .channel("C1", "general", "U1", "U2", "U3")
        .channel("G1", "secret", "U1", "U2", list_="groups")
        .say("general", "1700000000.000100", "Why did we drop Kafka, <@U2>?", thread_ts="1700000000.000100")
        .say("general", "1700000060.000100", "It woke us at night.", "U2", thread_ts="1700000000.000100")
        .say("general", "1700000100.000100", "Lunch?", "U3")
        .say("general", "1700000160.000100", "Yes.", "U2")
        .say("general", "1700000200.000100", "build 12 is out", "U9")
        .say("general", "1700000220.000100", "<@U3> has joined the channel", "U3", subtype="channel_join")
        .say("secret", "1700090000.000100", "The budget is cut.", "U2")
    )
