"""Answers, in the terminal and in the web chat, and the vLLM server behind them."""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from commands.jobs import COMMAND, schedule_of
from commands.page import queue_of, require_signing_in, web_page
from commands.run import Run, command
from commands.slack import hear_slack, hears_slack
from doppel.console import Result

if TYPE_CHECKING:
    from doppel.archive.archive import Archive
    from doppel.engine import Engine
    from doppel.records import User
    from doppel.server import ModelServer

app = typer.Typer()

Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Port of the web chat.")]

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 7860


@command(app, "chat")
def chat_(
    run: Run,
    persona: Annotated[str, typer.Option("--persona", help="Whom to ask: id, handle or name.")],
    message: Annotated[str | None, typer.Option("-m", "--message", help="One question; without it, a chat.")] = None,
) -> Result:
    """Ask a doppelganger in the terminal; leave with exit or Ctrl-C."""
    if message is None and run.console.as_json:
        raise typer.BadParameter("--json goes with -m.")
    from doppel.access import require_consent
    from doppel.limits import require_length

    require_length(message or "", run.settings.question_chars)
    with run.archive() as archive:
        person = archive.find_user(persona)
        require_consent(person, archive.consent_records(person))
        return asyncio.run(_chat(run, archive, person, message))


async def _chat(run: Run, archive: Archive, person: User, message: str | None) -> Result:
    from doppel.records import Turn
    from doppel.surfaces.terminal import ASKER, ask, converse

    async with _engine(run, archive) as (engine, server):
        persona = await engine.persona(person.id, person.team)
        await server.wait_ready()
        if message is None:
            run.console.say(f"You talk to an AI in the manner of {persona.name}. exit or Ctrl-C ends.")
            await converse(engine, persona, lambda: input("\nYou: "), run.console.write)
            return Result({})
        reply = await ask(engine, persona, [Turn(ASKER, message)], run.console.write)
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
        }
    )


@asynccontextmanager
async def _engine(run: Run, archive: Archive) -> AsyncIterator[tuple[Engine, ModelServer]]:
    """The engine, and the vLLM server behind it, which is starting."""
    from doppel.base_model import ChatTokenizer, base_model_path
    from doppel.engine import Engine
    from doppel.inference import InferenceClient
    from doppel.server import model_server

    base = await asyncio.to_thread(base_model_path, run.settings, run.console.say)
    async with (
        model_server(run.settings, base, run.console.say) as server,
        InferenceClient(server.endpoint, server.wait_ready) as client,
    ):
        tokenizer = await asyncio.to_thread(ChatTokenizer, base)
        engine = Engine(run.settings, archive, run.retriever(archive), run.adapters(), tokenizer, client)
        yield engine, server


@command(app, "serve")
def serve_(run: Run, host: Host = DEFAULT_HOST, port: Port = DEFAULT_PORT) -> Result:
    """Serve the web chat and the vLLM server behind it."""
    return serve_body(run, host, port)


def serve_body(run: Run, host: str, port: int) -> Result:
    """Serve until Ctrl-C."""
    from doppel.consent import sweep
    from doppel.jobs.serving import working
    from doppel.surfaces.hosting import reserve_port

    require_signing_in(run, host)
    with (
        reserve_port(host, port) as listening,
        run.exclusively("serve"),
        run.archive() as archive,
        working(run.settings, COMMAND, schedule_of(run), run.console.say),
    ):
        sweep(archive, run.adapters())
        asyncio.run(_serve(run, archive, listening))
    return Result({"served": f"http://{host}:{port}"}, "Stopped.")


async def _serve(run: Run, archive: Archive, listening: socket.socket) -> None:
    """The page is there at once; questions wait until vLLM is ready. A vLLM that can't start ends it all."""
    from doppel.surfaces.hosting import serve

    host, port = listening.getsockname()[:2]
    async with _engine(run, archive) as (engine, server):
        queue = queue_of(run.settings)
        page = web_page(run, archive, engine, server.status, queue)
        ready = functools.partial(run.console.say, f"The web chat is at http://{host}:{port}")
        async with asyncio.TaskGroup() as tasks:
            beside = [tasks.create_task(server.wait_ready())]
            if hears_slack(run):
                beside.append(tasks.create_task(hear_slack(run, archive, page, engine, queue)))
            await serve(page, listening, ready)
            for task in beside:
                task.cancel()
