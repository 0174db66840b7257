"""Where to read next in a channel: pure steps over a cursor.

Slack gives the newest messages first where it is told the latest that is wanted, so a channel is read downwards. The
first run goes from the newest message to the floor. A later run reads down from now to where the last began, and as far
as the horizon, to see what was edited, deleted or answered since. Both can be interrupted after any page.

What a page lacks was deleted only where the page spans it: from its oldest message to its newest, or all that was asked
for where Slack says that there is no more. Times are microseconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from doppel.ingest.sync_store import Cursor, Gone


@dataclass(frozen=True, slots=True)
class Step:
    """The next page to ask for: below `latest`, or from the newest on where it is None, down to `oldest`, inclusive.

    `again` marks what was read before, where a missing message was deleted.
    """

    latest: int | None
    oldest: int
    again: bool


def next_step(cursor: Cursor, floor: int, horizon: int, fresh: bool) -> Step | None:
    """The next page of a channel, or None where nothing is left to read.

    `floor` is the earliest time wanted, `horizon` how far back to look again; `fresh` says that this run has already
    looked for what is new.
    """
    if cursor.low is None or cursor.high is None:
        return Step(None, floor, again=False)
    if cursor.walk_low is not None:
        return Step(cursor.walk_low, _bottom(cursor, horizon), again=True)
    if not fresh:
        return Step(None, _bottom(cursor, horizon), again=True)
    if cursor.low > floor:
        return Step(cursor.low, floor, again=False)
    return None


def after_page(cursor: Cursor, step: Step, newest: int | None, oldest: int | None, more: bool) -> Cursor:
    """The cursor after a page with messages from `newest` to `oldest`, None if it was empty, and `more` to follow."""
    done = not more or oldest is None or oldest <= step.oldest
    if not step.again:
        high = cursor.high if cursor.high is not None else (newest or step.oldest)
        return replace(cursor, high=high, low=step.oldest if done else oldest)
    top = cursor.walk_top if cursor.walk_top is not None else max(newest or 0, cursor.high or 0)
    if done:
        return replace(cursor, high=max(top, cursor.high or 0), walk_low=None, walk_top=None)
    return replace(cursor, walk_top=top, walk_low=oldest)


def leads_nowhere(stamps: Collection[int], more: bool, latest: int) -> bool:
    """Whether nothing can be read on after a page that was asked for below `latest`."""
    return max(stamps) > latest or min(stamps) >= latest if stamps else more


def spanned(asked: Gone, stamps: Collection[int], more: bool) -> Gone | None:
    """Where a page with messages of these times shows that what it lacks was deleted, of what was `asked` for."""
    if not more:
        return asked
    inside = [at for at in stamps if asked.low <= at <= asked.high]
    return replace(asked, low=min(inside), high=max(inside)) if inside else None


def _bottom(cursor: Cursor, horizon: int) -> int:
    """How far down a later run reads: to the last one's newest, or the horizon, but not below what was read at all."""
    return max(min(cursor.high or 0, horizon), cursor.low or 0)
