"""`doppel forget`, and its receipt."""

from __future__ import annotations

import asyncio
import getpass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.run import Team, UserName, command
from doppel.app_context import AppContext
from doppel.console import Result
from doppel.plain_text import lines

if TYPE_CHECKING:
    from doppel.services.forgetting import Index, Receipt

app = typer.Typer()


@command(app, "forget")
def forget_(
    context: AppContext,
    user: UserName,
    messages: Annotated[bool, typer.Option("--messages", help="Also everything that USER wrote.")] = False,
    by: Annotated[str, typer.Option("--by", help="Who enters this; your login if left out.")] = "",
    team: Team = None,
) -> Result:
    """Forget USER for good, in every workspace or in one: adapter, answers and feedback. It asks nothing and can't be
    undone.
    """
    from doppel.services.forgetting import Index, clean_index, forget_in_all, together, unload

    with context.archive() as archive:
        receipts = forget_in_all(context, archive, archive.find_person(user, team), messages, by or getpass.getuser())
        for each in receipts:
            asyncio.run(unload(context, each.user, each.adapters))
        receipt = together(receipts)
        index = clean_index(context, archive, receipt.archive.revision) if messages else Index()
    data = _as_data(receipt, index) | {"workspaces": [each.user.team for each in receipts]}
    return Result(data, _as_text(receipt, data))


def _as_data(receipt: Receipt, index: Index) -> dict[str, Any]:
    from doppel.services.forgetting import COUNTED

    archive = receipt.archive
    removed: dict[str, Any] = {name: getattr(archive, name) for name in COUNTED}
    removed |= {"adapters": list(receipt.adapters), "chunks": index.chunks, "index_versions": list(index.versions)}
    return {
        "who": receipt.name,
        "user_id": receipt.user.id,
        "when": archive.record.at,
        "by": archive.record.by,
        "with_messages": receipt.with_messages,
        "removed": removed,
        "pending": [*receipt.pending, *index.pending],
    }


def _as_text(receipt: Receipt, data: dict[str, Any]) -> str:
    from doppel.services.forgetting import told

    index = [f"{data['removed']['chunks']} chunks of the index"] if receipt.with_messages else []
    head = f"{receipt.name} ({receipt.user.id}) was forgotten at {data['when']}, entered by {data['by']}."
    return lines([head, f"Removed: {', '.join([*told(receipt), *index])}.", *data["pending"]])
