"""One sync: everybody and every channel, then each channel's history and each thread's replies, side by side.

Every page goes into the archive together with the place it was read to, so a sync can be killed anywhere: the next one
goes on there and repeats no more than the page that was lost. Threads that were active within the horizon are looked at
again, the livelier the more often; a reply to an older thread, and an edit of an older message, comes only by event.

What Slack doesn't show any more was deleted, but only where that is proven: see `cursor`. Where something of the
archive is missing beside what a page spans, Slack is asked for that stretch alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Lock
from typing import Any

from doppel.errors import SlackError, SlackTokenError
from doppel.ids import is_id
from doppel.ingest.cursor import Step, after_page, leads_nowhere, next_step, spanned
from doppel.ingest.forecast import Pace, Stretch, calls_left, seconds_left
from doppel.ingest.sync_directory import Listed, read_listed
from doppel.ingest.sync_store import Cursor, Gone, SyncStore, Taken, Thread
from doppel.ingest.worker_pool import Lane
from doppel.records import Channel
from doppel.slack.api import SENTENCES, Json, SlackApi
from doppel.slack.block_text import dicts
from doppel.slack.budget import Clock
from doppel.slack.members import part_of
from doppel.slack.messages import timestamp
from doppel.timestamps import micros

PAGE = 999
"""Messages asked for in one call; Slack gives some apps fewer."""
LANE_THREADS = 4
DAY = 86_400_000_000
AHEAD = DAY
"""How far beyond now messages are asked for: more than two clocks differ."""
LOOK_AGAIN_SHARE = 0.1
"""A thread is looked at again once it was left alone for this share of the time since its last reply."""
LOOK_AGAIN_LEAST = 60_000_000
SILENCE = 20_000_000
"""How long who listens to events may say nothing and still counts as listening."""
POLL_SECONDS = 0.1
SHOWN = 5
RESTRICTED_PAGE = 15
"""Messages a page that Slack gives an app which is distributed outside its Marketplace, once a minute."""

LOST = "Slack gave other messages than it was asked for, so nothing more can be read of it now; sync again later."
"""Without it such an answer would be asked for again and again."""

HISTORY, REPLIES, MEMBERS = "conversations.history", "conversations.replies", "conversations.members"


@dataclass(frozen=True, slots=True)
class Options:
    """What to sync. `since` is microseconds since the epoch, `channels` are names or ids, all of them if empty."""

    channels: tuple[str, ...] = ()
    since: int = 0
    join: bool = False
    horizon_days: float = 7.0


@dataclass(frozen=True, slots=True)
class SyncProgress:
    """How far a sync is. `seconds_left` is None until there is something to reckon from."""

    channels_done: int
    channels: int
    messages: int
    calls_done: int
    calls: int
    messages_per_second: float
    seconds_left: float | None


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What a sync did. `messages` were read, `pages` are calls for messages; `warnings` say what was left out."""

    channels: int
    messages: int
    added: int
    updated: int
    deleted: int
    pages: int
    calls: int
    rate_limited_seconds: float
    seconds: float
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Page:
    """Messages as Slack gave them, their times, whether there are `more`, and whether some may be hidden.

    What it lacks can be proven to be deleted only if it is `whole`: all of it was read, and it answers what was asked.
    """

    raws: list[Json]
    stamps: list[int]
    more: bool
    limited: bool
    whole: bool


@dataclass(slots=True)
class _Tally:
    messages: int = 0
    added: int = 0
    updated: int = 0
    deleted: int = 0
    threads: int = 0
    unread: int = 0
    page_size: int = PAGE
    calls: dict[str, int] = field(default_factory=lambda: {HISTORY: 0, REPLIES: 0})
    warnings: list[str] = field(default_factory=list)
    refusals: dict[str, dict[str, None]] = field(default_factory=dict)


