"""What can be seen of a job while it runs: a small file that its worker replaces, and its log."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from doppel.config import Settings
from doppel.paths import within
from doppel.plain_text import line
from doppel.processes import started_at

EVERY_SECONDS = 0.5
LOG_TAIL_BYTES = 20_000
MAX_SAID = 1000


@dataclass(slots=True)
class JobState:
    """What a job has said, how far it is, and its process (its id, and when it was started) while it has one."""

    said: list[str] = field(default_factory=list)
    what: str = ""
    done: float = 0
    total: float | None = None
    note: str = ""
    process: tuple[int, float | None] | None = None

    @property
    def progress(self) -> float | None:
        """From 0 to 1, or None where it isn't known."""
        return min(self.done / self.total, 1.0) if self.total else None

    @property
    def is_alive(self) -> bool:
        """Whether its process runs."""
        return self.process is not None and started_at(self.process[0]) == self.process[1] is not None


@dataclass(frozen=True, slots=True)
class JobFiles:
    """Where a job's state and its log lie."""

    state_path: Path
    log_path: Path

    @classmethod
    def of(cls, settings: Settings, job_id: str) -> JobFiles:
        """The files of one job."""
        state, log = f"{job_id}.json", f"{job_id}.log"
        return cls(within(settings.run_dir, "jobs", state), within(settings.logs_dir, "jobs", log))

    def create_folders(self) -> None:
        """Make the folders they lie in, for their owner alone."""
        for folder in (self.state_path.parent, self.log_path.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def read(self) -> JobState:
        """The state as it was last written; an empty one before."""
        try:
            return JobState(**json.loads(self.state_path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return JobState()

    def write(self, state: JobState) -> None:
        """Replace the state. It isn't forced to the disk: after a power failure, nobody misses it."""
        temporary = self.state_path.with_name(f".{self.state_path.name}.{secrets.token_hex(4)}")
        temporary.write_text(json.dumps(asdict(state)), encoding="utf-8")
        temporary.replace(self.state_path)

    def log(self, text: str) -> None:
        """Append one line to the log."""
        with self.log_path.open("a", encoding="utf-8") as file:
            file.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {line(text)}\n")

    def log_tail(self) -> str:
        """The end of the log."""
        try:
            with self.log_path.open("rb") as file:
                file.seek(max(0, file.seek(0, 2) - LOG_TAIL_BYTES))
                return file.read().decode(errors="replace")
        except OSError:
            return ""

    def delete(self) -> None:
        """Remove both."""
        self.state_path.unlink(missing_ok=True)
        self.log_path.unlink(missing_ok=True)


class Recorder:
    """Keeps the files of one running job up to date with what its process reports."""

    def __init__(self, files: JobFiles) -> None:
        self._files = files
        self._written = 0.0
        self.state = files.read()
        self.result: dict[str, Any] | None = None
        self.error: str | None = None

    def take(self, message: dict[str, Any]) -> None:
        """Keep what one message says; progress reaches the file every EVERY_SECONDS at most."""
        self.result = message.get("result", self.result)
        self.error = message.get("error", self.error)
        if "say" in message:
            self.state.said = [*self.state.said, str(message["say"])][:MAX_SAID]
            self._files.log(str(message["say"]))
            self.save()
        if "progress" in message:
            for name in ("what", "done", "total", "note"):
                setattr(self.state, name, message["progress"][name])
        if time.monotonic() - self._written > EVERY_SECONDS:
            self.save()

    def save(self) -> None:
        """Write the state now."""
        self._written = time.monotonic()
        self._files.write(self.state)
