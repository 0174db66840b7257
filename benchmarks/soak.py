"""The bot for a long time, while a tenth of its calls of Slack fail and events come again, twice and in disorder."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Iterator

from benchmarks.bots import doppel_bot
from benchmarks.command import RESULTS, say
from benchmarks.fixture import ACK_SECONDS, Scene, Stage
from benchmarks.frame import Benchmark, Contender, Samples
from benchmarks.mentions import Thread
from benchmarks.process import in_fresh_process
from tests.fakes.slack import Faults

EVENTS, MINUTES = 10_000, 30.0
EVENTS_A_TURN = 5
"""A mention, which comes as a message and as app_mention, its answer and the answer's change, and something else."""
FAULT_RATE, DUPLICATES, LOST_ACKS = 0.1, 0.1, 0.1
SAMPLE_SECONDS = 1.0
END_SECONDS = 60.0
START_PART = 0.05

DOES_NOT_SHOW = (
    "a model: the engine is a script. What a model server holds in memory is not the bot's.",
    "a day or a week; Slack's limits; a lost connection, a restart, and several workspaces.",
    "that the bot is to blame for an excuse: Slack failed; a call that was cut off may have done its work or not.",
)


def soak(stage: Stage, given: Namespace) -> Benchmark:
    """The soak as a benchmark of one round without a peer, with a JSON of its own."""
    given.rounds, given.warmup = 1, 0
    if given.out == RESULTS / "slack.json":
        given.out = RESULTS / "slack-soak.json"
    seconds = given.soak * 60
    limit = seconds + 10 * END_SECONDS
    return Benchmark(
        name="slack-soak",
        title=f"{given.soak:g} minutes of mentions, with faults",
        contenders=(Contender("doppel, HTTP", lambda: in_fresh_process(limit, soaked, stage, seconds)),),
        workload={
            "export": given.export.name,
            "minutes": given.soak,
            "calls_that_fail": FAULT_RATE,
            "sent_twice": DUPLICATES,
            "acknowledgements_lost": LOST_ACKS,
            "answer": f"{stage.script.words} words, {stage.script.pause} s before each",
            "events": "each counted once, with those of what the bot posts",
            "lost": "mentions less those answered or excused; answered twice: whole answers less mentions with one",
            "memory": f"at the start is after {START_PART:.0%} of the time",
        },
        libraries=("slack-bolt", "slack-sdk", "SQLAlchemy"),
        does_not_show=DOES_NOT_SHOW,
    )


def soaked(stage: Stage, seconds: float) -> Samples:
    """Mentions for so many seconds, and what came of them."""
    with stage.scene(doppel_bot, "http") as scene:
        before = scene.events()
        scene.disturb(DUPLICATES, LOST_ACKS)
        scene.slack.faults = Faults(FAULT_RATE)
        rss, asked = _keep_asking(scene, seconds)
        scene.people.wait(asked, END_SECONDS)
        scene.settle(ACK_SECONDS * 10)
        scene.slack.faults.on = False
        time.sleep(ACK_SECONDS)
        threads = [scene.people.thread(*place) for place in asked]
        _tell(scene, threads)
        return {
            "RSS in MiB, at the start": [rss[int(len(rss) * START_PART)]],
            "RSS in MiB, in the middle": [rss[len(rss) // 2]],
            "RSS in MiB, at the end": [rss[-1]],
            "events": [scene.events() - before],
            "mentions": [len(threads)],
            "mentions answered or excused": [sum(t.is_answered for t in threads)],
            "mentions with a whole answer": [sum(t.whole > 0 for t in threads)],
            "whole answers": [sum(t.whole for t in threads)],
            "messages": [sum(t.messages for t in threads)],
        }


def _keep_asking(scene: Scene, seconds: float) -> tuple[list[float], list[tuple[str, str]]]:
    """The bot's memory every second, and whom it was to answer."""
    rss: list[float] = []
    asked: list[tuple[str, str]] = []
    for passed in _turns(seconds):
        asked.append(scene.people.mention())
        scene.people.chat()
        while len(rss) * SAMPLE_SECONDS <= passed:
            rss.append(scene.bot.rss())
            if len(rss) % 60 == 1:
                say(f"{passed / 60:.0f} min: {len(asked)} mentions, {scene.events()} events, {rss[-1]:.0f} MiB")
    rss.append(scene.bot.rss())
    return rss, asked


def _turns(seconds: float) -> Iterator[float]:
    """The seconds that have passed, at each turn, evenly spread and never behind."""
    pause, began, number = MINUTES * 60 * EVENTS_A_TURN / EVENTS, time.monotonic(), 0
    while (passed := time.monotonic() - began) < seconds:
        yield passed
        number += 1
        time.sleep(max(0.0, number * pause - (time.monotonic() - began)))


def _tell(scene: Scene, threads: list[Thread]) -> None:
    """What the figures leave out: how calls failed, and what was posted beside whole answers."""
    failed = ", ".join(f"{kind} {number}" for kind, number in sorted(scene.slack.faults.injected.items()))
    times = [1000 * taken for taken in scene.ack_times()]
    say(f"Calls that failed: {failed}. Events acknowledged in {max(times):.0f} ms at most.")
    say(f"Excuses: {sum(t.excuses for t in threads)}; beginnings left so: {sum(t.torn for t in threads)}.")
