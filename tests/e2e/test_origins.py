"""Only the web chat's own pages talk to it: another site's, or another port's, can neither ask nor read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from gradio_client import Client  # type: ignore[import-untyped]
from playwright.async_api import expect

from doppel.web.auth import HereOnly
from doppel.web.http_server import reserve_port, serve
from doppel.web.page import build_app
from tests.browser import chromium
from tests.web_reader import Reader, Site, everybody

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    # Gradio counts its events with pandas now and then, in a way that pandas is about to leave behind.
    pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting' is deprecated"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"),
]

PUBLIC = "https://doppel.example.org"
JOIN = "/gradio_api/queue/join"
FOREIGN = ("http://localhost:9999", "https://evil.example", "null", "http://127.0.0.1", "file://", "", "http://[")
REQUESTS: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "/", {}),
    ("GET", "/config", {}),
    ("GET", "/gradio_api/queue/data?session_hash=one", {}),
    ("GET", "/gradio_api/heartbeat/one", {}),
    ("POST", JOIN, {"json": {"data": [None], "fn_index": 0, "session_hash": "one"}}),
    ("POST", JOIN, {"content": '{"data": []}', "headers": {"content-type": "text/plain"}}),
    ("POST", "/gradio_api/run/_refresh", {"json": {"data": [None]}}),
    ("POST", "/gradio_api/call/_refresh", {"json": {"data": [None]}}),
    ("POST", "/gradio_api/upload", {"files": {"files": b"x"}}),
    ("POST", "/slack/sign-out", {"data": {"a": "b"}}),
    ("OPTIONS", JOIN, {"headers": {"access-control-request-method": "POST"}}),
]


@asynccontextmanager
async def served(site: Site, public_url: str = "", here_only: bool = False) -> AsyncIterator[str]:
    """The web chat on a port; its address."""
    listening, ready = reserve_port("127.0.0.1", 0), asyncio.Event()
    app = build_app(everybody(site.engine), site.store, public_url=public_url)
    if here_only:
        app.add_middleware(HereOnly)
    serving = asyncio.create_task(serve(app, listening, ready.set))
    await ready.wait()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        serving.cancel()
        await asyncio.wait({serving})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chat() -> AsyncIterator[httpx2.AsyncClient]:
    """Of one behind a proxy, with a public address, that anyone may read."""
    async with served(Site(), PUBLIC) as url, httpx2.AsyncClient(base_url=url) as client:
        yield client


async def answered(chat: httpx2.AsyncClient, verb: str, path: str, who: dict[str, str], **given: Any) -> int:
    """The status of the answer to those who say `who` they are in headers; it never lets another origin read it."""
    headers = given.pop("headers", {}) | who
    async with chat.stream(verb, path, headers=headers, **given) as response:
        assert not [name for name in response.headers if name.startswith("access-control-")]
        return response.status_code


@pytest.mark.parametrize(("verb", "path", "given"), REQUESTS, ids=lambda given: str(given)[:40])
async def test_another_origins_page_is_refused_whatever_it_asks(
    chat: httpx2.AsyncClient, verb: str, path: str, given: dict[str, Any]
) -> None:
    for origin in FOREIGN:
        for host in ("localhost:7860", "doppel.example.org", str(chat.base_url.netloc.decode())):
            headers = {"origin": origin, "host": host, "cookie": "doppel-session=x"}
            assert await answered(chat, verb, path, headers, **given) == 403, (origin, host)
    for site in ("cross-site", "same-site", "unheard-of"):
        for mode in ("no-cors", "cors", "navigate"):
            headers = {"sec-fetch-site": site, "sec-fetch-mode": mode, "sec-fetch-dest": "iframe"}
            assert await answered(chat, verb, path, headers, **given) == 403, (site, mode)


async def test_its_own_pages_are_answered_also_behind_a_proxy(chat: httpx2.AsyncClient) -> None:
    body = {"data": [None], "fn_index": 0, "session_hash": "one"}
    for origin, host in (
        (str(chat.base_url).rstrip("/"), chat.base_url.netloc.decode()),
        ("http://localhost:7860", "localhost:7860"),
        ("http://[::1]:7860", "[::1]:7860"),
        ("https://doppel.example.org", "doppel.example.org"),
        ("https://DOPPEL.example.org:443", "127.0.0.1:7860"),
        ("https://chat.example.org", "chat.example.org:443"),
    ):
        headers = {"origin": origin, "host": host, "sec-fetch-site": "same-origin"}
        assert await answered(chat, "POST", JOIN, headers, json=body) == 200, (origin, host)


async def test_two_origins_at_once_are_not_its_own(chat: httpx2.AsyncClient) -> None:
    headers = [("origin", str(chat.base_url).rstrip("/")), ("origin", "https://evil.example")]
    assert (await chat.get("/config", headers=headers)).status_code == 403


async def test_a_link_from_another_site_leads_here_but_a_frame_does_not(chat: httpx2.AsyncClient) -> None:
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert await answered(chat, "GET", "/", link) == 200
    assert await answered(chat, "POST", "/", link) == 403
    assert await answered(chat, "GET", "/", link | {"sec-fetch-dest": "iframe"}) == 403


async def test_programs_that_are_no_browser_go_on_working(chat: httpx2.AsyncClient) -> None:
    body = {"data": [None], "fn_index": 0, "session_hash": "two"}
    assert await answered(chat, "POST", JOIN, {}, json=body) == 200
    client = await asyncio.to_thread(Client, str(chat.base_url), verbose=False)
    assert client.config["title"] == "Doppel"


async def test_a_foreign_name_for_this_machine_is_refused_where_it_is_read_here_only() -> None:
    async with served(Site(), here_only=True) as url, httpx2.AsyncClient(base_url=url) as chat:
        port = chat.base_url.port
        for name in ("evil.example", "127.0.0.1.evil.example", "localhost.", "0.0.0.0"):
            headers = {"host": f"{name}:{port}", "origin": f"http://{name}:{port}", "sec-fetch-site": "same-origin"}
            assert await answered(chat, "GET", "/config", headers) == 403, name
        assert await answered(chat, "GET", "/config", {"host": f"localhost:{port}"}) == 200


@contextmanager
def other_site(page: str) -> Iterator[str]:
    """Another server on this machine, with one page; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


