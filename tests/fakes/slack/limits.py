"""How often a method may be called, and how much a page may hold (https://docs.slack.dev/apis/web-api/rate-limits)."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping

_TIERS = {1: 1, 2: 20, 3: 50, 4: 100}
_METHODS: dict[int, tuple[str, ...]] = {
    1: ("apps.connections.open",),
    2: ("users.list", "conversations.list", "chat.startStream", "chat.stopStream"),
    3: (
        "auth.revoke",
        "bots.info",
        "chat.delete",
        "chat.update",
        "conversations.history",
        "conversations.info",
        "conversations.join",
        "conversations.open",
        "conversations.replies",
        "reactions.add",
        "reactions.remove",
        "team.info",
        "users.conversations",
    ),
    4: (
        "api.test",
        "chat.appendStream",
        "chat.postEphemeral",
        "conversations.members",
        "oauth.v2.access",
        "users.info",
        "views.open",
        "views.publish",
        "views.update",
    ),
}
_SPECIAL = {"auth.test": 600, "chat.getPermalink": 600, "chat.postMessage": 60, "assistant.threads.setStatus": 600}
"""Calls a minute of methods outside the tiers; chat.postMessage's are counted by channel."""
QUOTAS = {method: _TIERS[tier] for tier, methods in _METHODS.items() for method in methods} | _SPECIAL

RESTRICTED = ("conversations.history", "conversations.replies")
_RESTRICTED_PAGE, _RESTRICTED_QUOTA = 15, 1
_DEFAULT_QUOTA = 50
_MINUTE = 60.0


class Limits:
    """Calls a minute, counted by method and token over a sliding window. A refused call doesn't count.

    With `restricted`, conversations.history and .replies are limited as for an app that is sold outside Slack's
    marketplace: one call a minute, 15 messages a page. A minute lasts 60/`time_scale` seconds. Retry-After is a whole
    number at scale 1; otherwise it may be a decimal ("0.25"), which slack_sdk's own retry handler can't read, unless
    `whole_seconds` is set.
    """

    def __init__(
        self,
        *,
        restricted: bool = False,
        time_scale: float = 1,
        quotas: Mapping[str, int] | None = None,
        counting: bool = True,
        whole_seconds: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.restricted, self.time_scale, self.counting = restricted, time_scale, counting
        self.whole_seconds = whole_seconds or time_scale == 1
        self.quotas = {**QUOTAS, **(quotas or {})}
        self._clock, self._calls, self._lock = clock, dict[tuple[str, str], deque[float]](), threading.Lock()

    @classmethod
    def none(cls, time_scale: float = 1) -> Limits:
        """Nothing is limited; the time scale still holds for events and `response_url`s."""
        return cls(counting=False, time_scale=time_scale)

    def wait(self, method: str, caller: str) -> float:
        """Count a call; seconds until it would be allowed, 0 where it is."""
        if not self.counting:
            return 0
        minute, now = _MINUTE / self.time_scale, self._clock()
        with self._lock:
            calls = self._calls.setdefault((method, caller), deque())
            while calls and calls[0] <= now - minute:
                calls.popleft()
            if len(calls) < self.quota(method):
                calls.append(now)
                return 0
            return calls[-self.quota(method)] + minute - now

    def quota(self, method: str) -> int:
        """Calls a minute."""
        restricted = self.restricted and method in RESTRICTED
        return _RESTRICTED_QUOTA if restricted else self.quotas.get(method, _DEFAULT_QUOTA)

    def page(self, method: str, asked: int) -> int:
        """How many messages a page holds at most, of those asked for."""
        return min(asked, _RESTRICTED_PAGE) if self.restricted and method in RESTRICTED else asked

    def retry_after(self, seconds: float) -> str:
        """The Retry-After header of a wait, rounded up."""
        return str(max(1, math.ceil(seconds))) if self.whole_seconds else f"{math.ceil(seconds * 1000) / 1000:g}"
