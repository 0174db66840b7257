"""The workspaces whose data is here: those that installed the app, and that of the token in the settings."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from commands import forgetting
from commands.run import Run, command
from doppel.config import Settings, interval_seconds
from doppel.console import Result
from doppel.errors import BadInputError, BusyError, ConfigError, JobError
from doppel.moments import now_micros
from doppel.plain_text import lines

if TYPE_CHECKING:
    from doppel.archive.archive import Archive
    from doppel.archive.erasing import Erased
    from doppel.archive.installations import Installation
    from doppel.records import User
    from doppel.slack.tokens import Tokens

app = typer.Typer()
workspaces_app = typer.Typer(help="The Slack workspaces whose data is here.", no_args_is_help=True)
app.add_typer(workspaces_app, name="workspaces")


@dataclass(frozen=True, slots=True)
class OAuth:
    """What installing the app and signing in with Slack need."""

    client_id: str
    client_secret: str
    public_url: str


def oauth_of(settings: Settings) -> OAuth | None:
    """None where nobody can install the app or sign in. Raises ConfigError that names everything that is missing."""
    given = {
        "SLACK_CLIENT_ID": settings.slack_client_id,
        "SLACK_CLIENT_SECRET": settings.slack_client_secret.get_secret_value(),
    }
    if not any(given.values()):
        return None
    needed = given | {
        "DOPPEL_TOKEN_KEYS": settings.token_keys.get_secret_value(),
        "DOPPEL_PUBLIC_URL": settings.public_url,
        "SLACK_SIGNING_SECRET or SLACK_APP_TOKEN": settings.slack_signing_secret.get_secret_value()
        or settings.slack_app_token.get_secret_value(),
    }
    if missing := [name for name, value in needed.items() if not value]:
        raise ConfigError(f"Signing in with Slack also needs {', '.join(missing)}; see docs/slack.md.")
    return OAuth(given["SLACK_CLIENT_ID"], given["SLACK_CLIENT_SECRET"], settings.public_url.rstrip("/"))


def tokens_of(run: Run, archive: Archive) -> Tokens:
    """The tokens of the workspaces that installed the app. Raises ConfigError where there can't be any."""
    from doppel.keys import Keys
    from doppel.slack.tokens import Tokens

    oauth, settings = oauth_of(run.settings), run.settings
    if oauth is None:
        raise ConfigError("No workspace can install the app without SLACK_CLIENT_ID and SLACK_CLIENT_SECRET.")
    keys = Keys(settings.token_keys.get_secret_value())
    return Tokens(archive.installations, keys, settings.slack_api_url, oauth.client_id, oauth.client_secret)


def team_to_sync(run: Run) -> str:
    """The only workspace that installed the app, "" for that of the token in the settings."""
    if run.settings.slack_bot_token.get_secret_value() or not run.settings.slack_client_id:
        return ""
    from doppel.archive.installations import active

    with run.archive() as archive:
        found = [installation.team for installation in active(archive.installations.all())]
    if not found:
        raise BadInputError("No workspace has installed the app yet; open /slack/install of the running server.")
    if len(found) > 1:
        raise BadInputError(f"Several workspaces have installed the app; name one with --team: {', '.join(found)}.")
    return found[0]


def label(team: str) -> list[str]:
    """The words that say for which workspace a job is; none for that of the token in the settings."""
    return ["--team", team] if team else []


@command(workspaces_app, "key")
def workspaces_key(run: Run) -> Result:
    """Print a new key for DOPPEL_TOKEN_KEYS; put it before those that are there, with a comma."""
    from doppel.keys import new_key

    key = new_key()
    return Result({"key": key}, key)


@command(workspaces_app, "list")
def workspaces_list(run: Run) -> Result:
    """Show where the app is installed or was, and when data goes."""
    with run.archive() as archive:
        rows = [_row(run, archive, found) for found in archive.installations.all()]
    text = lines(f"{r['team']}  {r['name']}  {r['messages']} messages  {r['state']}" for r in rows)
    return Result({"workspaces": rows}, text or "No workspace has installed the app yet.")


@command(workspaces_app, "remove")
def workspaces_remove(
    run: Run, team: Annotated[str, typer.Argument(metavar="TEAM", help="The id of a workspace, such as T0123ABCD.")]
) -> Result:
    """Delete all that is here of a workspace, for good: tokens, messages, adapters, jobs. It asks nothing."""
    with run.archive() as archive:
        known = {user.team for user in archive.users()} | {i.team for i in archive.installations.all()}
        if team not in known:
            raise BadInputError(f"Nothing is here of a workspace {team}; there are: {', '.join(sorted(known))}.")
        erased = erase(run, archive, team)
        forgetting.clean_index(run, archive, erased.revision)
    text = (
        f"Deleted {erased.messages} messages of {erased.people} people in {erased.channels} channels, their adapters "
        "and tokens; the index holds nothing of it any more. Remove the app in Slack too, if it is still there."
    )
    return Result(asdict(erased), text)


def remove(run: Run, archive: Archive, team: str) -> None:
    """The app was removed from a workspace: its tokens go, and its jobs end; its data goes later."""
    archive.installations.remove(team, now_micros())
    end_jobs(run, team)


def end_jobs(run: Run, team: str) -> None:
    """Cancel what is queued or runs for a workspace."""
    from doppel.jobs.queue import Jobs, team_of

    with suppress(JobError), Jobs(run.settings) as jobs:
        for job in jobs.all():
            if not job.has_ended and team_of(job.arguments) == team:
                with suppress(JobError):
                    jobs.cancel(job)


def erase(run: Run, archive: Archive, team: str) -> Erased:
    """All but the index, which a reindex sets right: what it holds is shown no more."""
    from doppel.jobs.queue import Jobs

    remove(run, archive, team)
    people = archive.users(team)
    erased = archive.erase(team)
    for person in people:
        with suppress(BusyError):
            # A training that holds them sees that nobody agrees any more, and deletes everything itself.
            asyncio.run(_retire(run, person))
    with suppress(JobError), Jobs(run.settings) as jobs:
        jobs.forget_team(team)
    with suppress(BusyError):
        archive.scrub()
    return erased


async def _retire(run: Run, person: User) -> None:
    await forgetting.unload(run, person, tuple(run.adapters().retire(person)))


def erase_the_removed(run: Run, archive: Archive) -> list[str]:
    """Erase the workspaces that removed the app longer ago than the grace period; returns them."""
    grace = interval_seconds(run.settings.uninstall_grace)
    due = [found.team for found in archive.installations.all() if _is_over(found, grace)]
    for team in due:
        forgetting.ask_reindex(run, erase(run, archive, team).revision)
    return due


def _is_over(found: Installation, grace: float | None) -> bool:
    return grace is not None and found.removed_at is not None and found.removed_at / 1e6 + grace <= time.time()


def _row(run: Run, archive: Archive, found: Installation) -> dict[str, object]:
    grace = interval_seconds(run.settings.uninstall_grace)
    state = f"installed by {found.installed_by}" if found.installed_by else "connected"
    if found.removed_at is not None:
        state = "removed; its data is kept"
        if grace is not None:
            until = datetime.fromtimestamp(found.removed_at / 1e6 + grace, UTC)
            state = f"removed; its data goes on {until:%Y-%m-%d}"
    counts = archive.counts(found.team)
    return {"team": found.team, "name": found.name, "messages": counts.messages, "state": state}
