"""A workspace's export, ZIP or folder, read one day file at a time.

    users.json org_users.json        people, of the workspace and of its organisation
    channels.json groups.json        public and private channels
    mpims.json dms.json              group and direct conversations
    general/2024-05-31.json          a day of a channel; a direct conversation's folder is named by its id

Other tools write other names (see export_names) and other shapes (export_files), such as one file for each channel.

Exports are untidy: folders that no list names, canvases among the days, broken files. What can't be used is counted in
`skipped`, under a reason, and the rest is read.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from doppel.errors import BadInputError
from doppel.ids import PLACEHOLDER, UNKNOWN_TEAM
from doppel.plain_text import storable
from doppel.records import Channel, ChannelKind, Raw, User, ts_key
from doppel.slack.block_text import dicts
from doppel.slack.export_files import Conversation, ExportFiles, has_id, stated_by
from doppel.slack.export_names import (
    LISTS,
    PEOPLE,
    day_of,
    is_canvas,
    is_day,
    is_json,
    is_list,
    is_part,
    named,
    no_export,
    of_organisation,
    readings,
    root_of,
)
from doppel.slack.json_stream import Unread
from doppel.slack.members import LIMITS, channel_name, channel_of, id_of, narrower, teams_of, user_of
from doppel.slack.messages import timestamp
from doppel.slack.source import Parts, Source, open_source

Progress = Callable[[int, int], None]
"""Called with the bytes read so far and the bytes there are."""

SEVERAL = PLACEHOLDER + "?"
"""Begins the id of what several channels of the export may have said; no name in Slack begins so."""

AHEAD_SECONDS = 600.0
"""How much Slack's clock may be ahead of this machine's."""
_ID = re.compile(r"[CDG][A-Z0-9]{8,}")
_RULES = ("is_primary_owner", "is_owner", "is_admin")
_TEAM_OF = ("user_team", "source_team", "team")
"""What a message says of its author's workspace, the most exact first."""
_WORKSPACE_LINK = re.compile(r"https://([a-z0-9][a-z0-9.-]*)\.slack\.com/")
_NOT_WORKSPACES = {"api", "app", "edgeapi", "files", "get", "hooks", "join", "my", "slack", "status", "www"}


def open_export(path: Path) -> Export:
    """The export at `path`; raises BadInputError if it is none or mustn't be read. Use it as a context manager."""
    source = open_source(path)
    try:
        return Export(path, source)
    except BaseException:
        source.close()
        raise


