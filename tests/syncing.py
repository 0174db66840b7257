"""A sync against the fake Slack, in this process or in one that can be killed, and archives compared row by row."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import Table, select

from doppel.archive import Archive, database, tables
from doppel.ingest import SyncStore
from doppel.ingest.sync import Options, Sync, SyncProgress, SyncReport
from doppel.slack.api import SlackApi
from doppel.slack.budget import StoppableClock
from tests.end_to_end import environment
from tests.fakes.slack import FakeSlack

ROOT = Path(__file__).parent.parent
COMPARED = (tables.messages, tables.users, tables.channels)
Rows = dict[str, dict[tuple[Any, ...], dict[str, Any]]]


def sync(
    slack: FakeSlack,
    archive: Archive,
    said: list[str] | None = None,
    progress: Callable[[SyncProgress], None] = lambda now: None,
    token: str = "",
    **options: Any,
) -> SyncReport:
    """One sync in this process, of the first workspace or of the `token`'s; what it tells is added to `said`."""
    clock, say = StoppableClock(), (said if said is not None else []).append
    api = SlackApi(lambda: token or slack.bot_token, slack.api_url, clock)
    return Sync(api, SyncStore(archive), Options(**options), clock, say, progress).run()


def start_sync(slack: FakeSlack, data_dir: Path) -> subprocess.Popen[bytes]:
    """`doppel sync` as a process of its own."""
    environ = {"SLACK_BOT_TOKEN": slack.bot_token, "SLACK_API_URL": slack.api_url} | environment(data_dir)
    return subprocess.Popen(
        [sys.executable, "app.py", "sync", "--json"],
        cwd=ROOT,
        env=os.environ | environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def kill(process: subprocess.Popen[bytes]) -> None:
    """kill -9 for a command and its job at once: the command has no time to notice, and the job none to save."""
    with contextlib.suppress(psutil.NoSuchProcess):
        command = psutil.Process(process.pid)
        command.suspend()
        for started in command.children(recursive=True):
            started.kill()
    process.kill()


def rows(archive: Archive, *, without: str = "") -> Rows:
    """All that is known of people, channels and messages, but for when it was seen; `without` is left out of members.

    A bot is known to Slack's API only, and a direct conversation to an export only.
    """
    return {table.name: _of(archive, table, without) for table in COMPARED}


def listed_rows(archive: Archive, channels: set[str], bot: str) -> Rows:
    """`rows` of those channels alone, and of everybody but the bot."""
    found = rows(archive, without=bot)
    return {
        "messages": {key: row for key, row in found["messages"].items() if row["channel"] in channels},
        "channels": {key: row for key, row in found["channels"].items() if row["id"] in channels},
        "users": {key: row for key, row in found["users"].items() if row["id"] != bot},
    }


def _of(archive: Archive, table: Table, without: str) -> dict[tuple[Any, ...], dict[str, Any]]:
    keys = [column.name for column in table.primary_key]
    with database.reading(archive._engine, archive.backend) as connection:
        found = [dict(row._mapping) for row in connection.execute(select(table))]
    for row in found:
        del row["as_of"]
        if "members" in row:
            row["members"] = sorted(member for member in row["members"] if member != without)
    return {tuple(row[key] for key in keys): row for row in found}
