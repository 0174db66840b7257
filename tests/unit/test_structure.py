"""The shape of the code and the docs are tests: who imports whom, who owns which library, what is documented."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from app import app
from doppel.config import Settings, variable
from doppel.ingest import open_archive
from tests.fakes.export_builder import ExportBuilder
from tests.taking_in import take_in

ROOT = Path(__file__).parents[2]
SOURCES = [
    *sorted(p for d in ("commands", "doppel", "indexing", "training") for p in (ROOT / d).rglob("*.py")),
    ROOT / "app.py",
]

OWNERS = {
    "faiss": {"indexing/vectors.py"},
    "sentence_transformers": {"indexing/embed.py"},
    "langchain_text_splitters": {"indexing/chunk.py"},
    "peft": {"training/finetune.py", "training/export.py"},
    "trl": {"training/finetune.py"},
    "datasets": {"training/finetune.py"},
    "matplotlib": {"training/plot.py"},
    "vllm": {"doppel/inference/lora.py", "doppel/inference/cpu_lora_plugin.py"},
    "openai": {"doppel/inference/client.py"},
    "gradio": {"doppel/web/page.py"},
    "transformers": {"doppel/models/base_model.py", "indexing/embed.py", "training/finetune.py"},
    "slack_sdk": {
        f"doppel/{name}.py"
        for name in (
            "bot/answering",
            "bot/commands",
            "bot/consenting",
            "bot/job_notices",
            "bot/draft_troubles",
            "bot/drafting",
            "bot/hearing",
            "bot/writing",
            "slack/api",
            "slack/message_transport",
            "slack/failing",
            "slack/oauth",
            "slack/blocks",
            "slack/consent_blocks",
            "slack/draft_blocks",
            "slack/posting",
            "services/tokens",
            "bot/bolt_app",
            "serving/identity",
        )
    },
    "jwt": {"doppel/slack/oauth.py"},
    "cryptography": {"doppel/keys.py"},
    "slack_bolt": {"doppel/bot/bolt_app.py"},
    "dbos": {"doppel/jobs/database.py", "doppel/jobs/queue.py", "doppel/jobs/worker.py"},
    "typer": {
        "app.py",
        *(
            f"commands/{name}.py"
            for name in ("archive", "data", "forgetting", "jobs", "personas", "run", "slack", "talk", "workspaces")
        ),
    },
}


PARTS = {"app", "commands", "doppel", "indexing", "training"}
SURFACES = ("doppel/web/", "doppel/bot/", "doppel/terminal.py")


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def ours(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", SOURCES, ids=ours)
def test_the_parts_import_in_one_direction(path: Path) -> None:
    name, found = ours(path), {module.split(".")[0] for module in imports(path)}
    if name.startswith("doppel/"):
        # The composition root builds the parts, by name.
        parts = set() if name == "doppel/app_context.py" else {"indexing", "training"}
        assert not found & {"commands", "app", *parts}
    if name.startswith("indexing/"):
        assert not found & {"training", "commands", "app"}
    if name.startswith("training/"):
        assert not found & {"indexing", "commands", "app"}


def node(module: str) -> str:
    """The package of a module of ours, or the module itself where it stands beside them."""
    first, *rest = module.split(".")
    if first != "doppel" or not rest:
        return first
    return f"doppel.{rest[0]}"


def loaded(path: Path) -> Iterator[str]:
    """The modules of ours that a file imports, but for those whose types alone it names."""
    skipped = (ast.walk(n) for n in ast.walk(ast.parse(path.read_text())) if is_for_types(n))
    lines = {getattr(inner, "lineno", 0) for nodes in skipped for inner in nodes}
    for found in ast.walk(ast.parse(path.read_text())):
        if isinstance(found, ast.ImportFrom) and found.module and found.lineno not in lines:
            yield from (f"{found.module}.{alias.name}" for alias in found.names)


def is_for_types(found: ast.AST) -> bool:
    return isinstance(found, ast.If) and isinstance(found.test, ast.Name) and found.test.id == "TYPE_CHECKING"


def test_no_package_depends_on_itself_by_way_of_another() -> None:
    graph: dict[str, set[str]] = {}
    for path in SOURCES:
        mine = node(".".join(path.relative_to(ROOT).with_suffix("").parts))
        others = {node(module) for module in loaded(path) if module.split(".")[0] in PARTS}
        graph.setdefault(mine, set()).update(others - {mine, "doppel"})
    # It raises CycleError where one does.
    order = [*TopologicalSorter(graph).static_order()]
    assert order.index("doppel.records") < order.index("doppel.engine") < order.index("doppel.archive")
    below_ingest = max(order.index("doppel.archive"), order.index("doppel.slack"))
    assert below_ingest < order.index("doppel.ingest") < order.index("doppel.bot")
    assert order.index("doppel.services") < min(order.index("doppel.web"), order.index("doppel.bot"))
    assert order[-1] == "app"


def test_the_archive_knows_no_slack_and_slack_no_archive() -> None:
    strangers = {
        "doppel/archive/": ("doppel.slack", "doppel.ingest"),
        "doppel/slack/": ("doppel.archive", "doppel.ingest"),
    }
    for path in SOURCES:
        for package, unknown in strangers.items():
            if ours(path).startswith(package):
                assert not [m for m in imports(path) if m.startswith(unknown)], ours(path)


def test_one_function_opens_the_archive() -> None:
    """It reads again what an older Doppel read otherwise: who opens an archive by other means leaves that out."""
    users = {ours(path) for path in SOURCES if "open_engine(" in path.read_text(encoding="utf-8")}
    assert users == {"doppel/archive/database.py", "doppel/ingest/opening.py"}


def test_records_and_errors_import_nothing_of_ours() -> None:
    for name in ("records", "errors"):
        modules = imports(ROOT / "doppel" / f"{name}.py")
        assert not [m for m in modules if m.split(".")[0] in ("doppel", "indexing", "training")]


def test_the_engine_knows_no_surface() -> None:
    for path in SOURCES:
        if not ours(path).startswith((*SURFACES, "doppel/serving/", "commands/", "app.py")):
            surfaces = ("doppel.web", "doppel.bot", "doppel.terminal", "doppel.serving")
            assert not [m for m in imports(path) if m.startswith(surfaces)]


@pytest.mark.parametrize("library", OWNERS)
def test_one_module_owns_each_heavy_library(library: str) -> None:
    users = {ours(path) for path in SOURCES if library in {m.split(".")[0] for m in imports(path)}}
    assert users == OWNERS[library]


@pytest.mark.parametrize(
    ("command", "kept_out"),
    [
        ("reindex", ("gradio", "vllm", "trl")),
        ("import", ("torch", "faiss", "gradio")),
        ("personas", ("torch", "dbos")),
    ],
)
def test_a_command_loads_only_what_it_needs(command: str, kept_out: tuple[str, ...], tmp_path: Path) -> None:
    sample = str(ROOT / "examples" / "sample-workspace")
    if command == "reindex":
        # Of an empty archive no index is made.
        with open_archive(tmp_path / "archive.db") as archive:
            take_in(
                archive, ExportBuilder().user("U1", "ada").channel("C1", "general", "U1").say("general", "1.5", "Hi.")
            )
    arguments = [command, sample] if command == "import" else [command]
    code = (
        "import sys, app\n"
        "try:\n    app.app()\nexcept SystemExit:\n    pass\n"
        f"sys.exit(str([m for m in {kept_out!r} if m in sys.modules] or '') or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--data-dir", str(tmp_path), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_setting_is_documented() -> None:
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`((?:DOPPEL|SLACK)_\w+)`", text)) == set(map(variable, Settings.model_fields))
    for name, field in Settings.model_fields.items():
        assert f"| `{variable(name)}` |" in text
        assert str(field.description) in text


def test_every_command_is_in_the_readme() -> None:
    listed = subprocess.run([sys.executable, "app.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    commands = re.findall(r"^│ ([a-z]+)\b", listed.stdout, flags=re.MULTILINE)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(commands) >= 10
    assert not [command for command in commands if f"`{command}" not in readme]


def test_every_command_in_the_operations_guide_exists() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    named = re.findall(r"^    doppel (.+)$|`doppel (.+?)`", text, flags=re.MULTILINE)
    commands = {(block or inline).strip() for block, inline in named}
    assert {line.split()[0] for line in commands} >= {"archive", "doctor", "reindex"}
    for line in commands:
        group, words = get_command(app), line.split()
        while words and isinstance(group, TyperGroup):
            assert words[0] in group.commands, line
            group = group.commands[words.pop(0)]
        options = {option for parameter in group.params for option in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= options, line
    assert set(re.findall(r"DOPPEL_\w+", text)) <= {variable(name) for name in Settings.model_fields}


def test_the_readme_leads_to_every_document() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert not [path.name for path in (ROOT / "docs").glob("*.md") if f"(docs/{path.name})" not in readme]


def test_files_stay_readable_in_one_sitting() -> None:
    lengths = {ours(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert not {name: length for name, length in lengths.items() if length > 500}


def test_nothing_is_pickled() -> None:
    for path in SOURCES:
        assert "pickle" not in {m.split(".")[0] for m in imports(path)}
        for call in re.findall(r"(?:torch|np|numpy)\.load\([^)]*\)", path.read_text(encoding="utf-8")):
            assert "weights_only=True" in call or "allow_pickle=False" in call


def test_libraries_that_quote_people_stay_silent_whatever_configures_logging() -> None:
    code = (
        "import logging, uvicorn\n"
        "from doppel.bot.bolt_app import build_bot\n"
        "build_bot('http://127.0.0.1/api/', 's', None)\n"
        "uvicorn.Config(None)\n"
        "known = logging.Logger.manager.loggerDict.items()\n"
        "bolts = [logger for name, logger in known if 'bolt' in name.lower() and 'oauth' not in name]\n"
        "found = [logger for logger in bolts if hasattr(logger, 'level')]\n"
        "for logger in found:\n    logger.critical('what somebody said')\n"
        "assert len(found) >= 4"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_walks_of_the_architecture_are_those_of_the_code() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    hops = re.findall(r"^\| `([\w/]+\.py)` \| `(\w+)` \|", text, re.MULTILINE)
    assert len(hops) > 20
    for file, name in hops:
        assert re.search(rf"^(?:async )?(?:def|class) {name}\b", (ROOT / file).read_text(), re.MULTILINE), (file, name)
    assert [file for file in re.findall(r"`([\w/]+\.py)`", text) if not list(ROOT.glob(f"**/{file}"))] == []
