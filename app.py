"""Doppel's command line and composition root: it wires the parts and prints what they return."""

from __future__ import annotations

import asyncio
import functools
import getpass
import inspect
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from doppel.config import Settings, load_settings
from doppel.console import Console, Result, quiet_libraries

if TYPE_CHECKING:
    from doppel.adapters import AdapterStore
    from doppel.archive.archive import Archive
    from doppel.artifacts import VersionedFolder
    from doppel.engine import Engine
    from doppel.records import Persona, User
    from doppel.server import ModelServer
    from indexing.embed import SentenceEmbedder
    from indexing.retrieve import IndexRetriever

app = typer.Typer(help="Doppel: answers as a colleague would, from your team's Slack.", add_completion=False)
consent_app = typer.Typer(help="Who agreed to a doppelganger.", no_args_is_help=True)
adapters_app = typer.Typer(help="The trained adapters and which version serves.", no_args_is_help=True)
app.add_typer(consent_app, name="consent")
app.add_typer(adapters_app, name="adapters")

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="The data folder (or DOPPEL_DATA_DIR).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
UserName = Annotated[str, typer.Argument(metavar="USER", help="Slack id, handle, display name or real name.")]
By = Annotated[str, typer.Option("--by", help="Who enters this; your login if left out.")]
Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Port of the web chat.")]

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 7860


@dataclass(frozen=True, slots=True)
class Run:
    """What every command works with."""

    settings: Settings
    console: Console

    def archive(self) -> Archive:
        """The archive, opened; use it as a context manager."""
        from doppel.archive.archive import Archive

        return Archive.open(self.settings.archive_path, self.settings.workspace_url)

    @contextmanager
    def exclusively(self, what: str) -> Iterator[None]:
        """Hold the right to do something that one process may do on a data folder. Raises BusyError."""
        from filelock import FileLock, Timeout

        from doppel.errors import BusyError

        self.settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.settings.run_dir.mkdir(exist_ok=True)
        try:
            with FileLock(self.settings.run_dir / f"{what}.lock", timeout=0):
                yield
        except Timeout:
            raise BusyError(f"Another `doppel {what}` works on {self.settings.data_dir}; stop it first.") from None

    def adapters(self) -> AdapterStore:
        """The adapters of the data folder."""
        from doppel.adapters import AdapterStore

        return AdapterStore(self.settings.adapters_dir)

    def index(self) -> VersionedFolder:
        """The index of the data folder."""
        from doppel.artifacts import VersionedFolder

        return VersionedFolder(self.settings.index_dir, "index", "build it with `doppel reindex --full`")

    def embedder(self) -> SentenceEmbedder:
        """The embedding model of the settings."""
        from indexing.embed import SentenceEmbedder

        return SentenceEmbedder(self.settings.embedding_model, self.settings.device)

    def retriever(self, archive: Archive) -> IndexRetriever:
        """The search over the index."""
        from indexing.retrieve import IndexRetriever

        return IndexRetriever(self.index(), self.embedder(), archive)


def command(group: typer.Typer, name: str) -> Callable[[Callable[..., Result]], Callable[..., None]]:
    """Make a function of a Run and its own parameters a command, with --data-dir, --json and errors as sentences."""

    def register(body: Callable[..., Result]) -> Callable[..., None]:
        @functools.wraps(body)
        def wrapper(ctx: typer.Context, *, json: bool, data_dir: Path | None, **given: Any) -> None:
            outer = ctx.find_root().params
            _execute(body, json or outer["json"], data_dir or outer["data_dir"], given)

        signature = inspect.signature(body, eval_str=True)
        kind = inspect.Parameter.KEYWORD_ONLY
        own = [p.replace(kind=kind) for key, p in signature.parameters.items() if key != "run"]
        shared = [
            inspect.Parameter("ctx", kind, annotation=typer.Context),
            *own,
            inspect.Parameter("data_dir", kind, default=None, annotation=DataDir),
            inspect.Parameter("json", kind, default=False, annotation=AsJson),
        ]
        wrapper.__signature__ = signature.replace(parameters=shared, return_annotation=None)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {p.name: p.annotation for p in shared}
        group.command(name)(wrapper)
        return wrapper

    return register


def _execute(body: Callable[..., Result], as_json: bool, data_dir: Path | None, given: dict[str, Any]) -> None:
    quiet_libraries()
    console = Console(as_json)
    load = functools.partial(load_settings, os.environ, Path(".env"), data_dir=data_dir)
    with console.guarded(lambda: load().logs_dir / "doppel.log"):
        console.result(body(Run(load(), console), **given))


