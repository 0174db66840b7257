"""The command line's contract: names, exit codes, one JSON object, one sentence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from doppel.access import ConsentAction
from doppel.app_context import AppContext
from doppel.config import load_settings
from doppel.console import Console
from tests.end_to_end import ROOT, SAMPLE, doppel, environment, free_port

COMMANDS = {
    "import": {"messages", "added", "updated", "unchanged", "skipped", "users", "channels", "threads", "seconds"},
    "reindex": {"conversations", "chunks", "embedded", "reused", "removed", "version", "seconds"},
    "search": {"results", "seconds"},
}
HIT = {"text", "channel", "thread_ts", "first_ts", "last_ts", "authors", "score", "permalink"}


def app(*arguments: str, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "app.py"), *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | (environ or {}), capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the sample workspace imported."""
    folder = tmp_path_factory.mktemp("cli")
    assert doppel(folder, "import", str(SAMPLE)).status == 0
    return folder


@pytest.mark.parametrize(
    "command",
    ["import", "sync", "reindex", "search", "train", "chat", "personas", "serve", "doctor", "forget"]
    + [f"consent {word}" for word in ("grant", "revoke", "list")]
    + [f"adapters {word}" for word in ("list", "rollback", "export")]
    + [f"archive {word}" for word in ("copy", "backup")]
    + ["slack manifest"]
    + [f"jobs {word}" for word in ("list", "show", "cancel", "retry")],
)
def test_every_command_has_help_with_the_shared_options(command: str) -> None:
    done = app(*command.split(), "--help")
    assert done.returncode == 0
    assert "--json" in done.stdout
    assert "--data-dir" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["search"],
        ["search", "x", "-k", "0"],
        ["chat"],
        ["chat", "--persona", "x", "--json"],
        ["sync", "--since", "yesterday"],
        ["--nope"],
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    assert app(*arguments).returncode == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["import", ""],
        ["archive", "backup", ""],
        ["archive", "copy", ""],
        ["adapters", "export", "ines", ""],
        ["personas", "--data-dir", ""],
        ["--data-dir", "", "personas"],
    ],
    ids=" ".join,
)
def test_an_empty_path_is_not_the_current_folder(data: Path, arguments: list[str]) -> None:
    done = app(*arguments, environ=environment(data))
    assert (done.returncode, "it is empty; give a path" in done.stderr) == (2, True)


def test_the_data_folder_may_be_named_before_or_behind_the_command(data: Path) -> None:
    environ = environment(data) | {"DOPPEL_DATA_DIR": "/nowhere"}
    before = app("--data-dir", str(data), "--json", "personas", environ=environ)
    behind = app("personas", "--data-dir", str(data), "--json", environ=environ)
    assert json.loads(before.stdout) == json.loads(behind.stdout) == {"personas": []}


def test_results_carry_the_promised_names(tmp_path: Path) -> None:
    for command, arguments in (("import", [str(SAMPLE)]), ("reindex", []), ("search", ["kafka", "-k", "2"])):
        done = doppel(tmp_path, command, *arguments)
        assert done.status == 0, done.stderr
        assert set(done.data) == COMMANDS[command]
    assert all(set(hit) >= HIT for hit in done.data["results"])


def test_an_index_of_nothing_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    done = doppel(tmp_path / "data", "reindex")
    assert done.status == 1
    assert "doppel import PATH" in done.data["error"]
    assert doppel(tmp_path / "data", "jobs", "list").data == {"jobs": []}


def test_what_can_not_be_asked_is_refused_before_a_model_is_started(data: Path) -> None:
    assert app("search", " ", "--data-dir", str(data)).returncode == 2
    assert app("chat", "--persona", "ines", "-m", " ", "--data-dir", str(data)).returncode == 2
    doppel(data, "consent", "grant", "ines", "--by", "tests")
    done = doppel(data, "chat", "--persona", "ines", "-m", "why?")
    assert (done.status, done.data) == (1, {"error": "There is no index yet; run `doppel reindex`."})


@pytest.mark.parametrize("setting", ["DOPPEL_BASE_MODEL", "DOPPEL_EMBEDDING_MODEL"])
def test_a_model_folder_that_is_not_there_is_told_of(data: Path, setting: str) -> None:
    checks = {c["name"]: c for c in doppel(data, "doctor", environ={setting: "/nope"}).data["checks"]}
    what = setting.removeprefix("DOPPEL_").lower().replace("_", " ")
    assert (checks[what]["ok"], checks[what]["detail"]) == (False, "there is no folder /nope")


def test_the_doctor_of_a_whole_installation_exits_with_0(data: Path) -> None:
    doppel(data, "reindex")
    done = doppel(data, "doctor")
    assert [check for check in done.data["checks"] if not check["ok"]] == []
    assert done.status == 0


