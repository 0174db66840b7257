"""The words of an index's texts: SQLite's full text search (FTS5, BM25), in the file that holds the texts.

It finds what an embedding is blind to: names, numbers, error codes, and the day when something was said.

FTS5 takes what stands between spaces and marks for a word. Scripts that put no spaces between words, and Korean, whose
words carry endings, are therefore handed to it in overlapping pairs of letters (as Lucene's CJKAnalyzer does).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator

from doppel.engine.words import COMMON

VERSION = 2
"""Raised when texts are split otherwise: an index of before answers until the next reindex, which builds it anew."""

TABLES = """
CREATE VIRTUAL TABLE words USING fts5 (
    text, day, content = 'documents', content_rowid = 'row', tokenize = 'porter unicode61'
);
CREATE TRIGGER words_of_new AFTER INSERT ON documents BEGIN
    INSERT INTO words (rowid, text, day) VALUES (new.row, coalesce(new.spaced, new.text), new.day);
END;
CREATE TRIGGER words_of_old AFTER DELETE ON documents BEGIN
    INSERT INTO words (words, rowid, text, day) VALUES (
        'delete', old.row, coalesce(old.spaced, old.text), old.day
    );
END;
"""

BEST = """
SELECT documents.row FROM words JOIN documents ON documents.row = words.rowid
WHERE words MATCH ? AND (documents.team, documents.channel) IN (
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?)
) AND documents.row NOT IN (SELECT value FROM json_each(?)) ORDER BY bm25(words), documents.row LIMIT ?
"""
"""Rows by their words; the values are a `match`, (team, channel) pairs and rows to leave out as JSON, and a number of
rows."""

MOST_WORDS = 64


# Thai, Lao, Burmese, Khmer, Tai Tham and Javanese's neighbours; Han, Kana, Bopomofo, Hangul, Yi; Han beyond 16 bits.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1950-\u19ff\u1a20-\u1aaf\ua9e0-\ua9ff\uaa60-\uaadf"
    "\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303c\u3040-\u30ff\u3100-\u318f\u31a0-\u31bf\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua4cf\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]+"
)
_LETTERS = re.compile(r"[^\W_]+")


def match(query: str) -> str:
    """The expression that finds texts with any word of `query`, common ones only where it has no others; "" without."""
    words = dict.fromkeys(re.findall(r"\w+", _split(query.lower(), _asked)))
    telling = [word for word in words if word not in COMMON] or list(words)
    return " OR ".join(f'"{word}"' for word in telling[:MOST_WORDS])


def words_of(text: str) -> str | None:
    """A text as FTS5 is to see it, None where that is the text itself."""
    if text.isascii() or (words := _split(text, _held)) == text:
        return None
    return words


def _split(text: str, split: Callable[[str], Iterator[str]]) -> str:
    """A text with what has no spaces `split`, letters of any width as one, and without marks at letters.

    FTS5 would take a vowel sign, such as Thai and Hindi have, for the end of a word.
    """
    folded = unicodedata.normalize("NFKC", text)
    bare = "".join(c for c in folded if unicodedata.category(c) not in ("Mn", "Mc"))
    return _UNSPACED.sub(lambda run: f" {' '.join(_each(run[0], split))} ", bare)


def _each(run: str, split: Callable[[str], Iterator[str]]) -> Iterator[str]:
    for letters in _LETTERS.findall(run):
        yield from split(letters)


def _asked(letters: str) -> Iterator[str]:
    """What is looked for: pairs, or the one letter that there is."""
    yield from (letters[i : i + 2] for i in range(max(len(letters) - 1, 1)))


def _held(letters: str) -> Iterator[str]:
    """What can be looked for: pairs, and each letter alone."""
    yield from _asked(letters)
    yield from letters if len(letters) > 1 else ()
