"""What Doppel keeps is for its owner alone: whatever the umask, and also in a folder that others could look into."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from doppel import private
from doppel.adapters import AdapterStore
from doppel.artifacts import VersionedFolder
from doppel.config import Settings
from doppel.doctor import Check, examine
from doppel.errors import ConfigError
from doppel.ingest import open_archive
from doppel.private import FOLDERS, readable_secrets, secure_data_folder
from indexing import FORMAT
from tests import end_to_end
from tests.end_to_end import ROOT, SAMPLE, archive_at, doppel, environment, open_to_others

NOBODY = 65534
SAID = "Other users of this machine could look into"


def widen(folder: Path) -> None:
    """As an older Doppel left it under the usual umask."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)


def run(data: Path, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """One command, by somebody whose umask lets everybody do everything."""
    return subprocess.run(
        [sys.executable, str(ROOT / "app.py"), *arguments, "--json"],
        cwd=cwd,
        env=os.environ | environment(data) | {"PYTHONPATH": str(ROOT)},
        umask=0,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with an archive, an index, an adapter and logs."""
    data = tmp_path_factory.mktemp("made") / "data"
    assert run(data, "import", str(SAMPLE)).returncode == 0
    assert run(data, "consent", "grant", "ines").returncode == 0
    done = run(data, "reindex")
    assert done.returncode == 0, done.stderr
    with open_archive(archive_at(data)) as archive:
        person = archive.find_user("ines")
    (data / "adapters").mkdir(mode=0o700)
    with AdapterStore(data / "adapters").folder(person).writer() as writer:
        draft = writer.draft()
        for name in ("adapter_config.json", "adapter_model.safetensors", "metrics.jsonl", "loss.png"):
            (draft / name).write_text("x")
        info = {"base_model": "m", "channels": [], "examples": 1, "base_nll": 4.0, "adapter_nll": 3.0}
        version = writer.publish(draft, info)
    assert open_to_others(version.path) == []
    return data


@pytest.fixture
def data(made: Path, tmp_path: Path) -> Path:
    """A copy of it, as wide open as an older Doppel left it."""
    copy = tmp_path / "data"
    shutil.copytree(made, copy)
    widen(copy)
    return copy


def test_what_commands_make_is_for_the_owner_alone_whatever_the_umask(made: Path) -> None:
    assert list((made / "index").rglob("documents.sqlite"))
    assert list((made / "logs").rglob("*.log"))
    assert {path for path in open_to_others(made) if (made / "adapters") not in path.parents} == set()


@pytest.mark.parametrize(
    "command",
    [
        ["import", str(SAMPLE)],
        ["personas"],
        ["adapters", "list"],
        ["jobs", "list"],
        ["chat", "--persona", "henrik", "-m", "hello?"],
    ],
    ids=lambda command: command[0],
)
def test_every_command_closes_a_folder_that_others_could_look_into_and_says_so_once(
    data: Path, command: list[str]
) -> None:
    first = run(data, *command)
    assert open_to_others(data) == []
    assert SAID in first.stderr
    assert first.stderr.count(SAID) == 1
    assert SAID not in run(data, "personas").stderr


def test_files_that_are_too_wide_in_a_closed_folder_are_closed_in_silence(data: Path) -> None:
    data.chmod(0o700)
    assert SAID not in run(data, "personas").stderr
    assert open_to_others(data) == []


def test_what_is_written_elsewhere_is_for_the_owner_alone_too(data: Path, tmp_path: Path) -> None:
    if end_to_end.ON_POSTGRES:
        pytest.skip("a copy of a data folder has no archive in Postgres, and no backup is written there")
    exported = run(data, "adapters", "export", "ines", str(tmp_path / "new" / "peft"))
    assert exported.returncode == 0, exported.stdout
    assert open_to_others(tmp_path / "new") == []
    backed_up = run(data, "archive", "backup", str(tmp_path / "backup.db"))
    assert backed_up.returncode == 0, backed_up.stdout
    assert stat.S_IMODE((tmp_path / "backup.db").stat().st_mode) == 0o600


def test_a_data_folder_behind_a_link_is_closed_and_what_links_in_it_lead_to_is_left(tmp_path: Path) -> None:
    elsewhere, folder, link = (tmp_path / name for name in ("elsewhere", "folder", "link"))
    for path in (elsewhere, folder, folder / "logs"):
        path.mkdir()
        path.chmod(0o755)
    (folder / "models").symlink_to(elsewhere)
    (folder / "logs" / "one.log").symlink_to(elsewhere / "one.log")
    (elsewhere / "one.log").touch(0o644)
    link.symlink_to(folder)
    assert SAID in secure_data_folder(link)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / "logs")} == {0o700}
    assert {path.stat().st_mode & 0o044 for path in (elsewhere, elsewhere / "one.log")} == {0o044}


def test_what_is_not_doppels_in_the_folder_keeps_its_mode(tmp_path: Path) -> None:
    other = tmp_path / "notes.txt"
    other.touch()
    other.chmod(0o644)
    secure_data_folder(tmp_path)
    assert stat.S_IMODE(other.stat().st_mode) == 0o644


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_refused_with_one_sentence(tmp_path: Path) -> None:
    os.chown(tmp_path, NOBODY, NOBODY)
    done = doppel(tmp_path, "personas")
    assert done.status == 1
    assert "belongs to another user" in done.data["error"]
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_the_folder_is_refused_with_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.write_text("mine")
    done = doppel(file, "doctor")
    assert done.status == 1
    assert "is a file; choose a folder" in done.data["error"]
    assert file.read_text() == "mine"


@pytest.mark.parametrize("name", FOLDERS)
def test_a_file_where_a_folder_belongs_is_one_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(ConfigError, match=f"{name} is a file, and Doppel needs a folder there; move away"):
        secure_data_folder(tmp_path)
    done = doppel(tmp_path, "personas")
    assert (done.status, "is a file, and Doppel needs a folder there" in done.data["error"]) == (1, True)
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("name", ["x" * 300, "file/below", "round/and"])
def test_a_data_folder_that_can_not_be_is_one_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "round").symlink_to("round")
    done = doppel(tmp_path / name, "personas")
    assert (done.status, "can't be used" in done.data["error"]) == (1, True)
    assert "Traceback" not in done.stderr


def test_a_folder_where_a_file_belongs_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "index" / "CURRENT").mkdir(parents=True)
    done = doppel(tmp_path, "doctor")
    assert done.status == 1
    assert "CURRENT can't be used (Is a directory); move away what is in the way" in done.data["error"]


def test_a_folder_that_everybody_uses_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    with pytest.raises(ConfigError, match="not for Doppel alone"):
        secure_data_folder(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o1777
    for shared in (Path.home().parent, Path("/")):
        with pytest.raises(ConfigError, match="not for Doppel alone"):
            private.secure_data_folder(shared)


@pytest.mark.parametrize("refuses", [True, False])
def test_a_file_system_without_modes_is_a_sentence_and_the_doctor_tells_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses: bool
) -> None:
    def chmod(path: Path, mode: int) -> None:
        if refuses:
            raise PermissionError(path, mode)

    tmp_path.chmod(0o755)
    monkeypatch.setattr(Path, "chmod", chmod)
    assert "its file system doesn't let Doppel change that" in secure_data_folder(tmp_path)
    checks = {check.name: check for check in _examined(tmp_path)}
    assert not checks["permissions"].ok
    assert "its file system" in checks["permissions"].detail


def test_the_doctor_says_that_the_folder_is_closed(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    (check,) = [check for check in _examined(tmp_path) if check.name == "permissions"]
    assert check.ok
    assert str(tmp_path) in check.detail


def _examined(folder: Path) -> list[Check]:
    return examine(Settings(data_dir=folder), VersionedFolder(folder / "index", "index", ""), FORMAT, None)


def test_a_file_of_tokens_that_others_can_read_is_told_of(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    assert readable_secrets(dotenv, ["SLACK_BOT_TOKEN"]) == ""
    dotenv.write_text("DOPPEL_TOP_K=5\n")
    dotenv.chmod(0o644)
    assert readable_secrets(dotenv, ["SLACK_BOT_TOKEN"]) == ""
    dotenv.write_text("SLACK_BOT_TOKEN=xoxb-1\n")
    dotenv.chmod(0o640)
    done = run(tmp_path / "data", "personas", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr.count("which holds secrets; run `chmod 600 .env`") == 1
    assert "xoxb" not in done.stderr
    assert json.loads(done.stdout) == {"personas": []}
    dotenv.chmod(0o600)
    assert run(tmp_path / "data", "personas", cwd=tmp_path).stderr == ""
