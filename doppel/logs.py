"""What logs may hold: ids, and where an error arose; never a name, and nothing that anybody said.

Warnings and errors of Doppel's own go to `logs/doppel.log`, with the ids of what was being done (`about`) and the
frames of the error; those of libraries don't, as they may quote what they were given.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
import traceback
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from logging.handlers import RotatingFileHandler
from pathlib import Path

from filelock import FileLock, Timeout

from doppel.plain_text import plain

LOGGERS = ("doppel", "indexing", "training")
FILE_BYTES, FILES = 2_000_000, 5
"""How long a file of the log becomes, and how many older ones are kept."""
LOCK_SECONDS = 0.2
_NOTHING: Mapping[str, str] = {}
_ABOUT: ContextVar[Mapping[str, str]] = ContextVar("about", default=_NOTHING)


@contextmanager
def about(**ids: str) -> Iterator[None]:
    """Note with all that is logged while this is open what it is about: ids of an event, a question, a job, a team."""
    token = _ABOUT.set({**_ABOUT.get(), **ids})
    try:
        yield
    finally:
        _ABOUT.reset(token)


def always_about(**ids: str) -> None:
    """As `about`, until this process ends."""
    _ABOUT.set({**_ABOUT.get(), **ids})


def log_failure(log: logging.Logger, sentence: str, error: BaseException) -> None:
    """Log that something failed: on the terminal the kind of the error alone, in the file where it arose as well."""
    log.error("%s (%s)", sentence, type(error).__name__, extra={"stack": stack_of(error)})


def log_to(file: Path, level: str) -> logging.Handler:
    """Let what Doppel logs from `level` on reach a file, which is made when the first line comes."""
    handler = _SharedFile(file, maxBytes=FILE_BYTES, backupCount=FILES, encoding="utf-8", delay=True)
    handler.setFormatter(_Formatter())
    handler.setLevel(level)
    for name in LOGGERS:
        logger = logging.getLogger(name)
        for earlier in [known for known in logger.handlers if isinstance(known, _SharedFile)]:
            logger.removeHandler(earlier)
            earlier.close()
        logger.addHandler(handler)
        logger.setLevel(min(handler.level, logging.ERROR))
    return handler


class _Formatter(logging.Formatter):
    """One line, and below it where an error arose; never what an error says."""

    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        ids = "".join(f" {name}={value}" for name, value in _ABOUT.get().items())
        head = f"{at}Z {record.levelname} {record.name}{ids}: {record.getMessage()}"
        error = record.exc_info[1] if record.exc_info else None
        stack = getattr(record, "stack", "") or (stack_of(error) if error else "")
        return plain("\n".join(part for part in (head, stack.rstrip()) if part))


class _SharedFile(RotatingFileHandler):
    """A file that several processes write: one of them renames it when it is long, the others follow. What can't be
    written is not logged.
    """

    def emit(self, record: logging.LogRecord) -> None:
        try:
            Path(self.baseFilename).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._follow()
        except OSError:
            return
        super().emit(record)

    def doRollover(self) -> None:  # noqa: N802
        # Who holds the lock may have stopped: then the file grows.
        with contextlib.suppress(Timeout), FileLock(f"{self.baseFilename}.lock", timeout=LOCK_SECONDS, mode=0o600):
            # Another may have done it while this one waited.
            if not self._follow():
                super().doRollover()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """A full disk is no reason to fail at what was being done."""

    def _follow(self) -> bool:
        """Open the file anew where another process renamed it; whether it had."""
        if self.stream is None:
            return False
        try:
            now = Path(self.baseFilename).stat()
        except FileNotFoundError:
            now = None
        here = os.fstat(self.stream.fileno())
        if now is not None and (now.st_dev, now.st_ino) == (here.st_dev, here.st_ino):
            return False
        stream, self.stream = self.stream, None
        stream.close()
        self.stream = self._open()
        return True


def stack_of(error: BaseException) -> str:
    """Where an error arose and of what kind it is, without what it says: its text may quote people."""
    told, seen = [], set()
    for one in _chain(error):
        if id(one) not in seen:
            seen.add(id(one))
            told.append("".join([*traceback.format_tb(one.__traceback__), f"{type(one).__qualname__}\n"]))
    return "from\n".join(told)


def pattern_of(names: Collection[str]) -> re.Pattern[str] | None:
    """Finds any of these names, as whole words; None where there is none that could be told from other words."""
    told = sorted({name.strip() for name in names if len(name.strip()) > 1}, key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, told))})(?!\w)", re.IGNORECASE) if told else None


def remove_lines(folder: Path, names: Collection[str]) -> None:
    """Remove from the logs in a folder each line that holds one of the names. They may be written meanwhile."""
    if pattern := pattern_of(names):
        for path in folder.rglob("*.log*"):
            if path.suffix != ".lock":
                _remove_lines(path, pattern)


def _remove_lines(path: Path, pattern: re.Pattern[str]) -> None:
    with path.open("r+b") as file:
        lines = file.readlines()
        kept = [line for line in lines if not pattern.search(line.decode(errors="replace"))]
        if kept != lines:
            # In its place: who writes to it goes on at its end.
            file.seek(0)
            file.writelines(kept)
            file.truncate()


def _chain(error: BaseException) -> Iterator[BaseException]:
    one: BaseException | None = error
    while one is not None:
        yield one
        for inner in one.exceptions if isinstance(one, BaseExceptionGroup) else ():
            yield from _chain(inner)
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
