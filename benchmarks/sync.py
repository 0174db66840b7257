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
from doppel.errors import BadInputError
from doppel.ingest import SyncStore, open_archive
from doppel.ingest.sync import HISTORY, MEMBERS, REPLIES, Options, Sync, SyncReport
from doppel.slack.api import SlackApi
from doppel.slack.budget import StoppableClock

LIMIT_SECONDS = 3600.0
OF_A_CHANNEL = (HISTORY, REPLIES, MEMBERS)

DOES_NOT_SHOW = (
    "Slack itself: the fake holds its published limits and answers at once. A call over the internet takes longer, "
    "and Slack may let through more or less.",
    "a sync of many hours, or one in which calls fail; an app that Slack holds to one call a minute.",
    "the start of the command's interpreter and its job, which come on top of each sync (they are not timed).",
    "how little our own work takes: it is as fast as ever while Slack's time runs time_scale times as fast.",
    "an equal: the peer knows the limits and every call beforehand, and stores nothing; it is an upper bound.",
    "a later sync of a lively workspace: a thread with replies within the horizon is looked at again from time to "
    "time, with a call each; a busy channel's horizon has several pages; once a day its members cost one call more.",
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


def options(parser: ArgumentParser) -> None:
    """The option of this benchmark alone."""
    parser.add_argument(
        "--time-scale", type=float, default=6.0, metavar="X", help="a minute of Slack's lasts 60/X s (default: 6)"
    )


def prepare(given: Namespace, work: Path) -> Benchmark:
    """The calls that a sync needs, recorded without limits, and an archive that has everything already."""
    if not given.time_scale > 0:
        raise BadInputError("--time-scale must be above 0.")
    export, scale = as_zip(given.export, work), given.time_scale
    horizon = settings_for(work).sync_horizon_days
    full = work / "full.db"
    recorded = record(export, full, horizon)
    if not recorded.messages:
        raise BadInputError("The export has no message that a sync could read, in a channel that is no direct message.")
    return Benchmark(
        name="sync",
        title="A first sync under Slack's limits, and one with nothing new",
        contenders=(
            Contender("doppel, all new", partial(measure_sync, export, work, scale, horizon, recorded)),
            Contender("bare client, same calls", partial(measure_bare, export, scale, recorded)),
            Contender("doppel, nothing new", partial(measure_nothing_new, export, full, scale, horizon)),
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
        "calls": "refused ones count",
        "process": "a fresh one for each measurement, and a fresh fake Slack in another",
    }


def measure_sync(export: Path, work: Path, time_scale: float, horizon_days: float, recorded: Recorded) -> Samples:
    """A sync of everything into a new archive."""
    with SlackProcess(export, time_scale) as slack, TemporaryDirectory(dir=work) as folder:
        where = Path(folder) / "archive.db"
        report, seconds = in_fresh_process(LIMIT_SECONDS, timed_sync, where, slack.api_url, slack.token, horizon_days)
        calls = slack.counts()
    return _samples(recorded, report.added, seconds, time_scale) | {
        "calls": [sum(calls.values())],
        "calls for messages": [sum(calls[method] for method in recorded.calls)],
    }


def measure_bare(export: Path, time_scale: float, recorded: Recorded) -> Samples:
    """The recorded calls for messages, as fast as they are allowed."""
    limits = recorded.limits(time_scale)
    with SlackProcess(export, time_scale) as slack:
        messages, seconds = in_fresh_process(
            LIMIT_SECONDS, timed_calls, slack.api_url, slack.token, recorded.calls, limits
        )
        calls = sum(slack.counts().values())
    return _samples(recorded, messages, seconds, time_scale) | {"calls for messages": [calls]}


def measure_nothing_new(export: Path, full: Path, time_scale: float, horizon_days: float) -> Samples:
    """Another sync into an archive that has everything, and its calls by method."""
    with SlackProcess(export, time_scale) as slack:
        report, seconds = in_fresh_process(LIMIT_SECONDS, timed_sync, full, slack.api_url, slack.token, horizon_days)
        calls = slack.counts()
    if (report.added, report.updated, report.deleted) != (0, 0, 0):
        raise MeasurementError("There was something new where there was to be nothing.")
    of_a_channel = {method: calls[method] for method in OF_A_CHANNEL if calls[method]}
    return {
        "seconds": [seconds],
        "calls": [sum(calls.values())],
        "calls a channel": [sum(of_a_channel.values()) / report.channels],
        **{f"{method} a channel": [number / report.channels] for method, number in of_a_channel.items()},
    }


def record(export: Path, archive: Path, horizon_days: float) -> Recorded:
    """A first sync without limits, and the calls that it came to."""
    with SlackProcess(export, None) as slack:
        report, _ = in_fresh_process(LIMIT_SECONDS, timed_sync, archive, slack.api_url, slack.token, horizon_days)
        made = slack.calls()
    calls: dict[str, list[Params]] = {}
    for call in made:
        if call.method in (HISTORY, REPLIES):
            calls.setdefault(call.method, []).append(call.params)
    return Recorded(report.added, report.channels, calls, Counter(call.method for call in made))


def timed_sync(archive: Path, api_url: str, token: str, horizon_days: float) -> tuple[SyncReport, float]:
    """What `doppel sync` does, and its seconds from opening the archive to closing it."""
    started, clock = time.perf_counter(), StoppableClock()
    api = SlackApi(lambda: token, api_url, clock)
    with open_archive(archive) as opened:
        report = Sync(api, SyncStore(opened), Options(horizon_days=horizon_days), clock, _ignore, _ignore).run()
    return report, time.perf_counter() - started


def _samples(recorded: Recorded, messages: int, seconds: float, time_scale: float) -> dict[str, list[float]]:
    if messages != recorded.messages:
        raise MeasurementError(f"{messages} messages were read instead of {recorded.messages}.")
    return {"messages/s of Slack's time": [messages / (seconds * time_scale)], "seconds": [seconds]}


def _ignore(told: object) -> None:
    """Progress and sentences go nowhere."""


if __name__ == "__main__":
    main("sync", prepare, rounds=5, warmup=0, options=options)
