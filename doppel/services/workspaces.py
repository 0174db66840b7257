"""The workspaces whose data is here: those that installed the app, and that of the token in the settings."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from doppel.app_context import AppContext
from doppel.config import Settings, interval_seconds
from doppel.errors import BadInputError, BusyError, ConfigError, JobError
from doppel.services import forgetting
from doppel.timestamps import now_micros

if TYPE_CHECKING:
    from doppel.archive.archive import Archive
    from doppel.archive.erasing import Erased
    from doppel.archive.installations import Installation
    from doppel.records import User
    from doppel.services.tokens import Tokens


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


def tokens_of(context: AppContext, archive: Archive) -> Tokens:
    """The tokens of the workspaces that installed the app. Raises ConfigError where there can't be any."""
    from doppel.keys import Keys
    from doppel.services.tokens import Tokens

    oauth, settings = oauth_of(context.settings), context.settings
    if oauth is None:
        raise ConfigError("No workspace can install the app without SLACK_CLIENT_ID and SLACK_CLIENT_SECRET.")
    keys = Keys(settings.token_keys.get_secret_value())
    return Tokens(archive.installations, keys, settings.slack_api_url, oauth.client_id, oauth.client_secret)


def team_to_sync(context: AppContext) -> str:
    """The only workspace that installed the app, "" for that of the token in the settings."""
    if context.settings.slack_bot_token.get_secret_value() or not context.settings.slack_client_id:
        return ""
    from doppel.archive.installations import active

    with context.archive() as archive:
        found = [installation.team for installation in active(archive.installations.all())]
    if not found:
        raise BadInputError("No workspace has installed the app yet; open /slack/install of the running server.")
    if len(found) > 1:
        raise BadInputError(f"Several workspaces have installed the app; name one with --team: {', '.join(found)}.")
    return found[0]


def remove(context: AppContext, archive: Archive, team: str) -> None:
    """The app was removed from a workspace: its tokens go, and its jobs end; its data goes later."""
    archive.installations.remove(team, now_micros())
    end_jobs(context, team)


def end_jobs(context: AppContext, team: str) -> None:
    """Cancel what is queued or runs for a workspace."""
    from doppel.jobs.queue import Jobs, team_of

    with suppress(JobError), Jobs(context.settings) as jobs:
        for job in jobs.all():
            if not job.has_ended and team_of(job.arguments) == team:
                with suppress(JobError):
                    jobs.cancel(job)


def erase(context: AppContext, archive: Archive, team: str) -> Erased:
    """All but the index, which a reindex sets right: what it holds is shown no more."""
    from doppel.jobs.queue import Jobs

    remove(context, archive, team)
    people = archive.users(team)
    erased = archive.erase(team)
    for person in people:
        with suppress(BusyError):
            # A training that holds them sees that nobody agrees any more, and deletes everything itself.
            asyncio.run(_retire(context, person))
    with suppress(JobError), Jobs(context.settings) as jobs:
        jobs.forget_team(team)
    with suppress(BusyError):
        archive.scrub()
    return erased


async def _retire(context: AppContext, person: User) -> None:
    await forgetting.unload(context, person, tuple(context.adapters().retire(person)))


def erase_the_removed(context: AppContext, archive: Archive) -> list[str]:
    """Erase the workspaces that removed the app longer ago than the grace period; returns them."""
    grace = interval_seconds(context.settings.uninstall_grace)
    due = [found.team for found in archive.installations.all() if _is_over(found, grace)]
    for team in due:
        forgetting.ask_reindex(context, erase(context, archive, team).revision)
    return due


def _is_over(found: Installation, grace: float | None) -> bool:
    return grace is not None and found.removed_at is not None and found.removed_at / 1e6 + grace <= time.time()
