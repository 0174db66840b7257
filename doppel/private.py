"""Files for their owner alone: what a command makes, and what is in the data folder already."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from doppel.errors import ConfigError

UMASK = 0o077
OTHERS = stat.S_IRWXG | stat.S_IRWXO
FOLDERS = ("index", "adapters", "models", "logs", "run")
_IN_THE_WAY = (FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError)
_REMEDY = "move away what is in the way, or choose another folder for Doppel's data with --data-dir."
FILES = ("archive.db*", "jobs.db*", "jobs.id*")


def keep_files_private() -> None:
    """Let this process, and those that it starts, make files and folders that only their owner may use."""
    os.umask(UMASK)


def is_private_folder(path: Path) -> bool:
    """Whether that is a folder of this user's, no link to one, that others can't look into."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & OTHERS


def secure_data_folder(folder: Path) -> str:
    """Take from others what they may do in a data folder that is there; a sentence where they might have read it.

    Raises ConfigError where the folder can't be one, or what is in it is none, is another user's, or one that everybody
    uses.
    """
    _require_usable(folder)
    before = _folder_mode(folder)
    if before is None:
        return ""
    _require_own(folder)
    real = folder.resolve()
    for path in (real, *_contents(real)):
        _narrow(path)
    if not before & OTHERS:
        return ""
    return open_to_others(folder) or (
        f"Other users of this machine could look into {folder} until now; it is for its owner alone again."
    )


def open_to_others(folder: Path) -> str:
    """A sentence where others can still look into a data folder, else nothing."""
    if not (_folder_mode(folder) or 0) & OTHERS:
        return ""
    return (
        f"Other users of this machine can look into {folder}, and its file system doesn't let Doppel change that; "
        "mount it for its owner alone, or choose another folder with --data-dir."
    )


def readable_secrets(dotenv: Path, secrets: Iterable[str]) -> str:
    """A sentence where others may read a file of settings that names any of the variables `secrets`, else nothing."""
    try:
        is_open = dotenv.stat().st_mode & OTHERS
        text = dotenv.read_text(encoding="utf-8", errors="replace") if is_open else ""
    except OSError:
        return ""
    if not any(name in text for name in secrets):
        return ""
    return f"Other users of this machine may read {dotenv.absolute()}, which holds secrets; run `chmod 600 {dotenv}`."


def in_the_way(error: OSError, folder: Path) -> ConfigError | None:
    """The sentence where an error tells of something else in a data folder than Doppel left there, else None."""
    path = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else None
    if path is None or not isinstance(error, _IN_THE_WAY) or not path.absolute().is_relative_to(folder.absolute()):
        return None
    return _unusable(path, error)


def _require_usable(folder: Path) -> None:
    """Raise ConfigError for a path that can't be a folder, also of those within, or that is a file."""
    for path in (folder, *(folder / name for name in FOLDERS)):
        try:
            is_file = not stat.S_ISDIR(path.stat().st_mode)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise _unusable(path, error) from None
        if is_file and path == folder:
            raise ConfigError(f"{folder} is a file; choose a folder for Doppel's data with --data-dir.")
        if is_file:
            raise ConfigError(f"{path} is a file, and Doppel needs a folder there; {_REMEDY}")


def _unusable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(f"{path} can't be used ({error.strerror}); {_REMEDY}")


def _folder_mode(folder: Path) -> int | None:
    """The mode of a folder; None where there is none that can be looked at."""
    try:
        mode = folder.stat().st_mode
    except OSError:
        return None
    return mode if stat.S_ISDIR(mode) else None


def _require_own(folder: Path) -> None:
    found = folder.stat()
    if found.st_mode & stat.S_ISVTX or folder.resolve() in _above_home():
        raise ConfigError(f"{folder} is not for Doppel alone; choose a folder of its own with --data-dir.")
    if found.st_uid != os.geteuid():
        raise ConfigError(
            f"The data folder {folder} belongs to another user; run Doppel as that one, give it to you with chown, or "
            "choose another folder with --data-dir."
        )


def _above_home() -> Sequence[Path]:
    """The folders that hold this user's, which others go through."""
    try:
        return Path.home().resolve().parents
    except RuntimeError:
        return ()


def _contents(folder: Path) -> Iterator[Path]:
    """What Doppel keeps in a data folder; nothing else that may lie there."""
    for pattern in FILES:
        yield from folder.glob(pattern)
    for name in FOLDERS:
        if (folder / name).is_symlink():
            continue
        for root, folders, files in os.walk(folder / name):
            yield Path(root)
            yield from (Path(root, name) for name in (*folders, *files))


def _narrow(path: Path) -> None:
    """Take away what others may do; a link is left alone, and so is what the file system refuses."""
    try:
        mode = path.lstat().st_mode
        if mode & OTHERS and not stat.S_ISLNK(mode):
            path.chmod(stat.S_IMODE(mode) & ~OTHERS)
    except OSError:
        return
