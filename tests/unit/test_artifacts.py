"""Versions are whole or not there, names are never used again, and damage is told in one sentence."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from doppel.artifacts import VersionedFolder, write_atomic
from doppel.errors import ArtifactError, BusyError, StorageError


@pytest.fixture
def folder(tmp_path: Path) -> VersionedFolder:
    return VersionedFolder(tmp_path / "index", "index", "run `doppel reindex --full`")


def publish(folder: VersionedFolder, text: str) -> str:
    with folder.writer() as writer:
        draft = writer.draft()
        (draft / "sub").mkdir()
        (draft / "sub" / "data").write_text(text, encoding="utf-8")
        return writer.publish(draft, {"said": text}).name


def test_a_published_version_is_current_and_tells_its_info(folder: VersionedFolder) -> None:
    assert folder.current() is None
    name = publish(folder, "one")
    version = folder.current()
    assert version is not None
    assert (version.name, version.info) == (name, {"said": "one"})
    assert (version.path / "sub" / "data").read_text() == "one"


def test_names_are_never_used_again_even_after_retiring(folder: VersionedFolder) -> None:
    names = [publish(folder, "a"), publish(folder, "b")]
    with folder.writer() as writer:
        assert writer.retire() == names
    assert folder.current() is None
    names.append(publish(folder, "c"))
    numbers = [name.split("-")[0] for name in names]
    assert numbers == ["v0001", "v0002", "v0003"]


def test_retiring_leaves_nothing_that_was_learned(folder: VersionedFolder) -> None:
    publish(folder, "secret words")
    (folder.root / "work").mkdir()
    (folder.root / "work" / "checkpoint").write_text("secret words")
    with folder.writer() as writer:
        writer.retire()
    assert {p.name for p in folder.root.rglob("*")} == {"counter", "lock"}


def test_switch_goes_back_and_prune_keeps_what_serves(folder: VersionedFolder) -> None:
    first, second, third = (publish(folder, text) for text in "abc")
    with folder.writer() as writer:
        writer.switch(first)
        assert writer.prune(1) == [second]
    assert folder.names() == [first, third]
    assert folder.current_name() == first


@pytest.mark.parametrize("damage", ["gone", "shorter", "manifest", "half manifest"])
def test_damage_is_one_sentence_with_the_remedy(folder: VersionedFolder, damage: str) -> None:
    name = publish(folder, "some data")
    path = folder.root / "versions" / name
    match damage:
        case "gone":
            (path / "sub" / "data").unlink()
        case "shorter":
            (path / "sub" / "data").write_text("some")
        case "manifest":
            (path / "manifest.json").write_text("[]")
        case _:
            (path / "manifest.json").write_text('{"files": {')
    with pytest.raises(ArtifactError, match=r"reindex --full"):
        folder.current()


@pytest.mark.parametrize("garbage", [b"\xff\xfe\x00", b"../../etc", b"v0009-00000000"])
def test_a_broken_current_is_a_sentence_and_the_next_version_heals_it(folder: VersionedFolder, garbage: bytes) -> None:
    publish(folder, "old")
    (folder.root / "CURRENT").write_bytes(garbage)
    (folder.root / "counter").write_bytes(garbage)
    with pytest.raises(ArtifactError, match="missing"):
        folder.current()
    name = publish(folder, "new")
    assert folder.current_name() == name
    assert len(folder.names()) == 2


def test_a_changed_byte_is_found_by_verify(folder: VersionedFolder) -> None:
    name = publish(folder, "some data")
    (folder.root / "versions" / name / "sub" / "data").write_text("some dota")
    version = folder.current()
    assert version is not None
    with pytest.raises(ArtifactError, match=r"sub/data"):
        folder.verify(version)


def test_a_name_cannot_lead_out_of_the_folder(folder: VersionedFolder) -> None:
    publish(folder, "x")
    with pytest.raises(ArtifactError, match="missing"):
        folder.load("../../etc")


def test_a_second_writer_is_told_to_wait(folder: VersionedFolder) -> None:
    with folder.writer():
        code = (
            "from pathlib import Path; from doppel.artifacts import VersionedFolder; import sys\n"
            "from doppel.errors import BusyError\n"
            f"folder = VersionedFolder(Path({str(folder.root)!r}), 'index', '')\n"
            "try:\n    folder.writer().__enter__()\nexcept BusyError as error:\n    sys.exit(str(error))\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Another process is writing the index" in done.stderr


def test_a_killed_writer_leaves_the_old_version_and_no_lock(folder: VersionedFolder) -> None:
    name = publish(folder, "old")
    code = (
        "from pathlib import Path; from doppel.artifacts import VersionedFolder; import time\n"
        f"with VersionedFolder(Path({str(folder.root)!r}), 'index', '').writer() as writer:\n"
        "    (writer.draft() / 'data').write_text('half'); print('written', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "written\n"
        process.send_signal(signal.SIGKILL)
    assert folder.current_name() == name
    newer = publish(folder, "new")
    assert folder.names() == [name, newer]
    assert not (folder.root / "drafts").exists()


def test_a_full_disk_is_one_sentence_and_leaves_the_old_version(folder: VersionedFolder) -> None:
    name = publish(folder, "old")

    def fill_the_disk() -> None:
        with folder.writer() as writer:
            full = writer.draft() / "data"
            full.symlink_to("/dev/full")
            full.write_text("x" * 10)

    with pytest.raises(StorageError, match="free some space"):
        fill_the_disk()
    assert folder.current_name() == name
    assert folder.names() == [name]


def test_write_atomic_keeps_the_old_text_when_it_fails(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, "old", mode=0o600)
    with pytest.raises(UnicodeEncodeError):
        write_atomic(path, "\ud800")
    assert path.read_text() == "old"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_readers_see_the_old_version_or_the_new_one(folder: VersionedFolder) -> None:
    publish(folder, "0")
    code = (
        "from pathlib import Path; from doppel.artifacts import VersionedFolder\n"
        f"folder = VersionedFolder(Path({str(folder.root)!r}), 'index', '')\n"
        "for i in range(1, 30):\n"
        "    with folder.writer() as writer:\n"
        "        draft = writer.draft(); (draft / 'sub').mkdir(); (draft / 'sub' / 'data').write_text(str(i))\n"
        "        writer.publish(draft, {'said': str(i)})\n"
    )
    seen = set()
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        deadline = time.monotonic() + 30
        while process.poll() is None and time.monotonic() < deadline:
            version = folder.current()
            assert version is not None
            assert (version.path / "sub" / "data").read_text() == version.info["said"]
            seen.add(version.name)
    assert process.returncode == 0
    assert len(seen) > 1


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises((StorageError, BusyError), match="Can't write"),
        VersionedFolder(tmp_path / "file" / "index", "index", "").writer(),
    ):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
