"""The elements of a JSON array one by one, however large the file is: only one element is in memory at a time.

The text is read as json.loads reads it, NaN and duplicate keys included; bytes that aren't UTF-8 are replaced, and
UTF-16 is known by its byte order mark.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, Protocol

MAX_ELEMENT_CHARS = 2**20
"""Longest element that is read: Slack's own messages, with their blocks and files, stay below a fifth of it."""
_READ_BYTES = 2**19
_SPACE = re.compile(r"[ \t\n\r]*")
_STRUCTURE = re.compile(r'["\[\]{},]')
_STRING = re.compile(r'["\\]')
_SCAN = json.JSONDecoder().raw_decode


class Unread(StrEnum):
    """Stands for an element that is not read, and says why."""

    TOO_LARGE = "too large"
    TOO_DEEP = "nested too deep"


class Bytes(Protocol):
    """A file that is open for reading."""

    def read(self, size: int, /) -> bytes:
        """Up to so many bytes; none at the end."""


def elements(file: Bytes) -> Iterator[Any]:
    """The elements of the array that is all of a file, with an Unread for each that isn't read.

    Raises ValueError where the file is no array, or breaks off: what came before counts for nothing then.
    """
    text = _Text(file)
    text.expect("[")
    if text.peek() == "]":
        text.expect("]")
    else:
        yield text.element()
        while (mark := text.peek()) == ",":
            text.expect(mark)
            yield text.element()
        text.expect("]")
    if text.peek():
        raise ValueError("more than an array")


class _Text:
    """The text of a file from a position on."""

    def __init__(self, file: Bytes) -> None:
        self._file = file
        self._decoder: codecs.IncrementalDecoder | None = None
        self._text, self._at, self._has_ended = "", 0, False

    def peek(self) -> str:
        """The next character that is no white space, "" at the end."""
        while True:
            self._at = _matched(_SPACE, self._text, self._at)
            if self._at < len(self._text):
                return self._text[self._at]
            if self._has_ended:
                return ""
            self._fill(1)

    def expect(self, mark: str) -> None:
        """Pass a mark."""
        if self.peek() != mark:
            raise ValueError(f"no {mark}")
        self._at += 1

    def element(self) -> Any:
        """Pass an element and return it, or an Unread."""
        self.peek()
        self._fill(MAX_ELEMENT_CHARS)
        try:
            value, end = _SCAN(self._text, self._at)
        except RecursionError:
            value, end = Unread.TOO_DEEP, -1
        except json.JSONDecodeError:
            if self._has_ended or not self._is_cut_off():
                raise
            value, end = Unread.TOO_LARGE, -1
        if end < 0:
            self._pass()
        elif end - self._at > MAX_ELEMENT_CHARS:
            value = Unread.TOO_LARGE
        self._at = max(end, self._at)
        return value

    def _is_cut_off(self) -> bool:
        """Whether the element goes on beyond what may be in memory, rather than being none."""
        ahead = _Text(_Nothing())
        ahead._text, ahead._at = self._text, self._at
        try:
            ahead._pass()
        except ValueError:
            return True
        return False

    def _pass(self) -> None:
        """Pass an element without keeping it; raises ValueError where it doesn't end."""
        depth = 0
        while True:
            mark = self._next(_STRUCTURE)
            if depth == 0 and mark in ",]}":
                return
            self._at += 1
            if mark == '"':
                self._pass_string()
            elif mark in "[{":
                depth += 1
            elif mark in "]}":
                depth -= 1

    def _pass_string(self) -> None:
        while self._next(_STRING) == "\\":
            self._fill(2)
            self._at += 2
        self._at += 1

    def _next(self, pattern: re.Pattern[str]) -> str:
        """Go to the next character that fits."""
        while True:
            if match := pattern.search(self._text, self._at):
                self._at = match.start()
                return match[0]
            self._at = len(self._text)
            if self._has_ended:
                raise ValueError("it breaks off")
            self._fill(1)

    def _fill(self, wanted: int) -> None:
        """Have more than so many characters from here on, unless the file ends before."""
        if self._has_ended or len(self._text) - self._at > wanted:
            return
        parts = [self._text[self._at :]]
        size = len(parts[0])
        while size <= wanted and not self._has_ended:
            data = self._file.read(_READ_BYTES)
            self._has_ended = not data
            self._decoder = self._decoder or _decoder_of(data)
            parts.append(self._decoder.decode(data, self._has_ended))
            size += len(parts[-1])
        self._text, self._at = "".join(parts), 0


class _Nothing:
    def read(self, _size: int, /) -> bytes:
        return b""


def _decoder_of(beginning: bytes) -> codecs.IncrementalDecoder:
    is_utf_16 = beginning.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return codecs.getincrementaldecoder("utf-16" if is_utf_16 else "utf-8-sig")("replace")


def _matched(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at
