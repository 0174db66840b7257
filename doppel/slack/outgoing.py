"""What a model wrote -> what may be posted in Slack. Pure; never raises. A model's words are data of strangers.

What comes out holds no control sequence but mentions of the people and channels that are given, no link that says one
address and leads to another, and no secret that `doppel.engine.redaction` knows.

It uses only what `text`, Markdown blocks and `markdown_text` share: `&`, `<` and `>` are escaped, links are written out
as "label (address)" (https://docs.slack.dev/messaging/formatting-message-text). Not documented is whether Slack shows
an entity in the code of a Markdown block as its character.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from doppel.engine.redaction import mask, masked_pieces
from doppel.plain_text import storable
from doppel.slack.markup import NO_NAMES, Names
from doppel.stream_rewriter import Pieces

NO_LINK = "(link removed)"

_BREAK = "\u200b"
# Characters that show nothing: they would hide a mention, an address or a secret from us, or turn the text around.
_UNSEEN = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ue000-\uf8ff\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]"
)
_PRIVATE = 0xE000
_JOINERS = "\u200c\u200d\ufe00-\ufe0f"
_AT = "[@＠﹫]"
_BROADCASTS = ("channel", "here", "everyone", "group")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}

_LT, _GT = "(?:<|&lt;)", "(?:>|&gt;)"
_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]*"
_CONTROL = (
    rf"{_LT}(?P<control>(?:[@#!]|{_SCHEME}:)(?:(?!&[lg]t;)[^<>|\n])*)"
    rf"(?:\|(?P<says>(?:(?!&[lg]t;)[^<>\n])*))?{_GT}"
)
_TARGET = r"(?:[^()\n]|\([^()\n]*\))*"
_LINK = rf"!?\[(?P<label>[^\[\]\n]*)\]\((?P<target>{_TARGET})\)"
_EMAIL = r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+"
_URL = r"(?i:https?://|mailto:)[^\s<>`\"\[\]]+"
_TOKEN = "|".join(
    (
        r"(?P<fence>```)",
        r"(?P<code>`[^`\n]+`)",
        _CONTROL,
        _LINK,
        rf"(?P<url>{_URL})",
        rf"(?P<email>{_EMAIL})",
        rf"{_AT}[{_JOINERS}]*(?P<handle>(?:\w[{_JOINERS}]*)+)",
        r"(?P<bracket>\](?=\())",
        r"(?P<reference>\](?=[:\[]))",
        r"(?P<special>[&<>])",
        r"(?P<cited>[\ue000-\uf8ff])",
    )
)
# What could still become one of these: each of them cut off by the end of the text.
_UNSETTLED = "|".join(
    (
        r"`{1,2}\Z",
        r"`[^`\n]+\Z",
        rf"{_LT}(?:(?:[@#!]|{_SCHEME}:)[^<>\n]*|(?:{_SCHEME})?)\Z",
        r"(?:\](?=\[))?!?\[[^\[\]\n]*(?:\](?:\((?:[^()\n]|\([^()\n]*\))*(?:\([^()\n]*)?)?)?\Z",
        rf"{_URL}\Z",
        rf"{_AT}[\w{_JOINERS}]*\Z",
    )
)
_WHOLE = re.compile(_TOKEN)
_SCAN = re.compile(rf"(?P<unsettled>{_UNSETTLED})|{_TOKEN}")
_SCHEMED = re.compile(rf"\s*({_SCHEME}):")
_PERMITTED = frozenset({"http", "https", "mailto"})
_ADDRESS = re.compile(r"\S*(?:://|\w\.[^\W\d_]{2})\S*")
_USERINFO = re.compile(r"(?<=://)[^\s/?#]*@")
_AT_WORD = re.compile(rf"({_AT})[{_JOINERS}]*((?:\w[{_JOINERS}]*)+)")


@dataclass(frozen=True, slots=True)
class Mentionable:
    """Whom an answer may mention: ids of the people and channels of its conversation. `names` reads other ids."""

    people: frozenset[str] = frozenset()
    channels: frozenset[str] = frozenset()
    names: Names = NO_NAMES


NOBODY = Mentionable()


def outgoing(text: str, mentionable: Mentionable = NOBODY) -> str:
    """`text` of a model as it may be posted."""
    return _Writer(mentionable).write(mask(_visible(text)))


def plain(text: str) -> str:
    """A name or sentence of somebody else as it may stand in mrkdwn: on one line, without mention, link or secret."""
    return outgoing(" ".join(text.replace("`", "'").split()))


class OutgoingPieces:
    """`outgoing` for text that arrives in pieces; what can still become a secret or a control sequence waits."""

    def __init__(self, mentionable: Mentionable = NOBODY) -> None:
        self._unmasked, self._cited = masked_pieces(), dict[str, str]()
        self._unwritten, self._spaced = Pieces(_SCAN, _Writer(mentionable, self._cited).write), True

    def feed(self, piece: str) -> str:
        """Take the next piece of the model's text; returns what may be posted now."""
        self._spaced = (piece or " " * self._spaced)[-1:].isspace()
        return self._unwritten.feed(self._unmasked.feed(_visible(piece)))

    def cite(self, number: int, url: str) -> str:
        """Put a link to a source, which is called by its number, behind what came; returns what may be posted now."""
        # A character for private use, which the model's text can't hold, keeps its place.
        mark = chr(_PRIVATE + len(self._cited))
        self._cited[mark] = f"[{number}]({_url(url).replace('(', '%28').replace(')', '%29')})"
        placed = f"{mark} " if self._spaced else f" {mark}"
        return self._unwritten.feed(self._unmasked.feed(placed))

    def close(self) -> str:
        """The rest: no piece comes after it."""
        return self._unwritten.feed(self._unmasked.close()) + self._unwritten.close()


