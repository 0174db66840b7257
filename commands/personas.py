"""Who agreed, who is trained, and which version serves."""

from __future__ import annotations

import asyncio
import getpass
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.run import Detach, Team, UserName, command, path_of
from doppel.app_context import AppContext
from doppel.console import Result
from doppel.plain_text import line, lines
from doppel.services.jobs import as_job, training_of

if TYPE_CHECKING:
    from doppel.access import ConsentRecord
    from doppel.archive.archive import Archive
    from doppel.records import User

app = typer.Typer()
consent_app = typer.Typer(help="Who agreed to a doppelganger.", no_args_is_help=True)
adapters_app = typer.Typer(help="The trained adapters and which version serves.", no_args_is_help=True)
app.add_typer(consent_app, name="consent")
app.add_typer(adapters_app, name="adapters")

By = Annotated[str, typer.Option("--by", help="Who enters this; your login if left out.")]


@command(consent_app, "grant")
def consent_grant(context: AppContext, user: UserName, by: By = "", team: Team = None) -> Result:
    """Record that USER agreed to a doppelganger, in one workspace."""
    from doppel.services import consent

    with context.archive() as archive:
        person = archive.find_user(user, team)
        record = consent.grant(archive, person, by or getpass.getuser())
    return Result(
        _consent_row(record, person), line(f"Recorded: {person.name} agreed. Next: doppel train --user {person.id}")
    )


@command(consent_app, "revoke")
def consent_revoke(context: AppContext, user: UserName, by: By = "", team: Team = None) -> Result:
    """Record that USER withdrew, in every workspace or in one, stop the persona and delete the adapter."""
    from doppel.services import consent
    from doppel.services.forgetting import unload

    with context.archive() as archive:
        people = archive.find_person(user, team)
        done = [consent.revoke(archive, context.adapters(), person, by or getpass.getuser()) for person in people]
    for person, (_, gone) in zip(people, done, strict=True):
        asyncio.run(unload(context, person, gone))
    removed = [version for _, gone in done for version in gone]
    text = line(f"Recorded: {people[0].name} withdrew. {len(removed)} adapter versions deleted.")
    teams = [person.team for person in people]
    return Result(_consent_row(done[0][0], people[0]) | {"removed_versions": removed, "workspaces": teams}, text)


@command(consent_app, "list")
def consent_list(
    context: AppContext,
    user: Annotated[str | None, typer.Argument(metavar="[USER]", help="One person only.")] = None,
    team: Team = None,
) -> Result:
    """Show who said what, when, and who entered it."""
    with context.archive() as archive:
        people = {(u.team, u.id): u for u in archive.users()}
        found = archive.find_person(user, team) if user else [None]
        records = [record for person in found for record in archive.consent_records(person)]
    rows = [_consent_row(record, people.get((record.team, record.user_id)) or _unknown(record)) for record in records]
    text = lines(f"{r['when']}  {r['what']:6}  {r['who']} ({r['user_id']}), entered by {r['by']}" for r in rows)
    return Result({"consents": rows}, text or "Nobody has agreed yet.")


def _unknown(record: ConsentRecord) -> User:
    """Somebody of whom only the ledger tells."""
    from doppel.records import User

    return User(record.team, record.user_id, "")


def _consent_row(record: Any, user: User) -> dict[str, Any]:
    return {
        "who": user.name,
        "user_id": user.id,
        "what": record.action.value,
        "when": record.at,
        "by": record.by,
    }


