"""The Slack app, as one paste."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from commands.run import command
from doppel.app_context import AppContext
from doppel.console import Result

app = typer.Typer()
slack_app = typer.Typer(help="The Slack app.", no_args_is_help=True)
app.add_typer(slack_app, name="slack")


@command(slack_app, "manifest")
def slack_manifest(
    context: AppContext,
    name: Annotated[str, typer.Option(help="What the bot is called.")] = "doppel",
    url: Annotated[str, typer.Option(help="The server's public https address; without it, Socket Mode.")] = "",
) -> Result:
    """Print the manifest to create the Slack app from: api.slack.com/apps, Create New App, From a manifest."""
    from doppel.errors import BadInputError
    from doppel.slack.manifest import SCOPES, manifest

    if url and not url.startswith("https://"):
        raise BadInputError("Slack sends its requests to https addresses only; give --url https://…, or leave it out.")
    made = manifest(name, url)
    for scope, reason in SCOPES.items():
        context.console.say(f"{scope}: {reason}")
    return Result({"manifest": made}, json.dumps(made, indent=2))
