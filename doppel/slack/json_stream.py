"""The entries of a JSON file one by one, however large it is: only one of them is in memory at a time.

They are the elements of an array, as Slack writes it; or of the array that an object holds under a name of `HELD`, as
Slack's API and tools that ask it write it; or JSON lines, each of them an entry or such an object.

The text is read as json.loads reads it, NaN and duplicate keys included; bytes that aren't UTF-8 are replaced, and
UTF-16 and UTF-32 are known by their beginning.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Any, Protocol

_FIRST_HELD = ("messages", "m", "u", "ch")
_PLACES = ("channels", "groups", "ims", "mpims")
HELD = (*_FIRST_HELD, "members", "users", *_PLACES)
"""Under which names an object holds entries, the first sort that is there; those of a letter or two are slackdump's."""
_MARKS = {"groups": "is_private", "ims": "is_im", "mpims": "is_mpim"}
"""What Slack's API says of the channels that it lists under these names."""
MAX_ELEMENT_CHARS = 2**20
"""Longest element that is read: Slack's own messages, with their blocks and files, stay below a fifth of it."""
_READ_BYTES = 2**19
_SPACE = re.compile(r"[ \t\n\r]*")
_STRUCTURE = re.compile(r'["\[\]{},]')
_STRING = re.compile(r'["\\]')
_LINE_END = re.compile(r"[\r\n]")
_CUT = 16
"""Characters that a literal or an escape has at most."""
_SCAN = json.JSONDecoder().raw_decode


class Unread(StrEnum):
    """Stands for an element that is not read, and says why."""

    TOO_LARGE = "too large"
    TOO_DEEP = "nested too deep"
    BROKEN = "broken line"


class Bytes(Protocol):
    """A file that is open for reading."""

    def read(self, size: int, /) -> bytes:
        """Up to so many bytes; none at the end."""


def elements(file: Bytes) -> Iterator[Any]:
    """The entries that are all of a file, with an Unread for each that isn't read.

    Raises ValueError where it holds none in any of these shapes, or breaks off: what came before counts for nothing.
    """
    text = _Text(file)
    if text.peek() == "{":
        yield from _of_objects(text)
        return
    yield from text.array()
    if text.peek():
        raise ValueError("more than an array")


def encoding_of(beginning: bytes) -> str:
    """How JSON that begins so is encoded."""
    found = json.detect_encoding(beginning)
    return "utf-8-sig" if found == "utf-8" else found


def abouts(file: Bytes) -> Iterator[dict[str, Any]]:
    """What the objects that are all of a file say beside the arrays that they hold; nothing of an array's elements."""
    text = _Text(file)
    if text.peek() == "[":
        return
    while mark := text.peek():
        found = text.small() if mark == "{" else Unread.BROKEN
        if found in (Unread.TOO_LARGE, Unread.TOO_DEEP):
            yield dict(_said_by_large(text))
        elif found is Unread.BROKEN:
            text.skip_line()
        elif isinstance(found, dict):
            yield {name: value for name, value in found.items() if not isinstance(value, list)}


def _said_by_large(text: _Text) -> Iterator[tuple[str, Any]]:
    for name in text.names():
        if text.peek() == "[":
            text.skip()
        else:
            yield name, text.value()


def _of_objects(text: _Text) -> Iterator[Any]:
    """The entries of one object, or of one a line; a line that is broken is none."""
    any_yet = False
    while mark := text.peek():
        if mark != "{" or (found := text.small()) is Unread.BROKEN:
            if not any_yet:
                raise ValueError("no lines")
            text.skip_line()
            yield Unread.BROKEN
        elif found in (Unread.TOO_LARGE, Unread.TOO_DEEP):
            yield from _held_by_large(text, found)
        else:
            yield from _held_by(found)
        any_yet = True