def _visible(text: str) -> str:
    return storable(_UNSEEN.sub("", text))


class _Writer:
    """Rewrites token by token; remembers whether it stands inside a fence."""

    def __init__(self, mentionable: Mentionable, cited: Mapping[str, str] = MappingProxyType({})) -> None:
        self._mentionable, self._cited = mentionable, cited
        self._fenced = False

    def write(self, text: str) -> str:
        return _WHOLE.sub(self._token, text)

    def _token(self, match: re.Match[str]) -> str:
        if match["fence"]:
            self._fenced = not self._fenced
            return match[0]
        if match["cited"]:
            return "" if self._fenced else self._cited.get(match[0], "")
        if match["bracket"]:
            return "] "
        if self._fenced or match["code"]:
            return _code(match[0])
        if match["control"]:
            return self._control(match["control"], match["says"] or "")
        if match["label"] is not None:
            return _link(match["target"].strip().partition(" ")[0].strip("<>"), match["label"])
        if match["url"]:
            return _url(match["url"])
        if match["handle"]:
            return f"@{_BREAK}{match['handle']}"
        if match["reference"]:
            return "] "
        return _ENTITIES.get(match[0], match[0])

    def _control(self, target: str, label: str) -> str:
        kind, rest = target[0], target[1:]
        if kind == "@":
            return f"<@{rest}>" if rest in self._mentionable.people else _inert(self._name(rest, label))
        if kind == "#":
            # The name of a channel that is not to be linked here is not looked up: it may be private.
            return f"<#{rest}>" if rest in self._mentionable.channels else "#" + _inert(label.lstrip("#") or rest)
        if kind == "!":
            return _special(rest, label)
        return _link(target, label)

    def _name(self, user: str, label: str) -> str:
        return self._mentionable.names.users.get(user) or label.lstrip("@＠﹫") or user


def _special(command: str, label: str) -> str:
    """`<!here>`, `<!subteam^S1|@devs>`, `<!date^0^{date}|then>`; anything else, such as `<!-- -->`, as it is."""
    name, _, rest = command.partition("^")
    if name == "date":
        return _inert(label or rest.partition("^")[0])
    if name == "subteam" or _is_broadcast(name):
        return f"@{_BREAK}{_inert(label.lstrip('@＠﹫') or rest or name)}"
    return _inert(f"<!{command}{'|' if label else ''}{label}>")


def _link(target: str, label: str) -> str:
    """A label and the address it leads to, or the address alone where the label looks like one."""
    label = label.strip()
    scheme = _SCHEMED.match(target)
    if scheme is None:
        return f"{_inert(label)} ({_inert(target)})".lstrip()
    if scheme[1].casefold() not in _PERMITTED:
        return f"{_inert(label)} {NO_LINK}".lstrip()
    address = target.partition(":")[2]
    if label == address:
        return _url(address)
    return f"{_inert(label)} ({_url(target)})" if label and not _ADDRESS.fullmatch(label) else _url(target)


def _url(url: str) -> str:
    """An address as it is; without what stands before an `@`, which would pass for its host."""
    url = _USERINFO.sub("", url).replace("[", "%5B").replace("]", "%5D")
    return _escape(_AT_WORD.sub(_encoded, url))


def _encoded(match: re.Match[str]) -> str:
    return f"%40{match[2]}" if _is_broadcast(match[2]) else match[0]


def _code(text: str) -> str:
    """Code as it is, for whatever Slack may take for code."""
    text = _AT_WORD.sub(lambda m: f"@{_BREAK}{m[2]}" if _is_broadcast(m[2]) else m[0], _visible(text))
    return _escape(text.replace("](", "] ("))


def _inert(text: str) -> str:
    """A label or name: it may mention and link nothing."""
    text = _AT_WORD.sub(rf"@{_BREAK}\2", _visible(text))
    return _escape(re.sub(r"\](?=[(:\[])", "] ", text))


def _is_broadcast(word: str) -> bool:
    """Whether a word begins as one that notifies a whole channel; what follows may be markup, as in `@here_`."""
    letters = re.sub(f"[{_JOINERS}]", "", unicodedata.normalize("NFKC", word))
    return letters.casefold().startswith(_BROADCASTS)


def _escape(text: str) -> str:
    return re.sub("[&<>]", lambda m: _ENTITIES[m[0]], text)
