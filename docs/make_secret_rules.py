"""Writes doppel/engine/secret_rules.json: the forms of services' keys, from a rule set that is kept up elsewhere.

The rules are those of Betterleaks (by the author of Gitleaks; MIT) and of Veles (Google; Apache 2.0), as the package
`kingfisher-secret-scanner` (MongoDB; Apache 2.0) brings them; doppel/engine/secret_rules.LICENSE has their notices. It
is not among Doppel's dependencies. To refresh, in an environment of its own:

    pip install kingfisher-secret-scanner && python docs/make_secret_rules.py

A rule is left out where it names what is no secret, such as a client's id, where what it finds isn't one word, where no
word of it is always there to look for first, or where Python's `re` would take long over a hostile text.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import time
import warnings
from pathlib import Path
from typing import Any

from re import _constants as codes  # isort: skip
from re import _parser as parser  # isort: skip

PACKAGE = "kingfisher-secret-scanner"
TARGET = Path(__file__).parent.parent / "doppel" / "engine" / "secret_rules.json"
NO_SECRET = re.compile(r"(?:-id|-url|-domain|-host|-name|username|-repository|public|pub-key|pub-api|-address)")
OURS = re.compile(
    r"curl-auth|private-key$|kubernetes-secret|generic-credential-uri|connection-string|service-account$"
    r"|alibaba-secret-key|sts-access-key-secret|aws-secret-access-key|vault-service-token"
)
MIN_KEYWORD = 2
SLOW_SECONDS = 0.15
"""For 200 kB of hostile text."""


def main() -> None:
    from kingfisher_sdk import Rules  # type: ignore[import-not-found]

    rules = Rules(confidence="low", cache=False)
    found = [rules.detail(rule["id"]) for rule in rules.metadata()]
    kept, dropped = {}, {}
    for rule in found:
        reason = None
        try:
            converted = convert(rule)
        except UnfitError as error:
            reason = str(error)
        if reason:
            dropped[rule["id"]] = reason
        elif not any(known["regex"] == converted["regex"] for known in kept.values()):
            kept[rule["id"].removeprefix("betterleaks.").removeprefix("veles.secrets/")] = converted
    content = {
        "source": f"{PACKAGE} {importlib.metadata.version(PACKAGE)}: Betterleaks (MIT), Veles (Apache 2.0)",
        "rules": kept,
    }
    TARGET.write_text(json.dumps(content, indent=1, ensure_ascii=True) + "\n", encoding="utf-8")
    print(f"{len(kept)} rules kept, {len(dropped)} left out:")
    for name, reason in sorted(dropped.items(), key=lambda item: item[1]):
        print(f"  {name}: {reason}")


class UnfitError(Exception):
    """Why a rule is left out."""


def convert(rule: dict[str, Any]) -> dict[str, Any]:
    """A rule as `doppel.engine.secret_rules` reads it. Raises UnfitError."""
    if NO_SECRET.search(rule["id"]):
        raise UnfitError("no secret")
    if OURS.search(rule["id"]):
        raise UnfitError("Doppel has its own")
    if rule["path"]:
        raise UnfitError("for certain files only")
    regex = to_python(rule["detection_regex"])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compiled = re.compile(regex, re.ASCII)
        tree = parser.parse(regex, re.ASCII)
    except re.error as error:
        raise UnfitError(f"not Python's: {error}") from None
    if wanders(tree):
        raise UnfitError("looks too far")
    keywords = sorted(must_have(tree))
    if not keywords:
        raise UnfitError("no word to look for")
    if slow(compiled, keywords):
        raise UnfitError("slow")
    return {"regex": regex, "group": secret_group(rule, compiled), "keywords": keywords}


def to_python(regex: str) -> str:
    """RE2's and PCRE's notation in Python's: `(?i)` in mid-expression holds to the end of its group."""
    regex = regex.replace(r"\z", r"\Z").replace("[:alnum:]", "A-Za-z0-9")
    while match := re.search(r"(?<=.)\(\?i\)", regex):
        end = group_end(regex, match.end())
        regex = f"{regex[: match.start()]}(?i:{regex[match.end() : end]}){regex[end:]}"
    return regex