@app.callback(invoke_without_command=True)
def root(ctx: typer.Context, data_dir: DataDir = None, json: AsJson = False) -> None:
    """Doppel: answers as a colleague would, from your team's Slack. Without a command: serve."""
    if ctx.invoked_subcommand is None:
        _execute(serve_body, json, data_dir, {"host": DEFAULT_HOST, "port": DEFAULT_PORT})


@command(app, "import")
def import_(
    run: Run, path: Annotated[Path, typer.Argument(metavar="PATH", help="A Slack export: a ZIP or a folder.")]
) -> Result:
    """Read a Slack export into the archive."""
    from doppel.slack.export import open_export

    with open_export(path) as export, run.archive() as archive, run.console.progress("Importing") as update:
        report = archive.import_export(export, update)
    rate = (report.added + report.updated + report.unchanged) / max(report.seconds, 1e-9)
    text = (
        f"{report.messages} messages in the archive: {report.added} added, {report.updated} updated, "
        f"{report.unchanged} unchanged, in {report.seconds:.1f} s ({rate:.0f} a second).\n"
        f"{report.users} people, {report.channels} channels, {report.threads} threads."
    )
    skipped = "".join(f"\nSkipped {count}: {reason}" for reason, count in report.skipped.items())
    return Result(asdict(report), text + skipped)


@command(app, "reindex")
def reindex_(run: Run, full: Annotated[bool, typer.Option("--full", help="Embed everything again.")] = False) -> Result:
    """Bring the search index up to date with the archive."""
    from indexing.reindex import reindex

    embedder = run.embedder()
    keep = run.settings.keep_versions
    with run.archive() as archive, run.console.progress("Indexing") as update:
        report = reindex(archive, run.index(), embedder, full=full, keep=keep, progress=update)
    text = (
        f"{report.conversations} conversations in {report.chunks} chunks: {report.embedded} embedded, "
        f"{report.reused} reused, {report.removed} removed, in {report.seconds:.1f} s. Version {report.version}."
    )
    return Result(asdict(report), text)


@command(app, "search")
def search_(
    run: Run,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What to look for.")],
    k: Annotated[int, typer.Option("-k", min=1, help="How many chunks.")] = 5,
) -> Result:
    """Find what was said; the operator of this machine may read every channel."""
    from indexing.search import search_rows

    started = time.monotonic()
    with run.archive() as archive:
        found = search_rows(run.retriever(archive), archive, query, k)
    text = "\n\n".join(f"{r['score']:.3f}  #{r['channel']}  {r['permalink']}\n{r['text']}" for r in found)
    return Result({"results": found, "seconds": time.monotonic() - started}, text or "Nothing found.")


@command(consent_app, "grant")
def consent_grant(run: Run, user: UserName, by: By = "") -> Result:
    """Record that USER agreed to a doppelganger."""
    from doppel import consent

    with run.archive() as archive:
        person = archive.find_user(user)
        record = consent.grant(archive, person, by or getpass.getuser())
    return Result(_consent_row(record, person), f"Recorded: {person.name} agreed. Next: train --user {person.handle}")


@command(consent_app, "revoke")
def consent_revoke(run: Run, user: UserName, by: By = "") -> Result:
    """Record that USER withdrew, stop the persona and delete the adapter."""
    from doppel import consent
    from doppel.adapters import adapter_name
    from doppel.server import forget_adapters

    with run.archive() as archive:
        person = archive.find_user(user)
        record, gone = consent.revoke(archive, run.adapters(), person, by or getpass.getuser())
    asyncio.run(forget_adapters(run.settings, [adapter_name(person, version) for version in gone]))
    text = f"Recorded: {person.name} withdrew. {len(gone)} adapter versions deleted."
    return Result(_consent_row(record, person) | {"removed_versions": gone}, text)


@command(consent_app, "list")
def consent_list(
    run: Run, user: Annotated[str | None, typer.Argument(metavar="[USER]", help="One person only.")] = None
) -> Result:
    """Show who said what, when, and who entered it."""
    with run.archive() as archive:
        people = {(u.team, u.id): u for u in archive.users()}
        records = archive.consent_records(archive.find_user(user) if user else None)
    rows = [_consent_row(record, people[record.team, record.user_id]) for record in records]
    text = "\n".join(f"{r['when']}  {r['what']:6}  {r['who']} ({r['user_id']}), entered by {r['by']}" for r in rows)
    return Result({"consents": rows}, text or "Nobody has agreed yet.")


