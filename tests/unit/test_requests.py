"""What comes to the address of Slack's requests, from Slack and from anybody: no answer of it is an error of ours."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import time
from collections.abc import AsyncIterator
from typing import Any, cast
from urllib.parse import urlencode

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI

from doppel.bot.bolt_app import EVENTS_PATH, Handlers, build_bot, mount_events
from doppel.records import Raw

SECRET = "signing-secret"
JSON, FORM = {"content-type": "application/json"}, {"content-type": "application/x-www-form-urlencoded"}
GARBAGE = [
    b"\xff\xfe\0",
    b"[]",
    b"5",
    b"null",
    b'"x"',
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b"{",
    b"payload=%7B",
    b"payload=5",
    b"payload=[]",
    b"payload=",
    b'{"authorizations": 5, "team_id": "T1"}',
    b'{"authorizations": [5]}',
    b'{"team": 5}',
    b'payload={"team": 5, "type": "block_actions"}',
    b'{"user": 5, "enterprise": []}',
]


class Workspaces:
    """One workspace at work, which notes what comes."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.gaps = 0

    def knows(self, team: str) -> bool:
        return team == "T1"

    def of(self, team: str) -> Handlers | None:
        return cast(Handlers, self) if team == "T1" else None

    async def removed(self, team: str, at: int) -> None:
        raise AssertionError("nobody removed the app")

    async def take(self, event_id: str, event: Raw) -> None:
        self.taken.append(event_id)

    def missed(self, until: int = 0) -> None:
        self.gaps += 1


@pytest.fixture
def workspaces() -> Workspaces:
    return Workspaces()


@pytest_asyncio.fixture
async def client(workspaces: Workspaces) -> AsyncIterator[httpx.AsyncClient]:
    page = FastAPI()
    mount_events(page, build_bot("https://slack.example/api/", SECRET, workspaces))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(page), base_url="http://doppel") as opened:
        yield opened


def signed(body: bytes, **more: str) -> dict[str, str]:
    """The headers with which Slack sends a body."""
    stamp = str(int(time.time()))
    digest = hmac.new(SECRET.encode(), b"v0:" + stamp.encode() + b":" + body, hashlib.sha256).hexdigest()
    return {"x-slack-request-timestamp": stamp, "x-slack-signature": f"v0={digest}", **JSON, **more}


