"""What Slack sends to an app: events in their envelope, slash commands, and what people do with buttons and forms."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from typing import TYPE_CHECKING, Any

from tests.fakes.slack.channels import Json
from tests.fakes.slack.workspace import Workspace

if TYPE_CHECKING:
    from tests.fakes.slack.server import FakeSlack


def signed(secret: str, body: bytes, timestamp: float | None = None) -> dict[str, str]:
    """The headers that prove that a request is Slack's
    (https://docs.slack.dev/authentication/verifying-requests-from-slack)."""
    when = str(int(time.time() if timestamp is None else timestamp))
    digest = hmac.new(secret.encode(), f"v0:{when}:".encode() + body, hashlib.sha256).hexdigest()
    return {"X-Slack-Request-Timestamp": when, "X-Slack-Signature": f"v0={digest}"}


def event_callback(slack: FakeSlack, workspace: Workspace, event: Json) -> Json:
    """An event in the envelope of the Events API (https://docs.slack.dev/apis/events-api)."""
    team = workspace.team
    who = {"enterprise_id": None, "team_id": team, "user_id": workspace.bot_user}
    return {
        "type": "event_callback",
        "token": slack.app.verification_token,
        "team_id": team,
        "context_team_id": team,
        "context_enterprise_id": None,
        "api_app_id": slack.app.app_id,
        "event": event,
        "event_id": f"Ev{secrets.token_hex(5).upper()}",
        "event_time": int(time.time()),
        "authorizations": [{**who, "is_bot": True, "is_enterprise_install": False}],
        "is_ext_shared_channel": False,
        "event_context": f"4-{secrets.token_hex(12)}",
    }


class Payloads:
    """Builds what people's doings send to the app; the ids are those of a workspace."""

    def __init__(self, slack: FakeSlack, workspace: Workspace | None = None) -> None:
        self._slack, self._workspace = slack, workspace or slack.workspace

    def slash_command(self, command: str, text: str, *, user: str, channel: str) -> Json:
        """Someone types a command."""
        place = self._workspace.find(channel)
        return {
            **self._app(),
            "team_id": self._workspace.team,
            "team_domain": self._domain(),
            "channel_id": place.id,
            "channel_name": place.name or "directmessage",
            "user_id": user,
            "user_name": self._workspace.users[user]["name"],
            "command": command,
            "text": text,
            "is_enterprise_install": "false",
            "response_url": self._slack.responses.new(self._workspace, place.id, user),
            "trigger_id": self._slack.new_trigger(),
        }

    def block_action(
        self, action_id: str, value: str = "", *, user: str, channel: str, ts: str, kind: str = "button", **action: Any
    ) -> Json:
        """Someone presses a button of a message, or uses another element; `action` adds to what it says."""
        container = {"type": "message", "message_ts": ts, "channel_id": channel, "is_ephemeral": False}
        pressed = {"type": kind, "action_id": action_id, "block_id": "b1", "value": value, "action_ts": self._now()}
        return {
            **self._from("block_actions", user, channel, ts),
            "container": container,
            "state": {"values": {}},
            "actions": [{**pressed, **action}],
        }

    def ephemeral_action(self, action_id: str, value: str, *, user: str, channel: str, ts: str) -> Json:
        """Someone presses a button of what they alone see; Slack does not send what that is."""
        container = {"type": "message", "message_ts": ts, "channel_id": channel, "is_ephemeral": True}
        pressed = {"type": "button", "action_id": action_id, "block_id": "b1", "value": value, "action_ts": self._now()}
        place = {"channel": self._channel(channel), "response_url": self._response_url(channel, user)}
        return {
            **self._who("block_actions", user),
            **place,
            "container": container,
            "state": {"values": {}},
            "actions": [pressed],
        }

    def message_shortcut(self, callback_id: str, *, user: str, channel: str, ts: str) -> Json:
        """Someone takes an entry of a message's menu."""
        named = {"callback_id": callback_id, "message_ts": ts, "action_ts": self._now()}
        return {**self._from("message_action", user, channel, ts), **named}

    def global_shortcut(self, callback_id: str, *, user: str) -> Json:
        """Someone takes an entry of the shortcuts menu."""
        return {**self._who("shortcut", user), "callback_id": callback_id, "action_ts": self._now()}

    def view_submission(self, view_id: str, values: Json, *, user: str) -> Json:
        """Someone sends a form that `views.open` showed; `values` is block_id -> action_id -> what was entered."""
        view = {**self._slack.views[view_id], "state": {"values": values}}
        return {**self._who("view_submission", user), "view": view, "response_urls": []}

    def view_closed(self, view_id: str, *, user: str) -> Json:
        """Someone closes a form."""
        return {**self._who("view_closed", user), "view": self._slack.views[view_id], "is_cleared": False}

    def _from(self, kind: str, user: str, channel: str, ts: str) -> Json:
        return {
            **self._who(kind, user),
            "channel": self._channel(channel),
            "message": self._workspace.message(self._workspace.find(channel).id, ts),
            "response_url": self._response_url(channel, user),
        }

    def _channel(self, channel: str) -> Json:
        place = self._workspace.find(channel)
        return {"id": place.id, "name": place.name or "directmessage"}

    def _response_url(self, channel: str, user: str) -> str:
        return self._slack.responses.new(self._workspace, self._workspace.find(channel).id, user)

    def _who(self, kind: str, user: str) -> Json:
        name, team = self._workspace.users[user]["name"], self._workspace.team
        return {
            **self._app(),
            "type": kind,
            "user": {"id": user, "username": name, "name": name, "team_id": team},
            "team": {"id": team, "domain": self._domain()},
            "enterprise": None,
            "is_enterprise_install": False,
            "trigger_id": self._slack.new_trigger(),
        }

    def _app(self) -> Json:
        return {"token": self._slack.app.verification_token, "api_app_id": self._slack.app.app_id}

    def _domain(self) -> str:
        return self._workspace.url.removeprefix("https://").partition(".")[0]

    def _now(self) -> str:
        return self._workspace.next_ts()
