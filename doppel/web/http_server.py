"""How the web chat stands on a port: taken at once, served until a signal, and closed to everything but this host."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI

from doppel.errors import BusyError, ConfigError

GRACE_SECONDS = 2
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self'",
        # Gradio configures its page in inline scripts and compiles its templates in the browser.
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "form-action 'self'",
        "frame-ancestors 'self'",
    )
)
HEADERS = (
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    # Not "no-referrer", with which a browser hides from the server, too, whose form was sent.
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"x-content-type-options", b"nosniff"),
)


class OwnHostOnly:
    """ASGI middleware whose headers keep the browser from asking any other host, whatever stands in the page."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS]
            await send(message)

        await self._app(scope, receive, send_with_headers)


def reserve_port(host: str, port: int) -> socket.socket:
    """A socket that listens on `host` and `port` (0: any free one), taken before anything slow begins.

    Raises BusyError for a port in use and ConfigError for an address that can't be had.
    """
    if not 0 <= port <= 65535:
        raise ConfigError(f"There is no port {port}; choose one from 1024 to 65535 with --port.")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        raise _port_error(error, host, port) from None


def _port_error(error: OSError, host: str, port: int) -> BusyError | ConfigError:
    if error.errno == errno.EADDRINUSE:
        return BusyError(
            f"Port {port} on {host} is in use; stop the program that uses it, or choose another with --port."
        )
    if error.errno == errno.EACCES:
        return ConfigError(f"Port {port} is kept for the system; choose one above 1023 with --port.")
    return ConfigError(f"This machine has no address {host}; choose another with --host, such as 127.0.0.1.")


async def serve(app: FastAPI, listening: socket.socket, on_ready: Callable[[], None] | None = None) -> None:
    """Serve `app` on the socket of `reserve_port` until SIGINT or SIGTERM, or until it is cancelled.

    `on_ready` is called once it answers.
    """
    server = _Server(app, on_ready)
    with _signals(server.stop):
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            await asyncio.shield(serving)
        finally:
            server.stop()
            await serving


class _Server(uvicorn.Server):
    """Uvicorn that leaves signals to `serve`: its own handlers raise them again, past the caller's cleaning up."""

    def __init__(self, app: FastAPI, on_ready: Callable[[], None] | None) -> None:
        self._streams = _EndingStreams(app)
        config = uvicorn.Config(
            self._streams,
            log_config=None,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        super().__init__(config)
        self._on_ready = on_ready

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._on_ready:
            self._on_ready()

    def stop(self) -> None:
        """End gracefully."""
        self.should_exit = True
        self._streams.end()


class _EndingStreams:
    """ASGI middleware that ends event streams at the end: a browser keeps them open for as long as its page is."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._open: set[asyncio.Task[Any]] = set()
        self._ended = False

    def end(self) -> None:
        """End those that are open."""
        self._ended = True
        for task in self._open:
            task.cancel()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        task = asyncio.current_task()
        assert task is not None

        async def watched(message: Any) -> None:
            if message["type"] == "http.response.start" and _is_stream(message):
                self._open.add(task)
            elif message["type"] == "http.response.body" and not message.get("more_body"):
                self._open.discard(task)
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except asyncio.CancelledError:
            if not self._ended:
                raise
            if task in self._open:
                await send({"type": "http.response.body", "body": b""})
        finally:
            self._open.discard(task)


def _is_stream(message: Any) -> bool:
    return any(name == b"content-type" and b"text/event-stream" in value for name, value in message["headers"])


@contextlib.contextmanager
def _signals(stop: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    caught = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in caught}
    for number in caught:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in caught:
            loop.remove_signal_handler(number)
            signal.signal(number, before[number])