@pytest.mark.parametrize("body", GARBAGE)
@pytest.mark.parametrize("headers", [JSON, FORM, {}])
async def test_garbage_is_a_bad_request_whoever_sends_it(
    client: httpx.AsyncClient,
    workspaces: Workspaces,
    body: bytes,
    headers: dict[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        for given in (headers, signed(body) | headers):
            answer = await client.post(EVENTS_PATH, content=body, headers=given)
            # What isn't said to be JSON may be a form without fields: refused unless signed, and then it means nothing.
            assert answer.status_code in ((400,) if headers == JSON else (400, 401) if given is headers else (400, 200))
            assert "Traceback" not in answer.text + caplog.text
    assert workspaces.taken == []


@pytest.mark.parametrize(
    "headers",
    [
        {"x-slack-request-timestamp": "yesterday", "x-slack-signature": "v0=1"},
        {"x-slack-request-timestamp": "9" * 400, "x-slack-signature": "v0=1"},
        {"x-slack-request-timestamp": "1.5", "x-slack-signature": "v0"},
        {"x-slack-request-timestamp": "", "x-slack-signature": ""},
        {"x-slack-request-timestamp": "١٢٣", "x-slack-signature": "v0=1"},
        {"x-slack-request-timestamp": "now", "x-slack-signature": "v0=é"},
    ],
)
async def test_headers_that_slack_never_writes_are_a_bad_request(
    client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    raw = {name: value.encode() for name, value in headers.items()}
    answer = await client.post(EVENTS_PATH, content=b"{}", headers=cast(dict[str, str], raw | {"content-type": b"x"}))
    assert answer.status_code == 400


@pytest.mark.parametrize("headers", [{}, {"x-slack-signature": "v0=1"}, {"x-slack-request-timestamp": "1700000000"}])
async def test_a_whole_request_that_nobody_signed_is_refused(
    client: httpx.AsyncClient, workspaces: Workspaces, headers: dict[str, str]
) -> None:
    body = b'{"type": "event_callback", "team_id": "T1", "event_id": "E1", "event": {"type": "message"}}'
    assert (await client.post(EVENTS_PATH, content=body, headers=JSON | headers)).status_code == 401
    assert workspaces.taken == []


def event(**more: Any) -> bytes:
    whole = {"type": "event_callback", "team_id": "T1", "event_id": "E1", "event": {"type": "message"}}
    return json.dumps(whole | more).encode()


@pytest.mark.parametrize(
    ("why", "gaps"),
    [("", 0), ("http_timeout", 0), ("http_error", 1), ("connection_failed", 1), ("ssl_error", 1)],
)
async def test_an_event_that_did_not_come_through_at_first_is_a_gap(
    client: httpx.AsyncClient, workspaces: Workspaces, why: str, gaps: int
) -> None:
    again = {"x-slack-retry-num": "1", "x-slack-retry-reason": why} if why else {}
    assert (await client.post(EVENTS_PATH, content=event(), headers=signed(event(), **again))).status_code == 200
    assert (workspaces.taken, workspaces.gaps) == (["E1"], gaps)


async def test_events_that_slack_withheld_are_a_gap(client: httpx.AsyncClient, workspaces: Workspaces) -> None:
    body = b'{"type": "app_rate_limited", "team_id": "T1", "minute_rate_limited": 1700000000, "api_app_id": "A1"}'
    assert (await client.post(EVENTS_PATH, content=body, headers=signed(body))).status_code == 200
    assert (workspaces.taken, workspaces.gaps) == ([], 1)
    other = body.replace(b"T1", b"T2")
    assert (await client.post(EVENTS_PATH, content=other, headers=signed(other))).status_code in (200, 401)
    assert workspaces.gaps == 1


@pytest.mark.parametrize("more", [{"team_id": 5}, {"event": 5}, {"event": {"type": []}}, {"event": None}])
async def test_a_signed_event_of_odd_fields_does_no_harm(
    client: httpx.AsyncClient, workspaces: Workspaces, more: dict[str, Any]
) -> None:
    answer = await client.post(EVENTS_PATH, content=event(**more), headers=signed(event(**more)))
    assert answer.status_code < 500


@pytest.mark.parametrize(
    "odd",
    [
        {"type": "block_actions"},
        {"type": "block_actions", "actions": []},
        {"type": "block_actions", "actions": [5]},
        {"type": "block_actions", "actions": {"action_id": "x"}},
        {"type": "block_actions", "actions": [{"value": "x"}]},
        {"type": "block_actions", "actions": [{"action_id": "x"}], "team": "T1"},
        {"type": "view_submission"},
        {"type": "view_submission", "view": ["modal"]},
        {"type": "view_submission", "view": {"callback_id": "x"}},
        {"type": "block_actions", "actions": [{"action_id": "x"}], "view": 5},
        {"type": "block_actions", "actions": [{"action_id": "x"}], "view": []},
        {"type": "block_actions", "actions": [{"action_id": "x"}], "response_url": ""},
        {"type": "message_action", "callback_id": "x", "response_url": "", "team": {"id": "T2"}},
        {"type": "block_suggestion", "action_id": 5},
        {"type": "block_suggestion", "action_id": "x"},
        {"type": "interactive_message"},
        {"type": "interactive_message", "actions": []},
        {"type": "workflow_step_edit"},
        {"type": ["block_actions"]},
    ],
)
async def test_what_nobody_can_have_pressed_is_a_bad_request(client: httpx.AsyncClient, odd: dict[str, Any]) -> None:
    payload = {"team": {"id": "T1"}, "user": {"id": "U1", "team_id": "T1"}} | odd
    body = urlencode({"payload": json.dumps(payload)}).encode()
    assert (await client.post(EVENTS_PATH, content=body, headers=signed(body) | FORM)).status_code == 400
