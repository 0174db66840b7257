"""The words of an index's texts: SQLite's full text search (FTS5, BM25), in the file that holds the texts.

It finds what an embedding is blind to: names, numbers, error codes, and the day when something was said.

Scripts that put no spaces between words (and Korean, which joins particles to them) are written as pairs of
neighbouring characters, in the texts and in what is asked, so that words need no dictionary:
証明書 becomes 証明 明書 書.
"""

from __future__ import annotations

import re
import sqlite3
import unicodedata

WORDS = 2
"""Raised when `searchable` writes texts otherwise: an index of other words is still searched, and soon built anew."""

TABLES = """
CREATE VIRTUAL TABLE words USING fts5 (
    text, day, content = 'documents', content_rowid = 'row', tokenize = "porter unicode61 categories 'L* N* Co Mn Mc'"
);
CREATE TRIGGER words_of_new AFTER INSERT ON documents BEGIN
    INSERT INTO words (rowid, text, day) VALUES (new.row, searchable(new.text), new.day);
END;
CREATE TRIGGER words_of_old AFTER DELETE ON documents BEGIN
    INSERT INTO words (words, rowid, text, day) VALUES ('delete', old.row, searchable(old.text), old.day);
END;
"""

BEST = """
SELECT documents.row FROM words JOIN documents ON documents.row = words.rowid
WHERE words MATCH ? AND (documents.team, documents.channel) IN (
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?)
) ORDER BY bm25(words), documents.row LIMIT ?
"""
"""Rows by their words; the values are a `match`, (team, channel) pairs as JSON, and a number of rows."""

MOST_WORDS = 64
_COMMON = """
a about am an and any are as at be been being but by can could did do does doing done for from had has have
having he her here him his how i if in into is it its just me might must my no nor not of off on or our
out over shall she should so some than that the their them then there these they this those to too up us
very was we were what when where which who whom whose why will with would you your
"""
COMMON = frozenset(_COMMON.split())
"""English words that stand everywhere and tell nothing; looking for them costs most of the time."""


_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa"
    "\u30fc-\u30ff\u3105-\u312f\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua9e0-\ua9ff\uaa60-\uaa7f\uac00-\ud7ff"
    "\uf900-\ufaff\U00020000-\U0003ffff]+"
)
"""A run of Thai, Lao, Burmese, Khmer, Korean, Japanese or Chinese."""
_LONGEST_PHRASE = 8
"""Characters up to which a run may be one word, and is looked for as a whole too."""


def prepare(connection: sqlite3.Connection) -> None:
    """Give a connection what the tables' triggers call."""
    connection.create_function("searchable", 1, searchable, deterministic=True)


def searchable(text: str) -> str:
    """A text as its words are indexed."""
    return _UNSPACED.sub(lambda run: f" {' '.join(_pairs(run[0]))} ", _plain(text))


def match(query: str) -> str:
    """The expression that finds texts with any word of `query`, common ones only where it has no others; "" without."""
    words = dict.fromkeys(_plain(query).split())
    telling = [word for word in words if word not in COMMON] or list(words)
    terms = dict.fromkeys(term for word in telling[:MOST_WORDS] for term in _terms(word))
    return " OR ".join(list(terms)[:MOST_WORDS])


def _plain(text: str) -> str:
    """Words and the spaces between them, in lower case and one form for each letter."""
    same = unicodedata.normalize("NFKC", text).lower()
    return "".join(char if _in_word(char) else " " for char in same)


def _in_word(char: str) -> bool:
    return (
        char.isalnum()
        or char == "_"
        or (unicodedata.category(char) in {"Mn", "Mc"} and not "\ufe00" <= char <= "\ufe0f")
    )


def _terms(word: str) -> list[str]:
    """What to look for: spaced words as they are, the pairs of a run, and a short run also as a whole."""
    terms = []
    for part in _parts(word):
        if not _UNSPACED.fullmatch(part):
            terms.append(f'"{part}"')
            continue
        pairs = _pairs(part)
        if len(pairs) == 1:
            terms.append(f'"{part}" *')
            continue
        whole = [" ".join(pairs[:-1])] if 2 < len(pairs) <= _LONGEST_PHRASE else []
        terms += [f'"{term}"' for term in (*whole, *pairs[:-1])]
    return terms


def _parts(word: str) -> list[str]:
    return _UNSPACED.sub(lambda run: f" {run[0]} ", word).split()


def _pairs(run: str) -> list[str]:
    """Each character with its neighbour; the last, alone, is what a search for one character finds."""
    characters = _characters(run)
    return [first + second for first, second in zip(characters, [*characters[1:], ""], strict=True)]


def _characters(run: str) -> list[str]:
    """Letters with the marks that belong to them."""
    found: list[str] = []
    for char in run:
        if found and unicodedata.category(char)[0] == "M":
            found[-1] += char
        else:
            found.append(char)
    return found
