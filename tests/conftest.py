"""Every test gets a clean environment; the end-to-end tests share one data folder and one running server."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.end_to_end import Deployment


def pytest_addoption(parser: pytest.Parser) -> None:
    """How hard the tests try."""
    parser.addoption("--kills", type=int, default=8, help="How often the sync is killed in its test.")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("DOPPEL_", "SLACK_"))]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """The sample workspace imported, indexed and trained on for a few steps, with `doppel serve` running."""
    with Deployment(tmp_path_factory.mktemp("deployment")) as running:
        yield running
