"""The log: what went wrong, where, and about what, by ids; never what anybody said."""

from __future__ import annotations

import logging
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from doppel import logs
from doppel.config import load_settings
from doppel.errors import ArchiveError
from doppel.ingest import open_archive
from doppel.ingest.event_ingester import EventIngester
from doppel.jobs.queue import Jobs
from doppel.jobs.worker import drain
from doppel.logs import about, log_failure, log_to
from doppel.records import TextDelta
from tests.end_to_end import ROOT, environment
from tests.fakes.engine import FakeEngine, Step
from tests.fakes.job import COMMAND, request
from tests.fakes.slack import BOT, TEAM, FakeSlack, Workspace
from tests.listening import ADA, listening
from tests.syncing import sync

SAID = "the words of somebody"
log = logging.getLogger("doppel.tests")


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "logs" / "doppel.log"
    for name in logs.LOGGERS:
        logger = logging.getLogger(name)
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
            handler.close()
        logger.setLevel(logging.NOTSET)


def fail() -> None:
    raise ValueError(SAID)


def test_a_failure_is_told_with_its_frames_and_ids_and_without_its_words(file: Path) -> None:
    log_to(file, "WARNING")
    assert not file.exists()
    with about(team="T1"), about(question="Ev1"):
        try:
            fail()
        except ValueError as error:
            log_failure(log, "An answer failed", error)
            log.error("Once more", exc_info=True)
    log.warning("Nothing in particular")
    log.info("Too little to tell")
    written = file.read_text()
    assert "ERROR doppel.tests team=T1 question=Ev1: An answer failed (ValueError)\n" in written
    assert written.count("in fail") == 2
    assert "WARNING doppel.tests: Nothing in particular" in written
    assert SAID not in written
    assert "Too little" not in written
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize(("level", "told"), [("DEBUG", 4), ("INFO", 3), ("warning", 2), ("ERROR", 1)])
def test_the_level_is_a_setting(file: Path, level: str, told: int) -> None:
    log_to(file, load_settings({"DOPPEL_LOG_LEVEL": level}).log_level)
    for write in (log.debug, log.info, log.warning, log.error):
        write("said")
    assert file.read_text().count("said") == told


def test_what_libraries_say_stays_out(file: Path) -> None:
    log_to(file, "DEBUG")
    logging.getLogger("slack_sdk").error("the words of somebody")
    log.error("mine")
    assert "words" not in file.read_text()


def test_a_log_that_can_not_be_opened_again_stops_nothing(file: Path) -> None:
    log_to(file, "WARNING")
    log.warning("first")
    file.unlink()
    file.mkdir()
    for number in range(3):
        log.error("lost %d", number)
    file.rmdir()
    log.warning("again")
    assert "again" in file.read_text()


def test_who_holds_the_lock_of_the_log_holds_up_nobody(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "FILE_BYTES", 1_000)
    log_to(file, "WARNING")
    file.parent.mkdir()
    with FileLock(f"{file}.lock"):
        for number in range(5):
            log.error("%d %s", number, "x" * 400)
    assert file.read_text().count("x" * 400) == 5


WRITES = """
import logging, sys
from pathlib import Path
from doppel import logs
logs.FILE_BYTES, logs.FILES = 20_000, 50
logs.log_to(Path(sys.argv[1]), "WARNING")
for number in range(600):
    logging.getLogger("doppel").warning("line %s %d", sys.argv[2], number)
"""


def test_several_processes_write_one_log_and_lose_nothing_as_it_is_renamed(file: Path) -> None:
    command = [sys.executable, "-c", WRITES, str(file)]
    writers = [subprocess.Popen([*command, name], cwd=ROOT) for name in ("a", "b", "c")]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    found = sorted(path for path in file.parent.iterdir() if path.suffix != ".lock")
    lines = [line.split(": ")[1] for path in found for line in path.read_text().splitlines()]
    assert len(found) > 3
    assert max(path.stat().st_size for path in found) < 21_000
    assert sorted(lines) == sorted(f"line {name} {number}" for name in "abc" for number in range(600))


@pytest.mark.parametrize("way", ["socket", "http"])
async def test_an_answer_that_fails_is_found_by_its_question(way: str, tmp_path: Path, file: Path) -> None:
    made = Workspace()
    made.channel("general", made.user("ada", id="U1"), made.user("grace", id="U2"), id="C1")
    script: list[Step] = [TextDelta("A good beginning of an answer, and then "), RuntimeError(SAID)]
    with FakeSlack(made) as slack, open_archive(tmp_path / "archive.db") as archive:
        sync(slack, archive)
        log_to(file, "WARNING")
        async with listening(slack, archive, tmp_path, way, FakeEngine([ADA], lambda *_: script)) as doppel:
            root = slack.workspace.post("C1", "U2", f"<@{BOT}> why was that, Ada?")
            asked = [event["event_id"] for event in slack.workspace.events if event.get("event_id")]
            await doppel.until(lambda: "An answer failed" in (file.read_text() if file.exists() else ""))
    (head,) = [line for line in file.read_text().splitlines() if "An answer failed" in line]
    assert f"team={TEAM}" in head
    assert "question=Ev" in head, (root, asked)
    assert "in _write_for_all" in file.read_text()
    for words in (SAID, "why was that", "A good beginning", "ada", "grace"):
        assert words not in file.read_text()


async def test_events_that_wait_are_told_of(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Store:
        team, tries = "T1", 0

        def take(self, batch: object) -> bool:
            self.tries += 1
            if self.tries == 1:
                raise ArchiveError("Can't reach the archive.")
            return False

        def __getattr__(self, name: str) -> object:
            return lambda *_: None

    async def wait_until_idle() -> None:
        """Nothing is more urgent."""

    monkeypatch.setattr("doppel.ingest.event_ingester.RETRY_SECONDS", 0.01)
    log_to(file, "WARNING")
    store: object = Store()
    feed = EventIngester(store, BOT, lambda: True, wait_until_idle)  # type: ignore[arg-type]
    async with feed.running():
        told = {"type": "message", "channel": "C1", "channel_type": "channel", "user": "U1", "ts": "1.5", "text": "hi"}
        feed.put(told)
        await feed._queue.join()
    assert "WARNING doppel.events team=T1: Events wait: Can't reach the archive." in file.read_text()


def test_a_job_that_fails_is_found_by_its_id(tmp_path: Path, file: Path) -> None:
    settings = load_settings(environment(tmp_path))
    with Jobs(settings) as jobs:
        job, _ = jobs.ask(request("fail"))
        drain(settings, COMMAND)
        assert jobs.get(job.id).status == "failed"
    written = file.read_text()
    assert f"job={job.id}" in written
    assert "in _work" in written
