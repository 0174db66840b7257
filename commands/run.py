"""What every command has in common: its options, the parts it works with, and errors as sentences."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from doppel.app_context import AppContext
from doppel.config import DOTENV, load_settings, secret_variables
from doppel.console import FAILED, Console, Result, quiet_libraries
from doppel.jobs.reports import JobConsole, Reports
from doppel.logs import log_to
from doppel.private import in_the_way, keep_files_private, readable_secrets, secure_data_folder

LOG = "doppel.log"


def path_of(text: str) -> Path:
    """A path that was typed; an empty one, as a variable that isn't set leaves it, is not the current folder."""
    if not text:
        raise typer.BadParameter("it is empty; give a path.")
    return Path(text)


DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", parser=path_of, metavar="PATH", help="The data folder (or DOPPEL_DATA_DIR)."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Detach = Annotated[bool, typer.Option("--detach", help="Don't wait: `doppel jobs show` tells how it goes.")]
Team = Annotated[str | None, typer.Option("--team", help="The id of the person's workspace, if several.")]
UserName = Annotated[str, typer.Argument(metavar="USER", help="Slack id, handle, display name or real name.")]


def command(
    group: typer.Typer, name: str, hidden: bool = False
) -> Callable[[Callable[..., Result]], Callable[..., None]]:
    """Make a function of an AppContext and its own parameters a command: with --data-dir, --json and errors as
    sentences.
    """

    def register(body: Callable[..., Result]) -> Callable[..., None]:
        @functools.wraps(body)
        def wrapper(ctx: typer.Context, *, json: bool, data_dir: Path | None, **given: Any) -> None:
            outer = ctx.find_root().params
            execute(body, json or outer["json"], data_dir or outer["data_dir"], given)

        signature = inspect.signature(body, eval_str=True)
        kind = inspect.Parameter.KEYWORD_ONLY
        own = [p.replace(kind=kind) for key, p in signature.parameters.items() if key != "context"]
        shared = [
            inspect.Parameter("ctx", kind, annotation=typer.Context),
            *own,
            inspect.Parameter("data_dir", kind, default=None, annotation=DataDir),
            inspect.Parameter("json", kind, default=False, annotation=AsJson),
        ]
        wrapper.__signature__ = signature.replace(parameters=shared, return_annotation=None)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {p.name: p.annotation for p in shared}
        group.command(name, hidden=hidden)(wrapper)
        return wrapper

    return register


def execute(body: Callable[..., Result], as_json: bool, data_dir: Path | None, given: dict[str, Any]) -> None:
    keep_files_private()
    quiet_libraries()
    reports = Reports.inherited()
    console = JobConsole(reports) if reports else Console(as_json)
    load = functools.partial(load_settings, os.environ, DOTENV, data_dir=data_dir)
    wrong_usage: typer.BadParameter | None = None
    result: Result | None = None
    with console.guarded(lambda: load().logs_dir / LOG):
        try:
            context = AppContext(load(), console)
            log_to(context.settings.logs_dir / LOG, context.settings.log_level)
            for warning in (
                secure_data_folder(context.settings.data_dir),
                readable_secrets(DOTENV, secret_variables()),
            ):
                if warning:
                    console.say(warning)
            result = body(context, **given)
            console.result(result)
        except typer.BadParameter as error:
            wrong_usage = error
        except OSError as error:
            raise in_the_way(error, load().data_dir) or error from None
    if wrong_usage:
        raise wrong_usage
    if result and not result.ok:
        raise typer.Exit(FAILED)
