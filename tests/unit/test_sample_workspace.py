"""The sample workspace is what its scripts say, is shaped like a genuine export, and keeps its secrets in one place."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
EXPORT = EXAMPLES / "sample-workspace"

Message = dict[str, Any]


def load(name: str) -> list[Any]:
    content: list[Any] = json.loads((EXPORT / name).read_text(encoding="utf-8"))
    return content


def is_human(message: Message) -> bool:
    return message.get("subtype") in (None, "thread_broadcast")


@pytest.fixture(scope="module")
def channels() -> dict[str, list[Message]]:
    """The messages of each folder, in the order of its day files."""
    return {
        folder.name: [message for day in sorted(folder.glob("*.json")) for message in load(f"{folder.name}/{day.name}")]
        for folder in EXPORT.iterdir()
        if folder.is_dir()
    }


@pytest.fixture(scope="module")
def messages(channels: dict[str, list[Message]]) -> list[Message]:
    return [message for content in channels.values() for message in content]


def test_the_committed_export_is_what_the_builder_writes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(EXAMPLES / "build.py"), str(tmp_path)], check=True)

    def files(root: Path) -> dict[str, bytes]:
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    assert files(tmp_path) == files(EXPORT)


def test_people_and_channels(channels: dict[str, list[Message]]) -> None:
    people = [user for user in load("users.json") if not user["is_bot"] and not user["deleted"]]
    public = [channel["name"] for channel in load("channels.json")]
    assert sorted(person["name"] for person in people) == ["bram", "henrik", "ines", "jun", "pilar", "tova"]
    assert sorted(public) == ["engineering", "general", "ops", "product", "random"]
    assert [channel["name"] for channel in load("groups.json")] == ["founders"]
    assert set(channels) == {*public, "founders", *(dm["id"] for dm in load("dms.json"))}


def test_there_is_enough_to_learn_from(channels: dict[str, list[Message]], messages: list[Message]) -> None:
    names = {user["id"]: user["name"] for user in load("users.json")}
    public = [message for channel in load("channels.json") for message in channels[channel["name"]]]
    said = Counter(names[message["user"]] for message in public if is_human(message))
    assert sum(map(is_human, messages)) >= 800
    assert said["ines"] >= 260
    assert min(said.values()) >= 90


def test_threads_and_time_stamps_hold_together(channels: dict[str, list[Message]]) -> None:
    for content in channels.values():
        stamps = [message["ts"] for message in content]
        assert stamps == sorted(set(stamps))
        roots = {message["ts"]: message for message in content if "reply_count" in message}
        replies = [message for message in content if message.get("thread_ts", message["ts"]) != message["ts"]]
        for reply in replies:
            root = roots[reply["thread_ts"]]
            assert reply["parent_user_id"] == root.get("user", root.get("bot_id"))
            assert reply["ts"] > root["ts"]
        listed = [(ts, entry["ts"]) for ts, root in roots.items() for entry in root["replies"]]
        assert sorted(listed) == sorted((reply["thread_ts"], reply["ts"]) for reply in replies)


@pytest.mark.parametrize(
    "subtype", ["bot_message", "channel_join", "channel_topic", "channel_purpose", "thread_broadcast", "tombstone"]
)
def test_every_subtype_occurs(messages: list[Message], subtype: str) -> None:
    assert any(message.get("subtype") == subtype for message in messages)


@pytest.mark.parametrize(
    "key", ["edited", "reactions", "files", "attachments", "client_msg_id", "user_profile", "root"]
)
def test_every_key_occurs(messages: list[Message], key: str) -> None:
    assert any(message.get(key) for message in messages)


@pytest.mark.parametrize(
    "mark",
    [
        "```",
        "`make back`",
        "<@U",
        "<#C",
        "<!here>",
        "<https://",
        "|PR ",
        "&amp;",
        "&lt;",
        "&gt;",
        ":tada:",
        "🍕",
        "\n• ",
        "\n1. ",
    ],
)
def test_every_kind_of_text_occurs(messages: list[Message], mark: str) -> None:
    assert any(mark in message["text"] for message in messages)


def test_rich_text_blocks_say_the_same_as_the_text(messages: list[Message]) -> None:
    def kinds(node: Any) -> set[str]:
        nodes = node.values() if isinstance(node, dict) else node if isinstance(node, list) else []
        own = {node["type"]} if isinstance(node, dict) and "type" in node else set()
        return own.union(*(kinds(child) for child in nodes))

    found = kinds([message.get("blocks") for message in messages])
    assert found >= {
        "rich_text_section",
        "rich_text_preformatted",
        "rich_text_list",
        "link",
        "user",
        "emoji",
        "channel",
    }


@pytest.mark.parametrize("secret", ["Castellane", "Heron", "Noordkade", "Lindeboom", "runway", "21,700", "612,000"])
def test_secrets_of_the_private_channel_stand_nowhere_else(channels: dict[str, list[Message]], secret: str) -> None:
    holders = {name for name, content in channels.items() if secret.lower() in json.dumps(content).lower()}
    assert holders == {"founders"}
