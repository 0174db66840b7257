"""A command line whose jobs count: `python -m tests.fakes.job KIND WHAT …`, in place of `python app.py`."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from doppel.config import Settings, load_settings
from doppel.console import Console, Result
from doppel.jobs.reports import JobConsole, Reports

if TYPE_CHECKING:
    from doppel.jobs.queue import Request

ROOT = Path(__file__).parent.parent.parent
COMMAND = (sys.executable, "-m", "tests.fakes.job")
STEP_SECONDS = 0.1


def request(*words: str, queue: str = "q", kind: str = "reindex", **environ: str) -> Request:
    """A job of the stand-ins."""
    from doppel.jobs.queue import Request

    return Request(kind, words, environ, str(ROOT), queue)


def counting(journal: Path, steps: int, mood: str = "mild") -> tuple[str, ...]:
    """The words of a job that counts to `steps` in the file `journal` and goes on from what stands there."""
    return "count", str(journal), str(steps), mood


def main() -> None:
    """Be a job, a command that waits for one, or a worker that drains the queues."""
    first, *words = sys.argv[1:]
    settings = load_settings(os.environ)
    reports = Reports.inherited()
    console = JobConsole(reports) if reports else Console(as_json=True)
    with console.guarded(lambda: settings.logs_dir / "doppel.log"):
        if reports:
            _work(console, *words)
        elif first == "jobs":
            _drain(settings)
        else:
            _ask(settings, console, words)


def _drain(settings: Settings) -> None:
    from doppel.jobs.worker import drain

    drain(settings, COMMAND)


def _ask(settings: Settings, console: Console, words: list[str]) -> None:
    from doppel.jobs.queue import Jobs
    from doppel.jobs.waiting import follow

    with Jobs(settings) as jobs:
        console.result(Result(follow(jobs, *jobs.ask(request(*words)), console, COMMAND)["data"]))


def _work(console: Console, what: str, *words: str) -> None:
    if what == "fail":
        raise RuntimeError("boom")
    if what == "vanish":
        os._exit(3)
    if what == "settings":
        console.result(Result({"settings": os.environ["FOR_THE_JOB"], "here": str(Path.cwd())}, "As told."))
        return
    journal, steps, mood = Path(words[0]), int(words[1]), words[2]
    if mood == "stubborn":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    first = len(journal.read_text().splitlines()) if journal.exists() else 0
    console.say(f"Counting from {first}.")
    with console.progress("Counting") as update:
        for step in range(first + 1, steps + 1):
            time.sleep(STEP_SECONDS)
            with journal.open("a") as file:
                file.write(f"{step} {os.getpid()}\n")
            update(step, steps, note=f"step {step}")
    console.result(Result({"steps": steps, "first": first}, f"Counted to {steps}."))


if __name__ == "__main__":
    main()
