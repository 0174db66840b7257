"""Where the files of an export are, a ZIP or a folder, with everything refused that is unsafe to read."""

from __future__ import annotations

import filecmp
import lzma
import re
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Protocol, Self, TypeVar

from doppel.errors import BadInputError, DoppelError

Parts = tuple[str, ...]
"""A path within an export."""
T = TypeVar("T")
MAX_ENTRY_BYTES = 256 * 2**20
"""Largest file that is read; a real day of one channel is far below it."""
MAX_RATIO = 200
"""Strongest compression that is believed; Slack's JSON stays below 50."""
RATIO_FREE_BYTES = 8 * 2**20
"""Up to here any compression is fine."""

_SEPARATOR = re.compile(
    "(?<=[^/.])[ !-,.:-@\\[\\]^`{-~\u00a5\u20a9\u2044\u2215\u2216\u2571\u2572\u27cb\u27cd\u29f5\u29f8\u29f9\ufe68"
    "\uff0f\uff3c\uf02f\uf05c]+(?:2f|5c)?(?=[0-9]{4}[-_.]?[0-9]{2}[-_.]?[0-9]{2}\\.jsonl?$)",
    re.IGNORECASE,
)
"""What stands between a channel and a day where a tool wrote no slash: nothing that a channel's name can hold."""
_UTF8_NAME = 0x800
_ENCRYPTED = 0x1
_READ_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError, ValueError)


class Stream:
    """An open file of which no more than its `size` and one byte is read; use it as a context manager.

    Given a number, zipfile unpacks no more than that at once; left to itself it trusts the data.
    """

    def __init__(
        self, opened: Callable[[], IO[bytes]], size: int, sentence: Callable[[Exception], DoppelError]
    ) -> None:
        self._left, self._sentence = size + 1, sentence
        try:
            self._file = opened()
        except (*_READ_ERRORS, OSError) as error:
            raise sentence(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, size: int = -1, /) -> bytes:
        """Up to so many bytes, or all that are left; none at the end. Raises BadInputError."""
        try:
            data = self._file.read(self._left if size < 0 else min(size, self._left))
        except (*_READ_ERRORS, OSError) as error:
            raise self._sentence(error) from error
        self._left -= len(data)
        return data


class Source(Protocol):
    """The files of an export: path parts -> size in bytes."""

    files: dict[Parts, int]

    def check(self, files: Iterable[Parts]) -> None:
        """Raise BadInputError where what is to be read mustn't be: it is too large, or packed beyond belief."""

    def open(self, file: Parts) -> Stream:
        """One file, to be read from its beginning; raises BadInputError where it is damaged or mustn't be read."""

    def close(self) -> None:
        """Let go of what is open."""


def open_source(path: Path) -> Source:
    """The files of the ZIP or folder at `path`; raises BadInputError for what can't or mustn't be read."""
    try:
        return FolderSource(path) if path.is_dir() else ZipSource(path)
    except FileNotFoundError:
        raise BadInputError(f"There is nothing at {path}; give the path of a Slack export (ZIP or folder).") from None
    except OSError as error:
        raise BadInputError(f"Can't read {path} ({error.strerror}); check its permissions.") from error


class FolderSource:
    """An export that was unpacked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        found = ((_folder_parts(file.relative_to(path)), file.name, file) for file in _walk(path))
        self._paths, self._torn = _by_place(
            ((parts, file) for parts, name, file in found if not _is_folder(name)),
            lambda one, other: filecmp.cmp(one, other, shallow=False),
        )
        self.files = {parts: file.stat().st_size for parts, file in self._paths.items()}

    def check(self, files: Iterable[Parts]) -> None:
        """Raise BadInputError where one is too large, or there twice."""
        for file in files:
            if file in self._torn:
                raise _twice(file)
            if self.files[file] > MAX_ENTRY_BYTES:
                raise _too_large("/".join(file))

    def open(self, file: Parts) -> Stream:
        """One file."""
        self.check([file])
        return Stream(lambda: self._paths[file].open("rb"), self.files[file], lambda e: _unreadable(file, e))

    def close(self) -> None:
        """Nothing is open."""


class ZipSource:
    """An export as Slack hands it out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._zip = _open_zip(path)
        try:
            self._infos, self._torn = _by_place(
                ((_parts(_name(info)), info) for info in self._zip.infolist() if not _is_folder(_name(info))),
                lambda one, other: (one.CRC, one.file_size) == (other.CRC, other.file_size),
            )
            _refuse_links(self._zip.infolist())
        except BaseException:
            self._zip.close()
            raise
        self.files = {parts: info.file_size for parts, info in self._infos.items()}

    def check(self, files: Iterable[Parts]) -> None:
        """Raise BadInputError for entries that are too large, encrypted or packed beyond belief, one or all together.

        What else the ZIP holds, such as uploaded files, may be as it is.
        """
        infos = []
        for file in files:
            if file in self._torn:
                raise _twice(file)
            infos.append(self._infos[file])
            _check(infos[-1])
        if sum(info.file_size for info in infos) > max(RATIO_FREE_BYTES, MAX_RATIO * self.path.stat().st_size):
            raise _bomb()

    def open(self, file: Parts) -> Stream:
        """One entry; never more of it than its header says, whatever the data unpacks to."""
        info = self._infos[file]
        _check(info)
        return Stream(lambda: self._zip.open(info), info.file_size, lambda _: _damaged(file))

    def close(self) -> None:
        """Close the ZIP."""
        self._zip.close()


