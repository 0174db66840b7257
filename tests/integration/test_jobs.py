"""Jobs on a real queue (DBOS, SQLite; once on Postgres), with real processes: most of them only count."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from doppel.app_context import AppContext
from doppel.config import Settings, load_settings
from doppel.console import Console
from doppel.errors import ArtifactError, JobError
from doppel.jobs import child, queue
from doppel.jobs.database import is_worked
from doppel.jobs.queue import Job, Jobs
from doppel.jobs.schedule import Schedule, Scheduled
from doppel.jobs.serving import working
from doppel.jobs.state import JobFiles, JobState
from doppel.jobs.worker import Worker, start_worker, work_detached
from doppel.processes import started_at
from doppel.services.jobs import scheduled
from tests.end_to_end import doppel, environment
from tests.fakes.export_builder import ExportBuilder
from tests.fakes.job import COMMAND, ROOT, counting, request
from tests.postgres import PostgresServer

pytestmark = pytest.mark.timeout(120)

LONG = 600
"""Steps that no test waits for: a minute."""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(environment(tmp_path / "data"))


@pytest.fixture
def jobs(settings: Settings) -> Iterator[Jobs]:
    with Jobs(settings) as opened:
        yield opened


@pytest.fixture
def worker(jobs: Jobs) -> Iterator[Worker]:
    started = start_worker(jobs.settings, COMMAND)
    assert started
    yield started
    started.stop()


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def until(found: Callable[[], Any], seconds: float = 120) -> Any:
    """What `found` returns once it isn't false."""
    deadline = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)
    return value


def ended(jobs: Jobs, job: Job) -> Job:
    until(lambda: jobs.get(job.id).has_ended)
    return jobs.get(job.id)


def state(jobs: Jobs, job: Job) -> JobState:
    return JobFiles.of(jobs.settings, job.id).read()


def process_of(jobs: Jobs, job: Job) -> int:
    """The process id of a job that has begun to count."""
    until(lambda: state(jobs, job).done >= 2)
    process = state(jobs, job).process
    assert process
    return process[0]


def steps(journal: Path) -> list[int]:
    return [int(text.split()[0]) for text in journal.read_text().splitlines()]