def group_end(regex: str, start: int) -> int:
    """Where the group ends that `start` is in."""
    depth, in_class, i = 0, False, start
    while i < len(regex):
        sign = regex[i]
        if sign == "\\":
            i += 1
        elif in_class:
            in_class = sign != "]"
        elif sign == "[":
            in_class = True
        elif sign == "(":
            depth += 1
        elif sign == ")":
            if depth == 0:
                return i
            depth -= 1
        i += 1
    return len(regex)


def secret_group(rule: dict[str, Any], compiled: re.Pattern[str]) -> int:
    """Which group is the secret; 0 where it is the whole."""
    if "TOKEN" in compiled.groupindex:
        return compiled.groupindex["TOKEN"]
    return rule["betterleaks_secret_group"] or (1 if compiled.groups == 1 else 0)


def wanders(tree: Any) -> bool:
    """Whether something repeats without a limit that takes white space, or that repeats in itself."""
    for op, arguments in tree:
        if op in (codes.MAX_REPEAT, codes.MIN_REPEAT):
            low, high, body = arguments
            inside = list(body)
            if high is codes.MAXREPEAT and (takes_space(inside) or any(repeats(item) for item in inside)):
                return True
            if low != high and 1000 < high < codes.MAXREPEAT:
                return True
            if wanders(body):
                return True
        elif (op is codes.SUBPATTERN and wanders(arguments[3])) or (
            op is codes.BRANCH and any(wanders(branch) for branch in arguments[1])
        ):
            return True
    return False


def repeats(item: Any) -> bool:
    op, arguments = item
    if op in (codes.MAX_REPEAT, codes.MIN_REPEAT):
        return bool(arguments[1] is codes.MAXREPEAT)
    return op is codes.SUBPATTERN and any(repeats(inner) for inner in arguments[3])


def takes_space(items: Any) -> bool:
    """Whether one of these single-character items takes a blank."""
    for op, arguments in items:
        if op is codes.ANY:
            return True
        if op is codes.IN and re.fullmatch(class_of(arguments), " "):
            return True
        if op is codes.SUBPATTERN and takes_space(arguments[3]):
            return True
        if op is codes.BRANCH and any(takes_space(branch) for branch in arguments[1]):
            return True
    return False


def class_of(arguments: Any) -> str:
    parts = []
    for op, value in arguments:
        if op is codes.NEGATE:
            parts.append("^")
        elif op is codes.LITERAL:
            parts.append(re.escape(chr(value)))
        elif op is codes.RANGE:
            parts.append(f"{re.escape(chr(value[0]))}-{re.escape(chr(value[1]))}")
        elif op is codes.CATEGORY:
            names = {codes.CATEGORY_SPACE: r"\s", codes.CATEGORY_WORD: r"\w", codes.CATEGORY_DIGIT: r"\d"}
            parts.append(names.get(value, r"\S"))
    return f"[{''.join(parts)}]"


def must_have(tree: Any) -> set[str]:
    """Texts, in small letters, of which one is in everything that matches; the longest such; empty where none is."""
    best: set[str] = set()
    run = ""

    def consider(words: set[str]) -> None:
        nonlocal best
        shortest = min(map(len, words), default=0)
        if shortest >= MIN_KEYWORD and shortest > min(map(len, best), default=0):
            best = words

    for op, arguments in tree:
        if op is codes.LITERAL:
            run += chr(arguments).lower()
            continue
        consider({run} if run else set())
        run = ""
        if op is codes.SUBPATTERN:
            consider(must_have(arguments[3]))
        elif op is codes.BRANCH:
            branches = [must_have(branch) for branch in arguments[1]]
            if all(branches):
                consider(set().union(*branches))
        elif op in (codes.MAX_REPEAT, codes.MIN_REPEAT) and arguments[0] >= 1:
            consider(must_have(arguments[2]))
    consider({run} if run else set())
    return best


def slow(compiled: re.Pattern[str], keywords: list[str]) -> bool:
    hostile = [(word * 200_000)[:200_000] for word in (*keywords[:4], "a", "A1", "eyJ", "= ", "-", keywords[0] + "= ")]
    for text in hostile:
        for given in (text, text.upper()):
            started = time.perf_counter()
            sum(1 for _ in compiled.finditer(given))
            if time.perf_counter() - started > SLOW_SECONDS:
                return True
    return False


if __name__ == "__main__":
    main()
