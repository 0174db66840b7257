"""What the files of an export are, by their names."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from doppel.errors import BadInputError
from doppel.records import ChannelKind
from doppel.slack.source import Parts

LISTS = {
    "channels.json": ChannelKind.PUBLIC,
    "groups.json": ChannelKind.PRIVATE,
    "mpims.json": ChannelKind.MPIM,
    "dms.json": ChannelKind.IM,
}
PEOPLE = ("users.json", "org_users.json")
"""Who is in the workspace, and who is in the organisation that it belongs to."""
_NOT_MESSAGES = {"canvases", "file_conversations", "huddle_transcripts", "integration_logs", "lists"}
_JSON = r"\.(?:json|jsonl|ndjson)"
_BETWEEN = "[-_. \u2010-\u2015\u2212\uff0d]"
_DAY = re.compile(
    rf"(\d{{4}})(?:(\d\d)(\d\d)|{_BETWEEN}(\d\d?){_BETWEEN}(\d\d?))(?:\D.*)?{_JSON}", re.IGNORECASE | re.ASCII
)
_MONTH = re.compile(rf"\d{{4}}({_BETWEEN}\d\d)?{_JSON}", re.IGNORECASE | re.ASCII)
_DAY_OF_OTHERS = re.compile(rf"\d\d?({_BETWEEN})\d\d?\1\d{{4}}(?:\D.*)?{_JSON}", re.IGNORECASE | re.ASCII)
"""Day and month go before the year, in whichever order."""
_LEFT_BEHIND = {"thumbs.db", "desktop.ini", "__macosx", "@eadir"}
_MARK_OF_WINDOWS = ":zone.identifier"
"""Ends the names of files that Windows makes beside what came from elsewhere, where they are copied."""
_TEAMS = "teams"
"""The folder of an organisation's export that holds a folder for each workspace."""
_ZIPS = (".zip", ".7z", ".rar", ".gz", ".tar", ".tgz")
_CODE_PAGES = ("cp437", "cp850", "cp852", "cp1252", "cp1250", "cp866", "cp1251", "cp932", "gbk", "cp949", "cp950")
"""What Windows wrote names in, before UTF-8."""
_SIGNS = "\u0192"
"""Letters to Unicode that these code pages hold as signs: the florin's."""


def named(files: Iterable[Parts]) -> dict[Parts, Parts]:
    """The files but for what systems leave behind, the export's own lists under their names in lower case."""
    lists = {*LISTS, *PEOPLE}
    return {
        (*parts[:-1], parts[-1].lower()) if parts[-1].lower() in lists else parts: parts
        for parts in files
        if not _is_junk(parts)
    }


def is_day(name: str) -> bool:
    """Whether a file's name is a date, or a month or year, as Slack or another tool writes it."""
    return any(pattern.fullmatch(name) for pattern in (_DAY, _MONTH, _DAY_OF_OTHERS))


def day_of(name: str) -> str:
    """The date of a day's file, to sort by; "" where it has none that is certain."""
    match = _DAY.fullmatch(name)
    month, day = (match[2] or match[4], match[3] or match[5]) if match else (None, None)
    return f"{match[1]}{month:0>2}{day:0>2}" if match and month and day else ""


def is_part(parts: Parts) -> bool:
    """Whether a file is a day of the channel whose folder it is in, or all that was said there."""
    if len(parts) != 2 or is_canvas(parts):
        return False
    folder, name = parts[0].lower(), parts[1].lower()
    if is_day(name) or is_day(name.removeprefix(folder).lstrip("-_. ")):
        return True
    return is_json(parts) and Path(name).stem in {"messages", folder}


def is_canvas(parts: Parts) -> bool:
    """Whether a file lists the canvases of a channel."""
    return len(parts) == 2 and parts[1].startswith("canvas") and parts[1].endswith(".json")


def is_list(parts: Parts) -> bool:
    """Whether it is a file of the export itself, read or not."""
    if len(parts) > 1:
        return parts[0].lower() in _NOT_MESSAGES and not is_part(parts)
    return parts[0] in {*PEOPLE, *LISTS} or Path(parts[0]).stem.lower() in _NOT_MESSAGES


