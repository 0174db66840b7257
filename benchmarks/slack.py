"""A burst of mentions for Doppel's bot and a plain Bolt bot, or a long soak with faults: python -m benchmarks.slack"""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from functools import partial
from pathlib import Path
from statistics import quantiles

from benchmarks.bots import Bot, Script, doppel_bot, plain_bolt_bot
from benchmarks.command import main
from benchmarks.fixture import ACK_SECONDS, Scene, Stage, Way
from benchmarks.frame import Benchmark, Contender, MeasurementError, Samples
from benchmarks.process import in_fresh_process
from benchmarks.soak import soak
from benchmarks.workspace import as_zip, import_into
from doppel.config import Settings
from doppel.errors import BadInputError
from doppel.ingest import open_archive
from doppel.records import Persona

LIMIT_SECONDS = 600.0
ANSWER_SECONDS = 120.0
GRACE_SECONDS = 2.0
"""So long is waited for a second answer where there is to be one."""
MENTIONS, ALONE = 50, 5
DUPLICATES, LOST_ACKS = 0.3, 0.2

DOES_NOT_SHOW = (
    "a model: the engine is a script, the same for both, so that it is the bots that are measured. A real model takes "
    "time to its first word, and more where several are answered at once.",
    "Slack itself: the fake answers at once and limits nothing, where Slack allows about 20 new streams a minute; a "
    "call over the internet takes longer, for Doppel several a message, for the peer one.",
    "an equal: the peer knows no archive, no permissions and no duplicates, and answers all mentions at once.",
    "all of the time to acknowledge as the bot's own: it is taken in Slack's process, which shares the cores.",
    "the start of the bots, their first answer, and the web chat in use beside them.",
)


def options(parser: ArgumentParser) -> None:
    """The options of this benchmark alone."""
    parser.add_argument(
        "--soak", type=float, nargs="?", const=30.0, metavar="MINUTES", help="the soak instead (default: 30 minutes)"
    )


def prepare(given: Namespace, work: Path) -> Benchmark:
    """The burst, or the soak that was asked for, on an archive of the export."""
    export = as_zip(given.export, work)
    archive = work / "full.db"
    in_fresh_process(LIMIT_SECONDS, import_into, archive, export)
    stage = Stage(export, archive, work, Script(somebody(archive), words=60, pause=0.02))
    if given.soak is None:
        return burst_benchmark(stage, given.export.name)
    if not given.soak > 0:
        raise BadInputError("--soak must be above 0 minutes.")
    return soak(stage, given)


def burst_benchmark(stage: Stage, export: str) -> Benchmark:
    """A burst, and single mentions before it."""
    script = stage.script

    def contender(name: str, bot: Bot, way: Way) -> Contender:
        return Contender(name, partial(in_fresh_process, LIMIT_SECONDS, burst, stage, bot, way))

    return Benchmark(
        name="slack",
        title=f"A burst of {MENTIONS} mentions, sent again and twice, and single ones before it",
        contenders=(
            contender("doppel, HTTP", doppel_bot, "http"),
            contender("plain Bolt bot, HTTP", plain_bolt_bot, "http"),
            contender("doppel, Socket Mode", doppel_bot, "socket"),
        ),
        workload={
            "export": export,
            "mentions": MENTIONS,
            "sent_twice": DUPLICATES,
            "acknowledgements_lost": LOST_ACKS,
            "answer": f"{script.words} words, {script.pause} s before each, {script.words * script.pause:.1f} s in all",
            "answers_at_once": f"{Settings().answers_at_once} (the peer: all)",
            "ms_to_acknowledge": "of every event, repeated ones too, and of what the bot itself posts",
            "process": "for each measurement a fresh one for Slack, and another for the bot",
        },
        libraries=("slack-bolt", "slack-sdk", "fastapi", "uvicorn", "SQLAlchemy"),
        does_not_show=DOES_NOT_SHOW,
    )


def burst(stage: Stage, bot: Bot, way: Way) -> Samples:
    """Mentions one after another, and then many at once."""
    with stage.scene(bot, way) as scene:
        alone = [_ask_one(scene) for _ in range(ALONE)]
        before = len(scene.ack_times())
        scene.disturb(DUPLICATES, LOST_ACKS)
        started = time.perf_counter()
        asked = [scene.people.mention() for _ in range(MENTIONS)]
        if scene.people.wait(asked, ANSWER_SECONDS) is None:
            raise MeasurementError(f"Not all mentions were answered within {ANSWER_SECONDS:.0f} s.")
        seconds = time.perf_counter() - started
        time.sleep(GRACE_SECONDS)
        scene.settle(ACK_SECONDS * 10)
        threads = [scene.people.thread(*place) for place in asked]
        cuts = quantiles([1000 * taken for taken in scene.ack_times()[before:]], n=100, method="inclusive")
        return {
            "s to first text, asked alone": alone,
            "ms to acknowledge, p50": [cuts[49]],
            "ms to acknowledge, p99": [cuts[98]],
            f"answered exactly once, of {MENTIONS}": [sum((t.whole, t.messages) == (1, 1) for t in threads)],
            f"messages for {MENTIONS} mentions": [sum(t.messages for t in threads)],
            "s to first text, in the burst": scene.people.seconds_to_text(asked),
            "s to the last answer of the burst": [seconds],
        }


def _ask_one(scene: Scene) -> float:
    asked = [scene.people.mention()]
    if scene.people.wait(asked, ANSWER_SECONDS) is None:
        raise MeasurementError("A mention was not answered.")
    return scene.people.seconds_to_text(asked)[0]


def somebody(archive: Path) -> Persona:
    """The first person of the archive."""
    with open_archive(archive) as opened:
        person = next((user for user in opened.users() if not user.is_bot), None)
    if person is None:
        raise BadInputError("The export has no person in it.")
    return Persona(person.team, person.id, person.name, person.name)


if __name__ == "__main__":
    main("slack", prepare, rounds=5, warmup=0, options=options)
