"""The forms of many services' keys, from secret_rules.json: see docs/make_secret_rules.py. Pure but for reading it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path

FILE = Path(__file__).with_name("secret_rules.json")

_BLANKED = re.compile(r"([xX*#0])\1{7}")


class Rule:
    """One form: a pattern, the group of it that is the secret, and words of which one is in every text it matches."""

    def __init__(self, name: str, regex: str, group: int, keywords: list[str]) -> None:
        self.name = name
        self.keywords = tuple(keywords)
        self._regex = regex
        self._group = group

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """The pattern, compiled when a text first has one of its words."""
        return re.compile(self._regex, re.ASCII)

    def find(self, text: str) -> Iterator[tuple[int, int]]:
        """Where secrets of this form begin and end."""
        for match in self.pattern.finditer(text):
            if not _BLANKED.search(match[0]):
                yield match.span(self._group)


@cache
def rules() -> tuple[Rule, ...]:
    """Every rule."""
    content = json.loads(FILE.read_text(encoding="utf-8"))
    return tuple(Rule(name, **rule) for name, rule in content["rules"].items())


@cache
def _by_keyword() -> tuple[tuple[str, tuple[Rule, ...]], ...]:
    found: dict[str, list[Rule]] = {}
    for rule in rules():
        for word in rule.keywords:
            found.setdefault(word, []).append(rule)
    return tuple((word, tuple(those)) for word, those in found.items())


def find(text: str) -> Iterator[tuple[int, int]]:
    """Where secrets of all forms begin and end in `text`, in no order."""
    small = text.lower()
    for rule in {rule for word, those in _by_keyword() if word in small for rule in those}:
        yield from rule.find(text)
