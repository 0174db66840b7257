"""The workspaces whose data is here, as the operator sees and removes them."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from commands.run import command
from doppel.app_context import AppContext
from doppel.config import interval_seconds
from doppel.console import Result
from doppel.errors import BadInputError
from doppel.plain_text import lines

if TYPE_CHECKING:
    from doppel.archive.archive import Archive
    from doppel.archive.installations import Installation

app = typer.Typer()
workspaces_app = typer.Typer(help="The Slack workspaces whose data is here.", no_args_is_help=True)
app.add_typer(workspaces_app, name="workspaces")


@command(workspaces_app, "key")
def workspaces_key(context: AppContext) -> Result:
    """Print a new key for DOPPEL_TOKEN_KEYS; put it before those that are there, with a comma."""
    from doppel.keys import new_key

    key = new_key()
    return Result({"key": key}, key)


@command(workspaces_app, "list")
def workspaces_list(context: AppContext) -> Result:
    """Show where the app is installed or was, and when data goes."""
    with context.archive() as archive:
        rows = [_row(context, archive, found) for found in archive.installations.all()]
    text = lines(f"{r['team']}  {r['name']}  {r['messages']} messages  {r['state']}" for r in rows)
    return Result({"workspaces": rows}, text or "No workspace has installed the app yet.")


@command(workspaces_app, "remove")
def workspaces_remove(
    context: AppContext,
    team: Annotated[str, typer.Argument(metavar="TEAM", help="The id of a workspace, such as T0123ABCD.")],
) -> Result:
    """Delete all that is here of a workspace, for good: tokens, messages, adapters, jobs. It asks nothing."""
    from doppel.services import forgetting
    from doppel.services.workspaces import erase

    with context.archive() as archive:
        known = {user.team for user in archive.users()} | {i.team for i in archive.installations.all()}
        if team not in known:
            raise BadInputError(f"Nothing is here of a workspace {team}; there are: {', '.join(sorted(known))}.")
        erased = erase(context, archive, team)
        forgetting.clean_index(context, archive, erased.revision)
    text = (
        f"Deleted {erased.messages} messages of {erased.people} people in {erased.channels} channels, their adapters "
        "and tokens; the index holds nothing of it any more. Remove the app in Slack too, if it is still there."
    )
    return Result(asdict(erased), text)


def _row(context: AppContext, archive: Archive, found: Installation) -> dict[str, object]:
    grace = interval_seconds(context.settings.uninstall_grace)
    state = f"installed by {found.installed_by}" if found.installed_by else "connected"
    if found.removed_at is not None:
        state = "removed; its data is kept"
        if grace is not None:
            until = datetime.fromtimestamp(found.removed_at / 1e6 + grace, UTC)
            state = f"removed; its data goes on {until:%Y-%m-%d}"
    counts = archive.counts(found.team)
    return {"team": found.team, "name": found.name, "messages": counts.messages, "state": state}
