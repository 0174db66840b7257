"""The Web API: one call in, one HTTP answer out. Faults, authentication, limits, scopes, then the method itself."""

from __future__ import annotations

import base64
import binascii
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from tests.fakes.slack import api_read, api_write, oauth, streams
from tests.fakes.slack.call import Call, SlackError
from tests.fakes.slack.channels import Json
from tests.fakes.slack.faults import Fault
from tests.fakes.slack.tokens import Token
from tests.fakes.slack.workspace import NotThereError

if TYPE_CHECKING:
    from tests.fakes.slack.server import FakeSlack

METHODS = api_read.METHODS | api_write.METHODS | streams.METHODS | oauth.METHODS
_WITHOUT_TOKEN = ("api.test", "oauth.v2.access", "openid.connect.token")
_ONLY_APP_TOKEN = ("apps.connections.open",)
_ALSO_APP_TOKEN = ("api.test", "auth.test", "auth.revoke")
_HTML = b"<!DOCTYPE html><html><head><title>Server Error</title></head><body><h1>Slack is down</h1></body></html>"


@dataclass(frozen=True)
class Logged:
    """A call as `FakeSlack.calls` keeps it; `error` is Slack's code, or the fault, "" where it went well."""

    method: str
    params: Json
    status: int
    error: str
    time: float
    token: str


@dataclass
class Answer:
    """An HTTP answer; `fault` says how its way back goes wrong."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    error: str = ""
    fault: Fault | None = None


def parse(query: str, content_type: str, body: bytes) -> Json:
    """The arguments of a call: a query, and a body that is a form or JSON. Raises SlackError."""
    params: Json = dict(parse_qsl(query, keep_blank_values=True))
    if content_type.startswith("application/json"):
        try:
            given = json.loads(body) if body.strip() else {}
        except ValueError:
            raise SlackError("invalid_json") from None
        if not isinstance(given, dict):
            raise SlackError("json_not_object")
        return params | given
    if content_type.startswith("multipart/"):
        raise SlackError("invalid_post_type")
    return params | dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))


def refuse(slack: FakeSlack, method: str, error: SlackError) -> Answer:
    """What Slack answers to a call that it can't read."""
    slack.log_call(Logged(method, {}, 200, error.code, time.time(), ""))
    return _json({"ok": False, "error": error.code}, {})


def answer(slack: FakeSlack, method: str, params: Json, authorization: str) -> Answer:
    """What Slack answers to a call; it is written to the call log."""
    value = _bearer(authorization) or str(params.get("token", ""))
    params = {key: item for key, item in params.items() if key != "token"}
    fault = slack.faults.take(method)
    made = _FAULTS[fault](slack) if fault in _FAULTS else _served(slack, method, params, value, _basic(authorization))
    made.fault, made.error = fault, made.error or (fault or "")
    slack.log_call(Logged(method, params, made.status, made.error, time.time(), value))
    return made


def _served(slack: FakeSlack, method: str, params: Json, value: str, basic: tuple[str, str] | None) -> Answer:
    headers = {"x-slack-req-id": secrets.token_hex(16)}
    try:
        is_missing = method in slack.faults.missing_methods
        if is_missing and slack.faults.missing_status != 200:
            return _broken(slack.faults.missing_status)
        if method not in METHODS or is_missing:
            raise SlackError("unknown_method", req_method=method)
        token = _authenticate(slack, method, value)
        call = Call(slack, method, params, token, basic)
        if token:
            headers["x-oauth-scopes"] = ",".join(sorted(token.scopes))
        return _limited(call, value) or _handled(call, headers)
    except SlackError as error:
        return _json({"ok": False, "error": error.code, **error.more}, headers)
    except NotThereError as error:
        return _json({"ok": False, "error": str(error)}, headers)


def _handled(call: Call, headers: dict[str, str]) -> Answer:
    handler, scopes = METHODS[call.method]
    headers["x-accepted-oauth-scopes"] = ",".join(scopes)
    call.demand(*scopes)
    spoilt = call.slack.faults.spoilt
    if call.credentials is None:
        return _json(spoilt(call.method, {"ok": True, **handler(call)}), headers)
    with call.workspace.lock:
        return _json(spoilt(call.method, {"ok": True, **handler(call)}), headers)


def _limited(call: Call, value: str) -> Answer | None:
    spread = f"/{call.text('channel')}" if call.method == "chat.postMessage" else ""
    wait = call.slack.limits.wait(call.method, value + spread)
    return _rate_limited(call.slack, wait) if wait else None


def _authenticate(slack: FakeSlack, method: str, value: str) -> Token | None:
    if not value:
        if method in _WITHOUT_TOKEN:
            return None
        raise SlackError("not_authed")
    token = slack.tokens.get(value)
    if token is None:
        raise SlackError("invalid_auth")
    if token.error:
        raise SlackError(token.error)
    if method not in _ALSO_APP_TOKEN and (token.kind == "app") != (method in _ONLY_APP_TOKEN):
        raise SlackError("not_allowed_token_type")
    return token


def _bearer(authorization: str) -> str:
    scheme, _, value = authorization.partition(" ")
    return value.strip() if scheme.lower() == "bearer" else ""


def _basic(authorization: str) -> tuple[str, str] | None:
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, _, secret = base64.b64decode(value).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return name, secret


def _json(data: Mapping[str, object], headers: dict[str, str], status: int = 200) -> Answer:
    headers = {**headers, "content-type": "application/json; charset=utf-8"}
    return Answer(json.dumps(data).encode(), status, headers, str(data.get("error", "")))


def _rate_limited(slack: FakeSlack, seconds: float) -> Answer:
    headers = {"retry-after": slack.limits.retry_after(seconds)}
    return _json({"ok": False, "error": "ratelimited"}, headers, 429)


def _broken(status: int) -> Answer:
    return Answer(_HTML, status, {"content-type": "text/html; charset=utf-8"})


_FAULTS = {
    Fault.RATE_LIMITED: lambda slack: _rate_limited(slack, slack.faults.retry_after),
    Fault.SERVER_ERROR: lambda slack: _broken(500),
    Fault.UNAVAILABLE: lambda slack: _broken(503),
    Fault.DROPPED: lambda slack: Answer(b"", 0),
    Fault.HTML: lambda slack: _broken(200),
    Fault.INTERNAL_ERROR: lambda slack: _json({"ok": False, "error": "internal_error"}, {}),
    Fault.FATAL_ERROR: lambda slack: _json({"ok": False, "error": "fatal_error"}, {}),
}
"""The faults in which the call does nothing; the others spoil the way back."""
