"""How deeply JSON may be nested, and reading again what was stored, whatever it is."""

from __future__ import annotations

import json
from typing import Any

from doppel.records import Raw

MAX_DEPTH = 64
"""Deepest nesting of a message, itself included; Slack's own reach 20. Python's stack has room to walk it."""


def is_too_deep(value: Any, encoded: str | None = None) -> bool:
    """Whether lists and objects are nested deeper than MAX_DEPTH; with the `encoded` value most need no walk."""
    if encoded is not None and encoded.count("[") + encoded.count("{") <= MAX_DEPTH:
        return False
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [item for parent in level for item in _items(parent) if isinstance(item, dict | list)]
        if not level:
            return False
    return True


def stored_raw(text: str) -> Raw:
    """A stored message; of one that is nested too deep its plain fields, of what is none nothing. Never raises."""
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(raw, dict):
        return {}
    if is_too_deep(raw, text):
        return {key: value for key, value in raw.items() if not isinstance(value, dict | list)}
    return raw


def _items(parent: Any) -> Any:
    return parent.values() if isinstance(parent, dict) else parent if isinstance(parent, list) else ()
