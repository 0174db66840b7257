"""Threads that work off calls of one method each, the most urgent first."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

Task = Callable[[], None]


@dataclass(order=True)
class _Item:
    priority: float
    number: int
    task: Task | None = field(compare=False)


class Lane:
    """A few threads over one queue. An exception of a task ends the pool; `failure` tells it."""

    def __init__(self, threads: int) -> None:
        self.failure: BaseException | None = None
        self._queue: queue.PriorityQueue[_Item] = queue.PriorityQueue()
        self._numbers = itertools.count()
        self._open = 0
        self._closed = False
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def put(self, priority: float, task: Task) -> None:
        """Add a task; the lowest `priority` comes first. A task may add more."""
        with self._lock:
            self._open += 1
        self._queue.put(_Item(priority, next(self._numbers), task))

    @property
    def is_idle(self) -> bool:
        """Whether nothing is left to do, or nothing will be done any more."""
        with self._lock:
            return self._open == 0 or self.failure is not None

    def close(self) -> None:
        """End the threads once their present task is done; what is queued is dropped."""
        self._closed = True
        for _ in self._threads:
            self._queue.put(_Item(float("-inf"), next(self._numbers), None))
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (task := self._queue.get().task) is not None and not self._closed:
            try:
                task()
            except BaseException as error:
                self.failure = self.failure or error
                return
            finally:
                with self._lock:
                    self._open -= 1
