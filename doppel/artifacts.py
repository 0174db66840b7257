"""Versioned folders: an index or an adapter is written whole, its manifest last, and then CURRENT is switched.

    ROOT/CURRENT                     the name of the version in use
    ROOT/versions/v0003-1f0c9a2e/    immutable; manifest.json lists every file with its size and SHA-256
    ROOT/drafts/…                    being written; swept away by the next writer

A reader sees one version whole or none; a version's name is never used again (vLLM caches by adapter name and path).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from doppel.errors import ArtifactError, BusyError, StorageError
from doppel.paths import within

MANIFEST = "manifest.json"
_VERSION = re.compile(r"v(\d+)-[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class Version:
    """A published version: its name, its folder and what its manifest says."""

    name: str
    path: Path
    manifest: Mapping[str, Any]

    @property
    def created(self) -> str:
        """When it was published, ISO 8601 in UTC."""
        return str(self.manifest["created"])

    @property
    def info(self) -> Mapping[str, Any]:
        """What the writer recorded."""
        info: Mapping[str, Any] = self.manifest["info"]
        return info


@dataclass(frozen=True, slots=True)
class VersionedFolder:
    """One kind of artifact under `root`; `what` names it in messages and `remedy` says what to do if it is damaged."""

    root: Path
    what: str
    remedy: str

    def path(self, *names: str) -> Path:
        """What is called so in this folder. Raises ArtifactError where that leads out of it."""
        return within(self.root, *names)

    def current(self) -> Version | None:
        """The version in use, or None before the first. Raises ArtifactError where it is damaged."""
        name = self.current_name()
        return self.load(name) if name else None

    def current_name(self) -> str | None:
        """The name in CURRENT, without a look at the version; cheap enough for every request."""
        try:
            return self.path("CURRENT").read_text(encoding="utf-8", errors="replace").strip() or None
        except FileNotFoundError:
            return None

    def names(self) -> list[str]:
        """The names of all versions that are there, oldest first."""
        folder = self.path("versions")
        found = [p.name for p in folder.iterdir() if _VERSION.fullmatch(p.name)] if folder.is_dir() else []
        return sorted(found, key=_number)

    def load(self, name: str) -> Version:
        """A version by its name, its files checked for presence and size. Raises ArtifactError."""
        if not _VERSION.fullmatch(name) or not (path := self.path("versions", name)).is_dir():
            raise ArtifactError(f"The {self.what} version {name!a} is missing; {self.remedy}.")
        try:
            manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
            files = {str(f): int(entry["size"]) for f, entry in manifest["files"].items()}
            version = Version(name, path, manifest)
            _ = version.created, version.info
            paths = {file: within(path, *file.split("/")) for file in files}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ArtifactError):
            raise self.damaged(name, MANIFEST) from None
        for file, size in files.items():
            if not paths[file].is_file() or paths[file].stat().st_size != size:
                raise self.damaged(name, file)
        return version

    def verify(self, version: Version) -> None:
        """Compare every file with its SHA-256. Raises ArtifactError."""
        for file, entry in version.manifest["files"].items():
            if _sha256(version.path / file) != entry["sha256"]:
                raise self.damaged(version.name, file)

    def damaged(self, name: str, file: str) -> ArtifactError:
        """The error for a version whose `file` isn't what was published."""
        return ArtifactError(f"The {self.what} version {name} is damaged ({file}); {self.remedy}.")

    @contextmanager
    def writer(self) -> Iterator[Writer]:
        """The right to publish, for one process at a time. Raises BusyError, or StorageError if the disk is full."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = FileLock(self.root / "lock")
            lock.acquire(timeout=0)
        except Timeout:
            raise BusyError(f"Another process is writing the {self.what}; wait for it to end and try again.") from None
        except OSError as error:
            raise storage_error(error, self.root) from error
        try:
            shutil.rmtree(self.root / "drafts", ignore_errors=True)
            yield Writer(self)
        except OSError as error:
            raise storage_error(error, self.root) from error
        finally:
            shutil.rmtree(self.root / "drafts", ignore_errors=True)
            lock.release()


@dataclass(frozen=True, slots=True)
class Writer:
    """Publishes versions of one folder; got from `VersionedFolder.writer`."""

    folder: VersionedFolder

    def draft(self) -> Path:
        """A new empty folder to write a version into."""
        drafts = self.folder.path("drafts")
        drafts.mkdir(parents=True, exist_ok=True)
        path = drafts / self._next_name()
        path.mkdir()
        return path

    def publish(self, draft: Path, info: Mapping[str, Any]) -> Version:
        """Seal `draft` with a manifest that holds `info` (plain JSON), move it in place and switch CURRENT to it."""
        files = {
            str(p.relative_to(draft)): {"size": p.stat().st_size, "sha256": _sha256(p)}
            for p in sorted(draft.rglob("*"))
            if p.is_file()
        }
        manifest = {"created": datetime.now(UTC).isoformat(timespec="seconds"), "files": files, "info": dict(info)}
        for path in (draft, *draft.rglob("*")):
            path.chmod(0o700 if path.is_dir() else 0o600)
        for file in files:
            _fsync(draft / file)
        write_atomic(draft / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True))
        versions = self.folder.path("versions")
        versions.mkdir(exist_ok=True)
        target = versions / draft.name
        draft.rename(target)
        _fsync(versions)
        self.switch(draft.name)
        return self.folder.load(draft.name)

    def switch(self, name: str) -> None:
        """Make a version that is there the current one."""
        self.folder.load(name)
        write_atomic(self.folder.path("CURRENT"), name + "\n")

    def prune(self, keep: int) -> list[str]:
        """Delete all but the newest `keep` versions and the current one; returns the names that went."""
        current = self.folder.current_name()
        gone = [n for n in self.folder.names()[:-keep] if n != current]
        for name in gone:
            shutil.rmtree(self.folder.path("versions", name))
        return gone

    def delete(self, name: str) -> None:
        """Delete a version that is not the current one."""
        if name != self.folder.current_name():
            shutil.rmtree(self.folder.path("versions", name))

    def retire(self) -> list[str]:
        """Take CURRENT away, then delete every version and all work towards one; returns the versions that went."""
        root = self.folder.root
        (root / "CURRENT").unlink(missing_ok=True)
        gone = self.folder.names()
        for path in root.iterdir():
            if path.is_symlink():
                path.unlink()
            elif path.is_dir():
                shutil.rmtree(path)
        return gone

    def _next_name(self) -> str:
        """A name that was never used: the counter only ever rises, and outlives the versions it named."""
        counter = self.folder.path("counter")
        said = counter.read_text(encoding="utf-8", errors="replace").strip() if counter.is_file() else ""
        last = max([int(said) if said.isdecimal() else 0, *map(_number, self.folder.names())])
        write_atomic(counter, f"{last + 1}\n")
        return f"v{last + 1:04d}-{secrets.token_hex(4)}"


def write_atomic(path: Path, text: str, mode: int = 0o600) -> None:
    """Replace a small text file so that a reader, or a crash, finds the old text or the new one."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        temporary.touch(mode, exist_ok=False)
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _fsync(path.parent)


def storage_error(error: OSError, path: Path) -> StorageError:
    """One sentence for a failed write."""
    return StorageError(f"Can't write to {path} ({error.strerror or error}); free some space or choose another folder.")


def _number(name: str) -> int:
    match = _VERSION.fullmatch(name)
    return int(match[1]) if match else 0


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
