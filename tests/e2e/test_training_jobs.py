"""A real training as a job: interrupted, killed and cancelled, and what it leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from doppel.adapters import AdapterStore
from doppel.artifacts import VersionedFolder
from doppel.config import load_settings
from doppel.ingest import open_archive
from doppel.jobs.queue import Job, Jobs
from doppel.jobs.state import JobFiles, JobState
from tests.end_to_end import FEW_STEPS, PERSONA, ROOT, SAMPLE, doppel, environment

pytestmark = pytest.mark.timeout(900)

STEPS = 8
"""Steps of a training here; it saves a checkpoint after every fourth."""
ENVIRON = FEW_STEPS | {"DOPPEL_TRAIN_MAX_STEPS": str(STEPS)}

T = TypeVar("T")


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    """The jobs of a data folder with an archive and a consent."""
    assert doppel(tmp_path, "import", str(SAMPLE)).status == 0
    assert doppel(tmp_path, "consent", "grant", PERSONA, "--by", "tests").status == 0
    with Jobs(load_settings(environment(tmp_path))) as opened:
        yield opened


@pytest.fixture
def folder(jobs: Jobs) -> VersionedFolder:
    """The persona's adapters."""
    with open_archive(jobs.settings.archive_at) as archive:
        return AdapterStore(jobs.settings.adapters_dir).folder(archive.find_user(PERSONA))


def test_a_training_that_is_interrupted_or_killed_goes_on_at_its_checkpoint(
    jobs: Jobs, folder: VersionedFolder
) -> None:
    command, job = begun(jobs, 1)
    command.send_signal(signal.SIGINT)
    assert command.wait(60) == 130
    assert jobs.get(job.id).status == "cancelled"

    command, job = begun(jobs, 5)
    process = state(jobs, job).process
    assert process
    command.kill()
    os.killpg(process[0], signal.SIGKILL)
    command.wait(60)
    assert jobs.get(job.id).status == "queued"
    assert folder.names() == []
    stopped = max(int(path.name.split("-")[1]) for path in (folder.root / "work").glob("checkpoint-*"))

    report = doppel(jobs.settings.data_dir, "train", "--user", PERSONA, environ=ENVIRON).data
    assert jobs.get(job.id).status == "done"
    version = folder.load(report["version"])
    assert version.info["resumed_from_step"] == stopped >= 4
    log = [json.loads(text) for text in (version.path / "metrics.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log if "loss" in entry] == list(range(1, STEPS + 1))
    assert not (folder.root / "work").exists()
    assert [found.status for found in jobs.all()] == ["done", "cancelled"]

    cancelling_leaves_the_last_version(jobs, folder, report["version"])


def cancelling_leaves_the_last_version(jobs: Jobs, folder: VersionedFolder, version: str) -> None:
    environ = ENVIRON | {"DOPPEL_SEED": "1"}
    asked = doppel(jobs.settings.data_dir, "train", "--user", PERSONA, "--detach", environ=environ).data
    job = jobs.find(asked["job"])
    until(lambda: state(jobs, job).done >= 2)
    started = time.monotonic()
    assert doppel(jobs.settings.data_dir, "jobs", "cancel", job.id[:6]).data["status"] == "cancelled"
    assert time.monotonic() - started < 15
    assert not state(jobs, job).is_alive
    assert folder.current_name() == version
    assert folder.names() == [version]
    assert not (folder.root / "drafts").exists()


def begun(jobs: Jobs, step: int) -> tuple[subprocess.Popen[bytes], Job]:
    """`doppel train` once its job has done that step."""
    process = subprocess.Popen(
        [sys.executable, "app.py", "train", "--user", PERSONA, "--json"],
        cwd=ROOT,
        env=os.environ | environment(jobs.settings.data_dir) | ENVIRON,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    job = until(lambda: next((job for job in jobs.all() if not job.has_ended), None))
    until(lambda: state(jobs, job).done >= step)
    return process, job


def state(jobs: Jobs, job: Job) -> JobState:
    return JobFiles.of(jobs.settings, job.id).read()


def until(found: Callable[[], T | None]) -> T:
    """What `found` returns once it isn't false."""
    deadline = time.monotonic() + 400
    while not (value := found()):
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.1)
    return value
