"""Socket Mode: the app connects to Slack and gets events, commands and actions over a WebSocket
(https://docs.slack.dev/apis/events-api/using-socket-mode).

Slack sends each envelope to one of the app's connections and sends an event again until it is acknowledged. Events are
queued from the first apps.connections.open on.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import secrets
import threading
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Literal

from starlette.websockets import WebSocket, WebSocketDisconnect

from tests.fakes.slack.channels import Json
from tests.fakes.slack.events import ACK_SECONDS, RETRY_SECONDS
from tests.fakes.slack.payloads import event_callback
from tests.fakes.slack.workspace import Listener, Workspace

if TYPE_CHECKING:
    from tests.fakes.slack.server import FakeSlack

Kind = Literal["events_api", "slash_commands", "interactive"]
_RECONNECT_GRACE = 0.2


class SocketMode:
    """The app's connections. `acks` holds what came back, by envelope id; `sent` every envelope, in order.

    `ack_times` are the seconds from an envelope's last sending to its acknowledgement. As of HttpApp, `lost_acks` and
    `duplicates` are the parts (0 to 1) of what goes wrong with events; both may be set at any time.
    """

    def __init__(self, slack: FakeSlack, ack_seconds: float | None = None) -> None:
        self._slack = slack
        self.ack_seconds = ack_seconds or ACK_SECONDS / slack.time_scale
        self.acks: dict[str, Any] = {}
        self.sent: list[Json] = []
        self.ack_times: list[float] = []
        self.lost_acks, self.duplicates = 0.0, 0.0
        self._random = random.Random(0)
        self._sent_at: dict[str, float] = {}
        self._tickets: set[str] = set()
        self._connections: list[WebSocket] = []
        self._turns = itertools.count()
        self._listeners: list[tuple[Workspace, Listener]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: dict[str, asyncio.Event] = {}
        self._change = threading.Condition()

    @property
    def connections(self) -> int:
        """How many connections Slack may use; those told to reconnect don't count."""
        return len(self._connections)

    def open(self) -> str:
        """A URL that can be connected to once."""
        ticket = secrets.token_hex(12)
        self._tickets.add(ticket)
        if not self._listeners:
            for workspace in self._slack.workspaces:
                self._listeners.append((workspace, self._listener(workspace)))
                workspace.listen(self._listeners[-1][1])
        address = self._slack.url.replace("http://", "ws://")
        return f"{address}/link/?ticket={ticket}&app_id={self._slack.app.app_id}"

    def close(self) -> None:
        """Listen to the workspaces no more."""
        for workspace, listener in self._listeners:
            workspace.unlisten(listener)
        self._listeners.clear()

    def send(self, kind: Kind, payload: Json) -> str:
        """Send an envelope; returns its id. It waits for a connection where there is none."""
        envelope: Json = {"type": kind, "envelope_id": secrets.token_hex(16), "payload": payload}
        envelope["accepts_response_payload"] = kind != "events_api"
        self._slack.on_loop(lambda: self._spawn(self._deliver(envelope)))
        return str(envelope["envelope_id"])

    def replay(self) -> str:
        """Send the last command or action once more, in an envelope of its own; returns its id."""
        last = next(envelope for envelope in reversed(self.sent) if envelope["type"] != "events_api")
        return self.send(last["type"], last["payload"])

    def wait_for_ack(self, envelope_id: str, timeout: float = 5) -> Any:
        """The payload of an acknowledgement, None where it has none; raises TimeoutError."""
        with self._change:
            if not self._change.wait_for(lambda: envelope_id in self.acks, timeout):
                raise TimeoutError("The envelope was not acknowledged.")
            return self.acks[envelope_id]

    def wait_for_connections(self, number: int = 1, timeout: float = 5) -> None:
        """Wait until the app has so many connections; raises TimeoutError."""
        with self._change:
            if not self._change.wait_for(lambda: self.connections == number, timeout):
                raise TimeoutError(f"The app has {self.connections} connections.")

    def disconnect(self, reason: Literal["warning", "refresh_requested"] = "refresh_requested") -> None:
        """Tell every connection that it will end; after `refresh_requested` Slack ends it by itself."""
        self._each(lambda socket: self._retire(socket, reason))

    def drop(self) -> None:
        """End every connection without a word."""
        self._each(self._end)

    async def serve(self, socket: WebSocket) -> None:
        """A connection, from hello to its end."""
        ticket = socket.query_params.get("ticket", "")
        if ticket not in self._tickets:
            await socket.close()
            return
        self._tickets.discard(ticket)
        await socket.accept()
        await socket.send_json(self._hello())
        self._set_connections([*self._connections, socket])
        try:
            while True:
                self._acknowledge(await socket.receive_text())
        except WebSocketDisconnect:
            self._forget(socket)

    def _listener(self, workspace: Workspace) -> Listener:
        def listener(event: Json) -> None:
            payload = event_callback(self._slack, workspace, event)
            for _ in range(1 + (self._random.random() < self.duplicates)):
                self.send("events_api", payload)

        return listener

    def _hello(self) -> Json:
        debug = {"host": "fake-applink", "build_number": 1, "approximate_connection_time": 18060}
        info = {"app_id": self._slack.app.app_id}
        return {
            "type": "hello",
            "num_connections": self.connections + 1,
            "debug_info": debug,
            "connection_info": info,
        }

    def _acknowledge(self, text: str) -> None:
        with contextlib.suppress(ValueError):
            given = json.loads(text)
            envelope_id = given.get("envelope_id") if isinstance(given, dict) else None
            if isinstance(envelope_id, str):
                if sent_at := self._sent_at.pop(envelope_id, None):
                    self.ack_times.append(time.perf_counter() - sent_at)
                if self._random.random() < self.lost_acks:
                    return
                with self._change:
                    self.acks[envelope_id] = given.get("payload")
                    self._change.notify_all()
                if envelope_id in self._waiting:
                    self._waiting[envelope_id].set()

    async def _deliver(self, envelope: Json) -> None:
        waits = RETRY_SECONDS if envelope["type"] == "events_api" else ()
        acknowledged = self._waiting[envelope["envelope_id"]] = asyncio.Event()
        for number, wait in enumerate((0.0, *waits)):
            await asyncio.sleep(wait / self._slack.time_scale)
            retry = {"retry_attempt": number, "retry_reason": "timeout" if number else ""}
            await self._transmit({**envelope, **retry} if waits else envelope)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(acknowledged.wait(), self.ack_seconds)
                break
        del self._waiting[envelope["envelope_id"]]

    async def _transmit(self, envelope: Json) -> None:
        while True:
            if not self._connections:
                await asyncio.sleep(0.01)
                continue
            socket = self._connections[next(self._turns) % len(self._connections)]
            self._sent_at[envelope["envelope_id"]] = time.perf_counter()
            try:
                await socket.send_json(envelope)
            except (RuntimeError, WebSocketDisconnect):
                self._forget(socket)
                continue
            self.sent.append(envelope)
            return

    async def _retire(self, socket: WebSocket, reason: str) -> None:
        self._forget(socket)
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await socket.send_json({"type": "disconnect", "reason": reason, "debug_info": {"host": "fake-applink"}})
            if reason == "refresh_requested":
                await asyncio.sleep(_RECONNECT_GRACE)
                await socket.close()

    async def _end(self, socket: WebSocket) -> None:
        self._forget(socket)
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await socket.close(1011)

    def _forget(self, socket: WebSocket) -> None:
        self._set_connections([other for other in self._connections if other is not socket])

    def _set_connections(self, connections: list[WebSocket]) -> None:
        with self._change:
            self._connections = connections
            self._change.notify_all()

    def _each(self, work: Callable[[WebSocket], Coroutine[Any, Any, None]]) -> None:
        def start() -> None:
            for socket in self._connections:
                self._spawn(work(socket))

        self._slack.on_loop(start)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