class Sync:
    """One run; `say` gets sentences for the user, `progress` is called several times a second."""

    def __init__(
        self,
        api: SlackApi,
        store: SyncStore,
        options: Options,
        clock: Clock,
        say: Callable[[str], None],
        progress: Callable[[SyncProgress], None],
    ) -> None:
        self._api, self._store, self._options, self._clock = api, store, options, clock
        self._say, self._progress = say, progress
        self._tally, self._lock = _Tally(), Lock()
        self._started = clock.monotonic()
        self._stretches: dict[str, Stretch] = {}
        self._names: dict[str, str] = {}
        self._fresh: set[str] = set()
        self._began: dict[str, int] = {}
        self._told_pace = False
        self._pools = {method: Lane(LANE_THREADS) for method in (HISTORY, REPLIES, MEMBERS)}

    def run(self) -> SyncReport:
        """Sync. Raises SlackTokenError, SlackError where nothing can be read, BadInputError for an unknown channel."""
        try:
            # Before it is asked: what an event says meanwhile is newer.
            asked_at = self._now()
            listed = read_listed(self._api, self._options.channels, self._warn)
            self._store.take_directory(
                listed.team, listed.url, listed.users, listed.all_channels, asked_at, listed.groups
            )
            self._plan(listed)
            self._work(len(self._stretches))
            self._store.finish(None if self._options.channels else asked_at)
            self._tell_refusals()
        except BaseException:
            self._clock.stop()
            raise
        finally:
            for pool in self._pools.values():
                pool.close()
        return self._report(len(self._stretches))

    def _plan(self, listed: Listed) -> None:
        cursors, held, current_since = self._store.cursors(), self._store.held_channels(), self._current_since()
        self._names = {channel.id: channel.name for channel in listed.channels}
        for channel in listed.channels:
            cursor = cursors.get(channel.id, Cursor(channel.id))
            facts = listed.facts[channel.id]
            readable = facts.is_member is not False or (self._options.join and not channel.archived)
            # Who is in a channel that may be quoted from must stay right.
            if (readable or channel.id in held) and (
                facts.num_members != cursor.num_members or cursor.members_at < self._members_since(current_since)
            ):
                due = replace(cursor, num_members=facts.num_members)
                self._put(MEMBERS, 0, channel.id, partial(self._read_members, due))
            if not readable:
                self._refused_for(channel.id, SENTENCES["not_in_channel"])
                continue
            top = self._now() if cursor.low is None else cursor.low
            self._stretches[channel.id] = Stretch(top, top, min(max(self._options.since, facts.created), top))
            if facts.is_member and self._is_current(cursor, current_since):
                self._stretches[channel.id].done = True
                continue
            self._put(HISTORY, float("-inf"), channel.id, partial(self._begin, channel, bool(facts.is_member), cursor))
        unread = self._store.unread_threads(self._stretches)
        self._add_threads(unread)
        self._look_again({(thread.channel, thread.thread_ts) for thread in unread}, current_since)

    def _current_since(self) -> int | None:
        """Since when events have told of everything, up to now; None where they don't."""
        listening = self._store.listening()
        return listening.since if listening and self._now() - listening.until < SILENCE else None

    def _members_since(self, current_since: int | None) -> int:
        """Members that were read before then are read again: once a day, and where joins and leaves may be missing."""
        return max(current_since or 0, self._now() - DAY)

    def _is_current(self, cursor: Cursor, current_since: int | None) -> bool:
        """Whether nothing can be missing of a channel; once a day it is read all the same."""
        if current_since is None or cursor.checked_at < current_since or self._now() - cursor.checked_at > DAY:
            return False
        return next_step(cursor, self._options.since, self._horizon(), fresh=True) is None

    def _look_again(self, waiting: set[tuple[str, str]], current_since: int | None) -> None:
        now, told = self._now(), float("inf") if current_since is None else current_since
        for thread in self._store.recent_threads(self._stretches, self._horizon()):
            due = thread.looked_at + max(LOOK_AGAIN_LEAST, LOOK_AGAIN_SHARE * (now - thread.latest))
            if (
                now >= due
                and not told <= thread.looked_at > now - DAY
                and (thread.channel, thread.thread_ts) not in waiting
            ):
                again = replace(thread, fetched=micros(thread.thread_ts))
                self._tally.unread += 1
                self._put(REPLIES, -thread.latest, thread.channel, partial(self._read_replies, again, None, now))

    def _begin(self, channel: Channel, is_member: bool, cursor: Cursor) -> None:
        if self._options.join and not is_member and not channel.archived:
            self._api.call("conversations.join", channel=channel.id)
        self._read_page(cursor)

    def _read_page(self, cursor: Cursor) -> None:
        """One page, and the next one queued: of all channels the one that lies least far back comes first."""
        stretch = self._stretches[cursor.channel]
        step = next_step(cursor, self._options.since, self._horizon(), cursor.channel in self._fresh)
        if step is None:
            stretch.done = True
            return
        asked_at = self._now()
        asked = Gone(step.oldest, (asked_at + AHEAD if step.latest is None else step.latest) - 1, asked_at)
        page = self._ask(HISTORY, asked, channel=cursor.channel)
        if leads_nowhere(page.stamps, page.more and not page.limited, asked.high + 1):
            raise SlackError(LOST, "unexpected_page")
        if step.latest is None:
            self._fresh.add(cursor.channel)
            self._began[cursor.channel] = asked_at
        newest, oldest = max(page.stamps, default=None), min(page.stamps, default=None)
        after = self._checked(after_page(cursor, step, newest, oldest, page.more))
        gone = spanned(asked, page.stamps, page.more) if step.again and page.whole else None
        self._take_page(after, page, asked_at, gone)
        self._sweep(stretch, after, step, len(page.raws))
        if gone and gone.high < asked.high:
            self._look_into(after, replace(asked, low=gone.high + 1))
        self._put(HISTORY, -(after.walk_low or after.low or 0), after.channel, partial(self._read_page, after))

    def _take_page(self, cursor: Cursor, page: _Page, asked_at: int, gone: Gone | None) -> None:
        taken, unread = self._store.take_history(cursor, page.raws, asked_at, gone)
        self._count(HISTORY, page.raws, taken, len(page.raws) if page.more else 0)
        self._add_threads(unread)

    def _look_into(self, cursor: Cursor, gap: Gone) -> None:
        """Ask for a stretch that a page left open, where something is missing there."""
        if self._store.has_message(cursor.channel, None, gap):
            asked_at, page = self._now(), self._ask(HISTORY, gap, channel=cursor.channel)
            self._take_page(cursor, page, asked_at, spanned(gap, page.stamps, page.more) if page.whole else None)

    def _checked(self, cursor: Cursor) -> Cursor:
        """The cursor, marked if nothing is left to read."""
        began = self._began.get(cursor.channel)
        if began is None or next_step(cursor, self._options.since, self._horizon(), fresh=True) is not None:
            return cursor
        return replace(cursor, checked_at=began)

    def _read_replies(self, thread: Thread, after: int | None, looking_since: int | None) -> None:
        """One page of replies after `after`; the whole thread with `looking_since`, when what it lacks was deleted."""
        asked_at, low = self._now(), thread.fetched if after is None else after
        begins = looking_since is not None and after is None
        asked = Gone(low + (not begins), asked_at + AHEAD - 1, looking_since or asked_at)
        page = self._thread_page(thread, asked)
        if page is None:
            self._store.close_thread(replace(thread, fetched=thread.latest, looked_at=asked_at))
            self._done_with_thread()
            return
        stamps = [at for at in page.stamps if at > low]
        newest = max(stamps, default=low)
        # What a workspace's plan hides is older than all that it shows: where the first message is shown, nothing is.
        shows_all = not begins or low in page.stamps
        gone = spanned(asked, stamps, page.more or not shows_all) if looking_since and page.whole else None
        seen = _seen(thread, newest, page.more, asked_at)
        self._count(REPLIES, page.raws, self._store.take_replies(seen, page.raws, asked_at, gone), 0)
        if gone and gone.low > asked.low and shows_all:
            self._look_into_thread(seen, replace(asked, high=gone.low - 1))
        if not page.more:
            self._done_with_thread()
        elif not stamps:
            raise SlackError(LOST, "unexpected_page")
        else:
            task = partial(self._read_replies, seen, newest, looking_since)
            self._put(REPLIES, -thread.latest, thread.channel, task)

    def _thread_page(self, thread: Thread, asked: Gone) -> _Page | None:
        """What was asked for of a thread; None where Slack has no such thread."""
        try:
            return self._ask(REPLIES, asked, channel=thread.channel, ts=thread.thread_ts)
        except SlackError as error:
            if error.code != "thread_not_found":
                raise
            return None

    def _look_into_thread(self, thread: Thread, gap: Gone) -> None:
        """The same for a thread."""
        if self._store.has_message(thread.channel, thread.thread_ts, gap):
            asked_at = self._now()
            page = self._ask(REPLIES, gap, channel=thread.channel, ts=thread.thread_ts)
            stamps = [at for at in page.stamps if at >= gap.low]
            gone = spanned(gap, stamps, page.more) if page.whole else None
            self._count(REPLIES, page.raws, self._store.take_replies(thread, page.raws, asked_at, gone), 0)

    def _read_members(self, cursor: Cursor) -> None:
        asked_at = self._now()
        pages = self._api.pages(MEMBERS, "members", channel=cursor.channel, limit=PAGE)
        members = [member for page in pages for member in page]
        if not all(isinstance(member, str) and is_id(member) for member in members):
            raise SlackError(LOST, "unexpected_page")
        self._store.take_members(replace(cursor, members_at=asked_at), members, asked_at)

    def _ask(self, method: str, asked: Gone, **where: Any) -> _Page:
        """The messages from `asked.low` to `asked.high`; without a `latest`, Slack may begin with the oldest.

        What is older than that, as the message that replies answer, counts for nothing in how far was read.
        """
        oldest = _ts(asked.low - 1) if asked.low > 0 else None
        answer = self._api.call(method, **where, latest=_ts(asked.high + 1), oldest=oldest, limit=PAGE)
        found, has_more = answer.get("messages"), answer.get("has_more")
        if not isinstance(found, list):
            raise SlackError(LOST, "unexpected_page")
        told = [(raw, micros(ts)) for raw in dicts(found) if (ts := timestamp(raw.get("ts")))]
        times = [at for _, at in told]
        leads_on = bool(part_of(answer, "response_metadata").get("next_cursor"))
        # Slack hides old messages from workspaces without a plan: what it hides is not deleted.
        limited = bool(answer.get("is_limited"))
        parent = micros(where["ts"]) if "ts" in where else None
        is_answer = all(asked.low <= at <= asked.high or at == parent for at in times)
        is_read = len(told) == len(found) and (has_more is True or (has_more is False and not leads_on))
        stamps = [at for at in times if at >= asked.low]
        more = bool(has_more) or (leads_on and bool(told))
        return _Page([raw for raw, _ in told], stamps, more, limited, is_answer and is_read and not limited)

    def _add_threads(self, threads: Sequence[Thread]) -> None:
        with self._lock:
            self._tally.threads += len(threads)
            self._tally.unread += len(threads)
        for thread in threads:
            self._put(REPLIES, -thread.latest, thread.channel, partial(self._read_replies, thread, None, None))

    def _put(self, method: str, priority: float, channel: str, task: Callable[[], None]) -> None:
        """Queue a call; what Slack refuses for one channel is a warning, and the rest goes on."""

        def guarded() -> None:
            try:
                task()
            except SlackTokenError:
                raise
            except SlackError as error:
                self._refused(method, channel, error)

        self._pools[method].put(priority, guarded)

    def _refused(self, method: str, channel: str, error: SlackError) -> None:
        if method == REPLIES:
            self._done_with_thread()
        if method == HISTORY:
            self._stretches[channel].done = True
        if method == MEMBERS and error.code == "unknown_method":
            return
        self._refused_for(channel, str(error))

    def _refused_for(self, channel: str, sentence: str) -> None:
        with self._lock:
            self._tally.refusals.setdefault(sentence, {})[self._names[channel]] = None

    def _work(self, channels: int) -> None:
        while not all(pool.is_idle for pool in self._pools.values()):
            failure = next((pool.failure for pool in self._pools.values() if pool.failure), None)
            if failure:
                raise failure
            self._tell(channels)
            self._clock.sleep(POLL_SECONDS)
        failures = [pool.failure for pool in self._pools.values() if pool.failure]
        if failures:
            raise failures[0]
        self._tell(channels)

    def _tell(self, channels: int) -> None:
        with self._lock:
            tally, calls = self._tally, dict(self._tally.calls)
            pages, threads = calls_left(list(self._stretches.values()), tally.page_size, tally.threads, tally.unread)
            seconds = max(self._clock.monotonic() - self._started, 1e-6)
            done = sum(stretch.done for stretch in self._stretches.values())
            messages = tally.messages
        paces = [Pace(calls[method], self._api.budget.rate(method), seconds) for method in (HISTORY, REPLIES)]
        left = seconds_left(pages, paces[0], threads, paces[1]) if messages else None
        made = sum(calls.values())
        self._tell_pace(paces[0])
        self._progress(SyncProgress(done, channels, messages, made, made + pages + threads, messages / seconds, left))

    def _tell_pace(self, history: Pace) -> None:
        """Say it once where Slack holds the app to a trickle."""
        size = self._tally.page_size
        if self._told_pace or history.allowed is None or size > RESTRICTED_PAGE:
            return
        self._told_pace = True
        self._say(
            f"Slack holds this app to {size} messages a call and {history.allowed * 60:.1f} calls a minute; it goes on "
            "at that pace. An app that your own company made for itself is not held so."
        )

    def _sweep(self, stretch: Stretch, after: Cursor, step: Step, messages: int) -> None:
        with self._lock:
            if not step.again and after.low is not None:
                stretch.low = max(min(after.low, stretch.top), stretch.floor)
                stretch.messages += messages

    def _count(self, method: str, raws: Sequence[Json], taken: Taken, full: int) -> None:
        with self._lock:
            tally = self._tally
            tally.calls[method] += 1
            tally.messages += len(raws)
            tally.added += taken.added
            tally.updated += taken.updated
            tally.deleted += taken.deleted
            if full:
                tally.page_size = full

    def _done_with_thread(self) -> None:
        with self._lock:
            self._tally.unread -= 1

    def _warn(self, sentence: str) -> None:
        self._tally.warnings.append(sentence)
        self._say(sentence)

    def _tell_refusals(self) -> None:
        for sentence, names in self._tally.refusals.items():
            shown = ", ".join(f"#{name}" for name in list(names)[:SHOWN])
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            self._warn(f"Left out {shown}{more}: {sentence}")

    def _report(self, channels: int) -> SyncReport:
        tally = self._tally
        return SyncReport(
            channels=channels,
            messages=tally.messages,
            added=tally.added,
            updated=tally.updated,
            deleted=tally.deleted,
            pages=sum(tally.calls.values()),
            calls=self._api.calls,
            rate_limited_seconds=round(self._api.budget.waited, 3),
            seconds=round(self._clock.monotonic() - self._started, 3),
            warnings=tuple(tally.warnings),
        )

    def _horizon(self) -> int:
        return self._now() - round(self._options.horizon_days * DAY)

    def _now(self) -> int:
        return round(self._clock.time() * 1_000_000)


def _seen(thread: Thread, newest: int, more: bool, asked_at: int) -> Thread:
    """The thread after a page of it up to its reply `newest`."""
    latest = max(thread.latest, newest)
    if more:
        return replace(thread, fetched=newest, latest=latest)
    return replace(thread, fetched=latest, latest=latest, looked_at=asked_at)


def _ts(at: int) -> str:
    return f"{at // 1_000_000}.{at % 1_000_000:06d}"