def command(settings: Settings, *words: str) -> subprocess.Popen[str]:
    """A process of the stand-in command line, such as a waiting command."""
    return subprocess.Popen(
        [*COMMAND, *words],
        cwd=ROOT,
        env=os.environ | environment(settings.data_dir),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.usefixtures("worker")
def test_a_job_runs_with_the_settings_it_was_asked_for_with_and_its_result_is_kept(jobs: Jobs) -> None:
    job, is_new = jobs.ask(request("settings", FOR_THE_JOB="7"))
    assert is_new
    assert job.status == "queued"
    job = ended(jobs, job)
    assert (job.status, job.progress, job.error) == ("done", 1.0, None)
    assert job.created <= str(job.started) <= str(job.ended)
    assert jobs.result(job.id) == {"data": {"settings": "7", "here": str(ROOT)}, "text": "As told."}


@pytest.mark.usefixtures("worker")
def test_progress_words_and_log_can_be_read_while_it_runs(jobs: Jobs, journal: Path) -> None:
    job, _ = jobs.ask(request(*counting(journal, 25)))
    until(lambda: 0 < (jobs.get(job.id).progress or 0) < 1)
    running = jobs.get(job.id)
    assert running.status == "running"
    assert running.note.startswith("Counting step ")
    assert "Counting from 0." in JobFiles.of(jobs.settings, job.id).log_tail()
    assert ended(jobs, job).status == "done"
    assert "Done." in JobFiles.of(jobs.settings, job.id).log_tail()


@pytest.mark.usefixtures("worker")
def test_an_equal_job_is_joined_and_another_is_not(jobs: Jobs, journal: Path) -> None:
    first, _ = jobs.ask(request(*counting(journal, 10)))
    same, is_new = jobs.ask(request(*counting(journal, 10)))
    assert (same.id, is_new) == (first.id, False)
    other, is_new = jobs.ask(request(*counting(journal, 10), DOPPEL_SEED="1"))
    assert is_new
    ended(jobs, first)
    ended(jobs, other)
    assert steps(journal) == list(range(1, 11))
    again, is_new = jobs.ask(request(*counting(journal, 10)))
    assert is_new
    assert ended(jobs, again).status == "done"


@pytest.mark.usefixtures("worker")
def test_jobs_of_one_queue_take_turns_and_queues_run_side_by_side(jobs: Jobs, tmp_path: Path) -> None:
    first, second, beside = (tmp_path / name for name in ("first", "second", "beside"))
    trainings = [jobs.ask(request(*counting(path, 15), queue="train-cpu"))[0] for path in (first, second)]
    sync, _ = jobs.ask(request(*counting(beside, 15), queue="sync"))
    overlapping = False
    while not all(jobs.get(job.id).has_ended for job in trainings):
        running = [state(jobs, job).process is not None for job in trainings]
        assert sum(running) < 2
        overlapping |= any(running) and state(jobs, sync).process is not None
        time.sleep(0.05)
    assert overlapping
    assert ended(jobs, sync).status == "done"
    assert first.stat().st_mtime < second.stat().st_mtime


@pytest.mark.usefixtures("worker")
def test_a_failure_is_its_sentence_and_a_process_that_just_ends_is_one_too(jobs: Jobs) -> None:
    failed = ended(jobs, jobs.ask(request("fail"))[0])
    assert failed.status == "failed"
    assert "did not foresee (RuntimeError)" in str(failed.error)
    vanished = ended(jobs, jobs.ask(request("vanish"))[0])
    assert vanished.error
    assert "ended without a result (status 3)" in vanished.error
    assert f"{vanished.id}.log" in vanished.error


@pytest.mark.usefixtures("worker")
def test_a_cancelled_job_has_ended_within_three_seconds(jobs: Jobs, journal: Path) -> None:
    job, _ = jobs.ask(request(*counting(journal, LONG)))
    pid = process_of(jobs, job)
    started = time.monotonic()
    assert jobs.cancel(job).status == "cancelled"
    assert time.monotonic() - started < 3
    assert started_at(pid) is None
    assert jobs.result(job.id) is None
    with pytest.raises(JobError, match="cancelled already"):
        jobs.cancel(jobs.get(job.id))


@pytest.mark.usefixtures("worker")
def test_a_process_that_does_not_listen_is_killed(jobs: Jobs, journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "GRACE_SECONDS", 1.0)
    job, _ = jobs.ask(request(*counting(journal, LONG, "stubborn")))
    pid = process_of(jobs, job)
    jobs.cancel(job)
    assert started_at(pid) is None


def test_a_queued_job_is_cancelled_and_a_retry_goes_on_where_a_job_was_stopped(jobs: Jobs, journal: Path) -> None:
    queued, _ = jobs.ask(request(*counting(journal, 20)))
    assert jobs.cancel(queued).status == "cancelled"
    worker = start_worker(jobs.settings, COMMAND)
    assert worker
    try:
        running, _ = jobs.ask(request(*counting(journal, 20)))
        process_of(jobs, running)
        jobs.cancel(running)
        retried, is_new = jobs.retry(jobs.get(running.id))
        assert is_new
        assert ended(jobs, retried).status == "done"
        with pytest.raises(JobError, match="is done; only one that failed"):
            jobs.retry(jobs.get(retried.id))
    finally:
        worker.stop()
    result = jobs.result(retried.id)
    assert result
    assert result["data"]["first"] >= 2
    assert steps(journal) == list(range(1, 21))


def test_an_id_may_be_abbreviated_and_an_unknown_one_is_a_sentence(jobs: Jobs) -> None:
    found = [jobs.ask(request("settings", N=str(n)))[0].id for n in range(17)]
    beginning = next(id_ for id_ in found if sum(other[0] == id_[0] for other in found) > 1)[0]
    with pytest.raises(JobError, match=f'jobs begin with "{beginning}"'):
        jobs.find(beginning)
    with pytest.raises(JobError, match="No job's id begins with"):
        jobs.find("nonsense")
    assert jobs.find(found[3][:9]).id == found[3]
    assert [job.id for job in jobs.all()] == found[::-1]


def test_a_worker_that_is_killed_leaves_the_job_to_the_next(jobs: Jobs, journal: Path) -> None:
    job, _ = jobs.ask(request(*counting(journal, 40)))
    first = command(jobs.settings, "jobs", "work")
    pid = process_of(jobs, job)
    assert start_worker(jobs.settings, COMMAND) is None
    first.kill()
    first.communicate()
    until(lambda: started_at(pid) is None, 5)
    assert jobs.get(job.id).status == "queued"
    second = start_worker(jobs.settings, COMMAND)
    assert second
    try:
        assert ended(jobs, job).status == "done"
    finally:
        second.stop()
    result = jobs.result(job.id)
    assert result
    assert result["data"]["first"] >= 2
    assert steps(journal) == list(range(1, 41))
    assert len(jobs.all()) == 1


def test_a_worker_that_stops_interrupts_its_job_and_the_next_goes_on(jobs: Jobs, journal: Path) -> None:
    job, _ = jobs.ask(request(*counting(journal, 30)))
    with working(jobs.settings, COMMAND, Schedule(list), print):
        pid = process_of(jobs, job)
    assert started_at(pid) is None
    assert jobs.get(job.id).status == "queued"
    with working(jobs.settings, COMMAND, Schedule(list), print):
        assert ended(jobs, job).status == "done"
    assert steps(journal) == list(range(1, 31))


def test_a_waiting_command_works_itself_and_prints_the_result(settings: Settings, journal: Path) -> None:
    asked = command(settings, "ask", *counting(journal, 8))
    out, err = asked.communicate(timeout=60)
    assert asked.returncode == 0
    assert json.loads(out) == {"steps": 8, "first": 0}
    assert err.splitlines()[0] == "Counting from 0."
    assert "Counting: 100 % step 8" in err


def test_a_command_whose_job_fails_says_its_sentence(settings: Settings) -> None:
    asked = command(settings, "ask", "vanish")
    out, err = asked.communicate(timeout=60)
    assert asked.returncode == 1
    assert "ended without a result" in json.loads(out)["error"]
    assert "Traceback" not in err


def test_ctrl_c_cancels_the_job_that_runs_here(jobs: Jobs, journal: Path) -> None:
    asked = command(jobs.settings, "ask", *counting(journal, LONG))
    job = until(jobs.all)[0]
    pid = process_of(jobs, job)
    asked.send_signal(signal.SIGINT)
    out, _ = asked.communicate(timeout=20)
    assert asked.returncode == 130
    assert json.loads(out)["error"] == "Interrupted; the same command goes on from here."
    assert started_at(pid) is None
    assert jobs.get(job.id).status == "cancelled"


@pytest.mark.usefixtures("worker")
def test_ctrl_c_leaves_a_job_that_runs_elsewhere(jobs: Jobs, journal: Path) -> None:
    asked = command(jobs.settings, "ask", *counting(journal, LONG))
    job = until(jobs.all)[0]
    process_of(jobs, job)
    asked.send_signal(signal.SIGINT)
    out, _ = asked.communicate(timeout=20)
    assert asked.returncode == 130
    assert f"`doppel jobs cancel {job.id}` ends it" in json.loads(out)["error"]
    assert jobs.get(job.id).status == "running"


def test_a_waiting_command_takes_over_from_a_worker_that_dies(jobs: Jobs, journal: Path) -> None:
    job, _ = jobs.ask(request(*counting(journal, 40)))
    other = command(jobs.settings, "jobs", "work")
    process_of(jobs, job)
    asked = command(jobs.settings, "ask", *counting(journal, 40))
    assert asked.stderr
    assert "waiting for it" in asked.stderr.readline()
    other.kill()
    other.communicate()
    out, _ = asked.communicate(timeout=60)
    assert asked.returncode == 0
    assert json.loads(out)["first"] >= 2
    assert steps(journal) == list(range(1, 41))


def test_a_command_that_is_done_leaves_the_other_jobs_to_a_detached_worker(
    jobs: Jobs, journal: Path, tmp_path: Path
) -> None:
    other, _ = jobs.ask(request(*counting(tmp_path / "other", 30), queue="other"))
    asked = command(jobs.settings, "ask", *counting(journal, 5))
    asked.communicate(timeout=60)
    assert asked.returncode == 0
    assert ended(jobs, other).status == "done"
    assert steps(tmp_path / "other") == list(range(1, 31))


def test_a_detached_worker_drains_the_queues_and_ends(jobs: Jobs, journal: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(ROOT)
    found = [jobs.ask(request(*counting(journal, steps)))[0] for steps in (3, 6)]
    process = work_detached(jobs.settings, COMMAND)
    assert process
    assert [ended(jobs, job).status for job in found] == ["done", "done"]
    assert steps(journal) == list(range(1, 7))
    assert process.wait(30) == 0
    assert not is_worked(jobs.settings)


def test_a_schedule_counts_from_the_newest_job_and_asks_only_for_what_is_wanted(jobs: Jobs) -> None:
    now, looked = time.time(), 0

    def is_wanted() -> bool:
        nonlocal looked
        looked += 1
        return looked > 1

    entries = [Scheduled(request("settings", kind="sync"), 60), Scheduled(request("settings"), 60, is_wanted)]
    schedule = Schedule(lambda: entries, lambda: now)
    assert [job.kind for job in schedule.tick(jobs)] == ["sync"]
    now += 30
    assert schedule.tick(jobs) == []
    assert looked == 1
    assert Schedule(lambda: entries[:1], lambda: now).tick(jobs) == []
    jobs.cancel(jobs.all()[0])
    now += 31
    assert [job.kind for job in schedule.tick(jobs)] == ["sync", "reindex"]
    now += 61
    assert schedule.tick(jobs) == []


def test_a_running_server_keeps_its_schedule(jobs: Jobs, journal: Path) -> None:
    entry = Scheduled(request(*counting(journal, 1), kind="sync"), 2)
    schedule = Schedule(lambda: [entry])
    with working(jobs.settings, COMMAND, schedule, print):
        until(lambda: sum(job.status == "done" for job in jobs.all()) >= 2, 20)
    assert {job.kind for job in jobs.all()} == {"sync"}


def test_a_schedule_that_cannot_be_kept_is_told_once_and_stops_nothing(jobs: Jobs, journal: Path) -> None:
    said: list[str] = []

    def is_wanted() -> bool:
        raise ArtifactError("The index is damaged.")

    job, _ = jobs.ask(request(*counting(journal, 30)))
    with working(jobs.settings, COMMAND, Schedule(lambda: [Scheduled(request("settings"), 1, is_wanted)]), said.append):
        assert ended(jobs, job).status == "done"
    result = jobs.result(job.id)
    assert result
    assert result["data"]["first"] == 0
    assert said == ["The schedule can't be kept: The index is damaged."]


def test_old_jobs_are_forgotten_with_their_logs(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "KEPT", 2)
    for n in range(4):
        job = jobs.cancel(jobs.ask(request("settings", N=str(n)))[0])
        files = JobFiles.of(jobs.settings, job.id)
        files.create_folders()
        files.log("x")
    jobs.forget_old()
    assert len(jobs.all()) == 2
    assert {path.stem for path in (jobs.settings.logs_dir / "jobs").iterdir()} == {job.id for job in jobs.all()}


def test_the_database_is_its_owners_and_holds_no_pickle(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    with Jobs(settings) as jobs:
        worker = start_worker(settings, COMMAND)
        assert worker
        ended(jobs, jobs.ask(request("settings", FOR_THE_JOB="1"))[0])
        ended(jobs, jobs.ask(request("fail"))[0])
        worker.stop()
    path = settings.data_dir / "jobs.db"
    assert path.stat().st_mode & 0o777 == 0o600
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT DISTINCT serialization FROM workflow_status").fetchall() == [
            ("portable_json",)
        ]
    connection.close()


def test_a_database_that_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    settings.data_dir.mkdir()
    elsewhere = settings.model_copy(update={"database_url": SecretStr("postgresql://doppel:secret@127.0.0.1:9/doppel")})
    with pytest.raises(JobError, match="Connection refused") as caught:
        Jobs(elsewhere)
    assert "secret" not in str(caught.value)
    (settings.data_dir / "jobs.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(JobError, match="not a database"):
        Jobs(settings)


def test_two_folders_share_one_postgres(postgres: PostgresServer, tmp_path: Path, journal: Path) -> None:
    settings = Settings(data_dir=tmp_path / "here", database_url=SecretStr(postgres.empty("jobs")))
    elsewhere = request(*counting(tmp_path / "elsewhere", 3))
    with Jobs(settings) as jobs, Jobs(settings.model_copy(update={"data_dir": tmp_path / "there"})) as others:
        others.ask(elsewhere)
        job, _ = jobs.ask(request(*counting(journal, 12)))
        assert jobs.ask(request(*counting(journal, 12)))[0].id == job.id
        with working(settings, COMMAND, Schedule(list), print):
            process_of(jobs, job)
        assert jobs.get(job.id).status == "queued"
        worker = start_worker(settings, COMMAND)
        assert worker
        try:
            assert ended(jobs, job).status == "done"
            cancelled, _ = jobs.ask(request(*counting(journal, LONG)))
            until(lambda: state(jobs, cancelled).process)
            assert jobs.cancel(cancelled).status == "cancelled"
        finally:
            worker.stop()
        assert len(jobs.all()) == 2
        assert [other.status for other in others.all()] == ["queued"]
    postgres.drop("jobs")
    assert steps(journal)[:12] == list(range(1, 13))
    assert not (tmp_path / "elsewhere").exists()


@pytest.fixture
def small(settings: Settings, tmp_path: Path) -> Settings:
    """A data folder with an archive of a few messages."""
    take_in(settings, tmp_path, "the deploy waits for the new cluster", "it is up since noon")
    return settings


def take_in(settings: Settings, folder: Path, *said: str) -> None:
    export = ExportBuilder().user("U1", "ada").channel("C1", "general", "U1")
    for number, text in enumerate(said):
        export.say("general", f"{1_700_000_000 + number}.000100", text)
    done = doppel(settings.data_dir, "import", str(export.zip(folder / f"{len(said)}.zip")))
    assert done.status == 0, done.stderr


def test_a_detached_reindex_is_told_of_and_an_unchanged_archive_is_not_read_again(
    small: Settings, tmp_path: Path
) -> None:
    asked = doppel(small.data_dir, "reindex", "--detach")
    assert asked.data == {"job": asked.data["job"], "kind": "reindex", "status": "queued"}
    with Jobs(small) as jobs:
        assert ended(jobs, jobs.find(asked.data["job"])).status == "done"
        shown = doppel(small.data_dir, "jobs", "show", asked.data["job"][:6]).data
        assert set(shown) == set(Job.__dataclass_fields__) | {"log", "result"}
        assert shown["result"]["conversations"] == shown["result"]["embedded"] == 1
        assert "doppel reindex" in shown["log"]
        assert "cluster" not in shown["log"]
        later = time.time() + 60
        schedule = Schedule(lambda: scheduled(scheduled_run(small)), lambda: later)
        assert schedule.tick(jobs) == []
        take_in(small, tmp_path, "the deploy waits for the new cluster", "it is up since noon", "thanks")
        later += 60
        (job,) = schedule.tick(jobs)
        assert (job.kind, job.arguments) == ("reindex", [])


def scheduled_run(settings: Settings) -> AppContext:
    return AppContext(settings.model_copy(update={"reindex_every": "5s"}), Console(as_json=False))


def test_every_failure_of_the_jobs_commands_is_one_sentence(settings: Settings) -> None:
    assert doppel(settings.data_dir, "jobs", "list").data == {"jobs": []}
    for word in ("show", "cancel", "retry"):
        done = doppel(settings.data_dir, "jobs", word, "nonsense")
        assert done.status == 1
        assert done.data == {"error": 'No job\'s id begins with "nonsense"; `doppel jobs list` shows them.'}
        assert "Traceback" not in done.stderr
