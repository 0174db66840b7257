"""Doppel at work in a fake Slack: a file that asks for `slack`, `synced` or `doppel` says which `workspace` they have.

Where a file differs, it has an `engine`, a `way` or a `time_scale` of its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from doppel.access import ConsentAction
from doppel.archive import Archive
from doppel.ingest import open_archive
from tests.end_to_end import archive_at
from tests.fakes.engine import FakeEngine
from tests.fakes.slack import FakeSlack, Limits, Workspace
from tests.listening import ADA, Listening, listening
from tests.syncing import sync


@pytest.fixture
def time_scale() -> float:
    """How much faster than Slack's the fake's clock runs."""
    return 20


@pytest.fixture
def slack(workspace: Workspace, time_scale: float) -> Iterator[FakeSlack]:
    """A Slack with the file's workspace that limits no calls."""
    with FakeSlack(workspace, limits=Limits.none(time_scale)) as running:
        yield running


@pytest.fixture
def synced(slack: FakeSlack, tmp_path: Path) -> Iterator[Archive]:
    """The archive of the data folder `tmp_path`, after a sync."""
    with open_archive(archive_at(tmp_path)) as opened:
        sync(slack, opened)
        yield opened


@pytest.fixture
def ada_agreed(synced: Archive) -> None:
    """Ada's consent, recorded before anything else."""
    synced.record_consent(synced.find_user("U1"), ConsentAction.GRANT, "tests")


@pytest.fixture
def engine() -> FakeEngine:
    """Answers as Ada, "About" and the question."""
    return FakeEngine([ADA])


@pytest.fixture(params=["socket", "http"])
def way(request: pytest.FixtureRequest) -> str:
    """How Slack speaks to Doppel."""
    return str(request.param)


@pytest.fixture
async def doppel(
    way: str, slack: FakeSlack, synced: Archive, tmp_path: Path, engine: FakeEngine
) -> AsyncIterator[Listening]:
    """Doppel at work, until the test ends."""
    async with listening(slack, synced, tmp_path, way, engine) as running:
        yield running
