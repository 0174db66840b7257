"""A short folder for the sockets of a running server: for its owner alone, and swept away when its process is gone.

A Unix socket's path has room for 107 bytes (unix(7)), which a data folder may be too deep for. Others may write to the
temporary folder too, so the name can't be known before. The owning process holds a lock (flock) on the folder: where
nobody does, a crash left it, and the next start removes it. systemd-tmpfiles leaves a locked folder alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from doppel.errors import ConfigError
from doppel.private import is_private_folder

SOCKET_PATH_BYTES = 107
NAME_BYTES = 37
"""The longest name in the folder that a socket must fit under, with its slash: vLLM's own are UUIDs."""


class RuntimeFolder:
    """A new folder of mode 0700; `close` removes it, and so does the next start after a crash."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path, self._lock = path, lock

    @classmethod
    def create(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Raises ConfigError where there is no place for one."""
        base, prefix = _base(environ), f"doppel-{os.geteuid()}-"
        _sweep(base, prefix)
        while True:
            try:
                path = Path(tempfile.mkdtemp(prefix=prefix, dir=base))
            except OSError as error:
                raise ConfigError(f"Can't make a folder in {base} ({error.strerror}); set TMPDIR to another.") from None
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if path.is_dir():
                return cls(path, lock)
            os.close(lock)  # Another start took it for one that a crash left.

    def close(self) -> None:
        """Remove it."""
        shutil.rmtree(self.path, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.close(self._lock)


def is_locked(path: Path) -> bool:
    """Whether `path` is a folder of ours whose process is alive."""
    if not is_private_folder(path):
        return False
    lock = _taken(path)
    if lock is not None:
        os.close(lock)
    return lock is None


def _base(environ: Mapping[str, str]) -> Path:
    """The temporary folder; a login's own (XDG_RUNTIME_DIR) comes last, as a server outlives the login."""
    given = (environ.get("TMPDIR"), "/tmp", environ.get("XDG_RUNTIME_DIR"))
    found = [Path(text).resolve() for text in given if text]
    for base in found:
        name = len(os.fsencode(base)) + len(f"/doppel-{os.geteuid()}-") + 8
        if name + NAME_BYTES <= SOCKET_PATH_BYTES and _is_safe(base):
            return base
    raise ConfigError(
        f"None of {', '.join(map(str, found))} can hold vLLM's socket; set TMPDIR to a folder with a short path, in "
        "which no other user can replace what you put there."
    )


def _is_safe(base: Path) -> bool:
    """Whether nobody but root can replace a folder of ours in there."""
    try:
        found = base.stat()
    except OSError:
        return False
    others_write = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not found.st_mode & stat.S_ISVTX
    return stat.S_ISDIR(found.st_mode) and found.st_uid in (0, os.geteuid()) and not others_write


def _sweep(base: Path, prefix: str) -> None:
    """Remove the folders of processes that are gone."""
    for path in base.glob(f"{prefix}*"):
        lock = _taken(path)
        if lock is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)


def _taken(path: Path) -> int | None:
    """The lock of a folder that is ours and that no process holds, else None."""
    if not is_private_folder(path):
        return None
    try:
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock
