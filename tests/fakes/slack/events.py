"""Slack as the caller: events, commands and actions sent to an app's request URL, signed, retried, and sometimes twice.

with HttpApp(slack, "http://127.0.0.1:3000/slack/events") as app:
    assert app.verify()
    workspace.post(general, ada, "hello")     # the app gets the event
    app.settle()
    app.act(slack.payloads.block_action("yes", user=ada, channel=general, ts=ts))
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import threading
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlencode

import httpx2

from tests.fakes.slack.channels import Json
from tests.fakes.slack.payloads import event_callback, signed
from tests.fakes.slack.workspace import Listener, Workspace

if TYPE_CHECKING:
    from tests.fakes.slack.server import FakeSlack

RETRY_SECONDS = (0.0, 60.0, 300.0)
"""How long Slack waits before each of its three retries."""
ACK_SECONDS = 3.0
_MIX_SECONDS = 0.05


@dataclass(frozen=True)
class Attempt:
    """One delivery of an event; `failed` is Slack's reason to retry, "" where the app acknowledged in time.

    `seconds` passed until the app answered.
    """

    event_id: str
    event: Json
    retry: int
    failed: str
    seconds: float


class HttpApp:
    """An app that listens at a URL. `attempts` lists every delivery of an event.

    duplicates: the part of the events (0 to 1) that are sent twice although the first was acknowledged.
    disorder: events are under way at the same time and overtake each other; else one is sent after the other.
    lost_acks: the part of the acknowledgements that never reach Slack, which so sends the event again.
    ack_seconds: how long the app has to answer, real seconds; by default Slack's three, scaled.
    """

    def __init__(
        self,
        slack: FakeSlack,
        url: str,
        *,
        duplicates: float = 0,
        disorder: bool = False,
        lost_acks: float = 0,
        ack_seconds: float | None = None,
        seed: int = 0,
    ) -> None:
        self.slack, self.url, self.duplicates, self.disorder = slack, url, duplicates, disorder
        self.lost_acks, self.ack_seconds = lost_acks, ack_seconds or ACK_SECONDS / slack.time_scale
        self.attempts: list[Attempt] = []
        self._random = random.Random(seed)
        self._listeners: list[tuple[Workspace, Listener]] = []
        self._queue: asyncio.Queue[Json] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._under_way, self._change = 0, threading.Condition()
        self._worker: asyncio.Task[None] | None = None
        self._last: tuple[bytes, dict[str, str]] = (b"", {})

    def __enter__(self) -> Self:
        self.slack.on_loop(self._start)
        for workspace in self.slack.workspaces:
            self._listeners.append((workspace, self._listener(workspace)))
            workspace.listen(self._listeners[-1][1])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for workspace, listener in self._listeners:
            workspace.unlisten(listener)
        self.slack.on_loop(self._stop)

    def verify(self) -> bool:
        """Ask the app to prove that the URL is its own, as Slack does when the URL is entered."""
        challenge = secrets.token_hex(16)
        asked = {"type": "url_verification", "token": self.slack.app.verification_token, "challenge": challenge}
        answer = self._post(json.dumps(asked).encode(), "application/json")
        return answer.status_code == httpx2.codes.OK and challenge in answer.text

    def command(self, payload: Json) -> httpx2.Response:
        """Send a slash command; raises httpx2.TimeoutException where the app takes too long."""
        return self._post(urlencode(payload).encode(), "application/x-www-form-urlencoded")

    def act(self, payload: Json) -> httpx2.Response:
        """Send what someone did with a button, a menu or a form; raises httpx2.TimeoutException."""
        return self._post(urlencode({"payload": json.dumps(payload)}).encode(), "application/x-www-form-urlencoded")

    def replay(self) -> httpx2.Response:
        """Send the last command or action once more as it was: the same bytes with the same signature."""
        body, headers = self._last
        return httpx2.post(self.url, content=body, headers=headers, timeout=self.ack_seconds, trust_env=False)

    def send(self, envelope: Json) -> None:
        """Send an event in its envelope; sent again as it is, it is a duplicate."""
        with self._change:
            self._under_way += 1
        self.slack.on_loop(lambda: self._queue.put_nowait(envelope))

    def settle(self, timeout: float = 5) -> None:
        """Wait until every event was acknowledged or given up, retries included; raises TimeoutError."""
        with self._change:
            if not self._change.wait_for(lambda: not self._under_way, timeout):
                raise TimeoutError(f"{self._under_way} events are still under way")

    def _listener(self, workspace: Workspace) -> Listener:
        return lambda event: self.send(event_callback(self.slack, workspace, event))

    def _start(self) -> None:
        self._worker = asyncio.get_running_loop().create_task(self._work())

    def _stop(self) -> None:
        for task in (self._worker, *self._tasks):
            if task:
                task.cancel()

    async def _work(self) -> None:
        async with httpx2.AsyncClient(timeout=self.ack_seconds, trust_env=False) as client:
            while True:
                envelope = await self._queue.get()
                times = 1 + (self._random.random() < self.duplicates)
                with self._change:
                    self._under_way += times - 1
                for _ in range(times):
                    await self._send_first(client, envelope)

    async def _send_first(self, client: httpx2.AsyncClient, envelope: Json) -> None:
        if self.disorder:
            self._spawn(self._deliver(client, envelope, self._random.random() * _MIX_SECONDS))
            return
        failed = await self._attempt(client, envelope, 0, "")
        self._spawn(self._retry(client, envelope, failed))

    async def _deliver(self, client: httpx2.AsyncClient, envelope: Json, delay: float) -> None:
        await asyncio.sleep(delay)
        await self._retry(client, envelope, await self._attempt(client, envelope, 0, ""))

    async def _retry(self, client: httpx2.AsyncClient, envelope: Json, failed: str) -> None:
        for number, wait in enumerate(RETRY_SECONDS, start=1):
            if not failed:
                break
            await asyncio.sleep(wait / self.slack.time_scale)
            failed = await self._attempt(client, envelope, number, failed)
        with self._change:
            self._under_way -= 1
            self._change.notify_all()

    async def _attempt(self, client: httpx2.AsyncClient, envelope: Json, retry: int, reason: str) -> str:
        body = json.dumps(envelope).encode()
        headers = {"Content-Type": "application/json", **signed(self.slack.app.signing_secret, body)}
        if retry:
            headers |= {"X-Slack-Retry-Num": str(retry), "X-Slack-Retry-Reason": reason}
        started = time.perf_counter()
        try:
            status, final = await self._request(client, body, headers)
            failed = "" if 200 <= status < 300 else "http_error"
        except httpx2.TimeoutException:
            failed, final = "http_timeout", False
        except httpx2.TransportError:
            failed, final = "connection_failed", False
        seconds = time.perf_counter() - started
        if not failed and self._random.random() < self.lost_acks:
            failed = "http_timeout"
        self.attempts.append(Attempt(envelope["event_id"], envelope["event"], retry, failed, seconds))
        return "" if final else failed

    async def _request(self, client: httpx2.AsyncClient, body: bytes, headers: dict[str, str]) -> tuple[int, bool]:
        """The status of the app's answer, and whether it wants the event never again."""
        answer = await client.post(self.url, content=body, headers=headers)
        return answer.status_code, answer.headers.get("x-slack-no-retry") == "1"

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _post(self, body: bytes, content_type: str) -> httpx2.Response:
        self._last = body, {"Content-Type": content_type, **signed(self.slack.app.signing_secret, body)}
        return self.replay()