class Export:
    """One export. `skipped` counts by reason what can't be used; it and `url` are complete after `messages()`.

    `team` is the likeliest of `teams`, the workspaces that it may be of, until somebody who knows better sets it.
    `of_several` has, by the id of a folder's stand-in, the channels that it may be of.
    """

    def __init__(self, path: Path, source: Source) -> None:
        self.path = path
        self.skipped: Counter[str] = Counter()
        self._source = source
        self._hosts: Counter[str] = Counter()
        paths = named(source.files)
        root = root_of(path, paths)
        inside = {parts[len(root) :]: file for parts, file in paths.items() if parts[: len(root)] == root}
        above = of_organisation(root, paths)
        outside = [parts for parts in paths if parts[: len(root)] != root and paths[parts] not in above.values()]
        self.skipped["outside of the export"] += sum(is_json(parts) for parts in outside)
        self._files = ExportFiles(source, above | inside)
        self._days = self._find_days()
        self._canvases = [parts for parts in self._files if is_canvas(parts)]
        self._files.check(self._read_files())
        for parts in self._canvases:
            self._skip_canvases(parts)
        self._take_whole_channels()
        if not self._days and not any((name,) in self._files for name in LISTS):
            raise no_export(path, inside)
        self._members = self._people()
        self.teams = self._find_teams()
        self.team = self.teams[0] if self.teams else UNKNOWN_TEAM
        self.of_several: dict[str, tuple[str, ...]] = {}
        self._named: dict[str, set[str]] = {}
        self._folders = self._find_channels()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the ZIP."""
        self._source.close()

    @property
    def team_is_known(self) -> bool:
        """Whether the export itself names its workspace."""
        return bool(self.teams)

    def users(self) -> Iterator[User]:
        """Everybody whom the export lists, as `team` sees them."""
        return (user_of(member, self.team) for member in self._members)

    @property
    def channels(self) -> tuple[Channel, ...]:
        """The channels of the lists, and those that only have a folder: kind UNKNOWN, a placeholder for an id."""
        return tuple({channel.id: channel for channel in self._folders.values()}.values())

    @property
    def url(self) -> str:
        """The workspace's address as Slack itself wrote it beside files, or "" where it didn't."""
        return f"https://{self._hosts.most_common(1)[0][0]}.slack.com" if self._hosts else ""

    @cached_property
    def as_of(self) -> str:
        """The newest message's timestamp, "0" without any: tells a later export from an earlier one.

        One of the future counts for nothing: it would outlast whatever is learned later.
        """
        files = [parts for days in self._days.values() for parts in days]
        whole = self._past(parts for parts in files if not day_of(parts[-1]))
        for day in sorted({day_of(parts[-1]) for parts in files}, reverse=True):
            found = whole + self._past(parts for parts in files if day and day_of(parts[-1]) == day)
            if found:
                return max(found, key=ts_key)
        return "0"

    def _past(self, files: Iterable[Parts]) -> list[str]:
        latest = time.time() + AHEAD_SECONDS
        return [ts for parts in files for ts in self._files.stamps(parts) if float(ts) <= latest]

    def messages(self, progress: Progress | None = None) -> Iterator[tuple[Channel, dict[str, Any]]]:
        """Every message as Slack wrote it, with its channel: channel by channel, day by day."""
        total = sum(self._files.size(parts) for days in self._days.values() for parts in days)
        done = 0
        for folder, days in self._days.items():
            channel = self._folders[folder]
            for parts in days:
                for raw in self._entries(parts):
                    if self._is_message(raw) and self._is_said_in(channel, raw):
                        self._note_host(raw)
                        yield channel, raw
                done += self._files.size(parts)
                if progress:
                    progress(done, total)

    def require_sound(self) -> None:
        """Raise BadInputError unless all that the export holds was read, and that is somebody or some channel.

        A canvas is not read by design.
        """
        unread = Counter({reason: number for reason, number in self.skipped.items() if number and reason != "canvas"})
        if unread or not (self.channels or any(True for _ in self.users())):
            reasons = (
                ", ".join(f"{number} {reason}" for reason, number in unread.most_common(3)) or "its lists are empty"
            )
            raise BadInputError(
                f"No message of {self.path.name or self.path} could be read ({reasons}); an export holds users.json, "
                "channels.json and a folder for each channel, with a file for each day such as 2024-05-31.json."
            )

    def _read_files(self) -> Iterator[Parts]:
        yield from ((name,) for name in (*PEOPLE, *LISTS) if (name,) in self._files)
        yield from self._whole
        yield from (parts for days in self._days.values() for parts in days)
        yield from self._canvases

    def _find_days(self) -> dict[str, list[Parts]]:
        days: dict[str, list[Parts]] = {}
        self._whole: list[Parts] = []
        for parts in self._files:
            if is_part(parts):
                days.setdefault(parts[0], []).append(parts)
            elif len(parts) == 1 and is_json(parts) and not is_list(parts):
                self._consider(parts)
            elif not is_canvas(parts) and not is_list(parts):
                self.skipped["other file"] += 1
        return days

    def _consider(self, parts: Parts) -> None:
        """A file that may be a channel's; one that mustn't be read may be anything."""
        try:
            self._files.check([parts])
        except BadInputError:
            self.skipped["unreadable file"] += 1
        else:
            self._whole.append(parts)

    def _take_whole_channels(self) -> None:
        """Other tools write one file for each channel, beside the lists."""
        for parts in self._whole:
            if not self._files.has_messages(parts):
                self.skipped["other file"] += 1
                continue
            said = self._files.conversation(parts)
            if len(said.ids) > 1 or len(said.names) > 1:
                self.skipped["file of several channels"] += 1
            else:
                self._days.setdefault(said.called or Path(parts[0]).stem, []).append(parts)

    def _people(self) -> Iterable[Raw]:
        workspace, organisation = PEOPLE
        if (organisation,) not in self._files:
            return self._list(workspace)
        return _Merged(self._list(workspace) if (workspace,) in self._files else (), self._list(organisation))

    def _skip_canvases(self, parts: Parts) -> None:
        for canvas in self._files.load(parts) or ():
            self.skipped["canvas"] += 1
            if isinstance(canvas, dict):
                self._note_links(canvas)

    def _find_teams(self) -> tuple[str, ...]:
        """The workspaces that the export may be of, the likeliest first.

        People of others may be in the majority: who administers this one isn't of those, and its own are everywhere.
        """
        rulers, natives, everybody = Counter[str](), Counter[str](), Counter[str]()
        for member in self._members:
            teams = _known(teams_of(member))
            everybody.update(teams)
            if not member.get("is_stranger"):
                natives.update(teams)
                rulers.update(teams if any(member.get(key) for key in _RULES) else ())
        for likely in (rulers, natives):
            if len(likely) == 1:
                return tuple(likely)
        homes, teams = {id_of(member, "id"): teams_of(member) for member in self._members}, natives or everybody
        rooms, said = self._rooms(homes), Counter[str]()
        for of_channel in self._teams_said():
            said += of_channel
            rooms += Counter(of_channel.keys())
        found = teams or said
        return tuple(sorted(found, key=lambda team: (-rooms[team], -said[team], -found[team], team)))

    def _rooms(self, homes: Mapping[str, Sequence[str]]) -> Counter[str]:
        """In how many listed channels there is somebody of each team."""
        lists = (self._files.load((name,)) for name in LISTS if (name,) in self._files)
        members = (entry.get("members") for entries in lists for entry in entries or () if isinstance(entry, dict))
        there = (members for members in members if isinstance(members, list))
        return _known(
            team for ids in there for team in {team for m in ids if isinstance(m, str) for team in homes.get(m, ())}
        )

    def _teams_said(self) -> Iterator[Counter[str]]:
        """How many messages of people of each team there are, channel by channel."""
        for days in self._days.values():
            read = (raw for parts in days for raw in self._files.load(parts) or () if isinstance(raw, dict))
            yield _known(next(filter(None, (id_of(raw, key) for key in _TEAM_OF)), "") for raw in read)

    def _find_channels(self) -> dict[str, Channel]:
        """Folder -> channel; a listed channel without a folder stands under its id."""
        present = [name for name in LISTS if (name,) in self._files]
        if not present:
            self.skipped["channels.json missing"] += 1
        listed: dict[str, Channel] = {}
        for channel in (channel_of(raw, self.team, LISTS[name]) for name in present for raw in self._list(name)):
            listed[channel.id] = narrower(listed.get(channel.id, channel), channel)
        named = self._named
        for channel in listed.values():
            named.setdefault(channel.name, set()).add(channel.id)
        found = dict(listed)
        for folder, days in self._days.items():
            said = {parts: self._files.conversation(parts) for parts in days}
            name = channel_name(folder)
            stated = name if _ID.fullmatch(name) else _stated(said.values())
            meant = _called(name, listed, named) or {stated} & listed.keys()
            found[folder] = channel = self._folder(name, stated, [listed[id_] for id_ in sorted(meant)])
            self._days[folder] = [parts for parts in days if _is_of(channel, parts, said[parts], listed, named)]
            self.skipped["file of several channels"] += len(days) - len(self._days[folder])
        return found

    def _folder(self, folder: str, stated: str, called_so: Sequence[Channel]) -> Channel:
        """The channel whose files are in a folder; where several are called so, nobody can tell whose they are."""
        if len(called_so) == 1:
            return called_so[0]
        if called_so:
            self.of_several[SEVERAL + storable(folder)] = tuple(channel.id for channel in called_so)
            return Channel(self.team, SEVERAL + storable(folder), storable(folder), ChannelKind.UNKNOWN)
        return Channel(self.team, stated or PLACEHOLDER + storable(folder), storable(folder), ChannelKind.UNKNOWN)

    def _list(self, name: str) -> Iterable[Raw]:
        """The entries of a list that have an id; the list counts as skipped where it is missing or broken."""
        if (name,) not in self._files:
            self.skipped[f"{name} missing"] += 1
            return []
        entries = self._files.load((name,))
        if entries is None:
            self.skipped[f"{name} broken"] += 1
            return []
        self.skipped["no id"] += sum(not has_id(entry) for entry in entries)
        self.skipped["unusable id"] += sum(has_id(entry) and not id_of(entry, "id") for entry in entries)
        return _Chosen(entries)

    def _entries(self, parts: Parts) -> Iterable[Any]:
        entries = self._files.load(parts)
        if entries is None:
            self.skipped["broken day file"] += 1
        return entries or ()

    def _is_message(self, raw: Any) -> bool:
        if isinstance(raw, Unread):
            self.skipped[raw] += 1
        elif not isinstance(raw, dict):
            self.skipped["no message"] += 1
        elif raw.get("ts") in (None, ""):
            self.skipped["no ts"] += 1
        elif timestamp(raw["ts"]) is None:
            self.skipped["bad ts"] += 1
        else:
            return True
        return False

    def _is_said_in(self, channel: Channel, raw: Raw) -> bool:
        """Whether a message doesn't say that it is of another channel."""
        if channel.id.startswith(SEVERAL) or not (stated := stated_by(raw)):
            return True
        said = Conversation()
        said.take(stated)
        # A name may be an older one of this channel's, unless another is called so.
        others = set[str]().union(*(self._named.get(name, set()) for name in said.names)) - {channel.id}
        is_here = said.ids <= {channel.id} and not others
        self.skipped["message of another channel"] += not is_here
        return is_here

    def _note_host(self, raw: Raw) -> None:
        """Files, and messages that Slack quotes under a link to them, carry the workspace's own address."""
        for file in dicts(raw.get("files")):
            self._note_links(file)
        for attachment in dicts(raw.get("attachments")):
            if attachment.get("is_msg_unfurl") and attachment.get("channel_team") == self.team:
                self._note_link(attachment.get("from_url"))

    def _note_links(self, file: Raw) -> None:
        for key in ("permalink", "url_static_preview"):
            self._note_link(file.get(key))

    def _note_link(self, url: object) -> None:
        match = _WORKSPACE_LINK.match(url) if isinstance(url, str) else None
        if match and match[1] not in _NOT_WORKSPACES:
            self._hosts[match[1]] += 1


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The entries of a list that have an id."""

    entries: Iterable[Any]

    def __iter__(self) -> Iterator[Raw]:
        return (entry for entry in self.entries if isinstance(entry, dict) and id_of(entry, "id"))


@dataclass(frozen=True, slots=True)
class _Merged:
    """The people of a workspace and of its organisation; who is in both is called as in the workspace.

    Where one of the two takes rights away, that counts.
    """

    workspace: Iterable[Raw]
    organisation: Iterable[Raw]

    def __iter__(self) -> Iterator[Raw]:
        own = {id_of(person, "id"): person for person in self.workspace}
        for person in self.organisation:
            yield _joined(own.pop(id_of(person, "id"), {}), person)
        yield from own.values()


def _joined(own: Raw, other: Raw) -> dict[str, Any]:
    doubts = {key: True for key in (*LIMITS, "deleted") if own.get(key) or other.get(key)}
    return {**other, **{key: value for key, value in own.items() if value not in (None, "", {})}, **doubts}


def _stated(said: Iterable[Conversation]) -> str:
    """The id of the one channel that a folder's files say they are of, or ""; a file may say nothing."""
    ids = {id_ for of_file in said for id_ in of_file.ids}
    return ids.pop() if len(ids) == 1 else ""


