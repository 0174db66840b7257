"""The words of a text that tell what it is about. Pure."""

from __future__ import annotations

import re
import unicodedata

_COMMON = """
a about am an and any are as at be been being but by can could did do does doing done for from had has have
having he her here him his how i if in into is it its just me might must my no nor not of off on or our
out over shall she should so some than that the their them then there these they this those to too up us
very was we were what when where which who whom whose why will with would you your
"""
COMMON = frozenset(_COMMON.split())
"""English words that stand everywhere and tell nothing."""

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
_ENDING = re.compile(r"(?:ies|ing|edly|ed|ers?|es|ly|ions?|s)\Z")
_SHORTEST_STEM = 4


def telling(text: str) -> list[str]:
    """The stems of a text's words that aren't common, each as often as it stands there."""
    words = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    return [stem(word) for word in words if word not in COMMON and (len(word) > 1 or word.isdigit())]


def stem(word: str) -> str:
    """A word without an English ending: enough to tell "deploys" and "deployed" from "deport"."""
    bare = re.sub(r"['’]\w+\Z", "", word)
    cut = _ENDING.sub("", bare)
    return cut.removesuffix("e") if len(cut) >= _SHORTEST_STEM else bare
