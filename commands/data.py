"""What a team said: taken in, indexed and searched."""

from __future__ import annotations

import time
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.run import Detach, command, path_of
from doppel.app_context import AppContext
from doppel.console import Result, duration
from doppel.errors import BadInputError
from doppel.plain_text import line, plain
from doppel.services.jobs import as_job, label

if TYPE_CHECKING:
    from doppel.archive.archive import Archive
    from doppel.slack.api import SlackApi
    from doppel.slack.budget import StoppableClock

app = typer.Typer()


@command(app, "import")
def import_(
    context: AppContext,
    path: Annotated[Path, typer.Argument(parser=path_of, metavar="PATH", help="A Slack export: a ZIP or a folder.")],
) -> Result:
    """Read a Slack export into the archive."""
    from doppel.ingest import import_export
    from doppel.slack.export import open_export

    with open_export(path) as export, context.archive() as archive, context.console.progress("Importing") as update:
        report = import_export(archive, export, update)
    rate = (report.added + report.updated + report.unchanged) / max(report.seconds, 1e-9)
    text = (
        f"{report.messages} messages in the archive: {report.added} added, {report.updated} updated, "
        f"{report.unchanged} unchanged, in {report.seconds:.1f} s ({rate:.0f} a second).\n"
        f"{report.users} people, {report.channels} channels, {report.threads} threads."
    )
    skipped = "".join(f"\nSkipped {count}: {line(reason)}" for reason, count in report.skipped.items())
    return Result(asdict(report), text + skipped)


@command(app, "reindex")
def reindex_(
    context: AppContext,
    full: Annotated[bool, typer.Option("--full", help="Embed everything again.")] = False,
    detach: Detach = False,
    revision: Annotated[
        int, typer.Option("--revision", hidden=True, help="Of the archive, to tell one request from another.")
    ] = 0,
    team: Annotated[str, typer.Option("--team", hidden=True, help="The workspace that asks for it.")] = "",
) -> Result:
    """Bring the search index up to date with the archive."""
    if context.is_job:
        return _reindex(context, full)
    _require_messages(context)
    return as_job(context, "reindex", ["--full"] if full else [], detach)


def _require_messages(context: AppContext) -> None:
    """Raise BadInputError where nothing was ever read: an index of nothing would find nothing."""
    if context.index().current_name() is None:
        with context.archive() as archive:
            if not archive.counts().messages:
                folder = context.settings.data_dir
                raise BadInputError(
                    f"The archive in {folder} is empty; run `doppel import PATH` or `doppel sync` first."
                )


def _reindex(context: AppContext, full: bool) -> Result:
    from indexing.reindex import reindex

    embedder = context.embedder()
    keep = context.settings.keep_versions
    with context.archive() as archive, context.console.progress("Indexing") as update:
        report = reindex(archive, context.index(), embedder, full=full, keep=keep, progress=update)
    text = (
        f"{report.conversations} conversations in {report.chunks} chunks: {report.embedded} embedded, "
        f"{report.reused} reused, {report.removed} removed, in {report.seconds:.1f} s. Version {report.version}."
    )
    return Result(asdict(report), text)


@command(app, "search")
def search_(
    context: AppContext,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What to look for.")],
    k: Annotated[int, typer.Option("-k", min=1, help="How many chunks.")] = 5,
) -> Result:
    """Find what was said; the operator of this machine may read every channel."""
    from indexing.search import search_rows

    if not query.strip():
        raise typer.BadParameter("there is nothing to look for in it.", param_hint="QUERY")
    started = time.monotonic()
    with context.archive() as archive:
        found = search_rows(context.retriever(archive), archive.snapshot(), query, k)
    text = "\n\n".join(map(_shown, found))
    return Result({"results": found, "seconds": time.monotonic() - started}, text or "Nothing found.")


def _shown(row: dict[str, Any]) -> str:
    """One result; what was said is indented, so that none of it can pass for another result."""
    head = line(f"similarity {row['score']:.2f}  #{row['channel']}  {row['permalink']}")
    return f"{head}\n{indent(plain(row['text']), '  ')}"


@command(app, "sync")
def sync_(
    context: AppContext,
    channel: Annotated[list[str] | None, typer.Option("--channel", help="Only this channel; may be repeated.")] = None,
    since: Annotated[
        datetime | None,
        typer.Option("--since", formats=["%Y-%m-%d"], metavar="DATE", help="Nothing said before this day (UTC)."),
    ] = None,
    join: Annotated[bool, typer.Option("--join", help="Join the public channels that the bot is not in.")] = False,
    team: Annotated[str, typer.Option("--team", help="The id of a workspace that installed the app.")] = "",
    detach: Detach = False,
) -> Result:
    """Read Slack itself into the archive: everything at first, then what is new."""
    from doppel.services.workspaces import team_to_sync

    team = team or team_to_sync(context)
    if context.is_job:
        return _sync(context, tuple(channel or ()), since, join, team)
    words = [word for name in channel or () for word in ("--channel", name)]
    words += ["--since", f"{since:%Y-%m-%d}"] if since else []
    with context.archive() as archive:
        _slack(context, archive, team)  # Refuses at once where there is no token.
    return as_job(context, "sync", words + ["--join"] * join + label(team), detach)


def _slack(context: AppContext, archive: Archive, team: str) -> tuple[SlackApi, StoppableClock]:
    """Slack's API for a workspace, and its clock; raises SlackTokenError where there is no token."""
    from doppel.services.workspaces import tokens_of
    from doppel.slack.api import SlackApi
    from doppel.slack.budget import StoppableClock

    clock = StoppableClock()
    own = context.settings.slack_bot_token.get_secret_value
    token = partial(tokens_of(context, archive).token, team) if team else own
    return SlackApi(token, context.settings.slack_api_url, clock, context.console.say), clock


def _sync(context: AppContext, channels: tuple[str, ...], since: datetime | None, join: bool, team: str) -> Result:
    from doppel.ingest import SyncStore
    from doppel.ingest.sync import Options, Sync, SyncProgress

    floor = round(since.replace(tzinfo=UTC).timestamp() * 1_000_000) if since else 0
    options = Options(channels, floor, join, context.settings.sync_horizon_days)
    with context.archive() as archive, context.console.progress("Syncing") as update:
        api, clock = _slack(context, archive, team)

        def tell(now: SyncProgress) -> None:
            left = "" if now.seconds_left is None else f", about {duration(now.seconds_left)} left"
            done = f"{now.channels_done} of {now.channels} channels, {now.messages_per_second:.0f} messages a second"
            update(now.calls_done, now.calls, note=done + left)

        report = Sync(api, SyncStore(archive), options, clock, context.console.say, tell).run()
    text = (
        f"{report.channels} channels, {report.messages} messages read: {report.added} added, {report.updated} updated, "
        f"{report.deleted} deleted, with {report.pages} pages in {duration(report.seconds)} "
        f"({duration(report.rate_limited_seconds)} of it waiting for Slack)."
    )
    return Result(asdict(report), text)