def _by_place(files: Iterable[tuple[Parts, T]], same: Callable[[T, T], bool]) -> tuple[dict[Parts, T], set[Parts]]:
    """Each file where it stands, the first of several, and where there are several that differ.

    To Windows names that differ in their case are one.
    """
    found: dict[Parts, T] = {}
    places: dict[Parts, Parts] = {}
    torn = set[Parts]()
    for parts, file in files:
        place = places.setdefault((*parts[:-1], parts[-1].lower()), parts)
        first = found.setdefault(place, file)
        if first is not file and not same(first, file):
            torn.add(place)
    return found, torn


def _walk(path: Path) -> Iterator[Path]:
    for entry in sorted(path.iterdir()):
        if entry.is_symlink():
            raise BadInputError(
                f"The folder holds a link ({entry}), which Slack never writes; give the export itself, without it."
            )
        if entry.is_dir():
            yield from _walk(entry)
        elif entry.is_file():
            yield entry


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except _READ_ERRORS as error:
        with path.open("rb") as file:
            cut_off = file.read(4) == b"PK\x03\x04"
        if cut_off:
            raise BadInputError(f"{path.name} is cut off or damaged; download the export again.") from error
        raise BadInputError(
            f"{path.name} is no ZIP; give the ZIP that Slack's export page hands out, or its unpacked folder."
        ) from error


def _name(info: zipfile.ZipInfo) -> str:
    """The entry's name; one without the UTF-8 flag was decoded as cp437, though most tools write UTF-8."""
    if "\0" in info.orig_filename:
        raise _unsafe(info.filename)
    name = info.orig_filename
    if not info.flag_bits & _UTF8_NAME:
        try:
            name = name.encode("cp437").decode("utf-8")
        except UnicodeError:
            return name
    return name


def _parts(name: str) -> Parts:
    path = PurePosixPath(unicodedata.normalize("NFC", _separated(name)))
    if path.is_absolute() or not path.parts or ".." in path.parts or path.parts[0][1:2] == ":":
        raise _unsafe(name)
    return path.parts


def _folder_parts(path: Path) -> Parts:
    """Where a file stands, also one whose name holds the whole path, as a ZIP made on Windows may unpack."""
    separated = _separated("/".join(path.parts))
    if separated == "/".join(path.parts):
        return path.parts
    parts = tuple(part for part in re.sub(r"^[A-Za-z]:/", "", separated).split("/") if part not in {"", "."})
    if ".." in parts or not parts:
        raise BadInputError(f"The export holds a name that leads outside of it ({path.name!r}); remove that file.")
    return parts


def _separated(name: str) -> str:
    """A path with plain slashes; what only looks like one, or stands for one, parts no more than a day off."""
    return _SEPARATOR.sub("/", name.replace("\\", "/"))


def _is_folder(name: str) -> bool:
    """Whether an entry is none of a file; Windows' own separator ends the names of folders, too."""
    return name.endswith(("/", "\\"))


def _twice(file: Parts) -> BadInputError:
    return BadInputError(f"The export holds {'/'.join(file)} twice, and they differ; remove one of them.")


def _damaged(file: Parts) -> BadInputError:
    return BadInputError(
        f"The ZIP is damaged at {'/'.join(file)}; download the export again or unpack it and import the folder."
    )


def _unreadable(file: Parts, error: Exception) -> BadInputError:
    reason = getattr(error, "strerror", None) or error
    return BadInputError(f"Can't read {'/'.join(file)} of the export ({reason}); check the folder.")


def _refuse_links(infos: list[zipfile.ZipInfo]) -> None:
    for info in infos:
        _parts(_name(info))
        if stat.S_ISLNK(info.external_attr >> 16):
            raise BadInputError(f"The ZIP holds a link ({info.filename}), which Slack never writes; it is not read.")


def _check(info: zipfile.ZipInfo) -> None:
    if info.flag_bits & _ENCRYPTED:
        raise BadInputError("The ZIP is encrypted; unpack it with its password and import the folder.")
    if info.file_size > max(RATIO_FREE_BYTES, MAX_RATIO * info.compress_size):
        raise _bomb()
    if info.file_size > MAX_ENTRY_BYTES:
        raise _too_large(info.filename)


def _unsafe(name: str) -> BadInputError:
    return BadInputError(f"The ZIP holds an entry outside of itself ({name!r}), so it is not read; get it from Slack.")


def _bomb() -> BadInputError:
    return BadInputError("The ZIP unpacks to far more than an export does, so it is not read; get it from Slack again.")


def _too_large(name: str) -> BadInputError:
    limit = MAX_ENTRY_BYTES // 2**20
    return BadInputError(f"{name} is larger than {limit} MiB, which no day of a channel is; take it out of the export.")
