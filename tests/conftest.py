"""Every test gets a clean environment; the end-to-end tests share one data folder and one running server.

Tests that ask for `where`, a new archive, run on SQLite and on a real Postgres. With `--database postgres` they run on
Postgres only, and so does all that goes through the command line; with `--database sqlite` nothing starts a Postgres.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from xdist.scheduler import LoadFileScheduling

from doppel.archive import Archive
from doppel.ingest import open_archive
from tests import end_to_end
from tests.end_to_end import Deployment
from tests.postgres import SERVER, PostgresServer

if "PYTEST_XDIST_WORKER" in os.environ:
    # Side by side, threads that wait for each other's share of the cores take several times as long as one alone.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# How long an example takes is no fault: other work shares the cores.
hypothesis.settings.register_profile("doppel", deadline=None)
hypothesis.settings.load_profile("doppel")

WITH_MODELS = {"test_end_to_end", "test_training_jobs", "test_vllm_cpu_lora"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where archives are, and how hard the tests try."""
    parser.addoption("--kills", type=int, default=8, help="How often the sync is killed in its test.")
    parser.addoption("--askers", type=int, default=500, help="For how many askers it is decided what they may read.")
    parser.addoption("--parrots", type=int, default=40, help="How many are answered in the test for leaks.")
    parser.addoption(
        "--database",
        choices=("sqlite", "postgres", "both"),
        default="both",
        help="where archives are: both for the tests of the archive, SQLite for commands (the default), or one for all",
    )


def pytest_configure(config: pytest.Config) -> None:
    # A worker of pytest-xdist ignores SIGINT, and so would every process that a test starts and interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    end_to_end.ON_POSTGRES = config.getoption("--database") == "postgres"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What trains or answers comes first: it takes longest, and only one file of it runs at a time."""
    items.sort(key=lambda item: item.path.stem not in WITH_MODELS)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling:
    """Where tests run side by side: a file's stay together, and of those that train or answer only one file runs."""
    return _ByFile(config, log)


class _ByFile(LoadFileScheduling):  # type: ignore[misc]
    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.split("::", 1)[0]
        return "models" if Path(path).stem in WITH_MODELS else path


def pytest_unconfigure() -> None:
    SERVER.stop()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "database" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--database")
        metafunc.parametrize("database", ["sqlite", "postgres"] if chosen == "both" else [chosen])


@pytest.fixture(scope="session")
def postgres(pytestconfig: pytest.Config) -> PostgresServer:
    """The server that all tests share."""
    if pytestconfig.getoption("--database") == "sqlite":
        pytest.skip("needs a Postgres")
    return SERVER


@pytest.fixture
def where(database: str, tmp_path: Path) -> Path | str:
    """Where an archive may be: the path of a file, or the URL of a Postgres database. It is new, or as if."""
    return tmp_path / "data" / "archive.db" if database == "sqlite" else SERVER.emptied("test")


@pytest.fixture
def archive(where: Path | str) -> Iterator[Archive]:
    """A new archive."""
    with open_archive(where) as opened:
        yield opened


@pytest.fixture
def bare(database: str, tmp_path: Path) -> Iterator[Path | str]:
    """As `where`, but also a Postgres database has no tables yet."""
    if database == "sqlite":
        yield tmp_path / "bare.db"
    else:
        name = f"bare_{next(_NUMBERS)}"
        yield SERVER.empty(name)
        SERVER.drop(name)


_NUMBERS = itertools.count()


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("DOPPEL_", "SLACK_"))]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """The sample workspace imported, indexed and trained on for a few steps, with `doppel serve` running."""
    with Deployment(tmp_path_factory.mktemp("deployment")) as running:
        yield running
