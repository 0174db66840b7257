"""Slack's requests sent with so little work that what is timed is the app that answers them."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

import httpx2

from tests.fakes.slack import HttpApp

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class QuickHttpApp(HttpApp):
    """HttpApp on bare connections, each used again; a client library takes longer for a request than the app does."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._idle: list[Connection] = []

    async def _request(self, client: httpx2.AsyncClient, body: bytes, headers: dict[str, str]) -> tuple[int, bool]:
        host, path = urlsplit(self.url).netloc, urlsplit(self.url).path
        lines = [f"POST {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}"]
        head = "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items()), "", ""])
        try:
            return await asyncio.wait_for(self._exchange(host, head.encode() + body), self.ack_seconds)
        except TimeoutError as error:
            raise httpx2.ReadTimeout("no answer in time") from error
        except (OSError, EOFError) as error:
            raise httpx2.ReadError("no answer") from error

    async def _exchange(self, host: str, request: bytes) -> tuple[int, bool]:
        name, _, port = host.partition(":")
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection(name, int(port))
        try:
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            fields = dict(line.split(": ", 1) for line in head.splitlines()[1:] if line)
            await reader.readexactly(int(fields.get("content-length", "0")))
        except BaseException:
            writer.close()
            raise
        self._idle.append((reader, writer))
        return int(head.split()[1]), fields.get("x-slack-no-retry") == "1"
