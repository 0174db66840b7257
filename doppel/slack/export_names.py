"""What the files of an export are, by their names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from doppel.errors import BadInputError
from doppel.records import ChannelKind

Parts = tuple[str, ...]

LISTS = {
    "channels.json": ChannelKind.PUBLIC,
    "groups.json": ChannelKind.PRIVATE,
    "mpims.json": ChannelKind.MPIM,
    "dms.json": ChannelKind.IM,
}
PEOPLE = ("users.json", "org_users.json")
"""Who is in the workspace, and who is in the organisation that it belongs to."""
_NOT_MESSAGES = {"canvases", "file_conversations", "huddle_transcripts", "integration_logs", "lists"}
_DAY = re.compile(r"(\d{4})([-_.]?)(\d{2})\2(\d{2})(\D.*)?\.json", re.IGNORECASE)
_LEFT_BEHIND = {"thumbs.db", "desktop.ini", "__macosx"}


def named(files: Iterable[Parts]) -> dict[Parts, Parts]:
    """The files but for what systems leave behind, the export's own lists under their names in lower case."""
    found = {parts: parts for parts in files if not _is_junk(parts)}
    for parts in list(found):
        lower = (*parts[:-1], parts[-1].lower())
        if lower[-1] in {*LISTS, *PEOPLE} and lower not in found:
            found[lower] = found.pop(parts)
    return found


def is_day(name: str) -> bool:
    """Whether a file's name is a date, as Slack or another tool writes it."""
    return _DAY.fullmatch(name) is not None


def day_of(name: str) -> str:
    """The date of a day's file, to sort by; "" where it has none."""
    match = _DAY.fullmatch(name)
    return match[1] + match[3] + match[4] if match else ""


def is_canvas(parts: Parts) -> bool:
    """Whether a file lists the canvases of a channel."""
    return len(parts) == 2 and parts[1].startswith("canvas") and parts[1].endswith(".json")


def is_list(parts: Parts) -> bool:
    """Whether it is a file of the export itself, read or not."""
    return len(parts) == 1 and (parts[0] in {*PEOPLE, *LISTS} or Path(parts[0]).stem.lower() in _NOT_MESSAGES)


def is_json(parts: Parts) -> bool:
    """Whether a file says that it is JSON."""
    return parts[-1].lower().endswith((".json", ".jsonl"))


def root_of(path: Path, files: Iterable[Parts]) -> Parts:
    """The folder that holds the lists, or else the channels' folders, however deeply it is wrapped."""
    files = list(files)
    roots = {parts[:-1] for parts in files if parts[-1] in LISTS}
    roots = roots or {parts[:-2] for parts in files if len(parts) > 1 and is_day(parts[-1])}
    if not roots:
        raise BadInputError(
            f"{path.name or path} is no Slack export: it holds neither channels.json nor days of a channel; "
            "give the ZIP that Slack's export page hands out, or its unpacked folder."
        )
    depth = min(map(len, roots))
    shallowest = [root for root in roots if len(root) == depth]
    if len(shallowest) > 1:
        names = ", ".join(sorted("/".join(root) for root in shallowest))
        raise BadInputError(f"{path.name} holds several exports ({names}); import them one by one.")
    return shallowest[0]


def of_organisation(root: Parts, files: Mapping[Parts, Parts]) -> dict[Parts, Parts]:
    """The list of an organisation's people where it stands above the folders of its workspaces."""
    above = [(*root[:depth], PEOPLE[1]) for depth in range(len(root))]
    return {parts[-1:]: files[parts] for parts in above if parts in files}


def _is_junk(parts: Parts) -> bool:
    return any(part.lower() in _LEFT_BEHIND or part.startswith(".") for part in parts)
