"""What people in Slack are told when something goes wrong: what happened, and whom to turn to.

Errors end with what an operator does at the machine; in Slack nobody has that machine, and its paths are nobody's.
"""

from __future__ import annotations

import re

from doppel.errors import ConsentError, DoppelError

ASK_OPERATOR = "tell whoever runs Doppel"
ASK_PERSON = "`/doppel train @someone` asks somebody for it"
SOMETHING = f"Something is not set up right; {ASK_OPERATOR}."

_AT_THE_MACHINE = re.compile(
    r"`(?!/doppel\b)[^`\n]*`"
    r"|\b(?:DOPPEL|SLACK|PG|HF|VLLM)_[A-Z0-9_]+\b"
    r"|(?<![\w-])--[a-z][a-z-]+"
    r"|(?<![/\w])(?:doppel|pip|python|make|export|docker|systemctl|chmod) (?:install|uninstall|[a-z]+ )"
    r"|(?:^|(?<=[\s(]))(?:~|\.{0,2})/(?!doppel\b)[\w.-]+/[^\s;,)]*"
    r"|\bhttps?://(?:localhost|127\.|\[::1\]|0\.0\.0\.0)[^\s;,)]*"
    r"|\brequirements[\w-]*\.txt\b"
)
"""What only makes sense to whoever has a shell there: commands, settings, options, paths, addresses of the machine."""


def in_slack(error: DoppelError) -> str:
    """An error as a sentence for Slack."""
    return without_commands(str(error), ASK_PERSON if isinstance(error, ConsentError) else ASK_OPERATOR)


def without_commands(sentence: str, instead: str = ASK_OPERATOR) -> str:
    """A sentence whose clauses from the first that is for an operator on are replaced by one for everybody."""
    found = _AT_THE_MACHINE.search(sentence)
    if not found:
        return sentence
    head, separator, _ = sentence[: found.start()].rpartition("; ")
    if not separator:
        whole, separator, _ = sentence[: found.start()].rpartition(". ")
        return f"{whole}. {instead[:1].upper()}{instead[1:]}." if separator else SOMETHING
    return f"{head}; {instead}."
