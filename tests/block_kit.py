"""Checks Block Kit against the limits that Slack publishes (https://docs.slack.dev/reference/block-kit)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

Raw = Mapping[str, Any]

BLOCKS = {"message": 50, "home": 100}
MARKDOWN_CHARS = 12_000
# Beyond it Slack answers msg_blocks_too_long, whatever the blocks (slackapi/bolt-js#2509).
MESSAGE_CHARS = 13_000


def faults(blocks: object, surface: str = "message") -> list[str]:
    """Everything that Slack would refuse in a message's or App home's blocks, as "path: what"."""
    if not isinstance(blocks, list) or not blocks:
        return ["blocks: not a list of blocks"]
    found = [fault for i, block in enumerate(blocks) for fault in _block(block, f"blocks[{i}]")]
    if len(blocks) > BLOCKS[surface]:
        found.append(f"blocks: {len(blocks)}, at most {BLOCKS[surface]}")
    if sum(len(b.get("text", "")) for b in blocks if b.get("type") == "markdown") > MARKDOWN_CHARS:
        found.append("blocks: too much markdown")
    if surface == "message" and sum(len(text) for text in texts(blocks)) > MESSAGE_CHARS:
        found.append("blocks: too much text in all")
    ids = [b["block_id"] for b in blocks if "block_id" in b]
    return [*found, *(["blocks: a block_id stands twice"] if len(set(ids)) < len(ids) else [])]


def view_faults(view: Raw) -> list[str]:
    """Everything that Slack would refuse in an App home."""
    wrong = [] if view.get("type") == "home" else ["view: not a home"]
    return [
        *wrong,
        *_unknown(view, "view", {"type", "blocks", "private_metadata", "callback_id"}),
        *faults(view.get("blocks"), "home"),
    ]


def form_faults(view: Raw) -> list[str]:
    """Everything that Slack would refuse in a form (https://docs.slack.dev/reference/views/modal-views)."""
    known = {"type", "callback_id", "private_metadata", "title", "submit", "close", "blocks"}
    found = [*([] if view.get("type") == "modal" else ["view: not a modal"]), *_unknown(view, "view", known)]
    for part in ("title", "submit", "close"):
        found += _text(view.get(part), f"view.{part}", 24, {"plain_text"})
    found += _string(view.get("callback_id"), "view.callback_id", 255)
    found += _string(view.get("private_metadata"), "view.private_metadata", 3000)
    return [*found, *faults(view.get("blocks"), "home")]


def texts(value: object) -> Iterator[str]:
    """Every text that a reader could see."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key == "text" and isinstance(item, str):
                yield item
            yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


def elements(value: object, kind: str) -> list[Raw]:
    """Every element of a kind, wherever it stands."""
    if isinstance(value, Mapping):
        return [*([value] if value.get("type") == kind else []), *elements(list(value.values()), kind)]
    return [found for item in value for found in elements(item, kind)] if isinstance(value, list) else []


def _block(block: object, path: str) -> Iterator[str]:
    if not isinstance(block, Mapping) or block.get("type") not in _CHECKS:
        yield f"{path}: no block that is known here"
        return
    yield from _string(block.get("block_id", "x"), f"{path}.block_id", 255)
    yield from _CHECKS[block["type"]](block, path)


def _header(block: Raw, path: str) -> Iterator[str]:
    yield from _unknown(block, path, {"type", "block_id", "text"})
    yield from _text(block.get("text"), f"{path}.text", 150, {"plain_text"})


def _section(block: Raw, path: str) -> Iterator[str]:
    yield from _unknown(block, path, {"type", "block_id", "text", "fields", "accessory", "expand"})
    if "text" not in block and "fields" not in block:
        yield f"{path}: neither text nor fields"
    if "text" in block:
        yield from _text(block["text"], f"{path}.text", 3000)
    if "fields" in block:
        yield from _many(block["fields"], f"{path}.fields", 10, lambda field, at: _text(field, at, 2000))
    if "accessory" in block:
        yield from _button(block["accessory"], f"{path}.accessory")


def _context(block: Raw, path: str) -> Iterator[str]:
    yield from _unknown(block, path, {"type", "block_id", "elements"})
    yield from _many(block.get("elements"), f"{path}.elements", 10, lambda element, at: _text(element, at, 3000))


def _actions(block: Raw, path: str) -> Iterator[str]:
    yield from _unknown(block, path, {"type", "block_id", "elements"})
    yield from _many(block.get("elements"), f"{path}.elements", 25, _button)
    yield from _twice(block.get("elements"), path)


def _context_actions(block: Raw, path: str) -> Iterator[str]:
    yield from _unknown(block, path, {"type", "block_id", "elements"})
    yield from _many(block.get("elements"), f"{path}.elements", 5, _feedback)
    yield from _twice(block.get("elements"), path)


def _markdown(block: Raw, path: str) -> Iterator[str]:
    yield from _unknown(block, path, {"type", "block_id", "text"})
    yield from _string(block.get("text"), f"{path}.text", MARKDOWN_CHARS)


def _divider(block: Raw, path: str) -> Iterator[str]:
    yield from _unknown(block, path, {"type", "block_id"})


def _input(block: Raw, path: str) -> Iterator[str]:
    yield from _unknown(block, path, {"type", "block_id", "label", "hint", "optional", "element"})
    yield from _text(block.get("label"), f"{path}.label", 2000, {"plain_text"})
    if "hint" in block:
        yield from _text(block["hint"], f"{path}.hint", 2000, {"plain_text"})
    element = block.get("element", {})
    known = {"type", "action_id", "initial_value", "multiline", "min_length", "max_length", "placeholder"}
    yield from _unknown(element, f"{path}.element", known)
    if element.get("type") != "plain_text_input":
        yield f"{path}.element: no field for text"
    yield from _string(element.get("action_id"), f"{path}.element.action_id", 255)
    yield from _string(element.get("initial_value", "x"), f"{path}.element.initial_value", 3000)
    if not 1 <= element.get("max_length", 1) <= 3000:
        yield f"{path}.element.max_length: not 1 to 3000"


_CHECKS: dict[str, Callable[[Raw, str], Iterator[str]]] = {
    "actions": _actions,
    "context": _context,
    "context_actions": _context_actions,
    "divider": _divider,
    "header": _header,
    "input": _input,
    "markdown": _markdown,
    "section": _section,
}


def _button(element: object, path: str) -> Iterator[str]:
    if not isinstance(element, Mapping) or element.get("type") != "button":
        yield f"{path}: no button"
        return
    known = {"type", "text", "action_id", "url", "value", "style", "confirm", "accessibility_label"}
    yield from _unknown(element, path, known)
    yield from _text(element.get("text"), f"{path}.text", 75, {"plain_text"})
    yield from _string(element.get("action_id"), f"{path}.action_id", 255)
    yield from _string(element.get("value", "x"), f"{path}.value", 2000)
    yield from _string(element.get("url", "x"), f"{path}.url", 3000)
    if element.get("style", "primary") not in ("primary", "danger"):
        yield f"{path}.style: {element['style']!r}"
    if "confirm" in element:
        yield from _confirm(element["confirm"], f"{path}.confirm")


def _confirm(confirm: Raw, path: str) -> Iterator[str]:
    yield from _unknown(confirm, path, {"title", "text", "confirm", "deny", "style"})
    for key, limit in {"title": 100, "text": 300, "confirm": 30, "deny": 30}.items():
        yield from _text(confirm.get(key), f"{path}.{key}", limit, {"plain_text"})


def _feedback(element: object, path: str) -> Iterator[str]:
    if not isinstance(element, Mapping) or element.get("type") != "feedback_buttons":
        yield f"{path}: no feedback buttons"
        return
    yield from _unknown(element, path, {"type", "action_id", "positive_button", "negative_button"})
    yield from _string(element.get("action_id"), f"{path}.action_id", 255)
    for key in ("positive_button", "negative_button"):
        side = element.get(key, {})
        yield from _unknown(side, f"{path}.{key}", {"text", "value", "accessibility_label"})
        yield from _text(side.get("text"), f"{path}.{key}.text", 75, {"plain_text"})
        yield from _string(side.get("value"), f"{path}.{key}.value", 2000)


def _text(
    text: object, path: str, limit: int, kinds: Sequence[str] | set[str] = ("mrkdwn", "plain_text")
) -> Iterator[str]:
    if not isinstance(text, Mapping) or text.get("type") not in kinds:
        yield f"{path}: no text of {' or '.join(sorted(kinds))}"
        return
    yield from _unknown(
        text, path, {"type", "text", "emoji"} if text["type"] == "plain_text" else {"type", "text", "verbatim"}
    )
    yield from _string(text.get("text"), f"{path}.text", limit)


def _many(items: object, path: str, limit: int, check: Callable[[Any, str], Iterator[str]]) -> Iterator[str]:
    if not isinstance(items, list) or not 1 <= len(items) <= limit:
        yield f"{path}: not a list of 1 to {limit}"
        return
    for i, item in enumerate(items):
        yield from check(item, f"{path}[{i}]")


def _string(text: object, path: str, limit: int) -> Iterator[str]:
    if not isinstance(text, str) or not text.strip():
        yield f"{path}: no text"
    elif len(text) > limit:
        yield f"{path}: {len(text)} characters, at most {limit}"


def _unknown(item: Raw, path: str, known: set[str]) -> Iterator[str]:
    yield from (f"{path}.{key}: not known" for key in item if key not in known)


def _twice(items: object, path: str) -> Iterator[str]:
    ids = [item.get("action_id") for item in items] if isinstance(items, list) else []
    if len(set(ids)) < len(ids):
        yield f"{path}: an action_id stands twice"
