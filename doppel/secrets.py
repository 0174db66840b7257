"""Secrets in text: tokens, passwords and private keys are masked wherever a model's words are shown. Pure.

It knows the published forms of common keys (their prefixes, as the services document them for secret scanners) and
what stands behind a telling word, such as `password=`. A secret without either is not recognised.
"""

from __future__ import annotations

import re

from doppel.pieces import Pieces

MASK = "[masked secret]"

_BLANKS = r"[ \t]{0,8}"
_TOKENS = (
    r"xox[a-z](?:\.xox[a-z])?-[\w-]{10,}",  # Slack
    r"xapp-\d-[\w-]{10,}",
    r"(?:AKIA|ASIA)[A-Z0-9]{16,}",  # AWS; the secret beside it has no form of its own
    r"gh[opsru]_[A-Za-z0-9]{20,}",  # GitHub
    r"github_pat_\w{20,}",
    r"gl[a-z]{2,5}-[\w-]{20,}",  # GitLab
    r"sk-(?=[\w-]{0,60}\d)[\w-]{20,}",  # OpenAI, Anthropic
    r"[rs]k_(?:live|test)_[A-Za-z0-9]{16,}",  # Stripe
    r"hf_[A-Za-z0-9]{20,}",  # Hugging Face
    r"AIza[\w-]{30,}",  # Google
    r"ya29\.[\w-]{20,}",
    r"eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*",  # JSON Web Tokens
    r"npm_[A-Za-z0-9]{30,}",
    r"pypi-[\w-]{30,}",
    r"\d{8,10}:[\w-]{35,}",  # Telegram bots
    r"SG\.[\w-]{16,}\.[\w-]{16,}",  # SendGrid
)
_TOKEN = rf"(?<![A-Za-z0-9])(?:{'|'.join(_TOKENS)})[\w-]*"
_WEBHOOK = r"(?<=://hooks\.slack\.com/)(?:services|workflows|triggers)/[\w/-]{10,}"
_IN_URL = r"(?<=://)[^\s/?#:]*:[^\s/?#]+(?P<host>@)"

_KEY_HEAD = r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
_KEY = rf"{_KEY_HEAD}.*?-----END [A-Z0-9 ]{{0,40}}PRIVATE KEY(?: BLOCK)?-----"

_WORD = r"(?:(?i:pass(?:word|wd|phrase)|pwd|secret|token|(?:api|access|private|secret)[_-]?key)s?[\"']?)"
_BARE = r"[^\s\"'`]"
_VALUE = rf"(?:\"[^\"\n]{{4,}}\"?|'[^'\n]{{4,}}'?|(?={_BARE}*\d|{_BARE}{{8}}){_BARE}{{4,}})"
_NAMED = rf"(?P<name>{_WORD}{_BLANKS}(?::=|=>|[:=]){_BLANKS}){_VALUE}"
_HEADER = rf"(?i:Authorization[\"']?{_BLANKS}[:=]{_BLANKS}[\"']?)"
_SENT = rf"(?P<scheme>{_HEADER}(?:[A-Za-z]+[ \t]{{1,8}})?)[\w.~+/=-]{{8,}}"
_BEARER = r"(?P<bearer>(?i:Bearer)[ \t]{1,8})(?=[\w.~+/=-]*\d)[\w.~+/=-]{12,}"

_SECRET = rf"{_SENT}|{_BEARER}|{_NAMED}|{_WEBHOOK}|{_IN_URL}|{_TOKEN}"
# What could still become a secret: each beginning above, cut off by the end of the text.
_UNSETTLED = "|".join(
    (
        rf"{_KEY_HEAD}.*\Z",
        r"-----BEGIN [A-Z0-9 ]{0,60}-{0,4}\Z",
        rf"{_HEADER}(?:[A-Za-z]+[ \t]{{1,8}})?[\w.~+/=-]*\Z",
        rf"(?i:Authorization)[\"']?{_BLANKS}\Z",
        r"(?i:Bearer)[ \t]{1,8}\S*\Z",
        rf"{_WORD}{_BLANKS}(?:(?::=|=>|[:=]){_BLANKS}(?:\"[^\"\n]*|'[^'\n]*|{_BARE}*))?\Z",
        r"://[^\s/?#]*\Z",
    )
)
_WHOLE = re.compile(rf"{_KEY}|{_KEY_HEAD}.*\Z|{_SECRET}", re.DOTALL | re.ASCII)
_SCAN = re.compile(rf"{_KEY}|(?P<unsettled>{_UNSETTLED})|{_SECRET}", re.DOTALL | re.ASCII)


def mask(text: str) -> str:
    """`text` with `[masked secret]` for each secret; a private key goes whole, and to the end where it has none."""
    return _WHOLE.sub(_masked, text)


def masked_pieces() -> Pieces:
    """`mask` for text that arrives in pieces: a secret that is cut in two is never shown."""
    return Pieces(_SCAN, mask)


def _masked(match: re.Match[str]) -> str:
    return (match["name"] or match["scheme"] or match["bearer"] or "") + MASK + (match["host"] or "")
