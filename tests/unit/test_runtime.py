"""The folder for a running server's sockets: nobody else's, short enough, and swept away after a crash."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from doppel.config import Settings
from doppel.errors import InferenceError
from doppel.inference.client import Endpoint, InferenceClient
from doppel.inference.runtime_folder import NAME_BYTES, SOCKET_PATH_BYTES, RuntimeFolder
from doppel.inference.vllm_process import find_running, forget_adapters, model_server
from tests.end_to_end import ROOT
from tests.fakes.model_server import FakeModelServer

NOBODY = 65534
CRASHES = """
import os, signal
from doppel.inference.runtime_folder import RuntimeFolder
print(RuntimeFolder.create().path, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def base() -> Iterator[Path]:
    """A folder with a short path, in which only this user writes."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def folder(base: Path) -> Iterator[RuntimeFolder]:
    found = RuntimeFolder.create({"TMPDIR": str(base)})
    yield found
    found.close()


def crashed(base: Path) -> Path:
    """What a process that was killed left."""
    done = subprocess.run(
        [sys.executable, "-c", CRASHES],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(base)},
        capture_output=True,
        text=True,
        check=False,
    )
    return Path(done.stdout.strip())


def test_it_is_for_its_owner_alone_whatever_the_umask_and_goes_at_the_end(base: Path) -> None:
    before = os.umask(0)
    try:
        folder = RuntimeFolder.create({"TMPDIR": str(base)})
    finally:
        os.umask(before)
    assert folder.path.parent == base
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert len(os.fsencode(folder.path)) + NAME_BYTES <= SOCKET_PATH_BYTES
    (folder.path / "left").touch()
    folder.close()
    assert list(base.iterdir()) == []


def test_the_next_start_sweeps_what_a_crash_left_and_nothing_that_is_in_use(base: Path, folder: RuntimeFolder) -> None:
    left = crashed(base)
    assert left.is_dir()
    assert left.parent == base
    RuntimeFolder.create({"TMPDIR": str(base)}).close()
    assert not left.exists()
    assert folder.path.is_dir()


def test_a_sweep_leaves_alone_what_others_put_there(base: Path) -> None:
    (base / "elsewhere").mkdir(0o700)
    prefix = f"doppel-{os.geteuid()}-"
    link, wide, file = (base / f"{prefix}{name}" for name in ("link", "wide", "file"))
    link.symlink_to(base / "elsewhere")
    wide.mkdir()
    wide.chmod(0o755)
    file.touch()
    others = [link, wide, file]
    if os.geteuid() == 0:
        theirs = base / f"{prefix}theirs"
        theirs.mkdir(0o700)
        os.chown(theirs, NOBODY, NOBODY)
        others.append(theirs)
    RuntimeFolder.create({"TMPDIR": str(base)}).close()
    assert all(os.path.lexists(path) for path in others)
    assert (base / "elsewhere").is_dir()


@pytest.mark.parametrize("fault", ["others write", "too long", "not there"])
def test_a_temporary_folder_that_will_not_do_is_not_taken(base: Path, fault: str) -> None:
    bad = base / ("long" * 20 if fault == "too long" else "bad")
    if fault != "not there":
        bad.mkdir()
        bad.chmod(0o777 if fault == "others write" else 0o700)
    folder = RuntimeFolder.create({"TMPDIR": str(bad)})
    folder.close()
    assert folder.path.parent == Path("/tmp").resolve()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_cannot_reach_a_socket_in_it(base: Path, folder: RuntimeFolder) -> None:
    base.chmod(0o755)
    path = folder.path / "open.sock"
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as stranger:
        listening.bind(str(path))
        listening.listen()
        path.chmod(0o777)
        os.seteuid(NOBODY)
        try:
            with pytest.raises(PermissionError):
                stranger.connect(str(path))
        finally:
            os.seteuid(0)
        stranger.connect(str(path))


def tell(settings: Settings, endpoint: object) -> None:
    settings.run_dir.mkdir(parents=True, exist_ok=True)
    (settings.run_dir / "vllm.json").write_text(json.dumps(endpoint))


async def test_the_client_and_what_looks_for_a_server_go_through_the_socket(
    folder: RuntimeFolder, tmp_path: Path
) -> None:
    settings = Settings(data_dir=tmp_path)
    with FakeModelServer(folder.path / "vllm.sock") as server:
        tell(settings, asdict(server.endpoint))
        assert await find_running(settings) == server.endpoint
        assert await find_running(settings, "another model") is None
        await forget_adapters(settings, ["one"])
        async with InferenceClient(server.endpoint) as client:
            await client.unload("two")
    assert server.unloaded == ["one", "two"]
    assert await find_running(settings) is None


async def test_what_another_process_is_starting_is_waited_for(folder: RuntimeFolder, tmp_path: Path) -> None:
    """A second vLLM would take the memory and the cores that the first one starts with."""
    settings, said = Settings(data_dir=tmp_path), list[str]()
    endpoint = Endpoint("http://localhost/v1", "key", "fake-base", str(folder.path / "vllm.sock"))
    tell(settings, asdict(endpoint))
    async with model_server(settings, "fake-base", said.append) as found:
        waiting = asyncio.create_task(found.wait_ready())
        await asyncio.sleep(0.1)
        assert not waiting.done()
        with FakeModelServer(folder.path / "vllm.sock"):
            await asyncio.wait_for(waiting, 30)
    assert said == ["Another Doppel is starting vLLM on this data folder; waiting for it."]
    assert found.endpoint == endpoint
    assert json.loads((settings.run_dir / "vllm.json").read_text()) == asdict(endpoint)


async def test_a_start_that_ends_elsewhere_is_not_waited_for(base: Path, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    folder = RuntimeFolder.create({"TMPDIR": str(base)})
    tell(settings, asdict(Endpoint("http://localhost/v1", "key", "fake-base", str(folder.path / "vllm.sock"))))
    async with model_server(settings, "fake-base", lambda _: None) as found:
        folder.close()
        with pytest.raises(InferenceError, match="has ended"):
            await asyncio.wait_for(found.wait_ready(), 30)


async def test_a_socket_that_others_may_have_made_is_told_nothing(folder: RuntimeFolder, tmp_path: Path) -> None:
    """After a crash the file still names a folder, whose name anybody may have taken since."""
    settings = Settings(data_dir=tmp_path)
    with FakeModelServer(folder.path / "vllm.sock") as server:
        tell(settings, asdict(server.endpoint))
        folder.path.chmod(0o755)
        assert await find_running(settings) is None
        await forget_adapters(settings, ["one"])
    assert (server.unloaded, server.asked) == ([], 0)


async def test_what_an_older_doppel_told_is_no_server_for_questions(tmp_path: Path) -> None:
    """A port may be another user's by now; but an older Doppel's server, if it runs, has to forget."""
    settings = Settings(data_dir=tmp_path)
    with FakeModelServer() as server:
        tell(settings, {key: value for key, value in asdict(server.endpoint).items() if key != "socket"})
        assert await find_running(settings) is None
        await forget_adapters(settings, ["one"])
    assert server.unloaded == ["one"]


ENDPOINT: dict[str, object] = {"url": "http://localhost/v1", "api_key": "k", "model": "m", "socket": ""}


@pytest.mark.parametrize(
    "told",
    [
        [],
        {"url": 5},
        {"url": "u", "api_key": "k", "model": "m", "socket": 5},
        "x",
        None,
        *(ENDPOINT | {"url": url} for url in (7, "::::", "http://[", "ftp://localhost/v1", "")),
        *(ENDPOINT | {"api_key": key} for key in (7, "a\nb")),
        ENDPOINT | {"socket": "/tmp/\0"},
    ],
)
async def test_a_damaged_file_is_no_server(told: object, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    tell(settings, told)
    assert await find_running(settings) is None
    await forget_adapters(settings, ["one"])


async def test_a_file_of_endless_brackets_is_no_server(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    settings.run_dir.mkdir()
    (settings.run_dir / "vllm.json").write_text("[" * 100_000)
    assert await find_running(settings) is None


async def test_who_wants_a_server_of_their_own_takes_no_other(folder: RuntimeFolder, tmp_path: Path) -> None:
    """`chat` may end before `serve` does, and with it the vLLM that it started."""
    settings = Settings(data_dir=tmp_path, vllm_options=["--no-such-option"])
    with FakeModelServer(folder.path / "vllm.sock") as server:
        tell(settings, asdict(server.endpoint))
        async with model_server(settings, "model", lambda _: None) as found:
            assert found.endpoint == server.endpoint
        async with model_server(settings, "model", lambda _: None, own=True) as found:
            assert found.endpoint != server.endpoint
