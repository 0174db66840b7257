"""`doppel import` into a new archive, against reading the same ZIP and nothing else: python -m benchmarks.importing"""

from __future__ import annotations

import json
import time
import zipfile
from argparse import Namespace
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.command import main
from benchmarks.frame import Benchmark, Contender, MeasurementError, Samples
from benchmarks.process import in_fresh_process
from benchmarks.workspace import as_zip, import_into, json_bytes

LIMIT_SECONDS = 1800.0

DOES_NOT_SHOW = (
    "the start of the command's interpreter and its imports, which come on top of each call (it is not timed).",
    "reading from a cold disk: the ZIP is in the page cache; the archive is written and synced where TMPDIR lies.",
    "what an archive with years of other exports costs, or several people at once.",
    "an equal: the peer only unpacks and parses, and is a lower bound for anything that reads the export in Python.",
)


def prepare(given: Namespace, work: Path) -> Benchmark:
    """A ZIP of the export, and an archive that has it already."""
    export, full = as_zip(given.export, work), work / "full.db"
    messages, _ = in_fresh_process(LIMIT_SECONDS, timed_import, full, export)
    size = json_bytes(export)

    def rates(found: tuple[int, float]) -> Samples:
        if found[0] != messages:
            raise MeasurementError(f"{found[0]} messages were read instead of {messages}.")
        return {"messages/s": [messages / found[1]], "MB/s": [size / 1e6 / found[1]], "seconds": [found[1]]}

    def into_new() -> Samples:
        with TemporaryDirectory(dir=work) as folder:
            return rates(in_fresh_process(LIMIT_SECONDS, timed_import, Path(folder) / "archive.db", export))

    return Benchmark(
        name="importing",
        title="Importing an export into a new archive",
        contenders=(
            Contender("doppel, new archive", into_new),
            Contender("zipfile + json.loads", lambda: rates((messages, _parsing(export)))),
            Contender("doppel, again into a full archive", lambda: rates(_again(full, export))),
        ),
        workload={
            "export": given.export.name,
            "messages": messages,
            "json_megabytes": round(size / 1e6, 3),
            "process": "a fresh one for each measurement",
        },
        libraries=("SQLAlchemy", "alembic"),
        does_not_show=DOES_NOT_SHOW,
    )


def timed_import(archive: Path, export: Path) -> tuple[int, float]:
    """Messages that an import read, and its seconds from opening the ZIP to closing the archive."""
    started = time.perf_counter()
    report = import_into(archive, export)
    return report.added + report.updated + report.unchanged, time.perf_counter() - started


def timed_parsing(export: Path) -> float:
    """Seconds to unpack and parse every JSON file of a ZIP."""
    started = time.perf_counter()
    with zipfile.ZipFile(export) as opened:
        for name in opened.namelist():
            if name.endswith(".json"):
                json.loads(opened.read(name))
    return time.perf_counter() - started


def _parsing(export: Path) -> float:
    return in_fresh_process(LIMIT_SECONDS, timed_parsing, export)


def _again(archive: Path, export: Path) -> tuple[int, float]:
    return in_fresh_process(LIMIT_SECONDS, timed_import, archive, export)


if __name__ == "__main__":
    main("importing", prepare, rounds=10, warmup=1)