def is_json(parts: Parts) -> bool:
    """Whether a file says that it is JSON."""
    return parts[-1].lower().endswith((".json", ".jsonl", ".ndjson"))


def root_of(path: Path, files: Iterable[Parts]) -> Parts:
    """The folder that holds the lists, or else the channels' folders or files, however deeply it is wrapped."""
    files = list(files)
    roots = {parts[:-1] for parts in files if parts[-1] in LISTS}
    roots = roots or {parts[:-2] for parts in files if len(parts) > 1 and is_day(parts[-1])}
    found = _shallowest(roots)
    if len(found) > 1:
        names = ", ".join(sorted("/".join(root) for root in found))
        raise BadInputError(f"{path.name} holds several exports ({names}); import them one by one.")
    if found and (workspaces := sorted({root[-1] for root in roots if root[:-1] == (*found[0], _TEAMS)})):
        raise BadInputError(
            f"{path.name} holds an organisation's workspaces ({', '.join(workspaces)}); unpack it and import "
            f"each folder of {_TEAMS} by itself."
        )
    found = found or _shallowest({parts[:-1] for parts in files if is_json(parts)})
    if len(found) != 1 or (found == [()] and _is_channel(files)):
        raise no_export(path, files)
    return found[0]


def _shallowest(roots: Collection[Parts]) -> list[Parts]:
    depth = min(map(len, roots), default=0)
    return [root for root in roots if len(root) == depth]


def no_export(path: Path, files: Iterable[Parts]) -> BadInputError:
    """Say that it is no export, and what it may be instead."""
    files = list(files)
    packed = sorted(parts[-1] for parts in files if parts[-1].lower().endswith(_ZIPS))
    if _is_channel(files):
        what, instead = "the folder of one channel", "give the folder above it, which holds channels.json."
    elif packed:
        what, instead = f"packed once more ({packed[0]})", "unpack it and give the export that is in it."
    else:
        return BadInputError(
            f"{path.name or path} is no Slack export: it holds neither channels.json nor days of a channel; "
            "give the ZIP that Slack's export page hands out, or its unpacked folder."
        )
    return BadInputError(f"{path.name or path} is {what}, not a Slack export; {instead}")


def _is_channel(files: Iterable[Parts]) -> bool:
    """Whether it is a single channel's folder that was given."""
    names = {parts[0] for parts in files if len(parts) == 1}
    return not names & {*LISTS, *PEOPLE} and any(map(is_day, names))


def readings(name: str) -> Iterator[str]:
    """What a name may be that no channel has in Slack: some systems change its case, or write it in a code page."""
    if all(map(_may_be_in_a_channels_name, name)):
        return
    yield name.lower()
    for wrong in ("utf-8", *_CODE_PAGES) if not name.isascii() else ():
        for right in ("utf-8", *_CODE_PAGES):
            with suppress(UnicodeError):
                # A folder's name that is no UTF-8 has its bytes as surrogates.
                yield unicodedata.normalize("NFC", name.encode(wrong, "surrogateescape").decode(right)).lower()


def _may_be_in_a_channels_name(char: str) -> bool:
    """Slack takes small letters, marks and digits of any script; no sign that only stands for one, such as ⁿ."""
    is_letter = unicodedata.category(char)[0] in "LMN" and unicodedata.is_normalized("NFKC", char)
    return char in "-_" or (is_letter and char == char.lower() and char not in _SIGNS)


def of_organisation(root: Parts, files: Mapping[Parts, Parts]) -> dict[Parts, Parts]:
    """The list of an organisation's people where it stands above the folders of its workspaces."""
    above = [(*root[:depth], PEOPLE[1]) for depth in range(len(root))]
    return {parts[-1:]: files[parts] for parts in above if parts in files}


def _is_junk(parts: Parts) -> bool:
    left_behind = any(part.lower() in _LEFT_BEHIND or part.startswith(".") for part in parts)
    return left_behind or parts[-1].lower().endswith(_MARK_OF_WINDOWS)
