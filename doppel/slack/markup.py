"""Slack's markup to plain text as people read it: real names, plain links, intact code and emoji. Pure; never raises.

Slack writes `<…>` for mentions and links and escapes every other `&`, `<` and `>`
(https://docs.slack.dev/messaging/formatting-message-text).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

Raw = Mapping[str, Any]

_TOKEN = re.compile(r"<(?P<token>[^<>|\n][^<>\n]*)>")
# Whichever begins first: a link's label may hold code, and code may hold what looks like a link.
_CODE_OR_TOKEN = re.compile(rf"(?P<code>```.*?```|`[^`\n]+`)|{_TOKEN.pattern}", re.DOTALL)
_ENTITY = re.compile(r"&(amp|lt|gt);")
_ENTITIES = {"amp": "&", "lt": "<", "gt": ">"}
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:.")
_UNSTORABLE = re.compile("[\ud800-\udfff\0]")
SECRET_CHANNEL = "#private-channel"
_MAX_INDENT = 8
_MAX_COUNT = 1_000_000


@dataclass(frozen=True, slots=True)
class Names:
    """What ids read as; an id that is missing reads as the label beside it, or as itself.

    The names of `secret` channels are not for everybody who reads.
    """

    users: Mapping[str, str] = field(default_factory=dict)
    channels: Mapping[str, str] = field(default_factory=dict)
    secret: frozenset[str] = frozenset()

    def within(self, channel: str) -> Names:
        """What ids read as in a channel, whose own name all know who read it."""
        return replace(self, secret=self.secret - {channel}) if channel in self.secret else self


NO_NAMES = Names()


def clean(text: str) -> str:
    """`text` as every store takes it: lone surrogates and NUL become U+FFFD."""
    if text.isascii() and "\0" not in text:
        return text
    return _UNSTORABLE.sub("\ufffd", text)


def render_message(raw: Raw, names: Names = NO_NAMES) -> str:
    """The text of a message: its `text`, else its blocks, else what is attached to it."""
    text = render_text(_string(raw.get("text")), names)
    if not text.strip():
        text = _lines(_block(block, names) for block in _dicts(raw.get("blocks")))
    if not text.strip():
        text = _attached(raw, names)
    return clean(text)


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
            if target[1:] in names.secret:
                return SECRET_CHANNEL
            return "#" + (names.channels.get(target[1:]) or label.removeprefix("#") or target[1:])
        case "!":
            return _special(target[1:], label)
    return _link(target, label) if _URL.match(target) else _decode(f"<{token}>")


def _special(command: str, label: str) -> str:
    """`<!here>`, `<!subteam^S1|@team>`, `<!date^1392734382^{date}|fallback>`."""
    name, _, rest = command.partition("^")
    if name == "date":
        return label or _date(rest.partition("^")[0])
    if name == "subteam":
        name = rest.partition("^")[0] or name
    return "@" + (label.removeprefix("@") or name)


def _date(seconds: str) -> str:
    try:
        return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):
        return seconds


def _link(url: str, label: str) -> str:
    scheme, _, address = url.partition(":")
    if scheme.lower() in {"mailto", "tel"} and label in {"", address}:
        return address
    if not label or label in {url, address.removeprefix("//"), address.removeprefix("//").rstrip("/")}:
        return url
    return f"{label} ({url})"


def _block(block: Raw, names: Names) -> str:
    if block.get("type") == "rich_text":
        return _lines(_rich(element, names) for element in _dicts(block.get("elements")))
    texts = [block, *_dicts(block.get("fields")), *_dicts(block.get("elements"))]
    return _lines(_text_object(part, names) for part in texts)


def _text_object(part: Raw, names: Names) -> str:
    """The text of a section, a header, a field or an element of a context block; buttons have none."""
    if part.get("type") in ("button", "image"):
        return ""
    text = part.get("text")
    kind, text = (text.get("type"), text.get("text")) if isinstance(text, dict) else (part.get("type"), text)
    return render_text(_string(text), names) if kind == "mrkdwn" else _string(text)


def _rich(element: Raw, names: Names) -> str:
    match element.get("type"):
        case "rich_text_list":
            return _list(element, names)
        case "rich_text_preformatted":
            return f"```{_inlines(element, names)}```"
        case "rich_text_quote":
            return "\n".join(f"> {line}" for line in _inlines(element, names).splitlines())
    return _inlines(element, names)


def _list(element: Raw, names: Names) -> str:
    indent = "    " * min(_count(element.get("indent")), _MAX_INDENT)
    first = _count(element.get("offset")) + 1
    ordered = element.get("style") == "ordered"
    items = [_inlines(item, names) for item in _dicts(element.get("elements"))]
    return "\n".join(f"{indent}{f'{first + i}.' if ordered else '•'} {item}" for i, item in enumerate(items))


def _inlines(element: Raw, names: Names) -> str:
    return "".join(_inline(part, names) for part in _dicts(element.get("elements")))


def _inline(part: Raw, names: Names) -> str:
    match part.get("type"):
        case "text":
            text, style = _string(part.get("text")), part.get("style")
            return f"`{text}`" if isinstance(style, dict) and style.get("code") else text
        case "link":
            return _link(_string(part.get("url")), _string(part.get("text")))
        case "user":
            user = _string(part.get("user_id"))
            return "@" + names.users.get(user, user)
        case "channel":
            channel = _string(part.get("channel_id"))
            return "#" + names.channels.get(channel, channel)
        case "usergroup":
            return "@" + _string(part.get("usergroup_id"))
        case "broadcast":
            return "@" + _string(part.get("range"))
        case "emoji":
            return _emoji(part)
        case "date":
            return _string(part.get("fallback")) or _date(str(part.get("timestamp")))
    return _string(part.get("value"))


def _emoji(part: Raw) -> str:
    tone = part.get("skin_tone")
    return f":{_string(part.get('name'))}:" + (f":skin-tone-{tone}:" if tone in range(2, 7) else "")


def _attached(raw: Raw, names: Names) -> str:
    attachments = [_attachment(attachment, names) for attachment in _dicts(raw.get("attachments"))]
    files = _dicts(raw.get("files")) or _dicts([raw.get("file")])
    return _lines([*attachments, *(_file(file) for file in files)])


def _attachment(attachment: Raw, names: Names) -> str:
    parts = [render_text(_string(attachment.get(key)), names) for key in ("pretext", "title", "text")]
    return _lines(parts) or render_text(_string(attachment.get("fallback")), names)


def _file(file: Raw) -> str:
    title = _string(file.get("title")) or _string(file.get("name"))
    return f"[file: {title}]" if title else "[file]"


def _lines(parts: Iterable[str]) -> str:
    return "\n".join(part for part in parts if part.strip())


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""


def _count(value: object) -> int:
    return min(value, _MAX_COUNT) if isinstance(value, int) and value > 0 else 0


def _dicts(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
