"""What goes wrong between a client and Slack, by chance or on demand."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Collection
from enum import StrEnum

from tests.fakes.slack.channels import Json


class Fault(StrEnum):
    """A way in which a call fails; where the comment says so, the call has done its work all the same."""

    RATE_LIMITED = "ratelimited"  # 429 and Retry-After
    SERVER_ERROR = "500"
    UNAVAILABLE = "503"
    DROPPED = "dropped"  # the connection ends before an answer
    LOST = "lost"  # the connection ends before an answer; done
    CUT = "cut"  # the connection ends in the middle of the body; done
    SLOW = "slow"  # done, answered late
    HTML = "html"  # a page of HTML with status 200
    INTERNAL_ERROR = "internal_error"
    FATAL_ERROR = "fatal_error"


class Faults:
    """Which calls fail. `rate` of them by chance (0 to 1, seeded), in one of `kinds`; and those told with `fail_next`.

    `spoilers` make something else of what a method answers.

    `missing_methods` answer unknown_method, as Slack does, or with `missing_status` alone, as emulators do. `injected`
    counts.
    """

    def __init__(
        self,
        rate: float = 0,
        kinds: Collection[Fault] = tuple(Fault),
        seed: int = 0,
        *,
        retry_after: float = 1,
        slow_seconds: float = 1,
        missing_methods: Collection[str] = (),
        missing_status: int = 200,
    ) -> None:
        self.rate, self.kinds, self.on = rate, tuple(kinds), True
        self.retry_after, self.slow_seconds = retry_after, slow_seconds
        self.missing_methods, self.missing_status = set(missing_methods), missing_status
        self.spoilers: dict[str, Callable[[Json], Json]] = {}
        self.injected: Counter[Fault] = Counter()
        self._random, self._lock = random.Random(seed), threading.Lock()
        self._told: list[tuple[str | None, Fault]] = []

    @classmethod
    def none(cls) -> Faults:
        """Nothing fails until told to."""
        return cls()

    def fail_next(self, kind: Fault, times: int = 1, method: str | None = None) -> None:
        """Fail the next calls of a method, or of any."""
        with self._lock:
            self._told += [(method, kind)] * times

    def take(self, method: str) -> Fault | None:
        """How a call that comes now fails; None where it doesn't."""
        with self._lock:
            kind = self._by_order(method) or self._by_chance()
            if kind:
                self.injected[kind] += 1
            return kind

    def spoilt(self, method: str, answer: Json) -> Json:
        """What a method answers instead."""
        return self.spoilers[method](answer) if method in self.spoilers else answer

    def _by_order(self, method: str) -> Fault | None:
        at = next((at for at, (name, _) in enumerate(self._told) if name in (None, method)), None)
        return self._told.pop(at)[1] if at is not None and self.on else None

    def _by_chance(self) -> Fault | None:
        return self._random.choice(self.kinds) if self.on and self._random.random() < self.rate else None
