"""What Slack itself copies of messages into others: shares, pins, broadcasts, roots of threads, former versions.

A copy names its author by id, or only the place of the message (channel and timestamp, or the link to it), or, in older
exports, only the author's name. Pure; it never raises for a message of bounded depth.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from doppel.ids import looks_like_user_id
from doppel.records import Raw, name_key
from doppel.slack.messages import SLACKBOT, timestamp
from doppel.timestamps import micros

_AUTHOR_KEYS = ("user", "author_id", "created_by")
_TIME_KEYS = ("ts", "message_ts")
_KEPT = frozenset({"type", "subtype", *_TIME_KEYS, "thread_ts", *_AUTHOR_KEYS, "channel_id", "team"})
_NAME_KEYS = ("author_name", "author_subname", "username")
_PROFILE_KEYS = frozenset({*_NAME_KEYS, "author_link", "author_icon", "fallback", "user_profile", "user_team_profile"})
_LINK_KEYS = re.compile(r"(?:_url|link)$")
"""What a part that isn't typed is shown from; what somebody typed has its link in `url`."""
_LINK = re.compile(r"/(?P<channel>[^/?#\s]+)/p(?P<at>\d{16})(?!\d)(?:[^\s]*?[?&]cid=(?P<id>[A-Z0-9]+))?")
_CLIENT_LINK = re.compile(r"/thread/(?P<channel>[A-Z0-9]+)-(?P<at>\d{10}\.\d{6})(?!\d)")
_TEAM_LINK = re.compile(r"/team/([^/?#\s]+)$")
_FALLBACK = re.compile(r"\[[^\]]{1,60}\]\s*([^:\n]{1,80}):")
_SAYS_SO = re.compile(r"\s*<@[^>]+> (?:shared|pinned|posted|commented on|replied to) [^:\n]*:")
_COMMENTED = re.compile(r" and commented: .*", re.DOTALL)
"""What whoever shared a file typed below it, in a sentence of Slack's of old."""
_MENTION = re.compile(r"<@([A-Z0-9]+)[|>]")
_QUOTED = re.compile('(?<=\u201c).+(?=\u201d)|(?<=").+(?=")', re.DOTALL)
"""Somebody's own words in a sentence of Slack's about them, such as what they are to be reminded of."""
_TELLING = 20
"""Characters from which on the same text in the same message is taken for the same copy."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What a part of a message says about where it is from: ids of its author, when that wrote it (in microseconds, 0
    where it doesn't say), places of the message as (channel's id or name, or None; microseconds), names of its author.
    """

    authors: tuple[str, ...]
    at: int
    places: tuple[tuple[str | None, int], ...]
    names: frozenset[str]


_TELLING_KEYS = "|".join((*_TIME_KEYS[1:], *_NAME_KEYS, "fallback", "user_profile", "message_blocks"))
MAY_TELL = re.compile(rf'"(?:{_TELLING_KEYS}|[a-z_]*(?:_url|link))":')
"""Finds in an encoded message what a copy in it may tell its origin by, but for ids and a second `ts`."""

IsGone = Callable[[Origin], bool]


def without_copies(raw: Raw, at: int, is_gone: IsGone, nameless: frozenset[str]) -> tuple[Raw, bool]:
    """A message written `at` that time without the copies that are gone, and without the names of the `nameless`.

    Also whether a copy was taken out. What the same message says again of a copy goes with it.
    """
    cutter = _Cutter(is_gone, nameless)
    left = cutter.fields(raw, at)
    if raw.get("user") == SLACKBOT:
        left = cutter.unquoted(left, at)
    if not cutter.texts:
        return left, cutter.has_cut
    return cutter.unsaid(left), cutter.has_cut


@dataclass(slots=True)
class _Cutter:
    is_gone: IsGone
    nameless: frozenset[str]
    texts: set[str] = field(default_factory=set)
    """What the copies said that were taken out."""
    has_cut: bool = False
    _labels: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        ids = "|".join(map(re.escape, sorted(self.nameless))) or "(?!)"
        self._labels = re.compile(rf"<(@(?:{ids})|https?://[^<>|\s]+/team/(?:{ids}))\|[^<>\n]*>")

    def fields(self, part: Raw, at: int) -> dict[str, Any]:
        """A part that stays."""
        names_go = any(isinstance(part.get(key), str) and part[key] in self.nameless for key in _AUTHOR_KEYS)
        left = {
            key: self.value(item, at) for key, item in part.items() if not (names_go and self._names_them(key, part))
        }
        if self.nameless.intersection(_profile_of(part.get("url"))):
            left.pop("text", None)
        return left

    def value(self, value: Any, at: int) -> Any:
        if isinstance(value, str):
            return self._labels.sub(r"<\1>", value)
        if isinstance(value, list):
            return [self.value(item, at) for item in value]
        if not isinstance(value, dict):
            return value
        origin = _origin(value, at)
        if not self.is_gone(origin):
            return self.fields(value, origin.at or at)
        left = {key: item for key, item in value.items() if key in _KEPT}
        self.has_cut |= left != value
        self.texts |= {text for text in _spoken(value) if text}
        return left

    def unquoted(self, part: dict[str, Any], at: int) -> dict[str, Any]:
        """A message of Slackbot's without what it quotes of those that it names."""
        named = tuple(dict.fromkeys(_mentioned(part)))
        if not named or not self.is_gone(Origin(named, at, (), frozenset())):
            return part
        left = {key: _without_quotes(value) if key in _SPOKEN_KEYS else value for key, value in part.items()}
        self.has_cut |= left != part
        return left

    def unsaid(self, part: Raw) -> dict[str, Any]:
        """A part that stays without what the copies said."""
        return {key: self._unsaid(key, value) if key in _SPOKEN_KEYS else value for key, value in part.items()}

    def _unsaid(self, key: str, value: Any) -> Any:
        if isinstance(value, str):
            return self._cut(value)
        if isinstance(value, dict):
            return self.unsaid(value)
        if isinstance(value, list):
            kept = [item for item in value if not (key == "blocks" and self._repeats(item))]
            return [self._unsaid(key, item) for item in kept]
        return value

    def _names_them(self, key: str, part: Raw) -> bool:
        return key in _PROFILE_KEYS and (key != "fallback" or _is_text(part.get("author_id")))

    def _repeats(self, block: Any) -> bool:
        """Whether a block says what a copy said: rich text comes in pieces, so it is looked at whole."""
        said = _plain("".join(_strings(block)))
        return bool(said) and any(
            (len(text) >= _TELLING and text in said) or text == said or (len(said) >= _TELLING and said in text)
            for text in map(_plain, self.texts)
        )

    def _cut(self, text: str) -> str:
        if match := _SAYS_SO.match(text):
            commented = _COMMENTED.search(text) if " shared " in match[0] else None
            return match[0] + (commented[0] if commented else "")
        for said in sorted(self.texts, key=len, reverse=True):
            if text.strip() == said:
                return ""
            if len(said) >= _TELLING:
                text = text.replace(said, "")
            text = text.replace(f"|{said}>", ">")
        shown = text.strip().rstrip(".\u2026 ")
        return "" if len(shown) >= _TELLING and any(shown in said for said in self.texts) else text


