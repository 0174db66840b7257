"""What Slack or a model wrote shows in a terminal, and can't command it: no moved cursor, no title, no forged line."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from doppel.access import ReadPolicy
from doppel.console import Console, Result
from doppel.errors import InferenceError
from doppel.plain_text import json_text, line, lines, plain
from doppel.records import Dialogue, Persona, ReplyEvent, Turn
from doppel.terminal import ask, converse
from tests.end_to_end import ROOT, doppel, environment
from tests.fakes.engine import answer, passage

HOSTILE = (
    "\x1b[2J\x1b[1;31mred\x1b[0m \x1b]0;title\x07 \x1b]8;;https://evil.example\x1b\\link\x1b]8;;\x1b\\ "
    "\x1b]52;c;aGk=\x07 \x9b31m \x90q\x9c \r over \b\v\f\x7f\x85 \u202egnp.exe\u202c \u2066i\u2069 \u2028 [red]x[/red]"
)
ALLOWED = {"\n", "\t"}


def commands(text: str) -> set[str]:
    """The characters in there that a terminal acts upon."""
    turns = {*map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A)), "\u2028", "\u2029"}
    return {c for c in text if (ord(c) < 32 or 127 <= ord(c) < 160 or c in turns) and c not in ALLOWED}


def test_nothing_that_a_terminal_acts_upon_is_left() -> None:
    assert len(commands(HOSTILE)) > 15
    assert commands(plain(HOSTILE)) == set()
    assert commands("".join(plain(chr(code)) for code in range(0x3000))) == set()


def test_what_shows_stays_as_it_is() -> None:
    text = "Größe: 3 €\n\tأهلا, שלום, 日本, 👩‍👩‍👧 [link=https://x]no markup[/link] :smile:\n"
    assert plain(text) == text
    assert plain("half \ud800 of a pair") == "half � of a pair"
    assert plain("of Windows\r\n") == "of Windows\n"


def test_a_sequence_that_comes_in_pieces_goes_too() -> None:
    for cut in range(len(HOSTILE)):
        assert plain(HOSTILE[:cut]) + plain(HOSTILE[cut:]) == plain(HOSTILE)
    assert "".join(map(plain, HOSTILE)) == plain(HOSTILE)


def test_a_line_is_one_line() -> None:
    assert line("Ines\nRecorded:\tJun\r\nagreed") == "Ines Recorded: Jun agreed"
    assert lines(["a\nb", "c"]) == "a b\nc"


def test_json_escapes_the_same_and_means_the_same() -> None:
    data = {HOSTILE: [HOSTILE, "Größe \ud800"]}
    text = json_text(data)
    assert commands(text) == set()
    assert "\n" not in text
    assert text.encode()
    assert json.loads(text) == data
    assert "Größe" in text


class Scripted:
    """An engine that says what it is told to, a character a piece, and then fails if told so."""

    def __init__(self, text: str, fault: str = "") -> None:
        self._text, self._fault = text, fault

    async def reply(self, persona: Persona, dialogue: Dialogue, place: ReadPolicy) -> AsyncIterator[ReplyEvent]:
        for step in answer(persona, self._text, [passage(channel=f"{HOSTILE}\nforged")], [HOSTILE]):
            if isinstance(step, ReplyEvent):
                yield step
        if self._fault:
            raise InferenceError(self._fault)


PERSONA = Persona("T1", "U1", f"Ines{HOSTILE}\nforged", "ines")


async def test_a_chat_writes_plain_text_alone() -> None:
    written: list[str] = []
    await ask(Scripted(f"one\n{HOSTILE}"), PERSONA, Dialogue((Turn("Jun", "?"),)), written.append)
    text = "".join(written)
    assert commands(text) == set()
    assert "[red]x[/red]" in text
    assert not [found for found in text.splitlines() if found.startswith("forged")]


async def test_an_error_in_a_chat_is_one_plain_line() -> None:
    written: list[str] = []
    questions = iter(["?", "exit"])
    await converse(Scripted("", f"No.{HOSTILE}\nforged"), PERSONA, lambda: next(questions), written.append)
    text = "".join(written)
    assert commands(text) == set()
    assert "\nforged" not in text


def test_what_a_command_prints_is_plain(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(as_json=False)
    console.say(f"{HOSTILE}\nforged :smile:")
    console.write(HOSTILE)
    console.result(Result({}, f"first\n{HOSTILE}"))
    with console.progress(HOSTILE) as update:
        update(1, 1, note=HOSTILE)
    with pytest.raises(SystemExit), console.guarded(lambda: Path("unused")):
        raise InferenceError(f"Nobody is called {HOSTILE}\nforged.")
    out, err = capsys.readouterr()
    assert commands(out) | commands(err) == set()
    assert "[red]x[/red]" in out
    assert "[red]x[/red]" in err
    assert "forged :smile:" in err
    assert not [found for found in err.splitlines() if found.startswith("forged")]


ON_A_TERMINAL = """
import logging, sys
from doppel.console import Console, quiet_libraries
quiet_libraries()
hostile = sys.argv[1]
console = Console(as_json=False)
console.say(hostile)
with console.progress("What " + hostile) as update:
    update(1, 2, note="Note " + hostile)
