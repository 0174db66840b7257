"""The words of an index's texts: SQLite's full text search (FTS5, BM25), in the file that holds the texts.

It finds what an embedding is blind to: names, numbers, error codes, and the day when something was said.
"""

from __future__ import annotations

import re

TABLES = """
CREATE VIRTUAL TABLE words USING fts5 (
    text, day, content = 'documents', content_rowid = 'row', tokenize = 'porter unicode61'
);
CREATE TRIGGER words_of_new AFTER INSERT ON documents BEGIN
    INSERT INTO words (rowid, text, day) VALUES (new.row, new.text, new.day);
END;
CREATE TRIGGER words_of_old AFTER DELETE ON documents BEGIN
    INSERT INTO words (words, rowid, text, day) VALUES ('delete', old.row, old.text, old.day);
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


def match(query: str) -> str:
    """The expression that finds texts with any word of `query`, common ones only where it has no others; "" without."""
    words = dict.fromkeys(re.findall(r"\w+", query.lower()))
    telling = [word for word in words if word not in COMMON] or list(words)
    return " OR ".join(f'"{word}"' for word in telling[:MOST_WORDS])
