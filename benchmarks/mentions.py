"""People of a fake Slack who mention its bot, and what they then see of its answers, from Slack's side."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from doppel.bot.writing import UNEXPECTED
from tests.fakes.slack import FakeSlack

LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Thread:
    """The messages below a mention: whole answers, excuses for there being none, and beginnings without either."""

    whole: int
    excuses: int
    torn: int

    @property
    def messages(self) -> int:
        """All of them."""
        return self.whole + self.excuses + self.torn

    @property
    def is_answered(self) -> bool:
        """Whether the bot has said what it has to say."""
        return self.whole + self.excuses > 0


class People:
    """Everybody who is no bot, in the channels that the bot is in, each in turn."""

    def __init__(self, slack: FakeSlack, answer: str) -> None:
        words = answer.split()
        self._workspace, self._first_word, self._last_word = slack.workspace, f"{words[0]} ", words[-1]
        users, rooms = self._workspace.users, self._workspace.channels.values()
        self._turns = itertools.cycle(
            (room.id, user)
            for room in rooms
            if room.kind == "public" and self._workspace.bot_user in room.members
            for user in room.members
            if not users[user]["is_bot"]
        )
        self._asked: dict[tuple[str, str], float] = {}
        self._seen: dict[str, float] = {}
        self._workspace.listen(self._look)

    def mention(self) -> tuple[str, str]:
        """Ask the bot something; returns the channel and the timestamp of it."""
        channel, user = next(self._turns)
        began = time.perf_counter()
        ts = self._workspace.post(channel, user, f"<@{self._workspace.bot_user}> what was decided, and why?")
        self._asked[channel, ts] = began
        return channel, ts

    def chat(self) -> None:
        """Say something that is none of the bot's business."""
        channel, user = next(self._turns)
        self._workspace.post(channel, user, "Let us talk about that tomorrow, then.")

    def seconds_to_text(self, asked: Iterable[tuple[str, str]]) -> list[float]:
        """From each mention to the first text below it, of those that have any."""
        return [self._seen[ts] - self._asked[channel, ts] for channel, ts in asked if ts in self._seen]

    def wait(self, asked: Iterable[tuple[str, str]], seconds: float) -> float | None:
        """Wait until the bot has ended everywhere; the seconds it took, or None where it did not in time."""
        left, began = list(asked), time.perf_counter()
        while left := [place for place in left if not self.thread(*place).is_answered]:
            if time.perf_counter() - began > seconds:
                return None
            time.sleep(LOOK_SECONDS)
        return time.perf_counter() - began

    def thread(self, channel: str, ts: str) -> Thread:
        """What stands below a mention now."""
        with self._workspace.lock:
            said = [raw for raw in self._workspace.find(channel).log.replies(ts) if raw.get("bot_id")]
        kinds = Counter(self._kind(f"{raw['text']} {raw.get('blocks', '')}") for raw in said)
        return Thread(kinds["whole"], kinds["excuse"], kinds["torn"])

    def _kind(self, shown: str) -> str:
        if self._first_word not in shown or UNEXPECTED in shown:
            return "excuse"
        return "whole" if self._last_word in shown else "torn"

    def threads(self) -> list[Thread]:
        """What stands below every mention."""
        return [self.thread(channel, ts) for channel, ts in self._asked]

    def _look(self, event: dict[str, Any]) -> None:
        raw = event.get("message") or event
        if raw.get("bot_id") and raw.get("thread_ts") and raw.get("text"):
            self._seen.setdefault(raw["thread_ts"], time.perf_counter())