def _consent_row(record: Any, user: User) -> dict[str, Any]:
    return {
        "who": user.name,
        "user_id": user.id,
        "what": record.action.value,
        "when": record.at,
        "by": record.by,
    }


@command(app, "train")
def train_(
    run: Run, user: Annotated[str, typer.Option("--user", help="Slack id, handle, display name or real name.")]
) -> Result:
    """Fine-tune an adapter on what USER wrote, and publish it if it is better than the base model."""
    from doppel.access import require_consent
    from doppel.base_model import base_model_path

    with run.archive() as archive:
        person = archive.find_user(user)
        require_consent(person, archive.consent_records(person))
        base = base_model_path(run.settings, run.console.say)
        from training.train import train

        with run.console.progress(f"Training {person.name}") as update:
            report = train(
                person,
                archive,
                run.adapters(),
                run.settings,
                base,
                run.console.say,
                lambda step, steps, loss: update(step, steps, note="" if loss is None else f"loss {loss:.3f}"),
            )
    text = (
        f"{report.persona}: {report.base_nll:.3f} nats per token without the adapter, {report.adapter_nll:.3f} with "
        f"it, on {report.held_out} held-out answers, after {report.seconds:.0f} s "
        f"({report.tokens_per_second:.0f} tokens a second).\n"
        f"{f'Published as {report.version}.' if report.published else 'Not published.'} {report.reason}"
    )
    return Result(asdict(report), text)


@command(app, "chat")
def chat_(
    run: Run,
    persona: Annotated[str, typer.Option("--persona", help="Whom to ask: id, handle or name.")],
    message: Annotated[str | None, typer.Option("-m", "--message", help="One question; without it, a chat.")] = None,
) -> Result:
    """Ask a doppelganger in the terminal; leave with exit or Ctrl-C."""
    if message is None and run.console.as_json:
        raise typer.BadParameter("--json goes with -m.")
    from doppel.access import require_consent

    with run.archive() as archive:
        person = archive.find_user(persona)
        require_consent(person, archive.consent_records(person))
        return asyncio.run(_chat(run, archive, person, message))


async def _chat(run: Run, archive: Archive, person: User, message: str | None) -> Result:
    from doppel.records import Turn
    from doppel.surfaces.terminal import ASKER, ask, converse

    async with _engine(run, archive) as (engine, server):
        persona = await engine.persona(person.id)
        await server.wait_ready()
        if message is None:
            run.console.say(f"You talk to an AI in the manner of {persona.name}. exit or Ctrl-C ends.")
            await converse(engine, persona, lambda: input("\nYou: "), run.console.write)
            return Result({})
        reply = await ask(engine, persona, [Turn(ASKER, message)], run.console.write)
    return Result(
        {
            "persona": reply.persona.name,
            "version": reply.persona.version,
            "reply": reply.text,
            "sources": [source.permalink for source in reply.sources],
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": reply.completion_tokens,
            "first_token_seconds": reply.first_token_seconds,
            "seconds": reply.seconds,
            "notes": list(reply.notes),
        }
    )


@asynccontextmanager
async def _engine(run: Run, archive: Archive) -> AsyncIterator[tuple[Engine, ModelServer]]:
    """The engine, and the vLLM server behind it, which is starting."""
    from doppel.base_model import ChatTokenizer, base_model_path
    from doppel.engine import Engine
    from doppel.inference import InferenceClient
    from doppel.server import model_server

    base = await asyncio.to_thread(base_model_path, run.settings, run.console.say)
    async with (
        model_server(run.settings, base, run.console.say) as server,
        InferenceClient(server.endpoint, server.wait_ready) as client,
    ):
        tokenizer = await asyncio.to_thread(ChatTokenizer, base)
        engine = Engine(run.settings, archive, run.retriever(archive), run.adapters(), tokenizer, client)
        yield engine, server


@command(app, "personas")
def personas_(run: Run) -> Result:
    """Show who can be asked, and which adapter version answers."""
    from doppel.access import has_consent

    with run.archive() as archive:
        agreed = [user for user in archive.users() if has_consent(archive.consent_records(user))]
    trained = {row["user_id"]: row for row in run.adapters().overview(agreed) if row["serving"]}
    rows = [
        {"persona": user.name, "user_id": user.id, "handle": user.handle, "version": None} | trained.get(user.id, {})
        for user in agreed
    ]
    text = "\n".join(f"{row['persona']} ({row['user_id']}): {row['version'] or 'no adapter yet'}" for row in rows)
    return Result({"personas": rows}, text or "Nobody yet: record who agreed with `doppel consent grant USER`.")


