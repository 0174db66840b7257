"""The fake Slack as the caller: events over HTTP and Socket Mode, commands, actions, forms, and OAuth."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlparse

import httpx2
import pytest
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slack_sdk.oauth import AuthorizeUrlGenerator, OpenIDConnectAuthorizeUrlGenerator
from slack_sdk.signature import SignatureVerifier
from slack_sdk.socket_mode import SocketModeClient
from slack_sdk.socket_mode.aiohttp import SocketModeClient as AsyncSocketModeClient
from slack_sdk.socket_mode.async_client import AsyncBaseSocketModeClient
from slack_sdk.socket_mode.client import BaseSocketModeClient
from slack_sdk.socket_mode.request import SocketModeRequest
from slack_sdk.socket_mode.response import SocketModeResponse
from slack_sdk.web.async_client import AsyncWebClient

from tests.fakes.slack import FakeSlack, HttpApp, Limits
from tests.integration.test_fake_slack import Team, client_of, error_of

Json = dict[str, Any]
FAST = 1000.0
"""A time scale at which Slack's five minutes are a third of a second."""


class Receiver:
    """An app's request URL: keeps what comes and answers with `answer(body)`, a status and a body."""

    def __init__(self, secret: str) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answer: Callable[[bytes], tuple[int, bytes]] = lambda body: (200, b"")
        self.answer_headers: dict[str, str] = {}
        self._verifier = SignatureVerifier(secret)
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append((dict(self.headers), body))
                status, text = receiver.answer(body)
                try:
                    self.send_response(status)
                    for name, value in receiver.answer_headers.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(text)
                except ConnectionError:
                    return

            def log_message(self, *args: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/slack/events"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def events(self) -> list[Json]:
        """The bodies, after checking that each is signed."""
        assert all(self._verifier.is_valid_request(body, headers) for headers, body in self.got)
        return [json.loads(body) for _, body in self.got]

    def retries(self) -> list[tuple[str | None, str | None]]:
        headers = [{name.lower(): value for name, value in given.items()} for given, _ in self.got]
        return [(given.get("x-slack-retry-num"), given.get("x-slack-retry-reason")) for given in headers]


@pytest.fixture
def team() -> Team:
    return Team()


@pytest.fixture
def slack(team: Team) -> Iterator[FakeSlack]:
    with FakeSlack(team.workspace, limits=Limits.none(time_scale=FAST)) as server:
        yield server


@pytest.fixture
def app(slack: FakeSlack) -> Iterator[Receiver]:
    receiver = Receiver(slack.app.signing_secret)
    yield receiver
    receiver.close()


def http_app(slack: FakeSlack, app: Receiver, **more: Any) -> HttpApp:
    return HttpApp(slack, app.url, **{"ack_seconds": 2, **more})


def test_a_request_url_is_verified(slack: FakeSlack, app: Receiver) -> None:
    with http_app(slack, app) as http:
        assert not http.verify()
        app.answer = lambda body: (200, json.loads(body)["challenge"].encode())
        assert http.verify()


def test_events_come_signed_in_order_and_in_their_envelope(team: Team, slack: FakeSlack, app: Receiver) -> None:
    with http_app(slack, app) as http:
        for number in range(5):
            team.workspace.post(team.general, team.ada, str(number))
        http.settle()
    assert [given["event"]["text"] for given in app.events] == list("01234")
    envelope = app.events[0]
    assert (envelope["type"], envelope["team_id"]) == ("event_callback", team.workspace.team)
    assert envelope["api_app_id"] == slack.app.app_id
    assert envelope["authorizations"][0]["user_id"] == team.workspace.bot_user
    assert len({given["event_id"] for given in app.events}) == 5
    assert app.retries() == [(None, None)] * 5
    wrong = SignatureVerifier("another secret")
    assert not any(wrong.is_valid_request(body, headers) for headers, body in app.got)


def test_an_event_is_sent_three_times_again(team: Team, slack: FakeSlack, app: Receiver) -> None:
    app.answer = lambda body: (500, b"")
    with http_app(slack, app) as http:
        team.workspace.post(team.general, team.ada, "hello")
        http.settle()
    assert app.retries() == [(None, None), ("1", "http_error"), ("2", "http_error"), ("3", "http_error")]
    assert len({given["event_id"] for given in app.events}) == 1
    assert [attempt.failed for attempt in http.attempts] == ["http_error"] * 4


def test_an_app_may_ask_not_to_be_asked_again(team: Team, slack: FakeSlack, app: Receiver) -> None:
    app.answer, app.answer_headers = lambda body: (500, b""), {"X-Slack-No-Retry": "1"}
    with http_app(slack, app) as http:
        team.workspace.post(team.general, team.ada, "hello")
        http.settle()
    assert app.retries() == [(None, None)]


def test_an_app_must_answer_in_time(team: Team, slack: FakeSlack, app: Receiver) -> None:
    slow = iter([0.4])

    def answer(body: bytes) -> tuple[int, bytes]:
        time.sleep(next(slow, 0))
        return 200, b""

    app.answer = answer
    with http_app(slack, app, ack_seconds=0.2) as http:
        team.workspace.post(team.general, team.ada, "hello")
        http.settle()
    assert app.retries() == [(None, None), ("1", "http_timeout")]
    assert [attempt.failed for attempt in http.attempts] == ["http_timeout", ""]


def test_an_app_that_is_down_is_tried_again(team: Team, slack: FakeSlack) -> None:
    with HttpApp(slack, "http://127.0.0.1:9/") as http:
        team.workspace.post(team.general, team.ada, "hello")
        http.settle()
    # On a busy machine a refused connection may take longer than an app is given.
    assert [attempt.failed in ("connection_failed", "http_timeout") for attempt in http.attempts] == [True] * 4


def test_events_may_come_twice_and_out_of_order(team: Team, slack: FakeSlack, app: Receiver) -> None:
    with http_app(slack, app, duplicates=0.5, disorder=True, seed=1) as http:
        for number in range(30):
            team.workspace.post(team.general, team.ada, f"{number:02d}")
        http.settle()
    texts = [given["event"]["text"] for given in app.events]
    assert sorted(set(texts)) == [f"{number:02d}" for number in range(30)]
    assert 35 < len(texts) < 60
    assert texts != sorted(texts)
    assert len({given["event_id"] for given in app.events}) == 30


def test_commands_actions_and_forms(team: Team, slack: FakeSlack, app: Receiver) -> None:
    app.answer = lambda body: (200, b'{"text": "one moment"}')
    ts = team.workspace.post(team.general, team.ada, "press me")
    modal = {"type": "modal", "title": {"type": "plain_text", "text": "x"}, "blocks": [], "callback_id": "form"}
    at = {"user": team.ada, "channel": team.general}
    with http_app(slack, app) as http:
        asked = slack.payloads.slash_command("/ask", "why?", **at)
        assert http.command(asked).json() == {"text": "one moment"}
        assert http.act(slack.payloads.block_action("yes", "1", ts=ts, **at)).status_code == 200
        http.act(slack.payloads.message_shortcut("explain", ts=ts, **at))
        http.act(slack.payloads.global_shortcut("ask", user=team.ada))
        trigger = slack.new_trigger() if slack.time_scale == 1 else _trigger(slack)
        view = client_of(slack).views_open(trigger_id=trigger, view=modal)["view"]
        http.act(slack.payloads.view_submission(view["id"], {"b": {"a": {"value": "x"}}}, user=team.ada))
    forms = [parse_qs(body.decode()) for _, body in app.got]
    verifier = SignatureVerifier(slack.app.signing_secret)
    assert all(verifier.is_valid_request(body, headers) for headers, body in app.got)
    assert (forms[0]["command"], forms[0]["text"], forms[0]["user_id"]) == (["/ask"], ["why?"], [team.ada])
    sent = [json.loads(form["payload"][0]) for form in forms[1:]]
    assert [one["type"] for one in sent] == ["block_actions", "message_action", "shortcut", "view_submission"]
    assert (sent[0]["actions"][0]["value"], sent[0]["message"]["text"]) == ("1", "press me")
    assert sent[3]["view"]["state"]["values"] == {"b": {"a": {"value": "x"}}}
    assert sent[3]["view"]["callback_id"] == "form"


def _trigger(slack: FakeSlack) -> str:
    """One that doesn't expire while a slow machine runs the test."""
    slack.triggers["1.x"] = time.monotonic() + 60
    return "1.x"


def test_a_response_url_takes_five_answers(team: Team, slack: FakeSlack) -> None:
    url = slack.payloads.slash_command("/ask", "", user=team.ada, channel=team.general)["response_url"]
    assert url.startswith(slack.url)

    def say(**given: Any) -> httpx2.Response:
        return httpx2.post(url, json=given, trust_env=False)

    assert say(text="for you").text == "ok"
    assert say(text="for all", response_type="in_channel").text == "ok"
    assert [say(text="again", replace_original=True).status_code for _ in range(3)] == [200] * 3
    sixth = say(text="too much")
    assert (sixth.status_code, sixth.json()["error"]) == (404, "used_url")
    assert [given["text"] for given in slack.responses.said] == ["for you", "for all", *["again"] * 3]
    assert [given["text"] for given in slack.ephemerals] == ["for you"]
    assert [raw["text"] for raw in team.workspace.channels[team.general].log] == ["for all"]


def test_a_response_url_and_a_trigger_expire(team: Team) -> None:
    with FakeSlack(team.workspace, limits=Limits.none(time_scale=1_000_000)) as slack:
        payload = slack.payloads.slash_command("/ask", "", user=team.ada, channel=team.general)
        time.sleep(0.01)
        late = httpx2.post(payload["response_url"], json={"text": "late"}, trust_env=False)
        assert late.json()["error"] == "expired_url"
        modal = {"type": "modal", "blocks": []}
        opened = lambda: client_of(slack).views_open(trigger_id=payload["trigger_id"], view=modal)  # noqa: E731
        assert error_of(opened) == "expired_trigger_id"


class App:
    """A Socket Mode app on Slack's own client, acknowledging all but the first `deaf` requests."""

    def __init__(self, slack: FakeSlack, deaf: int = 0) -> None:
        self.got: list[SocketModeRequest] = []
        self.slack, self.deaf = slack, deaf
        web = WebClient(slack.bot_token, base_url=slack.api_url)
        self.client = SocketModeClient(slack.app_token, web_client=web, concurrency=2, ping_interval=1)
        self.client.socket_mode_request_listeners.append(self._handle)

    def __enter__(self) -> App:
        self.client.connect()
        return self

    def __exit__(self, *failure: object) -> None:
        self.client.auto_reconnect_enabled = False
        self.slack.sockets.drop()  # else the client listens for three more seconds
        self.client.close()

    def _handle(self, client: BaseSocketModeClient, request: SocketModeRequest) -> None:
        self.got.append(request)
        if len(self.got) > self.deaf:
            payload = {"text": "one moment"} if request.accepts_response_payload else None
            client.send_socket_mode_response(SocketModeResponse(request.envelope_id, payload))

    def texts(self, number: int) -> list[str]:
        """The texts of the events, once so many requests are there."""
        deadline = time.monotonic() + 5
        while len(self.got) < number and time.monotonic() < deadline:
            time.sleep(0.01)
        return [request.payload["event"]["text"] for request in self.got if request.type == "events_api"]


def test_socket_mode_there_and_back(team: Team, slack: FakeSlack) -> None:
    slack.sockets.ack_seconds = 2
    with App(slack) as app:
        slack.sockets.wait_for_connections()
        team.workspace.post(team.general, team.ada, "hello")
        assert app.texts(1) == ["hello"]
        assert app.got[0].type == "events_api"
        command = slack.payloads.slash_command("/ask", "why?", user=team.ada, channel=team.general)
        envelope = slack.sockets.send("slash_commands", command)
        assert slack.sockets.wait_for_ack(envelope) == {"text": "one moment"}
        slack.sockets.disconnect()
        slack.sockets.wait_for_connections(1)
        team.workspace.post(team.general, team.ada, "after the reconnect")
        assert app.texts(3) == ["hello", "after the reconnect"]
        assert slack.count("apps.connections.open") == 2


def test_an_unacknowledged_event_comes_again(team: Team, slack: FakeSlack) -> None:
    slack.sockets.ack_seconds = 0.3
    with App(slack, deaf=2) as app:
        slack.sockets.wait_for_connections()
        team.workspace.post(team.general, team.ada, "hello")
        assert app.texts(3) == ["hello"] * 3
        slack.sockets.wait_for_ack(app.got[0].envelope_id)
    assert [request.retry_attempt for request in app.got] == [0, 1, 2]
    assert {request.envelope_id for request in app.got} == {app.got[0].envelope_id}


def test_events_wait_for_a_dropped_connection(team: Team, slack: FakeSlack) -> None:
    slack.sockets.ack_seconds = 2
    with App(slack) as app:
        slack.sockets.wait_for_connections()
        slack.sockets.drop()
        slack.sockets.wait_for_connections(0)
        team.workspace.post(team.general, team.ada, "meanwhile")
        slack.sockets.wait_for_connections(1, timeout=10)
        assert app.texts(1) == ["meanwhile"]


async def test_socket_mode_with_an_asynchronous_client(team: Team, slack: FakeSlack) -> None:
    slack.sockets.ack_seconds = 2
    got: asyncio.Queue[SocketModeRequest] = asyncio.Queue()

    async def handle(client: AsyncBaseSocketModeClient, request: SocketModeRequest) -> None:
        await client.send_socket_mode_response(SocketModeResponse(request.envelope_id))
        await got.put(request)

    web = AsyncWebClient(slack.bot_token, base_url=slack.api_url)
    client = AsyncSocketModeClient(slack.app_token, web_client=web)
    client.socket_mode_request_listeners.append(handle)
    await client.connect()  # type: ignore[no-untyped-call]
    team.workspace.post(team.general, team.ada, "hello")
    request = await asyncio.wait_for(got.get(), 5)
    assert request.payload["event"]["text"] == "hello"
    await asyncio.to_thread(slack.sockets.wait_for_ack, request.envelope_id)
    await client.close()  # type: ignore[no-untyped-call]


def test_socket_mode_needs_the_apps_token(slack: FakeSlack) -> None:
    call = client_of(slack).apps_connections_open
    assert error_of(lambda: call(app_token=slack.bot_token)) == "not_allowed_token_type"


def authorize(slack: FakeSlack, url: str) -> dict[str, str]:
    """What comes back to the app when someone follows the link."""
    answer = httpx2.get(url, trust_env=False)
    assert answer.status_code == 302, answer.text
    back = answer.headers["location"]
    assert back.startswith("http://app.local/back?")
    return {name: values[0] for name, values in parse_qs(urlparse(back).query).items()}


def link(slack: FakeSlack, **more: Any) -> str:
    generator = AuthorizeUrlGenerator(
        client_id=slack.app.client_id,
        redirect_uri="http://app.local/back",
        scopes=["chat:write", "channels:history"],
        authorization_url=f"{slack.url}/oauth/v2/authorize",
        **more,
    )
    return generator.generate("the state")


def exchange(slack: FakeSlack, **given: Any) -> Any:
    known: Json = {"client_id": slack.app.client_id, "client_secret": slack.app.client_secret}
    return WebClient(base_url=slack.api_url).oauth_v2_access(**{**known, **given})


def test_the_app_is_installed(team: Team, slack: FakeSlack) -> None:
    back = authorize(slack, link(slack, user_scopes=["search:read"]))
    assert back["state"] == "the state"
    for wrong, error in [
        ({"client_secret": "guessed"}, "bad_client_secret"),
        ({"client_id": "0.0"}, "invalid_client_id"),
        ({"code": "guessed"}, "invalid_code"),
    ]:
        assert error_of(lambda wrong=wrong: exchange(slack, **{"code": back["code"], **wrong})) == error
    installed = exchange(slack, code=back["code"], redirect_uri="http://app.local/back")
    assert (installed["token_type"], installed["scope"]) == ("bot", "channels:history,chat:write")
    assert installed["team"] == {"id": team.workspace.team, "name": "Acme"}
    assert installed["authed_user"]["id"] == team.ada
    assert "refresh_token" not in installed.data
    bot, person = installed["access_token"], installed["authed_user"]["access_token"]
    assert client_of(slack, bot).auth_test()["user_id"] == team.workspace.bot_user
    assert client_of(slack, person).auth_test()["user_id"] == team.ada
    assert error_of(lambda: exchange(slack, code=back["code"])) == "invalid_code"
    client_of(slack, bot).auth_revoke()
    assert error_of(client_of(slack, bot).auth_test) == "token_revoked"
    assert team.workspace.events[-1]["type"] == "tokens_revoked"


def test_who_declines_comes_back_without_a_code(slack: FakeSlack) -> None:
    slack.oauth.deny = True
    assert authorize(slack, link(slack)) == {"error": "access_denied", "state": "the state"}
    slack.app.redirect_uris = ("https://elsewhere.local/",)
    assert httpx2.get(link(slack), trust_env=False).text == "bad_redirect_uri"


def test_tokens_are_rotated(slack: FakeSlack) -> None:
    slack.behaviour.token_rotation = True
    installed = exchange(slack, code=authorize(slack, link(slack))["code"])
    assert installed["access_token"].startswith("xoxe.xoxb-")
    assert installed["expires_in"] == 43
    fresh = exchange(slack, grant_type="refresh_token", refresh_token=installed["refresh_token"])
    assert fresh["access_token"] != installed["access_token"]
    assert client_of(slack, fresh["access_token"]).auth_test()["ok"]
    used = lambda: exchange(slack, grant_type="refresh_token", refresh_token=installed["refresh_token"])  # noqa: E731
    assert error_of(used) == "invalid_refresh_token"
    slack.tokens[installed["access_token"]].expires_at = time.time() - 1
    assert error_of(client_of(slack, installed["access_token"]).auth_test) == "token_expired"


def test_signing_in_with_slack(team: Team, slack: FakeSlack) -> None:
    slack.oauth.user = team.grace
    generator = OpenIDConnectAuthorizeUrlGenerator(
        client_id=slack.app.client_id,
        redirect_uri="http://app.local/back",
        scopes=["openid", "email", "profile"],
        authorization_url=f"{slack.url}/openid/connect/authorize",
    )
    code = authorize(slack, generator.generate("state", nonce="once"))["code"]
    known = (slack.app.client_id, slack.app.client_secret)
    token = WebClient(base_url=slack.api_url).openid_connect_token(*known, code=code)
    claims = verified(slack, str(token["id_token"]))
    assert (claims["sub"], claims["nonce"], claims["aud"]) == (team.grace, "once", slack.app.client_id)
    who = client_of(slack, str(token["access_token"])).openid_connect_userInfo()
    assert (who["sub"], who["name"], who["email"]) == (team.grace, "Grace Hopper", "grace@example.com")
    assert who["https://slack.com/team_id"] == team.workspace.team
    with pytest.raises(SlackApiError, match="missing_scope"):
        client_of(slack).openid_connect_userInfo()


def verified(slack: FakeSlack, token: str) -> Json:
    """The claims of an id token whose signature the published key verifies."""
    (key,) = httpx2.get(f"{slack.url}/openid/connect/keys", trust_env=False).json()["keys"]
    text, _, signature = token.rpartition(".")
    modulus, exponent, sealed = (int.from_bytes(_decode(part)) for part in (key["n"], key["e"], signature))
    assert pow(sealed, exponent, modulus).to_bytes(256).endswith(hashlib.sha256(text.encode()).digest())
    claims: Json = json.loads(_decode(text.partition(".")[2]))
    return claims


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def test_an_uninstalled_app_hears_of_it(team: Team, slack: FakeSlack, app: Receiver) -> None:
    with http_app(slack, app) as http:
        slack.uninstall()
        http.settle()
    assert [given["event"]["type"] for given in app.events] == ["tokens_revoked", "app_uninstalled"]
    assert error_of(client_of(slack).auth_test) == "account_inactive"