@pytest.mark.parametrize("setting", ["DOPPEL_BASE_MODEL", "DOPPEL_EMBEDDING_MODEL"])
def test_a_model_that_the_hub_can_not_give_is_told_of_at_once(data: Path, setting: str) -> None:
    environ = {setting: "nobody/has-this", "HF_ENDPOINT": "http://127.0.0.1:9"}
    doppel(data, "consent", "grant", "ines", "--by", "tests")
    done = (
        doppel(data, "train", "--user", "ines", environ=environ)
        if "BASE" in setting
        else doppel(data, "search", "why?", environ=environ)
    )
    assert done.status == 1
    assert "nobody/has-this can't be loaded" in done.data["error"]
    assert setting in done.data["error"]
    assert "Retrying" not in done.stderr


def test_an_unknown_name_lists_the_nearest(data: Path) -> None:
    done = doppel(data, "consent", "grant", "innes")
    assert done.status == 1
    assert "ines" in done.data["error"]
    assert "Traceback" not in done.stderr


def test_the_consent_ledger_keeps_every_word(data: Path) -> None:
    doppel(data, "consent", "grant", "henrik", "--by", "pilar")
    doppel(data, "consent", "revoke", "Henrik Dahl", "--by", "henrik")
    rows = doppel(data, "consent", "list", "henrik").data["consents"]
    assert [(r["what"], r["by"]) for r in rows] == [("grant", "pilar"), ("revoke", "henrik")]
    assert all(r["when"].startswith("20") for r in rows)


def test_a_failed_command_says_one_sentence_on_stderr_and_prints_one_object(tmp_path: Path) -> None:
    (tmp_path / "not.zip").write_text("hello")
    done = doppel(tmp_path / "data", "import", str(tmp_path / "not.zip"))
    assert done.status == 1
    assert list(done.data) == ["error"]
    assert "Traceback" not in done.stderr
    assert done.data["error"] in " ".join(done.stderr.split())


def test_an_unknown_setting_is_refused(tmp_path: Path) -> None:
    done = doppel(tmp_path, "doctor", environ={"DOPPEL_BASEMODEL": "x"})
    assert done.status == 1
    assert "DOPPEL_BASEMODEL" in done.data["error"]


def test_a_base_model_that_is_not_there_is_one_sentence(data: Path) -> None:
    doppel(data, "consent", "grant", "ines", "--by", "tests")
    environ = {"DOPPEL_BASE_MODEL": "no-such/model", "HF_HUB_OFFLINE": "1"}
    done = doppel(data, "train", "--user", "ines", environ=environ)
    assert done.status == 1
    assert "no-such/model" in done.data["error"]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [('{"use_dora": true}', "DoRA"), ('{"rank_pattern": ["q"]}', "rank_pattern"), ('{"target_modules": ["x"]}', "x")],
)
def test_an_adapter_that_could_not_be_loaded_is_refused_before_training(data: Path, options: str, said: str) -> None:
    doppel(data, "consent", "grant", "ines", "--by", "tests")
    done = doppel(data, "train", "--user", "ines", environ={"DOPPEL_LORA_OPTIONS": options})
    assert done.status == 1
    assert "DOPPEL_LORA_OPTIONS" in done.data["error"]
    assert said in done.data["error"]
    assert "Evaluating" not in done.stderr


def test_a_damaged_adapter_hides_no_other(tmp_path: Path) -> None:
    assert doppel(tmp_path, "import", str(SAMPLE)).status == 0
    run, names = AppContext(load_settings(environment(tmp_path)), Console(as_json=False)), []
    with run.archive() as archive:
        people = [archive.find_user(handle) for handle in ("ines", "henrik")]
        for person in people:
            archive.record_consent(person, ConsentAction.GRANT, "tests")
            with run.adapters().folder(person).writer() as writer:
                published = [writer.publish(writer.draft(), {"base_nll": 4.0, "adapter_nll": 3.0})]
                published += [writer.publish(writer.draft(), {"base_nll": 4.0, "adapter_nll": 2.0})]
            names.append([version.name for version in published])
        (published[1].path / "manifest.json").write_text("{")
    rows = doppel(tmp_path, "adapters", "list").data["adapters"]
    damaged = [row for row in rows if row["damaged"]]
    assert [row["version"] for row in rows if not row["damaged"]] == [*names[0], names[1][0]]
    assert [row["version"] for row in damaged] == [names[1][1]]
    assert "is damaged (manifest.json); train it again" in damaged[0]["damaged"]
    personas = {row["handle"]: row for row in doppel(tmp_path, "personas").data["personas"]}
    assert (personas["ines"]["version"], personas["ines"]["damaged"]) == (names[0][1], None)
    assert personas["henrik"]["damaged"] == damaged[0]["damaged"]
    for words in (["adapters", "list"], ["personas"]):
        shown = app(*words, environ=environment(tmp_path))
        assert shown.returncode == 0
        assert names[0][1] in shown.stdout
        assert damaged[0]["damaged"] in " ".join(shown.stdout.split())


