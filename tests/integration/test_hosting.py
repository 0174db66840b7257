"""The port of the web chat, and how serving ends."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest
from playwright.async_api import expect

from doppel.errors import BusyError, ConfigError
from doppel.web.http_server import reserve_port
from tests.browser import chromium
from tests.web_reader import Reader

ROOT = Path(__file__).parents[2]
SERVED = """
import asyncio
from doppel.web.http_server import reserve_port, serve
from doppel.web.page import build_app
from tests.fakes.engine import FakeEngine, Wait
from tests.web_reader import ERIK, Site, everybody
async def main():
    engine = FakeEngine([ERIK], lambda persona, turns: [Wait(asyncio.Event())])
    listening = reserve_port("127.0.0.1", 0)
    port = listening.getsockname()[1]
    await serve(build_app(everybody(engine), Site().store), listening, lambda: print(port, flush=True))
    print("closed", engine.stopped)
asyncio.run(main())
"""


async def test_a_signal_ends_it_soon_with_an_answer_open() -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", SERVED, stdout=PIPE, stderr=PIPE, cwd=ROOT)
    assert process.stdout is not None
    url = f"http://127.0.0.1:{int(await process.stdout.readline())}/"
    async with chromium() as browser:
        reader = await Reader(await browser.new_page()).open(url)
        await expect(await reader.ask("why?")).to_contain_text("Looking through Slack")
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(5):
            assert await process.communicate() == (b"closed 1\n", b"")
        assert process.returncode == 0


async def test_a_port_in_use_is_refused_at_once() -> None:
    with reserve_port("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BusyError, match=f"Port {port} on 127.0.0.1 is in use; .* --port"):
            reserve_port("127.0.0.1", port)


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 70000), ("203.0.113.7", 0), ("no such host", 0)])
async def test_an_address_that_cannot_be_had_is_a_sentence(host: str, port: int) -> None:
    with pytest.raises(ConfigError, match=r"--(port|host)"):
        reserve_port(host, port)