def _held_by(found: Any) -> Iterator[Any]:
    if not isinstance(found, dict):
        yield found
        return
    is_entry = "id" in found or ("ts" in found and not found.keys().isdisjoint(("type", "text")))
    names = [name for name in HELD if isinstance(found.get(name), list)]
    names = [name for name in names if name in _FIRST_HELD or (found[name] and not is_entry)]
    if names:
        first = next((name for name in names if found[name]), names[0])
        for name in names:
            if name in _family(first):
                yield from _marked(name, found[name])
    elif is_entry and not _is_chunk(found):
        yield found
    elif not is_entry and not _is_chunk(found):
        raise ValueError("an object that holds no entries")


def _is_chunk(found: dict[str, Any]) -> bool:
    """Whether a line is slackdump's record of an answer of Slack's, here one without messages."""
    return isinstance(found.get("t"), int) and "type" not in found and not isinstance(found.get("ts"), str)


def _held_by_large(text: _Text, otherwise: Unread) -> Iterator[Any]:
    any_yet, wanted = False, tuple[str, ...](HELD)
    for name in text.names():
        if name in wanted and text.peek() == "[":
            any_yet, wanted = True, (*_FIRST_HELD, *_family(name))
            yield from _marked(name, text.array())
        else:
            text.skip()
    if not any_yet:
        yield otherwise


def _family(name: str) -> tuple[str, ...]:
    """Under which names entries of one sort are."""
    return _PLACES if name in _PLACES else (name,)


def _marked(name: str, entries: Iterable[Any]) -> Iterator[Any]:
    """Entries of an array under a name that says what they are."""
    mark = _MARKS.get(name)
    for entry in entries:
        yield {**entry, mark: True} if mark and isinstance(entry, dict) else entry


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

    def array(self) -> Iterator[Any]:
        """Pass an array and return its elements."""
        self.expect("[")
        if self.peek() != "]":
            yield self.element()
            while (mark := self.peek()) == ",":
                self.expect(mark)
                yield self.element()
        self.expect("]")

    def names(self) -> Iterator[str]:
        """Pass an object; at each name that is returned its value is to be passed."""
        self.expect("{")
        more = self.peek() != "}"
        while more:
            name = self.element()
            self.expect(":")
            yield name if isinstance(name, str) else ""
            more = self.peek() == ","
            if more:
                self.expect(",")
        self.expect("}")

    def small(self) -> Any:
        """Pass an object that may be in memory; Unread.TOO_LARGE or TOO_DEEP where it may not, BROKEN where it is none.

        Of these three nothing is passed.
        """
        self._fill(MAX_ELEMENT_CHARS)
        try:
            value, self._at = _SCAN(self._text, self._at)
        except RecursionError:
            return Unread.TOO_DEEP
        except json.JSONDecodeError as error:
            # Of what goes on beyond the text that is here only the end is wrong.
            goes_on = error.pos > len(self._text) - _CUT or error.msg.startswith("Unterminated string")
            is_large = goes_on and not self._has_ended and self._is_cut_off(alone=True)
            return Unread.TOO_LARGE if is_large else Unread.BROKEN
        return value

    def value(self) -> Any:
        """Pass the value of a name and return it, None where it is none that is read."""
        try:
            found = self.element()
        except json.JSONDecodeError:
            self.skip()
            return None
        return None if isinstance(found, Unread) else found

    def skip(self) -> None:
        """Pass a value."""
        self.peek()
        self._pass()

    def skip_line(self) -> None:
        """Pass what is left of a line."""
        while not (match := _LINE_END.search(self._text, self._at)):
            self._at = len(self._text)
            if self._has_ended:
                return
            self._fill(1)
        self._at = match.end()

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

    def _is_cut_off(self, alone: bool = False) -> bool:
        """Whether the element goes on beyond what may be in memory, rather than being none."""
        ahead = _Text(_Nothing())
        ahead._text, ahead._at = self._text, self._at
        try:
            ahead._pass(alone)
        except ValueError:
            return True
        return False

    def _pass(self, alone: bool = False) -> None:
        """Pass an element, or an object that stands `alone`, unkept; raises ValueError where it doesn't end."""
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
                if alone and depth == 0:
                    return

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
    return codecs.getincrementaldecoder(encoding_of(beginning))("replace")


def _matched(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at
