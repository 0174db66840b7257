"""Slack's markup to plain text as people read it: real names, plain links, intact code and emoji. Pure; never raises.

Slack writes `<…>` for mentions and links and escapes every other `&`, `<` and `>`
(https://docs.slack.dev/messaging/formatting-message-text).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

_TOKEN = re.compile(r"<(?P<token>[^<>|\n][^<>\n]*)>")
# Whichever begins first: a link's label may hold code, and code may hold what looks like a link.
_CODE_OR_TOKEN = re.compile(rf"(?P<code>```.*?```|`[^`\n]+`)|{_TOKEN.pattern}", re.DOTALL)
_ENTITY = re.compile(r"&(amp|lt|gt);")
_ENTITIES = {"amp": "&", "lt": "<", "gt": ">"}
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:.")
SECRET_CHANNEL = "#private-channel"


@dataclass(frozen=True, slots=True)
class Names:
    """What ids read as; an id that is missing reads as the label beside it, or as itself.

    The names of `secret` channels are not for everybody who reads.
    """

    users: Mapping[str, str] = field(default_factory=dict)
    channels: Mapping[str, str] = field(default_factory=dict)
    secret: frozenset[str] = frozenset()
    groups: Mapping[str, str] = field(default_factory=dict)

    def within(self, channel: str) -> Names:
        """What ids read as in a channel, whose own name all know who read it."""
        return replace(self, secret=self.secret - {channel}) if channel in self.secret else self


NO_NAMES = Names()


def render_text(text: str, names: Names = NO_NAMES) -> str:
    """Slack's mrkdwn with names, links and entities written out; code keeps every character that was typed."""
    parts, end = [], 0
    for match in _CODE_OR_TOKEN.finditer(text):
        parts.append(_decode(text[end : match.start()]))
        parts.append(_token(match["token"], names) if match["token"] else _code(match["code"]))
        end = match.end()
    return "".join([*parts, _decode(text[end:])])


def _code(text: str) -> str:
    """Slack links what looks like an address even in code: there the label is what was typed."""
    return _decode(_TOKEN.sub(lambda m: _typed(m[1]) if _URL.match(m[1]) else m[0], text))


def _typed(link: str) -> str:
    url, _, label = link.partition("|")
    return label or url


def _decode(text: str) -> str:
    return _ENTITY.sub(lambda m: _ENTITIES[m[1]], text) if "&" in text else text


def _token(token: str, names: Names) -> str:
    target, _, label = token.partition("|")
    target, label = _decode(target), _decode(label)
    match target[0]:
        case "@":
            return "@" + (names.users.get(target[1:]) or label.removeprefix("@") or target[1:])
        case "#":
            return channel_mention(target[1:], label.removeprefix("#") or target[1:], names)
        case "!":
            return _special(target[1:], label, names)
    return link_text(target, label) if _URL.match(target) else _decode(f"<{token}>")


def channel_mention(channel: str, otherwise: str, names: Names) -> str:
    """How a channel's id reads; `otherwise` is for one that nobody knows."""
    return SECRET_CHANNEL if channel in names.secret else "#" + (names.channels.get(channel) or otherwise)


def _special(command: str, label: str, names: Names) -> str:
    """`<!here>`, `<!subteam^S1|@team>`, `<!date^1392734382^{date}|fallback>`."""
    name, _, rest = command.partition("^")
    if name == "date":
        return label or date_text(rest.partition("^")[0])
    if name == "subteam":
        name = rest.partition("^")[0] or name
        label = names.groups.get(name) or label
    return "@" + (label.removeprefix("@") or name)


def date_text(seconds: str) -> str:
    """The moment of some seconds since the epoch; what is none reads as it is."""
    try:
        return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):
        return seconds


def link_text(url: str, label: str) -> str:
    """A link as its label and its address, or as the address where the label says no more."""
    scheme, _, address = url.partition(":")
    if scheme.lower() in {"mailto", "tel"} and label in {"", address}:
        return address
    if not label or label in {url, address.removeprefix("//"), address.removeprefix("//").rstrip("/")}:
        return url
    return f"{label} ({url})"
