"""The fake Slack behaves as Slack documents itself, seen through Slack's own client and a plain HTTP client."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import URLError

import httpx2
import pytest
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slack_sdk.http_retry.builtin_handlers import RateLimitErrorRetryHandler, ServerErrorRetryHandler

from tests.fakes.export_builder import ExportBuilder
from tests.fakes.slack import Behaviour, FakeSlack, Fault, Faults, Limits, Workspace

SAMPLE = Path(__file__).parents[2] / "examples" / "sample-workspace"
ALL_TYPES = "public_channel,private_channel,mpim,im"
Json = dict[str, Any]


class Team:
    """A small workspace, and the ids that tests need."""

    def __init__(self) -> None:
        self.workspace = Workspace()
        self.ada = self.workspace.user("ada", "Ada Lovelace")
        self.grace = self.workspace.user("grace", "Grace Hopper")
        self.general = self.workspace.channel("general", self.ada, self.grace)
        self.secret = self.workspace.channel("secret", self.ada, kind="private", bot=False)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def team() -> Team:
    return Team()


@pytest.fixture
def slack(team: Team) -> Iterator[FakeSlack]:
    with FakeSlack(team.workspace) as server:
        yield server


@pytest.fixture
def client(slack: FakeSlack) -> WebClient:
    return client_of(slack)


def client_of(slack: FakeSlack, token: str | None = None) -> WebClient:
    return WebClient(token or slack.bot_token, base_url=slack.api_url, timeout=5, retry_handlers=[])


def post(slack: FakeSlack, method: str, **params: Any) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {slack.bot_token}"}
    return httpx2.post(slack.api_url + method, data=params, headers=headers, trust_env=False)


def everything(client: WebClient, channel: str, limit: int | None = None) -> list[Json]:
    """History and threads to the end, in the order in which they came."""
    found: list[Json] = []
    for page in client.conversations_history(channel=channel, limit=limit, include_all_metadata=True):
        for raw in page["messages"]:
            if raw.get("subtype") != "thread_broadcast":
                found.append(raw)
            if raw.get("reply_count"):
                for replies in client.conversations_replies(
                    channel=channel, ts=raw["ts"], limit=limit, include_all_metadata=True
                ):
                    found += [reply for reply in replies["messages"] if reply["ts"] != raw["ts"]]
    return found


def error_of(call: Any) -> str:
    with pytest.raises(SlackApiError) as caught:
        call()
    return str(caught.value.response["error"])


def test_an_export_comes_back_message_by_message() -> None:
    folders = {entry["name"]: entry["id"] for entry in _lists("channels", "groups")}
    folders |= {entry["id"]: entry["id"] for entry in _lists("dms")}
    with FakeSlack(Workspace.from_export(SAMPLE)) as slack:
        client = client_of(slack)
        listed = [place["id"] for page in client.conversations_list(types=ALL_TYPES) for place in page["channels"]]
        assert sorted(listed) == sorted(folders.values())
        assert {entry["id"] for entry in _lists("users")} < {user["id"] for user in client.users_list()["members"]}
        for folder, channel in folders.items():
            said = [raw for day in sorted((SAMPLE / folder).glob("*.json")) for raw in json.loads(day.read_text())]
            found = everything(client, channel, limit=37)
            assert sorted(found, key=lambda raw: str(raw["ts"])) == sorted(said, key=lambda raw: str(raw["ts"]))


def _lists(*names: str) -> list[Json]:
    return [entry for name in names for entry in json.loads((SAMPLE / f"{name}.json").read_text())]


def test_a_zip_keeps_what_is_untidy(tmp_path: Path) -> None:
    export = (
        ExportBuilder()
        .user("U1", "ada", "Ada")
        .channel("C1", "general", "U1")
        .say("general", "1700000000.000100", "parent without a count")
        .say("general", "1700000001.000100", "reply", thread_ts="1700000000.000100")
        .say("general", "1700000002.000100", "its parent is gone", thread_ts="1600000000.000100")
        .say("general", "1700000003.000100", "once")
        .say("general", "1700000003.000100", "twice")
        .say("general", None, "no timestamp")
        .say("nowhere", "1700000000.000100", "no list names this")
    )
    workspace = Workspace.from_export(export.zip(tmp_path / "export.zip", wrapped_in="wrapped/"))
    assert workspace.left_out == {"nowhere": 1}
    assert workspace.orphans == [("C1", "1700000002.000100")]
    assert workspace.completed_parents == [("C1", "1700000000.000100")]
    with FakeSlack(workspace) as slack:
        texts = [raw["text"] for raw in everything(client_of(slack), "C1", limit=2)]
    assert sorted(texts) == sorted(
        ["parent without a count", "reply", "its parent is gone", "once", "twice", "no timestamp"]
    )


@pytest.mark.parametrize("limit", [1, 2, 7, 100])
def test_pages_give_every_message_once(team: Team, slack: FakeSlack, client: WebClient, limit: int) -> None:
    said = [team.workspace.post(team.general, team.ada, f"message {number}") for number in range(23)]
    for number in range(9):
        said.append(team.workspace.post(team.general, team.grace, f"reply {number}", thread_ts=said[4]))
    found = [raw["ts"] for raw in everything(client, team.general, limit)]
    assert sorted(found) == sorted(said)
    assert slack.count("conversations.history") == -(-23 // limit)


def test_a_page_stands_where_it_was_while_messages_come_and_go(team: Team, client: WebClient) -> None:
    said = [team.workspace.post(team.general, team.ada, f"message {number}") for number in range(10)]
    first = client.conversations_history(channel=team.general, limit=4)
    team.workspace.post(team.general, team.ada, "newer")
    team.workspace.delete(team.general, said[5])
    cursor = first["response_metadata"]["next_cursor"]
    second = client.conversations_history(channel=team.general, limit=4, cursor=cursor)
    assert [raw["ts"] for raw in first["messages"]] == said[:5:-1]
    assert [raw["ts"] for raw in second["messages"]] == [said[4], said[3], said[2], said[1]]


def test_a_range_of_time_with_and_without_its_ends(team: Team, client: WebClient) -> None:
    a, b, c, d = (team.workspace.post(team.general, team.ada, text) for text in "abcd")

    def texts(**more: Any) -> str:
        return "".join(raw["text"] for raw in client.conversations_history(channel=team.general, **more)["messages"])

    assert texts(oldest=a, latest=d) == "cb"
    assert texts(oldest=a, latest=d, inclusive=True) == "dcba"
    assert texts(oldest=b) == "dc"
    assert texts(latest=c) == "ba"
    assert texts(latest=c, inclusive=True, limit=1) == "c"


def test_a_large_channel_serves_a_page_fast() -> None:
    workspace = Workspace()
    channel = workspace.channel("general")
    raws = [{"type": "message", "user": "U1", "text": "x", "ts": f"{1_600_000_000 + n}.000000"} for n in range(100_000)]
    workspace.channels[channel].log.load(raws)
    with FakeSlack(workspace) as slack:
        client = client_of(slack)
        middle = "1600050000.000000"
        page = client.conversations_history(channel=channel, latest=middle, limit=3)
        began = time.perf_counter()
        for _ in range(20):
            page = client.conversations_history(channel=channel, latest=middle, limit=3)
        assert time.perf_counter() - began < 2
        assert [raw["ts"] for raw in page["messages"]] == [f"16000{n}.000000" for n in (49999, 49998, 49997)]
        workspace.post(channel, "U1", "one more")


def test_threads_keep_count_on_their_parent(team: Team, client: WebClient) -> None:
    post, channel = team.workspace.post, team.general
    parent = post(channel, team.ada, "parent")
    reply = post(channel, team.grace, "reply", thread_ts=parent)
    shown = post(channel, team.ada, "broadcast", thread_ts=parent, broadcast=True)
    history = client.conversations_history(channel=channel)["messages"]
    assert [raw["ts"] for raw in history] == [shown, parent]
    assert history[1]["reply_count"] == 2
    assert history[1]["latest_reply"] == shown
    assert history[1]["reply_users"] == [team.grace, team.ada]
    thread = client.conversations_replies(channel=channel, ts=parent)["messages"]
    assert [raw["ts"] for raw in thread] == [parent, reply, shown]
    newer = client.conversations_replies(channel=channel, ts=parent, oldest=reply)["messages"]
    assert [raw["ts"] for raw in newer] == [shown]
    alone = post(channel, team.ada, "alone")
    assert [raw["ts"] for raw in client.conversations_replies(channel=channel, ts=alone)["messages"]] == [alone]
    assert error_of(lambda: client.conversations_replies(channel=channel, ts="1.000001")) == "thread_not_found"


def test_a_parent_may_stand_on_every_page(team: Team, slack: FakeSlack, client: WebClient) -> None:
    slack.behaviour.parent_on_every_page = True
    parent = team.workspace.post(team.general, team.ada, "parent")
    replies = [team.workspace.post(team.general, team.ada, "r", thread_ts=parent) for _ in range(4)]
    pages = client.conversations_replies(channel=team.general, ts=parent, limit=3)
    assert [[raw["ts"] for raw in page["messages"]] for page in pages] == [
        [parent, *replies[:2]],
        [parent, *replies[2:]],
    ]


def test_a_deleted_parent_leaves_a_tombstone_until_its_last_reply_goes(team: Team, client: WebClient) -> None:
    workspace, channel = team.workspace, team.general
    parent = workspace.post(channel, team.ada, "parent")
    replies = [workspace.post(channel, team.grace, "r", thread_ts=parent) for _ in range(2)]
    workspace.delete(channel, parent)
    (stone,) = client.conversations_history(channel=channel)["messages"]
    assert (stone["subtype"], stone["user"], stone["reply_count"]) == ("tombstone", "USLACKBOT", 2)
    assert workspace.events[-1]["subtype"] == "message_changed"
    assert workspace.events[-1]["previous_message"]["text"] == "parent"
    for reply in replies:
        workspace.delete(channel, reply)
    assert client.conversations_history(channel=channel)["messages"] == []
    assert [event["deleted_ts"] for event in workspace.events if event.get("deleted_ts")] == [*replies, parent]


def test_every_change_tells_its_event(team: Team) -> None:
    workspace, channel = team.workspace, team.general
    workspace.events.clear()
    ts = workspace.post(channel, team.ada, f"hello <@{workspace.bot_user}>")
    workspace.edit(channel, ts, "hello")
    workspace.react(channel, ts, team.grace, "wave")
    workspace.react(channel, ts, team.grace, "wave", remove=True)
    workspace.delete(channel, ts)
    workspace.rename_channel(channel, "everyone")
    workspace.leave(channel, team.grace)
    workspace.join(channel, team.grace)
    workspace.archive_channel(channel)
    workspace.update_user(team.ada, deleted=True)
    workspace.user("alan")
    workspace.channel("new")
    told = [event.get("subtype") or event["type"] for event in workspace.events]
    assert told == [
        *("message", "app_mention", "message_changed", "reaction_added", "reaction_removed", "message_deleted"),
        *("channel_name", "channel_rename", "channel_leave", "member_left_channel", "channel_join"),
        *("member_joined_channel", "channel_archive", "channel_archive", "user_change", "team_join", "channel_created"),
    ]
    edited = workspace.events[2]
    assert (edited["message"]["text"], edited["message"]["edited"]["user"]) == ("hello", team.ada)
    assert edited["previous_message"]["text"].startswith("hello <@")


def test_the_app_is_told_only_what_its_bot_may_see(team: Team) -> None:
    told: list[Json] = []
    team.workspace.listen(told.append)
    team.workspace.post(team.secret, team.ada, "unseen")
    team.workspace.post(team.general, team.ada, "seen")
    team.workspace.leave(team.general, team.workspace.bot_user)
    team.workspace.post(team.general, team.ada, "unseen, too")
    team.workspace.rename_channel(team.general, "all")
    assert [event.get("text") or event["type"] for event in told] == [
        "seen",
        f"<@{team.workspace.bot_user}> has left the channel",
        "channel_left",
        "channel_rename",
    ]


def test_private_channels_are_there_for_members_only(team: Team, slack: FakeSlack, client: WebClient) -> None:
    team.workspace.post(team.secret, team.ada, "psst")
    names = [place["name"] for place in client.conversations_list(types=ALL_TYPES)["channels"]]
    assert names == ["general"]
    for method in (client.conversations_info, client.conversations_history, client.conversations_members):
        assert error_of(lambda method=method: method(channel=team.secret)) == "channel_not_found"
    hers = client_of(slack, slack.add_token("user", user=team.ada).value)
    assert [raw["text"] for raw in hers.conversations_history(channel=team.secret)["messages"]] == ["psst"]
    team.workspace.join(team.secret, team.workspace.bot_user)
    assert client.conversations_info(channel=team.secret)["channel"]["is_private"]
    assert len(client.conversations_history(channel=team.secret)["messages"]) == 2


def test_a_bot_reads_a_public_channel_as_a_member(team: Team, slack: FakeSlack, client: WebClient) -> None:
    other = team.workspace.channel("other", team.ada, bot=False)
    assert error_of(lambda: client.conversations_history(channel=other)) == "not_in_channel"
    slack.behaviour.history_needs_membership = False
    assert client.conversations_history(channel=other)["messages"] == []
    slack.behaviour.history_needs_membership = True
    assert client.conversations_join(channel=other)["channel"]["is_member"]
    assert client.conversations_history(channel=other)["messages"][0]["subtype"] == "channel_join"
    assert client.conversations_join(channel=other)["warning"] == "already_in_channel"


def test_lists_come_in_pages(team: Team, client: WebClient) -> None:
    people = [team.workspace.user(f"user{number}") for number in range(12)]
    places = [team.workspace.channel(f"place{number}", *people) for number in range(12)]
    team.workspace.archive_channel(places[0])
    users = [user["id"] for page in client.users_list(limit=5) for user in page["members"]]
    assert users == [*team.workspace.users]
    members = [user for page in client.conversations_members(channel=places[0], limit=5) for user in page["members"]]
    assert members == [*people, team.workspace.bot_user]
    open_ones = [
        p["id"] for page in client.conversations_list(limit=5, exclude_archived=True) for p in page["channels"]
    ]
    assert open_ones == [team.general, *places[1:]]
    mine = [p["id"] for page in client.users_conversations(user=people[0], limit=5) for p in page["channels"]]
    assert mine == places
    assert error_of(lambda: client.conversations_list(cursor="nonsense")) == "invalid_cursor"
    assert error_of(lambda: client.conversations_list(types="secret_channel")) == "invalid_types"


def test_who_and_where(team: Team, slack: FakeSlack, client: WebClient) -> None:
    who = client.auth_test()
    assert (who["user_id"], who["bot_id"]) == (team.workspace.bot_user, team.workspace.bot_id)
    assert (who["team_id"], who["url"]) == (team.workspace.team, "https://acme.slack.com/")
    assert set(who.headers["x-oauth-scopes"].split(",")) == slack.tokens[slack.bot_token].scopes
    assert client.team_info()["team"]["domain"] == "acme"
    assert client.users_info(user=team.ada)["user"]["real_name"] == "Ada Lovelace"
    assert error_of(lambda: client.users_info(user="U404")) == "user_not_found"
    assert client.bots_info(bot=team.workspace.bot_id)["bot"]["app_id"] == slack.app.app_id
    assert client.api_test(foo="bar")["args"]["foo"] == "bar"


def test_arguments_come_as_json_form_or_query(team: Team, slack: FakeSlack) -> None:
    team.workspace.post(team.general, team.ada, "hello")
    url, params = slack.api_url + "conversations.history", {"channel": team.general, "limit": "5"}
    header = {"Authorization": f"Bearer {slack.bot_token}"}
    with httpx2.Client(trust_env=False) as http:
        answers = [
            http.get(url, params=params, headers=header),
            http.post(url, data=params, headers=header),
            http.post(url, json={**params, "limit": 5}, headers=header),
            http.post(url, data={**params, "token": slack.bot_token}),
        ]
    assert all(answer.json()["messages"][0]["text"] == "hello" for answer in answers)
    assert post(slack, "conversations.history").json()["error"] == "invalid_arguments"
    assert post(slack, "no.such.method").json() == {
        "ok": False,
        "error": "unknown_method",
        "req_method": "no.such.method",
    }


def test_messages_are_posted_changed_and_deleted(team: Team, slack: FakeSlack, client: WebClient) -> None:
    said = client.chat_postMessage(
        channel=team.general, text="hello", metadata={"event_type": "x", "event_payload": {}}
    )
    assert said["message"]["bot_id"] == team.workspace.bot_id
    plain = client.conversations_history(channel=team.general)["messages"][0]
    full = client.conversations_history(channel=team.general, include_all_metadata=True)["messages"][0]
    assert ("metadata" in plain, full["metadata"]["event_type"]) == (False, "x")
    reply = client.chat_postMessage(channel="#general", thread_ts=said["ts"], markdown_text="**hi**", username="Ines")
    assert (reply["message"]["subtype"], reply["message"]["username"]) == ("bot_message", "Ines")
    link = client.chat_getPermalink(channel=team.general, message_ts=str(reply["ts"]))["permalink"]
    assert link.endswith(f"p{str(reply['ts']).replace('.', '')}?thread_ts={said['ts']}&cid={team.general}")
    client.chat_update(channel=team.general, ts=str(said["ts"]), text="bye")
    assert team.workspace.message(team.general, str(said["ts"]))["text"] == "bye"
    client.chat_delete(channel=team.general, ts=str(reply["ts"]))
    assert "reply_count" not in team.workspace.message(team.general, str(said["ts"]))
    theirs = team.workspace.post(team.general, team.ada, "mine")
    assert error_of(lambda: client.chat_delete(channel=team.general, ts=theirs)) == "cant_delete_message"
    client.reactions_add(channel=team.general, timestamp=theirs, name="eyes")
    assert error_of(lambda: client.reactions_add(channel=team.general, timestamp=theirs, name="eyes")) == (
        "already_reacted"
    )
    client.chat_postEphemeral(channel=team.general, user=team.ada, text="only you")
    assert slack.ephemerals[0]["user"] == team.ada


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"text": ""}, "no_text"),
        ({"text": "x" * 40_001}, "msg_too_long"),
        ({"text": "a", "markdown_text": "b"}, "markdown_text_conflict"),
        ({"text": "a", "thread_ts": "1.000001"}, "thread_not_found"),
        ({"text": "a", "channel": "C404"}, "channel_not_found"),
        ({"text": "a", "channel": "archived"}, "is_archived"),
        ({"text": "a", "channel": "other"}, "not_in_channel"),
        ({"text": "a", "channel": "secret"}, "channel_not_found"),
        ({"text": "a", "blocks": "{"}, "invalid_blocks_format"),
    ],
)
def test_what_cant_be_posted(team: Team, slack: FakeSlack, params: Json, error: str) -> None:
    team.workspace.channel("other", bot=False)
    team.workspace.channel("archived", archived=True)
    assert post(slack, "chat.postMessage", **{"channel": team.general, **params}).json()["error"] == error


def test_direct_messages_are_opened_once(team: Team, client: WebClient) -> None:
    opened = client.conversations_open(users=[team.ada])["channel"]["id"]
    assert client.conversations_open(users=team.ada)["channel"]["id"] == opened
    assert client.chat_postMessage(channel=team.ada, text="hello")["channel"] == opened
    group = client.conversations_open(users=[team.ada, team.grace], return_im=True)["channel"]
    assert (group["is_mpim"], group["name"]) == (True, "mpdm-doppel--ada--grace-1")
    (direct,) = client.conversations_list(types="im")["channels"]
    assert (direct["is_im"], direct["user"]) == (True, team.ada)


def test_a_streamed_message(team: Team, slack: FakeSlack, client: WebClient) -> None:
    question = team.workspace.post(team.general, team.ada, "why?")
    to: Json = {"recipient_team_id": team.workspace.team, "recipient_user_id": team.ada}
    stream = client.chat_stream(channel=team.general, thread_ts=question, buffer_size=4, **to)
    for word in ("because ", "it ", "woke us"):
        stream.append(markdown_text=word)
    stream.stop()
    raw = team.workspace.message(team.general, str(stream.ts))
    assert (raw["text"], raw["streaming_state"]) == ("because it woke us", "completed")
    late: Json = {"channel": team.general, "ts": str(stream.ts), "markdown_text": "!"}
    assert error_of(lambda: client.chat_appendStream(**late)) == "message_not_in_streaming_state"
    assert error_of(lambda: client.chat_startStream(channel=team.general, thread_ts=question, markdown_text="x")) == (
        "missing_recipient_team_id"
    )
    ts = str(client.chat_startStream(channel=team.general, thread_ts=question, markdown_text="x", **to)["ts"])
    chunks = [{"type": "markdown_text", "text": "y"}]
    mixed = error_of(lambda: client.chat_appendStream(channel=team.general, ts=ts, chunks=chunks))
    assert mixed == "streaming_mode_mismatch"
    own: Json = {"channel": team.general, "ts": ts}
    assert error_of(lambda: client.chat_update(**own, text="z")) == "streaming_state_conflict"
    assert error_of(lambda: client.chat_delete(**own)) == "cant_delete_message"
    slack.streams[team.general, ts].stopped_by_user = True
    assert error_of(lambda: client.chat_stopStream(channel=team.general, ts=ts)) == "stopped_by_user"
    assert client.chat_update(**own, text="z")["text"] == "z"


def test_what_an_assistant_shows(team: Team, slack: FakeSlack, client: WebClient) -> None:
    ts = team.workspace.post(team.general, team.ada, "why?")
    client.assistant_threads_setStatus(channel_id=team.general, thread_ts=ts, status="is thinking")
    assert slack.assistant[0]["status"] == "is thinking"
    client.views_publish(user_id=team.ada, view={"type": "home", "blocks": []})
    assert slack.homes[team.ada]["type"] == "home"
    modal = {"type": "modal", "title": {"type": "plain_text", "text": "x"}, "blocks": []}
    assert error_of(lambda: client.views_open(trigger_id="1.2", view=modal)) == "invalid_trigger_id"
    trigger = slack.new_trigger()
    assert client.views_open(trigger_id=trigger, view=modal)["view"]["id"] in slack.views
    assert error_of(lambda: client.views_open(trigger_id=trigger, view=modal)) == "invalid_trigger_id"


def test_tokens_and_scopes(team: Team, slack: FakeSlack) -> None:
    assert error_of(client_of(slack, "xoxb-wrong").auth_test) == "invalid_auth"
    assert httpx2.post(slack.api_url + "auth.test", trust_env=False).json()["error"] == "not_authed"
    poor = slack.add_token("bot", scopes={"channels:read", "channels:history"})
    answer = httpx2.post(slack.api_url + "users.list", data={"token": poor.value}, trust_env=False)
    assert answer.json() == {
        "ok": False,
        "error": "missing_scope",
        "needed": "users:read",
        "provided": "channels:history,channels:read",
    }
    assert (answer.headers["x-oauth-scopes"], answer.headers["x-accepted-oauth-scopes"]) == (
        "channels:history,channels:read",
        "users:read",
    )
    theirs = client_of(slack, poor.value)
    assert error_of(lambda: theirs.conversations_list(types="public_channel,im")) == "missing_scope"
    assert theirs.conversations_list()["channels"]
    team.workspace.join(team.secret, team.workspace.bot_user)
    assert error_of(lambda: theirs.conversations_history(channel=team.secret)) == "missing_scope"
    slack.revoke(slack.bot_token)
    assert error_of(client_of(slack).auth_test) == "token_revoked"
    slack.revoke(slack.bot_token, "account_inactive")
    assert error_of(client_of(slack).auth_test) == "account_inactive"
    assert error_of(client_of(slack, slack.app_token).users_list) == "not_allowed_token_type"


def test_limits_hold_until_retry_after(team: Team) -> None:
    clock = Clock()
    limits = Limits(time_scale=300, quotas={"conversations.history": 3}, clock=clock)
    with FakeSlack(team.workspace, limits=limits) as slack:
        for _ in range(3):
            assert post(slack, "conversations.history", channel=team.general).status_code == 200
        refused = post(slack, "conversations.history", channel=team.general)
        assert (refused.status_code, refused.json()["error"]) == (429, "ratelimited")
        wait = float(refused.headers["retry-after"])
        assert 0 < wait <= 0.2
        assert post(slack, "auth.test").json()["ok"]
        assert post(slack, "conversations.history", channel=team.general).status_code == 429
        clock.now += wait
        assert post(slack, "conversations.history", channel=team.general).json()["ok"]
        assert slack.count("conversations.history") == 6
        assert slack.count("conversations.history", "ratelimited") == 2


def test_limits_are_slacks_own() -> None:
    clock = Clock()
    limits = Limits(clock=clock)
    assert [limits.wait("users.list", "xoxb") for _ in range(20)] == [0] * 20
    clock.now = 10.5
    assert limits.retry_after(limits.wait("users.list", "xoxb")) == "50"
    assert limits.wait("users.list", "another token") == 0
    clock.now = 60
    assert limits.wait("users.list", "xoxb") == 0
    assert (limits.quota("apps.connections.open"), limits.quota("conversations.history")) == (1, 50)
    assert Limits(restricted=True).quota("conversations.replies") == 1
    assert Limits(time_scale=100).retry_after(0.2501) == "0.251"


def test_a_restricted_app_gets_fifteen_messages_a_minute(team: Team) -> None:
    for number in range(40):
        team.workspace.post(team.general, team.ada, str(number))
    clock = Clock()
    with FakeSlack(team.workspace, limits=Limits(restricted=True, clock=clock)) as slack:
        found: list[str] = []
        cursor, waits = "", 0
        while True:
            answer = post(slack, "conversations.history", channel=team.general, limit=200, cursor=cursor)
            if answer.status_code == 429:
                waits += 1
                clock.now += int(answer.headers["retry-after"])
                continue
            page = answer.json()
            assert len(page["messages"]) <= 15
            found += [raw["text"] for raw in page["messages"]]
            cursor = page.get("response_metadata", {}).get("next_cursor", "")
            if not cursor:
                break
    assert found == [str(number) for number in reversed(range(40))]
    assert waits == 2


def test_slacks_own_retry_handlers_get_through(team: Team) -> None:
    limits = Limits(time_scale=60, whole_seconds=True, quotas={"auth.test": 1})
    with FakeSlack(team.workspace, limits=limits) as slack:
        handlers = [RateLimitErrorRetryHandler(max_retry_count=2), ServerErrorRetryHandler(max_retry_count=2)]
        client = WebClient(slack.bot_token, base_url=slack.api_url, retry_handlers=handlers)
        client.auth_test()
        assert client.auth_test()["ok"]
        slack.faults.fail_next(Fault.UNAVAILABLE, method="team.info")
        assert client.team_info()["ok"]


@pytest.mark.parametrize("fault", list(Fault))
def test_each_way_to_fail(team: Team, fault: Fault) -> None:
    ts = team.workspace.post(team.general, team.ada, "x" * 5000)
    with FakeSlack(team.workspace, faults=Faults(slow_seconds=0.05)) as slack:
        slack.faults.fail_next(fault, method="conversations.history")
        assert post(slack, "auth.test").json()["ok"]
        _EXPECTED[fault](lambda: post(slack, "conversations.history", channel=team.general))
        again = post(slack, "conversations.history", channel=team.general)
        assert again.json()["messages"][0]["ts"] == ts
        assert slack.faults.injected == {fault: 1}
        assert slack.count("conversations.history", fault.value) == 1


def _answers(status: int, error: str = "", html: bool = False) -> Any:
    def check(call: Any) -> None:
        answer = call()
        assert answer.status_code == status
        if html:
            assert answer.text.startswith("<!DOCTYPE html>")
        else:
            assert answer.json().get("error", "") == error

    return check


def _breaks(call: Any) -> None:
    with pytest.raises(httpx2.TransportError):
        call()


def _is_slow(call: Any) -> None:
    began = time.perf_counter()
    assert call().json()["ok"]
    assert time.perf_counter() - began >= 0.05


_EXPECTED: dict[Fault, Any] = {
    Fault.RATE_LIMITED: _answers(429, "ratelimited"),
    Fault.SERVER_ERROR: _answers(500, html=True),
    Fault.UNAVAILABLE: _answers(503, html=True),
    Fault.DROPPED: _breaks,
    Fault.LOST: _breaks,
    Fault.CUT: _breaks,
    Fault.SLOW: _is_slow,
    Fault.HTML: _answers(200, html=True),
    Fault.INTERNAL_ERROR: _answers(200, "internal_error"),
    Fault.FATAL_ERROR: _answers(200, "fatal_error"),
}


def test_chance_is_seeded_and_everything_still_comes_through(team: Team) -> None:
    said = [team.workspace.post(team.general, team.ada, str(number)) for number in range(30)]
    faults = Faults(0.4, seed=3, retry_after=0.01, slow_seconds=0.01)
    with FakeSlack(team.workspace, faults=faults, limits=Limits.none(time_scale=60)) as slack:
        client, found, cursor = client_of(slack), list[str](), ""
        for _ in range(200):
            try:
                page = client.conversations_history(channel=team.general, limit=2, cursor=cursor)
                found += [raw["ts"] for raw in page["messages"]]
            except (SlackApiError, URLError, HTTPException, ConnectionError):
                continue
            cursor = (page.get("response_metadata") or {}).get("next_cursor", "")
            if not cursor:
                break
        assert found == said[::-1]
        assert faults.injected.total() > 3
        faults.on = False
        before = faults.injected.total()
        assert all(client.auth_test()["ok"] for _ in range(20))
        assert faults.injected.total() == before
    assert [Faults(0.5, seed=9).take("x") for _ in range(1)] == [Faults(0.5, seed=9).take("x")]


def test_a_plan_may_lack_methods(team: Team, slack: FakeSlack, client: WebClient) -> None:
    slack.faults.missing_methods.add("chat.startStream")
    assert error_of(lambda: client.chat_startStream(channel=team.general, thread_ts="1.2")) == "unknown_method"


def test_the_workspace_changes_while_it_serves(team: Team, client: WebClient) -> None:
    stop = threading.Event()

    def chatter() -> None:
        for number in itertools.count():
            if stop.is_set():
                return
            ts = team.workspace.post(team.general, team.ada, f"message {number}")
            team.workspace.react(team.general, ts, team.grace, "eyes")
            if number % 3 == 0:
                team.workspace.delete(team.general, ts)

    thread = threading.Thread(target=chatter)
    thread.start()
    try:
        for _ in range(30):
            found = [raw["ts"] for raw in client.conversations_history(channel=team.general, limit=50)["messages"]]
            assert found == sorted(found, reverse=True)
    finally:
        stop.set()
        thread.join()


def test_short_pages_are_still_complete(team: Team) -> None:
    said = [team.workspace.post(team.general, team.ada, str(number)) for number in range(11)]
    with FakeSlack(team.workspace, behaviour=Behaviour(short_pages=True)) as slack:
        pages = [page["messages"] for page in client_of(slack).conversations_history(channel=team.general, limit=4)]
    assert [raw["ts"] for page in pages for raw in page] == said[::-1]
    assert [len(page) for page in pages] == [2, 2, 2, 2, 2, 1]


def test_it_runs_as_a_process() -> None:
    command = [sys.executable, "-m", "tests.fakes.slack", "--export", str(SAMPLE), "--token", "xoxb-given"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        assert process.stdout is not None
        lines = "".join(itertools.islice(process.stdout, 5))
        settings = dict(re.findall(r"^(SLACK_\w+)=(\S+)$", lines, flags=re.MULTILINE))
        client = WebClient(settings["SLACK_BOT_TOKEN"], base_url=settings["SLACK_API_URL"])
        assert settings["SLACK_BOT_TOKEN"] == "xoxb-given"
        assert client.auth_test()["ok"]
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 0
