"""The command line that the benchmarks share: progress on stderr, a table on stdout, JSON in a file."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from benchmarks.frame import Benchmark, Result, Run
from benchmarks.machine import ROOT, busy_share, machine_facts
from benchmarks.table import table
from doppel.artifacts import write_atomic
from doppel.console import FAILED, INTERRUPTED, quiet_libraries
from doppel.errors import DoppelError

SAMPLE = ROOT / "examples" / "sample-workspace"
RESULTS = ROOT / "benchmarks" / "results"
WIDTH = 120

Prepare = Callable[[Namespace, Path], Benchmark]
"""Called with the options and an empty folder, which is deleted after a run that did not fail."""


def main(
    name: str, prepare: Prepare, *, rounds: int, warmup: int, options: Callable[[ArgumentParser], object] | None = None
) -> None:
    """Run a benchmark as its command; ends with 1 where it fails, and with 130 where it is interrupted."""
    given = _parser(name, rounds, warmup, options).parse_args()
    quiet_libraries()
    _let_sigterm_interrupt()
    try:
        with _work_folder(name) as work:
            _run(prepare(given, work), given)
    except DoppelError as error:
        say(str(error))
        sys.exit(FAILED)
    except KeyboardInterrupt:
        say("Interrupted.")
        sys.exit(INTERRUPTED)


def say(text: str) -> None:
    """One line of progress."""
    print(text, file=sys.stderr, flush=True)


def _run(benchmark: Benchmark, given: Namespace) -> None:
    """Measure, and hand out what was measured however that ends."""
    machine = machine_facts(benchmark.libraries)
    run = Run(benchmark, given.rounds, given.warmup, say, busy_share)
    try:
        run.measure()
    except KeyboardInterrupt:
        _hand_out(run.result(machine, "interrupted"), given.out)
        raise
    except Exception as error:
        _hand_out(run.result(machine, str(error) or type(error).__name__), given.out)
        raise
    _hand_out(run.result(machine), given.out)


def _hand_out(result: Result, out: Path) -> None:
    """Print the table and write the JSON: an incomplete one beside the complete one, never over it."""
    path = out if result.complete else out.with_suffix(".partial.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(asdict(result), indent=1, ensure_ascii=False) + "\n")
    if result.figures:
        Console(width=max(Console().width, WIDTH), highlight=False).print(table(result), markup=False)
    say(f"Wrote {path}.")


def _parser(name: str, rounds: int, warmup: int, options: Callable[[ArgumentParser], object] | None) -> ArgumentParser:
    parser = ArgumentParser(f"python -m benchmarks.{name}", description="See benchmarks/README.md.")
    parser.add_argument(
        "--export", type=Path, default=SAMPLE, help="a Slack export, ZIP or folder (default: the sample)"
    )
    parser.add_argument("--rounds", type=_at_least(1), default=rounds, help="rounds that count (default: %(default)s)")
    parser.add_argument("--warmup", type=_at_least(0), default=warmup, help="rounds before (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=RESULTS / f"{name}.json", help="where the JSON goes")
    if options:
        options(parser)
    return parser


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if int(text) < least:
            raise ValueError
        return int(text)

    return number


@contextmanager
def _work_folder(name: str) -> Iterator[Path]:
    """A folder for archives, indexes, models and logs; left where it is after a failure, for its logs."""
    work = Path(tempfile.mkdtemp(prefix=f"doppel-{name}-"))
    try:
        yield work
    except Exception:
        if any(work.iterdir()):
            say(f"What the failed run left is in {work}.")
        else:
            work.rmdir()
        raise
    except KeyboardInterrupt:
        shutil.rmtree(work)
        raise
    shutil.rmtree(work)


def _let_sigterm_interrupt() -> None:
    """Both signals end a run alike, also where a shell that put it into the background had SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