def test_the_doctor_names_what_is_missing(tmp_path: Path) -> None:
    done = doppel(tmp_path, "doctor")
    checks = {c["name"]: c for c in done.data["checks"]}
    assert done.status == 1
    assert set(checks) >= {"packages", "vllm", "processor", "memory", "disk", "archive", "index", "server"}
    assert checks["packages"]["ok"]
    assert not checks["archive"]["ok"]
    assert "doppel import" in checks["archive"]["detail"]


@pytest.mark.parametrize(
    ("environ", "name", "said"),
    [
        ({"DOPPEL_VLLM_URL": "foo"}, "server", "foo is no address of a server; correct DOPPEL_VLLM_URL"),
        ({"DOPPEL_VLLM_URL": "http://[::1"}, "server", "is no address of a server"),
        (
            {"DOPPEL_VLLM_URL": "http://a:s3cret@127.0.0.1:9/v1"},
            "server",
            "No vLLM server answers at http://127.0.0.1:9/v1",
        ),
        ({"DOPPEL_WEB_CHANNELS": "nope, public"}, "channels", "DOPPEL_WEB_CHANNELS: nope"),
        ({"DOPPEL_TRAIN_CHANNELS": "nope"}, "channels", "DOPPEL_TRAIN_CHANNELS: nope"),
        ({"DOPPEL_WEB_CHANNELS": "public,"}, "channels", "separated by commas"),
        ({"SLACK_CLIENT_ID": "1"}, "signing in", "also needs SLACK_CLIENT_SECRET"),
        (
            {
                "SLACK_CLIENT_ID": "1",
                "SLACK_CLIENT_SECRET": "2",
                "SLACK_SIGNING_SECRET": "3",
                "DOPPEL_PUBLIC_URL": "https://doppel.example.org",
                "DOPPEL_TOKEN_KEYS": "none",
            },
            "signing in",
            "DOPPEL_TOKEN_KEYS holds something that is no key",
        ),
    ],
)
def test_the_doctor_tells_of_what_serve_would_refuse(data: Path, environ: dict[str, str], name: str, said: str) -> None:
    done = doppel(data, "doctor", environ=environ)
    checks = {c["name"]: c for c in done.data["checks"]}
    assert (done.status, checks[name]["ok"]) == (1, False)
    assert said in checks[name]["detail"]
    assert "s3cret" not in f"{done.data} {done.stderr}"


def test_the_doctor_finds_a_torchvision_of_another_pytorch(tmp_path: Path) -> None:
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    checks = {c["name"]: c for c in doppel(tmp_path, "doctor", environ={"PYTHONPATH": str(tmp_path)}).data["checks"]}
    assert not checks["packages"]["ok"]
    assert "pip uninstall torchvision" in checks["packages"]["detail"]


def test_what_nobody_foresaw_is_a_sentence_and_a_log(tmp_path: Path) -> None:
    code = (
        "import app, doppel.ingest\n"
        "def burst(*a, **k): raise RuntimeError('boom')\n"
        "doppel.ingest.open_archive = burst\n"
        "app.app()"
    )
    command = [sys.executable, "-c", code, "personas", "--data-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    log = (tmp_path / "logs" / "doppel.log").read_text()
    assert "in burst" in log
    assert "RuntimeError" in log
    # An error's text may quote what people said.
    assert "boom" not in log


def test_a_vllm_that_cannot_start_ends_serve_with_one_sentence(data: Path) -> None:
    done = doppel(data, "serve", "--port", str(free_port()), environ={"DOPPEL_VLLM_OPTIONS": '["--no-such-option"]'})
    assert done.status == 1
    assert "vLLM did not start" in done.data["error"]
    assert "vllm.log" in done.data["error"]
    assert "Traceback" not in done.stderr


def test_a_server_elsewhere_that_does_not_answer_is_one_sentence(data: Path) -> None:
    doppel(data, "consent", "grant", "ines", "--by", "tests")
    environ = {"DOPPEL_VLLM_URL": "http://127.0.0.1:9/v1"}
    done = doppel(data, "chat", "--persona", "ines", "-m", "hello", environ=environ)
    assert done.status == 1
    assert "No vLLM server answers at http://127.0.0.1:9/v1" in done.data["error"]
