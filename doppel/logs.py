"""What logs may hold: ids, and where an error arose; never a name, and nothing that anybody said."""

from __future__ import annotations

import re
import traceback
from collections.abc import Collection, Iterator
from pathlib import Path


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
        for path in folder.rglob("*.log"):
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
