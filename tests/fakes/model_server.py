"""A server that speaks as much of vLLM as taking an adapter out of its memory needs, and notes what it took out."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Self

from doppel.inference.client import Endpoint


class FakeModelServer:
    """Runs while it is open, on a port or a Unix socket; `unloaded` are the names of the adapters that it was told to
    forget, and `asked` counts all requests."""

    def __init__(self, socket: Path | None = None) -> None:
        self.unloaded: list[str] = []
        self.asked = 0
        self._server: ThreadingHTTPServer | _UnixServer
        if socket:
            self._server = _UnixServer(str(socket), self._handler())
            self.endpoint = Endpoint("http://localhost/v1", "key", "model", str(socket))
        else:
            self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
            self.endpoint = Endpoint(f"http://127.0.0.1:{self._server.server_port}/v1", "key", "model")

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(200 if self.path == "/v1/models" else 404)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                if self.path == "/v1/unload_lora_adapter":
                    fake.unloaded.append(body["lora_name"])
                self._answer(200)

            def _answer(self, status: int) -> None:
                fake.asked += 1
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        return Handler


class _UnixServer(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True
