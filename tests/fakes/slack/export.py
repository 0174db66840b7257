"""A Slack export, ZIP or folder, as a fake workspace: every raw message, in the channel that the lists name."""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from tests.fakes.slack.channels import Channel, Json, Kind
from tests.fakes.slack.workspace import Workspace, thread_fields

_LISTS: dict[str, Kind] = {
    "channels.json": "public",
    "groups.json": "private",
    "mpims.json": "mpim",
    "dms.json": "im",
}


def load(path: Path, bot_in: Collection[Kind], **more: Any) -> Workspace:
    """`Workspace.from_export`, which see; `more` are the arguments of Workspace."""
    files = _files(path)
    users = _list(files, "users.json")
    teams = Counter(str(user["team_id"]) for user in users if user.get("team_id"))
    if teams:
        more.setdefault("team", teams.most_common(1)[0][0])
    workspace = Workspace(**more)
    workspace.users |= {str(user["id"]): user for user in users}
    for name, kind in _LISTS.items():
        for entry in _list(files, name):
            _open(workspace, entry, kind, kind in bot_in)
    _fill(workspace, files)
    return workspace


def _open(workspace: Workspace, entry: Json, kind: Kind, bot: bool) -> None:
    members = [str(member) for member in entry.get("members") or ()]
    workspace.channels[str(entry["id"])] = Channel(
        id=str(entry["id"]),
        name=str(entry.get("name") or ""),
        kind=kind,
        created=int(entry.get("created") or 0),
        creator=str(entry.get("creator") or ""),
        members=[*members, *([workspace.bot_user] if bot else [])],
        archived=bool(entry.get("is_archived")),
        general=bool(entry.get("is_general")),
        **{key: entry[key] for key in ("topic", "purpose") if isinstance(entry.get(key), dict)},
    )


def _fill(workspace: Workspace, files: dict[PurePosixPath, bytes]) -> None:
    by_folder = {place.name: place for place in reversed(workspace.channels.values()) if place.name}
    by_folder |= workspace.channels
    raws: dict[str, list[Json]] = {}
    left_out: Counter[str] = Counter()
    for name in sorted(files):
        if len(name.parts) == 2 and name.suffix == ".json":
            place = by_folder.get(name.parts[0])
            entries = _entries(files[name])
            said = [entry for entry in entries if isinstance(entry, dict)] if place else []
            left_out[name.parts[0]] += len(entries) - len(said)
            if place:
                raws.setdefault(place.id, []).extend(said)
    workspace.left_out = {folder: number for folder, number in left_out.items() if number}
    for channel, said in raws.items():
        orphans = workspace.channels[channel].log.load(said)
        workspace.orphans += [(channel, str(raw["ts"])) for raw in orphans]
        workspace.completed_parents += [(channel, ts) for ts in _complete(workspace.channels[channel], said)]


def _complete(place: Channel, said: list[Json]) -> Iterator[str]:
    for raw in said:
        replies = place.log.replies(str(raw.get("ts"))) if not raw.get("reply_count") else []
        if replies:
            place.log.replace({**raw, **thread_fields(str(raw["ts"]), replies)})
            yield str(raw["ts"])


def _list(files: dict[PurePosixPath, bytes], name: str) -> list[Json]:
    entries = _entries(files.get(PurePosixPath(name), b"[]"))
    return [entry for entry in entries if isinstance(entry, dict) and entry.get("id")]


def _entries(data: bytes) -> list[Any]:
    try:
        entries = json.loads(data.decode("utf-8-sig", errors="replace"))
    except ValueError:
        return []
    return entries if isinstance(entries, list) else []


def _files(path: Path) -> dict[PurePosixPath, bytes]:
    """The JSON files by their path below the folder that holds the lists."""
    files = dict(_read(path))
    roots = [name.parent for name in files if name.name in _LISTS]
    root = min(roots, key=lambda folder: len(folder.parts)) if roots else PurePosixPath()
    return {name.relative_to(root): data for name, data in files.items() if name.is_relative_to(root)}


def _read(path: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    if path.is_dir():
        for file in sorted(path.rglob("*.json")):
            yield PurePosixPath(file.relative_to(path).as_posix()), file.read_bytes()
        return
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(".json"):
                yield PurePosixPath(name), archive.read(name)
