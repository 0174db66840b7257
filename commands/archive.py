"""The archive as a whole: copied to another database, backed up."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from commands.run import command, path_of
from doppel.app_context import AppContext
from doppel.console import Result
from doppel.errors import BadInputError

app = typer.Typer()
archive_app = typer.Typer(help="The archive as a whole: copy it, back it up.", no_args_is_help=True)
app.add_typer(archive_app, name="archive")


@command(archive_app, "copy")
def archive_copy(
    context: AppContext,
    to: Annotated[
        str, typer.Argument(metavar="TO", help="postgresql://user@host/name, or the path of a new SQLite file.")
    ],
) -> Result:
    """Copy everything into another, empty archive, whole or not at all."""

    from doppel.ingest import open_archive

    started = time.monotonic()
    with (
        context.archive() as source,
        open_archive(to if "://" in to else path_of(to)) as target,
        context.console.progress("Copying") as update,
    ):
        rows = source.copy_to(target, update)
    data = {"rows": rows, "from": str(source.backend), "to": str(target.backend), "seconds": time.monotonic() - started}
    text = f"Copied {sum(rows.values())} rows to {target.backend}, {rows['messages']} of them messages; all checked."
    return Result(data, text)


@command(archive_app, "backup")
def archive_backup(
    context: AppContext,
    file: Annotated[Path, typer.Argument(parser=path_of, metavar="FILE", help="A new file; put it on another disk.")],
) -> Result:
    """Write the SQLite archive to FILE as of one moment, while Doppel goes on."""
    from doppel.archive.database import backend_of

    if not file.absolute().parent.is_dir():
        raise BadInputError(f"There is no folder {file.parent}; make it, or name another.")
    started = time.monotonic()
    backend_of(context.settings.archive_at).back_up(file)
    size = file.stat().st_size
    data = {"path": str(file.resolve()), "bytes": size, "seconds": time.monotonic() - started}
    return Result(data, f"Wrote {size / 1e6:.1f} MB to {file}.")
