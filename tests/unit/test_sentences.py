"""People in Slack are told what happened and whom to turn to, never what to type into a shell."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from doppel.bot.sentences import SOMETHING, in_slack, without_commands
from doppel.errors import ArtifactError, ConsentError, DoppelError, InferenceError
from tests.end_to_end import ROOT

SHELL = re.compile(r"`(?!/doppel)[a-z.]*(?:doppel|make|pip|python|export)\b|DOPPEL_|SLACK_[A-Z]|(?<!\w)--[a-z]|\.txt\b")
ONLY_SLACK = ("doppel/bot", "doppel/slack/blocks.py", "doppel/slack/consent_blocks.py", "doppel/slack/draft_blocks.py")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            ArtifactError("There is no index yet; run `doppel reindex`."),
            "There is no index yet; tell whoever runs Doppel.",
        ),
        (
            ConsentError(
                "Ines has not agreed to a doppelganger; once they have, record it with `doppel consent grant U1`."
            ),
            "Ines has not agreed to a doppelganger; `/doppel train @someone` asks somebody for it.",
        ),
        (
            InferenceError("The model has not started; its log is /srv/doppel/logs/vllm.log."),
            "The model has not started; tell whoever runs Doppel.",
        ),
        (
            InferenceError("No vLLM server answers at http://127.0.0.1:9/v1; start it, or correct DOPPEL_VLLM_URL."),
            SOMETHING,
        ),
        (DoppelError("DOPPEL_LORA_OPTIONS is wrong: r."), SOMETHING),
        (DoppelError("The bot is not in it; invite it, or join public channels with --join."), None),
        (DoppelError("Nothing was sent. See `make setup`."), "Nothing was sent. Tell whoever runs Doppel."),
        (DoppelError("Somebody's messages were removed while this was being written; ask again."), ""),
        (DoppelError("Say whom: /doppel use @someone, or `/doppel use @someone workspace`; and/or nobody."), ""),
        (DoppelError("Write 5/6 or https://example.org/a; or http://x/make it."), ""),
    ],
)
def test_an_error_is_told_without_what_an_operator_does(error: DoppelError, said: str | None) -> None:
    expected = "The bot is not in it; tell whoever runs Doppel." if said is None else said or str(error)
    assert in_slack(error) == expected


def test_a_job_that_failed_is_told_without_commands() -> None:
    outcome = "Job 12ab (reindex) is failed. The index is of another version of Doppel; run `doppel reindex`."
    assert without_commands(outcome) == (
        "Job 12ab (reindex) is failed. The index is of another version of Doppel; tell whoever runs Doppel."
    )


def texts(path: Path) -> Iterator[str]:
    """Every text of a module but for its docstrings; the parts of one that is put together are one text."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    notes = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr) and id(node) not in notes:
            parts = (part.value if isinstance(part, ast.Constant) else "x" for part in node.values)
            yield "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in notes | inside:
            yield node.value


def errors() -> Iterator[str]:
    """Every sentence of an error that the program raises anywhere."""
    for folder in ("doppel", "indexing", "training"):
        for path in (ROOT / folder).rglob("*.py"):
            for text in texts(path):
                if re.match(r"[A-Zx].{15,}[.]$", text, re.DOTALL):
                    yield text


def test_no_sentence_of_an_error_brings_a_command_into_slack() -> None:
    found = sorted(set(errors()))
    with_commands = [text for text in found if SHELL.search(text)]
    assert len(with_commands) > 30
    assert [text for text in with_commands if SHELL.search(without_commands(text))] == []
    assert all(without_commands(text).endswith(".") for text in with_commands)


def test_the_texts_that_are_for_slack_alone_have_none() -> None:
    paths = [
        path for name in ONLY_SLACK for path in ([ROOT / name] if name.endswith(".py") else (ROOT / name).glob("*.py"))
    ]
    assert len(paths) > 10
    said = [(path.name, text) for path in paths if path.name != "sentences.py" for text in texts(path)]
    assert [found for found in said if SHELL.search(found[1])] == []