def _mentioned(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield from _MENTION.findall(value)
    elif isinstance(value, list):
        for item in value:
            yield from _mentioned(item)
    elif isinstance(value, dict):
        if _is_text(value.get("user_id")):
            yield value["user_id"]
        for key in sorted(value.keys() & _SPOKEN_KEYS):
            yield from _mentioned(value[key])


def _without_quotes(value: Any) -> Any:
    if isinstance(value, str):
        return _QUOTED.sub("\u2026", value)
    if isinstance(value, list):
        return [_without_quotes(item) for item in value]
    if isinstance(value, dict):
        return {key: _without_quotes(item) if key in _SPOKEN_KEYS else item for key, item in value.items()}
    return value


def _origin(part: Raw, at: int) -> Origin:
    ts, links = next(filter(None, (timestamp(part.get(key)) for key in _TIME_KEYS)), None), _places_of_links(part)
    channel = next((part[key] for key in ("channel_id", "channel", "channel_name") if _is_text(part.get(key))), None)
    places = [*links, (channel, micros(ts))] if ts else links
    authors = tuple(part[key] for key in _AUTHOR_KEYS if _is_text(part.get(key))) or _linked_author(part)
    # What somebody is known to have written is as old as the message around it; of the rest it is not known.
    when = micros(ts) if ts else links[0][1] if links else _made(part) or (at if authors else 0)
    return Origin(authors, when, tuple(places), frozenset(_names(part)) if not authors else frozenset())


def _linked_author(part: Raw) -> tuple[str, ...]:
    """The author's id where a link to their profile is all that names them."""
    return _profile_of(part.get("author_link"))


def _profile_of(link: object) -> tuple[str, ...]:
    """Whose profile a link leads to, by id."""
    match = _TEAM_LINK.search(link) if isinstance(link, str) else None
    return (match[1],) if match and looks_like_user_id(match[1]) else ()


def _made(part: Raw) -> int:
    """When a file was made, or a comment on one, in microseconds; 0 where it isn't said."""
    seconds = part.get("created")
    return seconds * 1_000_000 if isinstance(seconds, int) and 0 < seconds < 10**11 else 0


def _places_of_links(part: Raw) -> list[tuple[str | None, int]]:
    links = [value for key, value in sorted(part.items()) if _LINK_KEYS.search(key) and _is_text(value)]
    found = [(match["id"] or match["channel"], int(match["at"])) for match in map(_LINK.search, links) if match]
    return found + [(match["channel"], micros(match["at"])) for match in map(_CLIENT_LINK.search, links) if match]


def _names(part: Raw) -> Iterator[str]:
    yield from (name_key(part[key]) for key in _NAME_KEYS if _is_text(part.get(key)))
    for key, pattern in (("author_link", _TEAM_LINK), ("fallback", _FALLBACK)):
        if _is_text(part.get(key)) and (match := pattern.search(part[key])):
            yield name_key(match[1])


def _spoken(value: Any) -> Iterator[str]:
    """What a part says, each text also without the ends that Slack puts to it."""
    for text in _strings(value):
        whole = text.strip()
        yield whole
        yield whole.rstrip(".\u2026 ")
        yield _FALLBACK.sub("", whole, count=1).strip()


def _strings(value: Any) -> Iterator[str]:
    """The texts in a part, but for ids and addresses."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, dict):
        for key in value.keys() & _SPOKEN_KEYS:
            yield from _strings(value[key])


_SPOKEN_KEYS = frozenset(
    {
        *("text", "fallback", "pretext", "title", "value", "blocks", "elements", "fields", "message", "message_blocks"),
        *("attachments", "comment", "initial_comment", "preview", "plain_text", "files", "file", "name", "root"),
        *("previous_message", "item", "items", "accessory", "label", "description", "footer_text"),
    }
)


def _plain(text: str) -> str:
    return "".join(text.split())


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""
