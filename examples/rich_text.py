"""A text as the scripts have it, turned into the two forms in which Slack stores it.

@handle, @here, #channel, :emoji:, *bold*, _italic_, `code`, https://…, [label](https://…). Lines that start with `- `
or `1. ` make lists, and ``` on lines of their own enclose a code block.
"""

from __future__ import annotations

import re
from typing import Any

Json = dict[str, Any]
Ids = dict[str, str]

CODE_BLOCK = re.compile(r"```\n(.*?)\n```", re.DOTALL)
LIST_ITEM = re.compile(r"- |\d+\. ")
INLINE = re.compile(
    r"`(?P<code>[^`\n]+)`|\[(?P<label>[^]\n]+)]\((?P<url>https?://[^\s)]+)\)|(?P<link>https?://[^\s()]*[\w/])"
    r"|(?<!\w)@(?P<user>\w+)|(?<!\w)#(?P<channel>[\w-]+)|(?<!\w):(?P<emoji>[a-z+][\w+-]*):(?!\w)"
    r"|(?<![\w*])\*(?P<bold>[^*\s](?:[^*\n]*[^*\s])?)\*(?![\w*])|(?<!\w)_(?P<italic>[^_\s](?:[^_\n]*[^_\s])?)_(?!\w)"
)


def record(**fields: Any) -> Json:
    return fields


def escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def inline(text: str, users: Ids, channels: Ids) -> tuple[str, list[Json]]:
    """A line of text as Slack stores it, twice: as mrkdwn and as rich text elements."""
    plain, elements, done = "", list[Json](), 0
    for match in INLINE.finditer(text):
        kind, value = next((name, value) for name, value in match.groupdict().items() if value)
        if kind in ("code", "bold", "italic"):
            shown, element = escape(match[0]), record(type="text", text=value, style={kind: True})
        elif kind == "emoji":
            shown, element = match[0], record(type="emoji", name=value)
        elif kind == "label":
            shown, element = f"<{match['url']}|{escape(value)}>", record(type="link", url=match["url"], text=value)
        elif kind == "link":
            shown, element = f"<{value}>", record(type="link", url=value)
        elif kind == "user" and value == "here":
            shown, element = "<!here>", record(type="broadcast", range="here")
        elif kind == "user" and (user := users.get(value)):
            shown, element = f"<@{user}>", record(type="user", user_id=user)
        elif kind == "channel" and (channel := channels.get(value)):
            shown, element = f"<#{channel}|{value}>", record(type="channel", channel_id=channel)
        else:
            continue
        before = text[done : match.start()]
        plain += escape(before) + shown
        elements += [record(type="text", text=before)] * bool(before) + [element]
        done = match.end()
    rest = text[done:]
    return plain + escape(rest), elements + [record(type="text", text=rest)] * bool(rest)


def rich_text(text: str, users: Ids, channels: Ids) -> tuple[str, list[Json]]:
    """A whole text: its mrkdwn, and the parts of its rich_text block."""
    plain, parts = list[str](), list[Json]()
    for index, piece in enumerate(CODE_BLOCK.split(text)):
        if index % 2:
            plain.append(f"```{escape(piece)}```")
            content = [record(type="text", text=piece)]
            parts.append(record(type="rich_text_preformatted", elements=content, border=0))
            continue
        for line in piece.strip("\n").splitlines():
            last = parts[-1] if parts else {}
            item = LIST_ITEM.match(line)
            shown, elements = inline(line[item.end() :] if item else line, users, channels)
            style = item and ("bullet" if item[0] == "- " else "ordered")
            plain.append(item[0].replace("-", "•") + shown if item else shown)
            section = record(type="rich_text_section", elements=elements)
            if style and last.get("style") == style:
                last["elements"].append(section)
            elif style:
                parts.append(record(type="rich_text_list", style=style, indent=0, elements=[section], border=0))
            elif last.get("type") == "rich_text_section":
                last["elements"] += [record(type="text", text="\n"), *elements]
            else:
                parts.append(section)
    return "\n".join(plain), parts