def _is_of(
    channel: Channel, parts: Parts, said: Conversation, listed: Collection[str], named: Mapping[str, set[str]]
) -> bool:
    """Whether a file says nothing else than that it is of this channel, and is called like it or like none.

    Of a day, a message that says otherwise is left out by itself. Of a channel that no list names, its own id and the
    name beside it say that it is the one.
    """
    if channel.id.startswith(SEVERAL):
        return True
    if is_day(parts[-1]):
        said = said.head or said
    if channel.kind is ChannelKind.UNKNOWN:
        names = {channel.name.lower(), *([said.named] if said.ids else [])}
        return said.ids <= {channel.id} and said.names <= names
    called = _called(channel_name(Path(parts[0]).stem), listed, named)
    meant = [_called(name, listed, named) for name in said.names]
    return said.ids <= {channel.id} and called <= {channel.id} and all(ids == {channel.id} for ids in meant)


def _called(name: str, listed: Collection[str], named: Mapping[str, set[str]]) -> set[str]:
    """The ids of the channels that a folder's name may mean.

    An id means no other channel, whatever somebody calls theirs.
    """
    if name in listed:
        return {name, *named.get(name, ())}
    if _ID.fullmatch(name):
        return set()
    return named.get(name) or {id_ for reading in readings(name) for id_ in named.get(reading, ())}


def _known(teams: Iterable[str]) -> Counter[str]:
    """How often each workspace is named; the ids of organisations, which begin with E, are no workspaces'."""
    return Counter(team for team in teams if team and not team.startswith("E"))
