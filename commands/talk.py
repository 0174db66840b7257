"""Answers, in the terminal and in the web chat, and the vLLM server behind them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from commands.run import Team, command
from doppel.app_context import AppContext
from doppel.console import Result

if TYPE_CHECKING:
    from doppel.archive.archive import Archive
    from doppel.records import User

app = typer.Typer()

Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Port of the web chat.")]

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 7860


@command(app, "chat")
def chat_(
    context: AppContext,
    persona: Annotated[str, typer.Option("--persona", help="Whom to ask: id, handle or name.")],
    message: Annotated[str | None, typer.Option("-m", "--message", help="One question; without it, a chat.")] = None,
    team: Team = None,
) -> Result:
    """Ask a doppelganger in the terminal; leave with exit or Ctrl-C."""
    if message is None and context.console.as_json:
        raise typer.BadParameter("--json goes with -m.")
    from doppel.access import require_consent
    from doppel.limits import require_length

    if message is not None and not message.strip():
        raise typer.BadParameter("there is no question in it.", param_hint="--message")
    require_length(message or "", context.settings.question_chars)
    with context.archive() as archive:
        person = archive.find_user(persona, team)
        require_consent(person, archive.consent_records(person))
        if not context.settings.vllm_url:
            # Before a minute is spent on starting the model.
            context.require_index()
        return asyncio.run(_chat(context, archive, person, message))


async def _chat(context: AppContext, archive: Archive, person: User, message: str | None) -> Result:
    from doppel.labels import ASKER
    from doppel.records import Dialogue, Turn
    from doppel.services.ask import answering
    from doppel.terminal import ask, converse

    async with answering(context, archive) as (engine, server):
        persona = await engine.persona(person.id, person.team)
        await server.wait_ready()
        if message is None:
            context.console.say(f"You talk to an AI in the manner of {persona.name}. exit or Ctrl-C ends.")
            await converse(engine, persona, lambda: input("\nYou: "), context.console.write)
            return Result({})
        reply = await ask(engine, persona, Dialogue((Turn(ASKER, message),)), context.console.write)
    return Result(
        {
            "persona": reply.persona.name,
            "version": reply.persona.version,
            "reply": reply.text,
            "sources": [source.permalink for source in reply.sources],
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": reply.completion_tokens,
            "first_token_seconds": reply.first_token_seconds,
            "seconds": reply.seconds,
            "notes": list(reply.notes),
            "confidence": reply.confidence,
            "grounded": reply.grounded,
            "sentences": [{"text": sentence.text, "source": sentence.source} for sentence in reply.sentences],
            "answer_id": reply.id,
            "written_by": "ai",
        }
    )


@command(app, "serve")
def serve_(context: AppContext, host: Host = DEFAULT_HOST, port: Port = DEFAULT_PORT) -> Result:
    """Serve the web chat and the vLLM server behind it."""
    return serve_body(context, host, port)


def serve_body(context: AppContext, host: str, port: int) -> Result:
    """Serve until Ctrl-C."""
    from doppel.serving.server import serve

    serve(context, host, port)
    return Result({"served": f"http://{host}:{port}"}, "Stopped.")
