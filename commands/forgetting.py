"""`doppel forget`, and its receipt."""

from __future__ import annotations

import asyncio
import getpass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.run import UserName, command
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
) -> Result:
    """Forget USER for good: adapter, answers and feedback. It asks nothing and can't be undone."""
    from doppel.services.forgetting import Index, clean_index, forget, unload

    with context.archive() as archive:
        person = archive.find_user(user)
        receipt = forget(context, archive, person, messages, by or getpass.getuser())
        asyncio.run(unload(context, person, receipt.adapters))
        index = clean_index(context, archive, receipt.archive.revision) if messages else Index()
    data = _as_data(receipt, index)
    return Result(data, _as_text(receipt, data))


def _as_data(receipt: Receipt, index: Index) -> dict[str, Any]:
    archive = receipt.archive
    counted = ("messages", "copies", "posts", "answers", "feedback", "questions", "requests", "voices", "drafts")
    removed: dict[str, Any] = {name: getattr(archive, name) for name in counted}
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
