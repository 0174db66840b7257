"""`doppel sync` from a Slack with its limits, against a client that only makes the calls: python -m benchmarks.sync"""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.bare_client import Limit, Params, timed_calls
from benchmarks.command import main
from benchmarks.frame import Benchmark, Contender, MeasurementError, Samples
from benchmarks.process import in_fresh_process
from benchmarks.slack_process import MINUTE, QUOTA, SlackProcess
from benchmarks.workspace import as_zip, settings_for
from doppel.archive.archive import Archive
from doppel.errors import BadInputError
from doppel.slack.api import SlackApi
from doppel.slack.budget import StoppableClock
from doppel.sync.sync import HISTORY, MEMBERS, REPLIES, Options, Sync, SyncReport

LIMIT_SECONDS = 3600.0
HOUR = 3600.0
OF_A_CHANNEL = (HISTORY, REPLIES, MEMBERS)

DOES_NOT_SHOW = (
    "Slack itself: the fake holds its published limits and answers at once; a call over the internet takes longer, and "
    "Slack may let through more or less, and says Retry-After in whole seconds (a second of a minute is 1.7 %).",
    "the start of the command's interpreter, its imports and its job (not timed).",
    "an app that Slack holds to one call a minute, failing calls, or several syncs at once.",
    "an equal: the peer knows the limits and every call beforehand, and stores nothing; it is an upper bound.",
    "the real share of our own work: it is not sped up with the fake's time, so it weighs time_scale times as much here.",
    "nothing new, later: members are read once a day (one more call a channel), and a channel's last week may hold more "
    "than one page.",
)


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a first sync needs: its messages, its channels, the calls for messages by method, and the calls in all."""

    messages: int
    channels: int
    calls: dict[str, list[Params]]
    all_calls: Counter[str]

    def limits(self, time_scale: float) -> dict[str, Limit]:
        """What Slack allows of those calls."""
        return {method: Limit(QUOTA[method], MINUTE / time_scale) for method in self.calls}


class ClockBehind(StoppableClock):
    """The real time, some seconds ago."""

    def __init__(self, behind: float) -> None:
        super().__init__()
        self._behind = behind

    def time(self) -> float:
        return super().time() - self._behind


def options(parser: ArgumentParser) -> None:
    """The option of this benchmark alone."""
    parser.add_argument(
        "--time-scale", type=float, default=12.0, metavar="X", help="a minute of Slack's lasts 60/X s (default: 12)"
    )


def prepare(given: Namespace, work: Path) -> Benchmark:
    """The calls that a sync needs, recorded without limits, and two archives that have everything already."""
    if not given.time_scale > 0:
        raise BadInputError("--time-scale must be above 0.")
    export, scale = as_zip(given.export, work), given.time_scale
    horizon = settings_for(work).sync_horizon_days
    idle, alive = work / "idle.db", work / "alive.db"
    recorded = record(export, idle, horizon)
    behind = time.time() - newest(recorded_archive=idle) - HOUR
    record(export, alive, horizon, behind)
    nothing_new = partial(measure_nothing_new, export, scale, horizon)
    return Benchmark(
        name="sync",
        title="A first sync under Slack's limits, and one with nothing new",
        contenders=(
            Contender("doppel sync", partial(measure_sync, export, work, scale, horizon, recorded)),
            Contender("a bare client, the same calls", partial(measure_bare, export, scale, recorded)),
            Contender("doppel sync, nothing new", partial(nothing_new, idle, 0.0)),
            Contender("doppel sync, nothing new in live threads", partial(nothing_new, alive, behind - HOUR)),
        ),
        workload={"export": given.export.name, **workload(recorded, scale)},
        libraries=("slack-sdk", "SQLAlchemy"),
        does_not_show=DOES_NOT_SHOW,
    )


def workload(recorded: Recorded, time_scale: float) -> dict[str, Any]:
    """What is synced, and what the limits allow by arithmetic alone; the slowest method tells."""
    limits, calls = recorded.limits(time_scale), recorded.calls
    least = max(limit.least_seconds(len(calls[method])) for method, limit in limits.items())
    at_rate = max(limit.seconds_at_rate(len(calls[method])) for method, limit in limits.items())
    return {
        "messages": recorded.messages,
        "channels": recorded.channels,
        "calls_needed": dict(recorded.all_calls),
        "allowed_a_minute": {method: QUOTA[method] for method in calls},
        "time_scale": time_scale,
        "least_seconds_the_limits_allow": round(least, 3),
        "seconds_at_the_allowed_rate": round(at_rate, 3),
        "process": "a fresh one for each measurement, and a fresh fake Slack in another",
    }


def measure_sync(export: Path, work: Path, time_scale: float, horizon_days: float, recorded: Recorded) -> Samples:
    """A sync of everything into a new archive."""
    with SlackProcess(export, time_scale) as slack, TemporaryDirectory(dir=work) as folder:
        where = Path(folder) / "archive.db"
        report, seconds = in_fresh_process(LIMIT_SECONDS, timed_sync, where, slack.api_url, slack.token, horizon_days)
        calls = slack.counts()
    return _samples(recorded, report.added, seconds, time_scale) | {
        "calls, refused ones too": [sum(calls.values())],
        "calls for messages, refused ones too": [sum(calls[method] for method in recorded.calls)],
    }


def measure_bare(export: Path, time_scale: float, recorded: Recorded) -> Samples:
    """The recorded calls for messages, as fast as they are allowed."""
    limits = recorded.limits(time_scale)
    with SlackProcess(export, time_scale) as slack:
        messages, seconds = in_fresh_process(
            LIMIT_SECONDS, timed_calls, slack.api_url, slack.token, recorded.calls, limits
        )
        calls = sum(slack.counts().values())
    return _samples(recorded, messages, seconds, time_scale) | {"calls for messages, refused ones too": [calls]}


def measure_nothing_new(export: Path, time_scale: float, horizon_days: float, full: Path, behind: float) -> Samples:
    """Another sync into an archive that has everything, and its calls by method."""
    with SlackProcess(export, time_scale) as slack:
        report, seconds = in_fresh_process(
            LIMIT_SECONDS, timed_sync, full, slack.api_url, slack.token, horizon_days, behind
        )
        calls = slack.counts()
    if (report.added, report.updated, report.deleted) != (0, 0, 0):
        raise MeasurementError("There was something new where there was to be nothing.")
    of_a_channel = {method: calls[method] for method in OF_A_CHANNEL if calls[method]}
    return {
        "seconds": [seconds],
        "calls, refused ones too": [sum(calls.values())],
        "calls a channel": [sum(of_a_channel.values()) / report.channels],
        **{f"calls a channel, {method}": [number / report.channels] for method, number in of_a_channel.items()},
    }


def record(export: Path, archive: Path, horizon_days: float, behind: float = 0.0) -> Recorded:
    """A first sync without limits, and the calls that it came to."""
    with SlackProcess(export, None) as slack:
        report, _ = in_fresh_process(
            LIMIT_SECONDS, timed_sync, archive, slack.api_url, slack.token, horizon_days, behind
        )
        made = slack.calls()
    calls: dict[str, list[Params]] = {}
    for call in made:
        if call.method in (HISTORY, REPLIES):
            calls.setdefault(call.method, []).append(call.params)
    return Recorded(report.added, report.channels, calls, Counter(call.method for call in made))


def timed_sync(
    archive: Path, api_url: str, token: str, horizon_days: float, behind: float = 0.0
) -> tuple[SyncReport, float]:
    """What `doppel sync` does, and its seconds from opening the archive to closing it."""
    started, clock = time.perf_counter(), ClockBehind(behind)
    api = SlackApi(token, api_url, clock)
    with Archive.open(archive) as opened:
        report = Sync(api, opened.syncing(), Options(horizon_days=horizon_days), clock, _ignore, _ignore).run()
    return report, time.perf_counter() - started


def newest(recorded_archive: Path) -> float:
    """When the newest message of an archive was said, in seconds since the epoch."""
    with Archive.open(recorded_archive) as archive:
        return max(float(message.ts) for message in archive.messages())


def _samples(recorded: Recorded, messages: int, seconds: float, time_scale: float) -> dict[str, list[float]]:
    if messages != recorded.messages:
        raise MeasurementError(f"{messages} messages were read instead of {recorded.messages}.")
    return {"messages/s of Slack's time": [messages / (seconds * time_scale)], "seconds": [seconds]}


def _ignore(told: object) -> None:
    """Progress and sentences go nowhere."""


if __name__ == "__main__":
    main("sync", prepare, rounds=5, warmup=1, options=options)
