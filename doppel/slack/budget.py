"""One budget of calls for each of Slack's methods, shared by all threads: what Slack refuses one, all wait for.

Slack says how often a method may be called only by refusing with `Retry-After`
(https://docs.slack.dev/apis/web-api/rate-limits). So the budget calls freely until it is refused, then keeps to as many
calls in a window as were let through before, and tries for more after a few windows without a refusal.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass
from typing import Protocol

CLEAN_WINDOWS = 4
SAME_WINDOW = 0.5
"""Share of the longest Retry-After for which a window goes on after a refusal."""
MARGIN = 0.01
LATENCY_SECONDS = 0.01
"""Slack counts a call when it arrives: a window is kept to a little longer than it was measured."""
JITTER = 0.02
"""Share of a wait that is added at random, so that several of us don't come back at the same moment."""


class Clock(Protocol):
    """Time, and waiting for it."""

    def monotonic(self) -> float: ...

    def time(self) -> float: ...

    def sleep(self, seconds: float) -> None:
        """Wait; raises StoppedError once `stop` was called."""
        ...

    def stop(self) -> None:
        """End every wait, now and later."""
        ...


class StoppedError(Exception):
    """The work was asked to end while it waited."""


class StoppableClock:
    """The real time, with waits that `stop` ends for every thread."""

    def __init__(self) -> None:
        self._stopped = threading.Event()

    def monotonic(self) -> float:
        return time.monotonic()

    def time(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Wait `seconds`; raises StoppedError once `stop` was called."""
        if self._stopped.wait(max(seconds, 0)):
            raise StoppedError

    def stop(self) -> None:
        """End every wait, now and later."""
        self._stopped.set()


@dataclass(slots=True)
class _Window:
    """Calls of one method between two waits: `allowed` in `seconds`, as refusals taught, or more to try for it.

    `rate` is calls a second that were let through for long, `longest` the longest Retry-After that was met. All are
    None or 0 before the first refusals.
    """

    allowed: int | None = None
    seconds: float = 0.0
    began: float = 0.0
    used: int = 0
    clean: int = 0
    refused: bool = False
    spoiled: bool = False
    closed_until: float = 0.0
    longest: float = 0.0
    last: tuple[int, float] | None = None
    rate: float | None = None

    def open(self, now: float) -> None:
        """Begin anew, after a refusal or a full window. One refusal may be chance; two in a row teach the pace.

        A short wait within a window ends none: a few calls between two of them would teach a pace that can't be kept.
        """
        if self.refused and now - self.began < self.longest * SAME_WINDOW:
            self.refused, self.spoiled = False, True
            return
        if self.refused or self.spoiled:
            ended = (max(self.used, 1), (now - self.began) * (1 + MARGIN) + LATENCY_SECONDS)
            if self.last:
                self.allowed, self.seconds = max(self.last, ended, key=lambda window: window[0] / window[1])
                self.rate = self.allowed / self.seconds
            self.last, self.clean = ended, 0
        else:
            self.clean += 1
            if self.allowed is not None and self.clean >= CLEAN_WINDOWS:
                self.rate = self.allowed / self.seconds
                self.allowed, self.clean = self.allowed * 2, 0
        self.began, self.used, self.refused, self.spoiled = now, 0, False, False

    def wait(self, now: float) -> float:
        """Seconds until the next call may be made; 0 for now."""
        if self.refused:
            return max(self.closed_until - now, 0.0)
        if self.allowed is None or self.used < self.allowed:
            return 0.0
        return max(self.began + self.seconds - now, 0.0)

    @property
    def is_full(self) -> bool:
        """Whether the next call belongs to another window."""
        return self.refused or (self.allowed is not None and self.used >= self.allowed)


class Budget:
    """When each method may be called next. `waited` is for how many seconds at least one thread had to wait."""

    def __init__(self, clock: Clock, jitter: random.Random | None = None) -> None:
        self.waited = 0.0
        self._clock, self._random = clock, jitter or random.Random()
        self._lock = threading.Lock()
        self._windows: dict[str, _Window] = {}
        self._counted_to = 0.0

    def acquire(self, method: str) -> None:
        """Wait until `method` may be called, and count the call."""
        while seconds := self._try(method):
            began = self._clock.monotonic()
            self._clock.sleep(seconds * (1 + JITTER * self._random.random()))
            self._count(began)

    def refuse(self, method: str, retry_after: float) -> None:
        """Slack refused a call of `method` for `retry_after` seconds."""
        with self._lock:
            window = self._windows[method]
            window.used = max(window.used - 1, 0)
            window.refused = True
            window.longest = max(window.longest, retry_after)
            window.closed_until = max(window.closed_until, self._clock.monotonic() + retry_after)

    def rate(self, method: str) -> float | None:
        """Calls a second that Slack lets through, None while it has refused too few to know."""
        with self._lock:
            window = self._windows.get(method)
            return window.rate if window else None

    def _try(self, method: str) -> float:
        """Seconds to wait, or 0 for a call that is counted."""
        with self._lock:
            now = self._clock.monotonic()
            window = self._windows.setdefault(method, _Window(began=now))
            seconds = window.wait(now)
            if not seconds:
                if window.is_full:
                    window.open(now)
                window.used += 1
            return seconds

    def _count(self, began: float) -> None:
        with self._lock:
            now = self._clock.monotonic()
            self.waited += max(now - max(began, self._counted_to), 0.0)
            self._counted_to = now
