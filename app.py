"""Doppel's command line: `python app.py COMMAND`, installed as `doppel`."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

import typer

from commands import archive, data, forgetting, jobs, personas, slack, talk, workspaces
from commands.run import AsJson, DataDir, command, execute
from doppel.app_context import AppContext
from doppel.console import Result
from doppel.plain_text import lines

app = typer.Typer(help="Doppel: answers as a colleague would, from your team's Slack.", add_completion=False)
for part in (data, personas, forgetting, jobs, talk, slack, archive, workspaces):
    app.add_typer(part.app)


@app.callback(invoke_without_command=True)
def root(ctx: typer.Context, data_dir: DataDir = None, json: AsJson = False) -> None:
    """Doppel: answers as a colleague would, from your team's Slack. Without a command: serve."""
    if ctx.invoked_subcommand is None:
        execute(talk.serve_body, json, data_dir, {"host": talk.DEFAULT_HOST, "port": talk.DEFAULT_PORT})


@command(app, "doctor")
def doctor_(context: AppContext) -> Result:
    """Check packages, processor, memory, disk, models, archive, index, settings and server; exit status 1 where one
    fails."""
    from doppel.doctor import examine
    from doppel.inference.vllm_process import find_running
    from indexing import FORMAT

    running = asyncio.run(find_running(context.settings))
    checks = examine(context.settings, context.index(), FORMAT, running.address if running else None)
    text = lines(f"{'ok  ' if c.ok else 'FAIL'}  {c.name}: {c.detail}" for c in checks)
    return Result({"checks": [asdict(check) for check in checks]}, text, ok=all(check.ok for check in checks))


def main() -> None:
    """The installed command `doppel`."""
    app()


if __name__ == "__main__":
    main()
