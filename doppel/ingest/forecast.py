"""How long a sync still takes: what is left is reckoned from what was met so far, the pace from what Slack allows."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from math import ceil


@dataclass(slots=True)
class Stretch:
    """One channel's time, in microseconds: read from `top` down to `low`, wanted down to `floor`."""

    top: int
    low: int
    floor: int
    messages: int = 0
    done: bool = False


@dataclass(slots=True)
class Pace:
    """Calls of one method so far, what Slack allows of them in a second (None if not known), and the seconds gone."""

    calls: int
    allowed: float | None
    seconds: float

    @property
    def rate(self) -> float:
        """Calls a second to expect."""
        seen = max(self.calls, 1) / max(self.seconds, 1e-6)
        return self.allowed if self.allowed is not None else seen


def messages_left(stretches: Collection[Stretch]) -> list[float]:
    """Messages still to come of each channel that isn't done, if it was as busy before as it has been since."""
    read = sum(stretch.messages for stretch in stretches)
    span = sum(stretch.top - stretch.low for stretch in stretches)
    everywhere = read / span if span else 0.0
    return [_left(stretch, everywhere) for stretch in stretches if not stretch.done]


def calls_left(stretches: Collection[Stretch], page_size: int, threads: int, unread: int) -> tuple[int, int]:
    """Pages of channels and calls for threads still to make; of `threads` met so far `unread` wait to be read."""
    left = messages_left(stretches)
    read = sum(stretch.messages for stretch in stretches)
    pages = sum(max(1, ceil(messages / page_size)) for messages in left)
    return pages, unread + round(threads / read * sum(left) if read else 0)


def seconds_left(pages: int, history: Pace, threads: int, replies: Pace) -> float:
    """Both go on side by side, so the slower one tells."""
    return max(pages / history.rate if pages else 0.0, threads / replies.rate if threads else 0.0)


def _left(stretch: Stretch, everywhere: float) -> float:
    remaining = max(stretch.low - stretch.floor, 0)
    seen = stretch.top - stretch.low
    return remaining * (stretch.messages / seen if seen > 0 and stretch.messages else everywhere)
