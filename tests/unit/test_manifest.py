"""The Slack app's manifest against what the code calls and hears: nothing missing, nothing more."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from doppel.slack.manifest import EVENT_SCOPES, SCOPES, events, manifest
from tests.end_to_end import doppel
from tests.fakes.slack.web_api import METHODS

ROOT = Path(__file__).parents[2]
SOURCES = sorted(ROOT.glob("doppel/**/*.py")) + sorted(ROOT.glob("commands/*.py"))

# Those that a stream of the Slack SDK calls for us.
STREAMED = {"chat.startStream", "chat.appendStream", "chat.stopStream"}
# With Socket Mode: that is the app-level token's.
NOT_THE_BOTS = {"connections:write"}
# Several scopes allow such a method, each for its kind of conversation.
BY_KIND = {
    "conversations.list": {"channels:read", "groups:read", "mpim:read"},
    "conversations.members": {"channels:read", "groups:read", "mpim:read"},
    "conversations.history": {"channels:history", "groups:history", "mpim:history"},
    "conversations.replies": {"channels:history", "groups:history", "mpim:history"},
    "conversations.open": {"im:write"},
}


def called() -> set[str]:
    """Every method of Slack's Web API that the code names, as the SDK's methods or as text."""
    found = set(STREAMED)
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and (method := node.attr.replace("_", ".", 1)) in METHODS:
                found.add(method)
            if isinstance(node, ast.Constant) and node.value in METHODS:
                found.add(str(node.value))
    return found


def scope_of(event: str) -> str | None:
    if event in EVENT_SCOPES:
        return EVENT_SCOPES[event]
    family = {"channel": "channels:read", "group": "groups:read"}
    return family.get(event.partition("_")[0])


def test_the_scopes_are_those_of_the_calls_and_events_and_no_others() -> None:
    methods = called()
    assert {"auth.test", "users.list", "conversations.history", "chat.postMessage", "views.publish"} <= methods
    needed = {scope for method in methods for scope in BY_KIND.get(method, set(METHODS[method][1]))} - NOT_THE_BOTS
    needed |= {scope for event in events() if (scope := scope_of(event))}
    assert needed | {"commands", "chat:write.customize"} == set(SCOPES)


def test_every_event_has_a_scope_but_those_about_the_app_itself() -> None:
    without = [event for event in events() if scope_of(event) is None]
    assert without == ["app_home_opened", "app_uninstalled", "tokens_revoked"]


def test_the_command_prints_it_and_an_address_must_be_https() -> None:
    made = doppel(Path("/nonexistent"), "slack", "manifest", "--name", "Erik's shadow").data["manifest"]
    assert made == manifest("Erik's shadow")
    assert made["settings"]["socket_mode_enabled"]
    assert made["features"]["slash_commands"][0]["should_escape"]
    public = manifest("doppel", "https://doppel.example/")
    assert not public["settings"]["socket_mode_enabled"]
    assert public["settings"]["event_subscriptions"]["request_url"] == "https://doppel.example/slack/events"
    refused = doppel(Path("/nonexistent"), "slack", "manifest", "--url", "http://doppel.example")
    assert refused.status == 1
    assert "https addresses only" in refused.stderr


def test_the_documents_name_every_scope_and_event() -> None:
    text = (ROOT / "docs" / "slack.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z_.]+(?::[a-z.]+)?)`", text))
    assert set(SCOPES) <= named
    assert set(events()) <= named
