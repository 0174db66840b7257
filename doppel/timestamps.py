"""Moments: as whole microseconds since the epoch, which is how the archive stores them, and as people write them."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from doppel.records import ts_key


def micros(ts: str) -> int:
    """The moment of a Slack timestamp; raises ValueError for a text that is none."""
    seconds, rest = ts_key(ts)
    return seconds * 1_000_000 + rest


def ts_of(at: int) -> str:
    """The Slack timestamp of a moment."""
    return f"{at // 1_000_000}.{at % 1_000_000:06d}"


def now_micros() -> int:
    """This moment."""
    return round(time.time() * 1e6)


def day(ts: str) -> str:
    """The day of a Slack timestamp in UTC, such as "12 June 2025"; raises ValueError for a text that is none."""
    at = datetime.fromtimestamp(ts_key(ts)[0], UTC)
    return f"{at.day} {at:%B %Y}"