@command(adapters_app, "list")
def adapters_list(run: Run) -> Result:
    """Show every version that is there."""
    with run.archive() as archive:
        rows = run.adapters().overview(archive.users())
    text = "\n".join(
        f"{'*' if row['serving'] else ' '} {row['persona']}  {row['version']}  {row['created']}  "
        f"{row['base_nll']:.3f} -> {row['adapter_nll']:.3f}"
        for row in rows
    )
    return Result({"adapters": rows}, text or "No adapter yet: train one with `doppel train --user USER`.")


@command(adapters_app, "rollback")
def adapters_rollback(
    run: Run,
    user: UserName,
    to: Annotated[
        str | None, typer.Option("--to", help="A version; the one before the serving one if left out.")
    ] = None,
) -> Result:
    """Let an earlier version serve; a running server takes it up at once."""
    with run.archive() as archive:
        person = archive.find_user(user)
    before, now = run.adapters().roll_back(person, to)
    data = {"persona": person.name, "user_id": person.id, "from": before, "version": now}
    return Result(data, f"{person.name}: {now} serves, {before} did.")


@command(adapters_app, "export")
def adapters_export(
    run: Run,
    user: UserName,
    target: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder.")],
    merged: Annotated[bool, typer.Option("--merged", help="A full model instead of an adapter.")] = False,
) -> Result:
    """Write the serving adapter as a PEFT folder, or merged into the base model."""
    from doppel.base_model import base_model_path
    from training.export import export_adapter, export_merged

    with run.archive() as archive:
        person = archive.find_user(user)
    version = run.adapters().require(person)
    if merged:
        export_merged(version, base_model_path(run.settings, run.console.say), target)
    else:
        export_adapter(version, target)
    data = {"persona": person.name, "version": version.name, "merged": merged, "path": str(target.resolve())}
    return Result(data, f"Wrote {version.name} of {person.name} to {target}.")


@command(app, "serve")
def serve_(run: Run, host: Host = DEFAULT_HOST, port: Port = DEFAULT_PORT) -> Result:
    """Serve the web chat and the vLLM server behind it."""
    return serve_body(run, host, port)


def serve_body(run: Run, host: str, port: int) -> Result:
    """Serve until Ctrl-C."""
    from doppel.surfaces.hosting import reserve_port

    with reserve_port(host, port) as listening, run.exclusively("serve"), run.archive() as archive:
        asyncio.run(_serve(run, archive, listening))
    return Result({"served": f"http://{host}:{port}"}, "Stopped.")


async def _serve(run: Run, archive: Archive, listening: socket.socket) -> None:
    """The page is there at once; questions wait until vLLM is ready. A vLLM that can't start ends it all."""
    from doppel.access import ReadPolicy
    from doppel.surfaces.hosting import serve
    from doppel.surfaces.web import build_app

    def keep(persona: Persona, question: str, reply: str, sources: Sequence[str], liked: bool | None) -> None:
        archive.add_feedback(
            persona.team,
            persona.user_id,
            version=persona.version,
            question=question,
            reply=reply,
            sources=sources,
            liked=liked,
        )

    host, port = listening.getsockname()[:2]
    place = ReadPolicy.parse(run.settings.web_channels)
    async with _engine(run, archive) as (engine, server):
        page = build_app(engine, keep, place, server.status)
        ready = functools.partial(run.console.say, f"The web chat is at http://{host}:{port}")
        async with asyncio.TaskGroup() as tasks:
            starting = tasks.create_task(server.wait_ready())
            await serve(page, listening, ready)
            starting.cancel()


@command(app, "doctor")
def doctor_(run: Run) -> Result:
    """Check packages, processor, memory, disk, models, archive, index and server."""
    from doppel.doctor import examine
    from doppel.server import find_running

    running = asyncio.run(find_running(run.settings))
    checks = examine(run.settings, run.index(), running.url if running else None)
    text = "\n".join(f"{'ok  ' if c.ok else 'FAIL'}  {c.name}: {c.detail}" for c in checks)
    return Result({"checks": [asdict(check) for check in checks]}, text)


def main() -> None:
    """The installed command `doppel`."""
    app()


if __name__ == "__main__":
    main()