logging.getLogger("anything").error(hostile)
try:
    raise ValueError(hostile)
except ValueError:
    logging.getLogger("uvicorn.error").exception("It failed.")
"""


def test_progress_and_logs_on_a_real_terminal_are_plain_too() -> None:
    """Rich moves the cursor itself; what it is given can't."""
    master, terminal = pty.openpty()
    command = [sys.executable, "-c", ON_A_TERMINAL, HOSTILE]
    environ = os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "400"}
    process = subprocess.Popen(command, env=environ, stdout=terminal, stderr=terminal)
    os.close(terminal)
    seen = b""
    with closing(os.fdopen(master, "rb", buffering=0)) as reading:
        while True:
            try:
                data = reading.read(1 << 16)
            except OSError:
                break
            if not data:
                break
            seen += data
    assert process.wait(60) == 0
    text = seen.decode()
    for sequence in ("\x1b[2J", "\x1b]", "\x07", "\x9b", "\u202e", "\x1b[1;31mred"):
        assert sequence not in text, sequence
    assert text.count("[red]x[/red]") >= 5


def test_what_is_in_the_archive_is_printed_plainly_by_every_command(tmp_path: Path) -> None:
    export, data = tmp_path / "export", tmp_path / "data"
    (export / "general").mkdir(parents=True)
    name = f"Ines {HOSTILE}\nforged"
    user = {"id": "U1", "team_id": "T1", "name": "ines", "profile": {"real_name": name, "display_name": name}}
    said = {"type": "message", "user": "U1", "ts": "1700000000.000100", "text": HOSTILE}
    for path, content in (
        ("users.json", [user]),
        ("channels.json", [{"id": "C1", "name": "general", "members": ["U1"]}]),
        ("general/2024-01-01.json", [said]),
    ):
        (export / path).write_text(json.dumps(content))
    assert doppel(data, "import", str(export)).status == 0
    for words in (["consent", "grant", "ines"], ["personas"], ["personas", "--json"], ["train", "--user", "ines"]):
        done = subprocess.run(
            [sys.executable, "app.py", *words],
            cwd=ROOT,
            env=os.environ | environment(data),
            capture_output=True,
            text=True,
            check=False,
        )
        assert commands(done.stdout) | commands(done.stderr) == set(), words
        # What a job says is kept, and names people by their ids.
        assert ("U1" if "train" in words else "red") in done.stdout + done.stderr, words
        assert not [found for found in done.stdout.splitlines() if found.startswith("forged")], words


def test_an_error_that_nobody_foresaw_is_logged_plainly(tmp_path: Path) -> None:
    log = tmp_path / "doppel.log"
    with pytest.raises(SystemExit), Console(as_json=False).guarded(lambda: log):
        raise ValueError(HOSTILE)
    assert commands(log.read_text()) == set()
    assert "ValueError" in log.read_text()
