"""Slack's blocks to plain text, those that are not known yet too. Pure; never raises.

Shapes: https://docs.slack.dev/reference/block-kit/blocks
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from doppel.labels import named
from doppel.records import Raw
from doppel.slack.markup import Names, channel_mention, date_text, link_text, render_text

MAX_DEPTH = 24
"""Levels of a block that are read; Slack's own have at most seven."""
MANY = 10**9

_MAX_INDENT = 8
_MAX_COUNT = 1_000_000
_CONTROLS = ("button", "_button", "_buttons", "_select", "_input", "picker", "overflow", "checkboxes", "image")
_FIRST = ("title", "heading", "subtitle", "label", "caption", "text", "body", "content", "message", "description")
_NEXT = ("summary", "details", "fields", "elements", "blocks")
_LAST = ("output", "hint", "alt_text")
_WORDS = frozenset({*_FIRST, *_NEXT, *_LAST})
_CELL_BREAK = " | "


def render_block(block: Raw, names: Names) -> str:
    """The text of a block; of buttons, menus and what else is pressed nothing is read, of a picture what it is called.

    What else a block holds is found by the names that Slack gives to texts, whatever the block's type.
    """
    if block.get("type") == "image":
        called = named(_child(block, "title", names, 0) or string(block.get("alt_text")))
        return f"[image: {called}]" if called else ""
    return _block(block, names, 0)


def typed_characters(block: Raw) -> int:
    """How many characters of plain text a block of rich text holds; `MANY` where it is none."""
    found = 0
    try:
        for element in block["elements"]:
            for part in element["elements"]:
                if part["type"] == "text":
                    found += len(part["text"])
                elif part["type"] == "rich_text_section":
                    found += sum(len(inner["text"]) for inner in part["elements"] if inner["type"] == "text")
    except (KeyError, TypeError):
        return MANY
    return found


def _block(block: Raw, names: Names, depth: int) -> str:
    kind = string(block.get("type"))
    if depth > MAX_DEPTH or kind.endswith(_CONTROLS):
        return ""
    if kind in ("mrkdwn", "plain_text", "raw_text") and isinstance(block.get("text"), str):
        return render_text(block["text"], names) if kind == "mrkdwn" else string(block["text"])
    if kind.startswith("rich_text"):
        return _rich(block, names, depth)
    # In an order of our own: what is stored was sorted, and must read as it did when it came.
    rest = sorted(key for key, value in block.items() if key not in _WORDS and isinstance(value, dict | list))
    keys = (key for key in (*_FIRST, *_NEXT, *rest, *_LAST) if key in block)
    return lines(_child(block, key, names, depth) for key in keys)


def _child(block: Raw, key: str, names: Names, depth: int) -> str:
    value = block.get(key)
    if key == "rows" and isinstance(value, list):
        return lines(_CELL_BREAK.join(_cells(row, names, depth + 1)) for row in value)
    if isinstance(value, dict):
        return _block(value, names, depth + 1)
    if isinstance(value, list):
        return lines(_block(part, names, depth + 1) for part in dicts(value))
    return string(value)


def _cells(row: object, names: Names, depth: int) -> Iterator[str]:
    """The cells of a row, each on one line; an empty one keeps its place."""
    if isinstance(row, dict):
        row = next((value for _, value in sorted(row.items()) if isinstance(value, list)), [])
    for cell in row if isinstance(row, list) else []:
        if not isinstance(cell, dict):
            yield one_line(cell if isinstance(cell, str) else "")
        elif cell.get("type") == "raw_number":
            yield one_line(string(cell.get("text")) or str(cell.get("value")))
        else:
            yield one_line(_block(cell, names, depth))


def _rich(element: Raw, names: Names, depth: int) -> str:
    match element.get("type"):
        case "rich_text":
            if depth > MAX_DEPTH:
                return ""
            return lines(_rich(part, names, depth + 1) for part in dicts(element.get("elements")))
        case "rich_text_list":
            text = _list(element, names, depth)
        case "rich_text_preformatted":
            text = f"```{_inlines(element, names, depth)}```"
        case _:
            text = _inlines(element, names, depth)
    # A list or code within a quote has a border.
    is_quote = element.get("type") == "rich_text_quote" or element.get("border")
    return "\n".join(f"> {line}" for line in text.splitlines()) if is_quote else text


def _list(element: Raw, names: Names, depth: int) -> str:
    indent = "    " * min(_count(element.get("indent")), _MAX_INDENT)
    first = _count(element.get("offset")) + 1
    ordered = element.get("style") == "ordered"
    items = [_inlines(item, names, depth) for item in dicts(element.get("elements"))]
    return "\n".join(f"{indent}{f'{first + i}.' if ordered else '•'} {item}" for i, item in enumerate(items))


def _inlines(element: Raw, names: Names, depth: int) -> str:
    return "".join(_inline(part, names, depth + 1) for part in dicts(element.get("elements")))


def _inline(part: Raw, names: Names, depth: int) -> str:
    match part.get("type"):
        case "text":
            text, style = string(part.get("text")), part.get("style")
            return f"`{text}`" if isinstance(style, dict) and style.get("code") else text
        case "link":
            return link_text(string(part.get("url")), string(part.get("text")))
        case "user":
            user = string(part.get("user_id"))
            return "@" + names.users.get(user, user)
        case "channel":
            channel = string(part.get("channel_id"))
            return channel_mention(channel, channel, names)
        case "usergroup":
            group = string(part.get("usergroup_id"))
            return "@" + names.groups.get(group, group)
        case "broadcast":
            return "@" + string(part.get("range"))
        case "emoji":
            return _emoji(part)
        case "date":
            return string(part.get("fallback")) or date_text(str(part.get("timestamp")))
    if "elements" in part:
        return _rich(part, names, depth) if depth <= MAX_DEPTH else ""
    return string(part.get("text")) or string(part.get("value")) or string(part.get("url"))


def _emoji(part: Raw) -> str:
    tone = part.get("skin_tone")
    return f":{string(part.get('name'))}:" + (f":skin-tone-{tone}:" if tone in range(2, 7) else "")


def lines(parts: Iterable[str]) -> str:
    """The parts that say something, below each other."""
    return "\n".join(part for part in parts if part.strip())


def one_line(text: str) -> str:
    """`text` without line breaks and doubled spaces."""
    return " ".join(text.split())


def string(value: object) -> str:
    """A text, "" for what is none."""
    return value if isinstance(value, str) else ""


def dicts(value: object) -> list[dict[str, Any]]:
    """The objects of a list; none of what is no list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _count(value: object) -> int:
    return min(value, _MAX_COUNT) if isinstance(value, int) and value > 0 else 0
