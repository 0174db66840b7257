"""An export as the benchmarks need it: zipped, or imported into a new archive."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

from doppel.config import Settings, load_settings
from doppel.errors import BadInputError
from doppel.ingest import import_export, open_archive
from doppel.ingest.export import ImportReport
from doppel.slack.export import open_export


def as_zip(export: Path, folder: Path) -> Path:
    """The export, zipped into `folder` if it is none yet. Raises BadInputError where there is nothing."""
    if not export.exists():
        raise BadInputError(f"There is nothing at {export}; give the path of a Slack export (ZIP or folder).")
    if not export.is_dir():
        return export
    return Path(shutil.make_archive(str(folder / export.name), "zip", export))


def json_bytes(export: Path) -> int:
    """The bytes of all JSON files in a ZIP, unpacked."""
    with zipfile.ZipFile(export) as opened:
        return sum(info.file_size for info in opened.infolist() if info.filename.endswith(".json"))


def import_into(archive_path: Path, export_path: Path) -> ImportReport:
    """What `doppel import` does: open both, take the export in, close both."""
    with open_export(export_path) as export, open_archive(archive_path) as archive:
        return import_export(archive, export)


def settings_for(work: Path) -> Settings:
    """The settings of the environment, on a data folder of the benchmark's own."""
    return load_settings(data_dir=work)


def public_name(model: str) -> str:
    """A model's name without the folders it lies in."""
    return Path(model).name if Path(model).expanduser().is_dir() else model
