"""`doppel serve`: the web chat, the bot in Slack, the model server behind them, and a worker for jobs."""

from __future__ import annotations

import asyncio
import functools
import socket

from doppel.app_context import COMMAND, AppContext
from doppel.archive.archive import Archive
from doppel.jobs.serving import working
from doppel.services.ask import answering
from doppel.services.consent import sweep
from doppel.services.jobs import schedule_of
from doppel.serving.slack import hear_slack, hears_slack
from doppel.serving.web import queue_of, require_signing_in, web_page
from doppel.web import http_server as hosting


def serve(context: AppContext, host: str, port: int) -> None:
    """Serve until this is interrupted. Raises ConfigError, BusyError, or InferenceError where vLLM can't start."""
    require_signing_in(context, host)
    with (
        hosting.reserve_port(host, port) as listening,
        context.exclusively("serve"),
        context.archive() as archive,
        working(context.settings, COMMAND, schedule_of(context), context.console.say),
    ):
        sweep(archive, context.adapters())
        asyncio.run(_serve(context, archive, listening))


async def _serve(context: AppContext, archive: Archive, listening: socket.socket) -> None:
    """The page is there at once; questions wait until vLLM is ready. A vLLM that can't start ends it all."""
    host, port = listening.getsockname()[:2]
    async with answering(context, archive, own=True) as (engine, server):
        queue = queue_of(context.settings)
        page = web_page(context, archive, engine, server.status, queue)
        ready = functools.partial(context.console.say, f"The web chat is at http://{host}:{port}")
        async with asyncio.TaskGroup() as tasks:
            beside = [tasks.create_task(server.wait_ready())]
            if hears_slack(context):
                beside.append(tasks.create_task(hear_slack(context, archive, page, engine, queue)))
            await hosting.serve(page, listening, ready)
            for task in beside:
                task.cancel()
