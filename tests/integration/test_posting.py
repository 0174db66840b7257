"""An answer that is posted while calls to Slack fail: it stands whole and once, and no beginning beside it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from slack_sdk.errors import SlackApiError

from doppel.bot.bolt_app import bot_client
from doppel.serving.identity import Identity, identify
from doppel.slack.blocks import context
from doppel.slack.message_transport import ReplyTarget
from doppel.slack.posting import GrowingMessage, replace
from tests.fakes.slack import FakeSlack, Fault, Limits, Workspace
from tests.fakes.slack.channels import Json
from tests.listening import replies

TEXT = " ".join(f"word{number}" for number in range(40))
BELOW = "That is all."
FAULTS = [fault for fault in Fault if fault is not Fault.RATE_LIMITED]


@pytest.fixture
def slack() -> Iterator[FakeSlack]:
    workspace = Workspace()
    workspace.channel("general", workspace.user("ada", id="U1"), id="C1")
    with FakeSlack(workspace, limits=Limits.none(time_scale=20)) as running:
        running.faults.slow_seconds = 1.5
        yield running


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("doppel.slack.message_transport.Stream.pause", 0.0)
    monkeypatch.setattr("doppel.slack.message_transport.Updates.pause", 0.0)
    monkeypatch.setattr("doppel.slack.posting.AGAIN_SECONDS", (0.01,) * 5)


async def write(slack: FakeSlack, root: str, text: str = TEXT, asked: str = "") -> GrowingMessage:
    """Post an answer in a thread as the bot does it, word by word."""
    client = bot_client(slack.bot_token, slack.api_url)
    client.timeout = 1

    async def posted(_ts: str) -> None: ...

    message = GrowingMessage(client, ReplyTarget(slack.workspace.team, "C1", root, asked or root, "U1"), posted)
    for word in text.split(" "):
        await message.append(f"{word} ")
    await message.finish([context(BELOW)])
    return message


def body(raw: Json) -> str:
    """What stands in a message, streamed or posted, without the blocks below it."""
    written = [block["text"] for block in raw.get("blocks", ()) if block["type"] == "markdown"]
    return str(written[0] if written else raw["text"]).strip()


def is_whole(raw: Json) -> bool:
    return body(raw) == TEXT and BELOW in str(raw["blocks"])


@pytest.mark.parametrize("fault", FAULTS)
async def test_whatever_call_of_a_stream_fails_the_answer_stands_once(slack: FakeSlack, fault: Fault) -> None:
    for method in ("chat.startStream", "chat.appendStream", "chat.stopStream"):
        root = slack.workspace.post("C1", "U1", "why?")
        slack.faults.fail_next(fault, method=method)
        await write(slack, root)
        (raw,) = replies(slack, "C1", root)
        assert is_whole(raw)
        assert raw.get("streaming_state") != "in_progress"
    assert slack.faults.injected == {fault: 3}


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.CUT, Fault.SLOW, Fault.UNAVAILABLE])
async def test_where_streams_are_not_to_be_had_it_stands_once_too(slack: FakeSlack, fault: Fault) -> None:
    slack.faults.missing_methods.add("chat.startStream")
    for method in ("chat.postMessage", "chat.update"):
        root = slack.workspace.post("C1", "U1", "why?")
        slack.faults.fail_next(fault, times=2, method=method)
        await write(slack, root)
        (raw,) = replies(slack, "C1", root)
        assert is_whole(raw)


async def test_an_outage_in_the_middle_is_waited_for(slack: FakeSlack) -> None:
    root = slack.workspace.post("C1", "U1", "why?")
    slack.faults.fail_next(Fault.LOST, method="chat.startStream")
    slack.faults.fail_next(Fault.UNAVAILABLE, 40, method="chat.postMessage")
    slack.faults.fail_next(Fault.DROPPED, 3, method="conversations.replies")
    await write(slack, root)
    (raw,) = replies(slack, "C1", root)
    assert is_whole(raw)


@pytest.mark.parametrize("seed", range(6))
async def test_calls_that_fail_at_random_change_nothing_of_what_stands_there(slack: FakeSlack, seed: int) -> None:
    root = slack.workspace.post("C1", "U1", "why?")
    kinds = [fault for fault in FAULTS if fault is not Fault.SLOW]
    slack.faults.rate, slack.faults.kinds = 0.25, tuple(kinds)
    slack.faults._random.seed(seed)
    await write(slack, root)
    assert [is_whole(raw) for raw in replies(slack, "C1", root)] == [True]


async def test_what_else_the_bot_said_in_the_thread_stays(slack: FakeSlack) -> None:
    """An earlier answer that says just what the stray one does, and one to somebody else meanwhile."""
    root = slack.workspace.post("C1", "U1", "why?")
    beginning = "word0 word1 word2 word3"
    await write(slack, root, beginning)
    asked = slack.workspace.post("C1", "U1", "and why?", thread_ts=root)
    await write(slack, root, "Yes.", asked)
    slack.faults.fail_next(Fault.LOST, method="chat.startStream")
    slack.faults.fail_next(Fault.LOST, method="chat.postMessage")
    await write(slack, root, TEXT, asked)
    assert [body(raw) for raw in replies(slack, "C1", root)] == [beginning, "Yes.", TEXT]


async def test_a_refusal_is_not_asked_again(slack: FakeSlack) -> None:
    root = slack.workspace.post("C1", "U1", "why?")
    slack.workspace.archive_channel("C1")
    with pytest.raises(SlackApiError, match="is_archived"):
        await write(slack, root)
    assert (slack.count("chat.startStream"), slack.count("chat.postMessage")) == (1, 1)


async def test_a_short_answer_is_posted_at_once(slack: FakeSlack) -> None:
    root = slack.workspace.post("C1", "U1", "why?")
    await write(slack, root, "Because.")
    (raw,) = replies(slack, "C1", root)
    assert body(raw) == "Because."
    assert (slack.count("chat.startStream"), slack.count("chat.postMessage")) == (0, 1)


async def test_a_message_that_is_still_streamed_can_be_replaced(slack: FakeSlack) -> None:
    root = slack.workspace.post("C1", "U1", "why?")
    client, where = (
        bot_client(slack.bot_token, slack.api_url),
        ReplyTarget(slack.workspace.team, "C1", root, root, "U1"),
    )
    to: Json = {"recipient_team_id": where.team, "recipient_user_id": "U1"}
    begun = await client.chat_startStream(**where.thread, **to, markdown_text="A beginning")
    await replace(client, where, str(begun["ts"]), "Sorry.", [context("Sorry.")])
    (raw,) = replies(slack, "C1", root)
    assert raw["text"] == "Sorry."


@pytest.mark.parametrize("fault", [Fault.DROPPED, Fault.CUT, Fault.SERVER_ERROR, Fault.FATAL_ERROR])
async def test_who_the_bot_is_may_stay_unknown_for_a_while(slack: FakeSlack, fault: Fault) -> None:
    client = bot_client(slack.bot_token, slack.api_url)
    slack.faults.fail_next(fault, 2 if fault is Fault.DROPPED else 1, "auth.test")
    assert "are the network and SLACK_API_URL right?" in str(await identify(client))
    assert isinstance(await identify(client), Identity)
    slack.revoke(slack.bot_token)
    assert str(await identify(client)) == "it says token_revoked; is SLACK_BOT_TOKEN right?"
