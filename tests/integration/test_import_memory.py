"""An import's memory doesn't grow with what it reads: a whole process stays below LIMIT, however large a file is."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end import environment
from tests.memory import peak_of

LIMIT = 300
"""In MiB; a Python that has imported what an import needs takes 75."""
STORED = 100
TEXT = " ".join(f"word{i * 7919 % 99991}" for i in range(30_000))


def day(megabytes: int) -> Iterator[bytes]:
    """A day of large messages, most of them there again and again: storing them all would take longer, not more."""
    yield b"["
    for number in range(megabytes * 2**20 // len(TEXT)):
        raw = {"type": "message", "user": "U1", "ts": f"{1_700_000_000 + number % STORED}.000100", "text": TEXT}
        yield (b"," if number else b"") + json.dumps(raw).encode()
    yield b"]"


def written(path: Path, megabytes: int, packed: bool) -> Path:
    lists = {"users.json": b'[{"id": "U1", "name": "ada"}]', "channels.json": b'[{"id": "C1", "name": "general"}]'}
    name = "general/2023-11-14.json"
    if packed:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
            for list_, data in lists.items():
                file.writestr(list_, data)
            with file.open(name, "w") as entry:
                entry.writelines(day(megabytes))
        return path
    (path / "general").mkdir(parents=True)
    for list_, data in lists.items():
        (path / list_).write_bytes(data)
    with (path / name).open("wb") as plain:
        plain.writelines(day(megabytes))
    return path


@pytest.mark.parametrize("packed", [True, False], ids=["zip", "folder"])
@pytest.mark.parametrize("megabytes", [64, 200])
def test_a_day_of_any_size_takes_no_more_memory(
    tmp_path: Path, megabytes: int, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(tmp_path / "data").items():
        monkeypatch.setenv(name, value)
    export = written(tmp_path / "export", megabytes, packed)
    mebibytes, said = peak_of("import", str(export), "--json")
    assert json.loads(said)["added"] == STORED
    assert mebibytes < LIMIT