PAGE = """<!doctype html><title>waiting</title><script>
const chat = "%s", tried = {}
const attempt = async (name, path, options) => {
  try { const got = await fetch(chat + path, options); tried[name] = got.type + got.status + await got.text() }
  catch (error) { tried[name] = "refused" }
}
const body = JSON.stringify({data: [null], fn_index: 0, session_hash: "other"})
Promise.all([
  attempt("config", "/config", {credentials: "include"}),
  attempt("asks", "/gradio_api/queue/join", {method: "POST", headers: {"content-type": "application/json"}, body}),
  attempt("asks simply", "/gradio_api/queue/join", {method: "POST", headers: {"content-type": "text/plain"}, body}),
  attempt("reads", "/gradio_api/queue/data?session_hash=other"),
  attempt("opaque", "/config", {mode: "no-cors"}),
]).then(() => { window.tried = tried; document.title = "done" })
</script>"""


async def test_a_page_of_another_port_reads_nothing_in_a_browser_and_the_chats_own_does() -> None:
    site = Site()
    async with served(site) as url, chromium() as browser:
        with other_site(PAGE % url) as elsewhere:
            page = await browser.new_page()
            await page.goto(elsewhere)
            await page.wait_for_function("document.title == 'done'", timeout=20_000)
            assert await page.evaluate("tried") == dict.fromkeys(
                ("config", "asks", "asks simply", "reads", "opaque"), "refused"
            )
        assert site.engine.asked == []
        reader = await Reader(await browser.new_page()).open(url + "/")
        await expect(await reader.ask("why?")).to_contain_text("About why?")
