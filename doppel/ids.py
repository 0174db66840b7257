"""Slack's ids: capital letters and digits. Each is checked where it comes in, and nothing else counts as one."""

from __future__ import annotations

import re

UNKNOWN_TEAM = "local"
"""Stands for the team id of an export that names no team."""

PLACEHOLDER = "name:"
"""Begins what stands for the id of a channel of which only the name is known."""

_ID = re.compile(r"[A-Z][A-Z0-9]{0,63}")
_USER_ID = re.compile(r"[UW](?=[A-Z]*[0-9])[A-Z0-9]+")


def is_id(text: str) -> bool:
    """Whether that can be the id of a person, a channel, a workspace or an organisation."""
    return _ID.fullmatch(text) is not None


def is_team(text: str) -> bool:
    """Whether that can be a workspace of the archive."""
    return text == UNKNOWN_TEAM or is_id(text)


def looks_like_user_id(text: str) -> bool:
    """Whether somebody who types that means an id: U or W, then capital letters and digits, at least one of these."""
    return _USER_ID.fullmatch(text) is not None