def _finite(value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter("it must be a number of minutes.")
    return value


@command(app, "train")
def train_(
    context: AppContext,
    user: Annotated[str, typer.Option("--user", help="Slack id, handle, display name or real name.")],
    minutes: Annotated[
        float | None,
        typer.Option(
            "--minutes", min=0, callback=_finite, help="As long as it may take; 0: no limit (or DOPPEL_TRAIN_MINUTES)."
        ),
    ] = None,
    detach: Detach = False,
    team: Team = None,
) -> Result:
    """Fine-tune an adapter on what USER wrote, and publish it if it is better than the base model."""
    from doppel.access import require_consent
    from doppel.services.consent import sweep

    if minutes is not None:
        context = replace(context, settings=context.settings.model_copy(update={"train_minutes": minutes}))
    with context.archive() as archive:
        sweep(archive, context.adapters())
        if context.is_job:
            return _train(context, archive, archive.get_user(team or "", user))
        person = archive.find_user(user, team)
        require_consent(person, archive.consent_records(person))
    result = as_job(context, "train", training_of(person), detach)
    return result if detach else Result({"persona": person.name} | result.data, f"{line(person.name)}: {result.text}")


def _train(context: AppContext, archive: Archive, person: User) -> Result:
    from doppel.models.base_model import base_model_path

    base = base_model_path(context.settings, context.console.say)
    from training.pace import said
    from training.train import train

    with context.console.progress(f"Training {person.id}") as update:

        def tell(step: int, steps: int, loss: float | None, seconds: float | None) -> None:
            left = said(seconds)
            update(step, steps, note=left if loss is None else f"loss {loss:.3f}, {left}")

        report = train(
            person,
            archive,
            context.adapters(),
            context.settings,
            base,
            context.console.say,
            tell,
        )
    text = (
        f"{report.base_nll:.3f} nats per token without the adapter, {report.adapter_nll:.3f} with it, "
        f"on {report.held_out} held-out answers, after {report.seconds:.0f} s "
        f"({report.tokens_per_second:.0f} tokens a second).\n"
        f"{f'Published as {report.version}.' if report.published else 'Not published.'} {report.reason}"
    )
    return Result(asdict(report), text)


@command(app, "personas")
def personas_(context: AppContext) -> Result:
    """Show who can be asked, and which adapter version answers."""
    from doppel.access import has_consent

    with context.archive() as archive:
        agreed = [user for user in archive.users() if has_consent(archive.consent_records(user))]
    trained = {(row["team"], row["user_id"]): row for row in context.adapters().overview(agreed) if row["serving"]}
    rows = [
        {"persona": user.name, "user_id": user.id, "handle": user.handle, "version": None, "damaged": None}
        | trained.get((user.team, user.id), {})
        for user in agreed
    ]
    text = lines(
        f"{row['persona']} ({row['user_id']}): {row['damaged'] or row['version'] or 'no adapter yet'}" for row in rows
    )
    return Result({"personas": rows}, text or "Nobody yet: record who agreed with `doppel consent grant USER`.")


@command(adapters_app, "list")
def adapters_list(context: AppContext) -> Result:
    """Show every version that is there."""
    with context.archive() as archive:
        rows = context.adapters().overview(archive.users())
    text = lines(
        f"{'*' if row['serving'] else ' '} {row['persona']}  {row['version']}  {_figures(row)}" for row in rows
    )
    return Result({"adapters": rows}, text or "No adapter yet: train one with `doppel train --user USER`.")


def _figures(row: dict[str, Any]) -> str:
    return str(row["damaged"] or f"{row['created']}  {row['base_nll']:.3f} -> {row['adapter_nll']:.3f}")


@command(adapters_app, "rollback")
def adapters_rollback(
    context: AppContext,
    user: UserName,
    to: Annotated[
        str | None, typer.Option("--to", help="A version; the one before the serving one if left out.")
    ] = None,
    team: Team = None,
) -> Result:
    """Let an earlier version serve; a running server takes it up at once."""
    with context.archive() as archive:
        person = archive.find_user(user, team)
    before, now = context.adapters().roll_back(person, to)
    data = {"persona": person.name, "user_id": person.id, "from": before, "version": now}
    return Result(data, line(f"{person.name}: {now} serves, {before} did."))


@command(adapters_app, "export")
def adapters_export(
    context: AppContext,
    user: UserName,
    target: Annotated[Path, typer.Argument(parser=path_of, metavar="FOLDER", help="A new folder.")],
    merged: Annotated[bool, typer.Option("--merged", help="A full model instead of an adapter.")] = False,
    team: Team = None,
) -> Result:
    """Write the serving adapter as a PEFT folder, or merged into the base model."""
    from doppel.models.base_model import base_model_path
    from training.export import export_adapter, export_merged

    with context.archive() as archive:
        person = archive.find_user(user, team)
    version = context.adapters().require(person)
    if merged:
        export_merged(version, base_model_path(context.settings, context.console.say), target)
    else:
        export_adapter(version, target)
    data = {"persona": person.name, "version": version.name, "merged": merged, "path": str(target.resolve())}
    return Result(data, line(f"Wrote {version.name} of {person.name} to {target}."))
