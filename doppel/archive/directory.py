"""Who and where: a workspace, its people and user groups, and channels that are known by their name alone.

Every function is to be called in a transaction in which nobody else writes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict

from sqlalchemy import Connection, Table, and_, bindparam, delete, exists, insert, select, update

from doppel.archive import tables
from doppel.archive.channels import UNSEEN, Values, drop_channel, move_rows
from doppel.archive.forgotten import read_tombstones
from doppel.archive.upsert import PARAMETERS, batches
from doppel.ids import PLACEHOLDER, UNKNOWN_TEAM
from doppel.records import Channel, User

_DOUBTS = ("is_guest", "deleted")
"""Of two that differ and are of one time, the one that has it counts: it takes rights away."""


def merge_people(connection: Connection, team: str, people: Iterable[User], as_of: int) -> set[str]:
    """Take in people, of those who were forgotten the id alone; returns the ids that read differently now."""
    tombstones = read_tombstones(connection, team)
    rows = (asdict(tombstones.person(user)) | {"team": team} for user in people)
    return merge_rows(connection, tables.users, team, rows, as_of)


def merge_groups(connection: Connection, team: str, handles: Mapping[str, str], as_of: int) -> set[str]:
    """Take in what user groups are called, by id; returns the ids that read differently now."""
    rows = [{"team": team, "id": id_, "handle": handle} for id_, handle in handles.items()]
    return merge_rows(connection, tables.user_groups, team, rows, as_of)


def group_names(connection: Connection, team: str, ids: Collection[str] | None = None) -> dict[str, str]:
    """What the user groups of a workspace, or those with one of `ids`, are called, by id."""
    t = tables.user_groups
    query = select(t.c.id, t.c.handle).where(t.c.team == team)
    if ids is not None:
        query = query.where(t.c.id.in_(ids))
    return {row.id: row.handle for row in connection.execute(query)}


def doubt_unlisted(connection: Connection, team: str, listed: Collection[str], as_of: int) -> None:
    """Who isn't among all that Slack lists is not known to be a full member, and so is a guest until they are."""
    t = tables.users
    members = (t.c.team == team, t.c.as_of < as_of, t.c.is_guest.is_(False))
    unlisted = sorted(set(connection.scalars(select(t.c.id).where(*members))) - set(listed))
    for id_ in unlisted:
        connection.execute(update(t).where(t.c.team == team, t.c.id == id_).values(is_guest=True))


def merge_rows(connection: Connection, table: Table, team: str, rows: Iterable[Values], as_of: int) -> set[str]:
    """Add the rows whose id is new, replace those that are known of an earlier time; returns the ids of both.

    Where both are of one time the narrower holds: see `_DOUBTS`. However many there are, few are in memory at once.
    """
    differing = set[str]()
    for batch in batches(rows, PARAMETERS):
        differing |= _merge_batch(connection, table, team, batch, as_of)
    return differing


def _merge_batch(connection: Connection, table: Table, team: str, rows: Sequence[Values], as_of: int) -> set[str]:
    incoming = {row["id"]: row | {"as_of": as_of} for row in rows}
    query = select(table).where(table.c.team == team, table.c.id.in_(incoming))
    stored = {row.id: row._asdict() for row in connection.execute(query)}
    added = [row for id_, row in incoming.items() if id_ not in stored]
    told = [(row, stored[id_]) for id_, row in incoming.items() if id_ in stored]
    newer = [row for row, old in told if as_of > old["as_of"]]
    newer += [old | doubts for row, old in told if as_of == old["as_of"] and (doubts := _doubts(row, old))]
    if added:
        connection.execute(insert(table), added)
    if newer:
        by_key = and_(table.c.team == bindparam("key_team"), table.c.id == bindparam("key_id"))
        keyed = [row | {"key_team": team, "key_id": row["id"]} for row in newer]
        connection.execute(update(table).where(by_key).values({c.name: bindparam(c.name) for c in table.c}), keyed)
    differing = {row["id"] for row in newer if row | {"as_of": 0} != stored[row["id"]] | {"as_of": 0}}
    return differing | {row["id"] for row in added}


def _doubts(row: Values, old: Values) -> Values:
    return {name: True for name in _DOUBTS if row.get(name) and not old[name]}


def merge_team(connection: Connection, named: Sequence[str], channels: Iterable[Channel]) -> str:
    """The team as it is `named`. One without a name, or first met so, is known by the channels it shares.

    So is the right one of several names, the likeliest first: channels shared with others are the fewer.
    """
    known = set(connection.scalars(select(tables.workspaces.c.team)))
    akin, share = _team_with(connection, [channel.id for channel in channels])
    team = next(iter(named), akin or UNKNOWN_TEAM)
    if akin in named and share > 0.5:
        team = akin
    if team not in known and akin == UNKNOWN_TEAM:
        _retag(connection, team)
    elif team not in known:
        connection.execute(insert(tables.workspaces).values(team=team, url="", as_of=UNSEEN))
    return team


def _team_with(connection: Connection, channel_ids: Iterable[str]) -> tuple[str, float]:
    """The workspace of the archive that has the most of these channels, "" where none or several do, and their share.

    Slack's ids are unique, placeholders are not.
    """
    t, wanted = tables.channels, {id_ for id_ in channel_ids if not id_.startswith(PLACEHOLDER)}
    teams = Counter(row.team for row in connection.execute(select(t.c.team, t.c.id)) if row.id in wanted)
    (akin, most), (_, second) = [*teams.most_common(2), ("", 0), ("", 0)][:2]
    return (akin, most / len(wanted)) if most > second else ("", 0.0)


def _retag(connection: Connection, team: str) -> None:
    for table in tables.metadata.sorted_tables:
        if table is tables.revisions:
            continue  # It counts by itself.
        _drop_known(connection, table, team)
        connection.execute(update(table).where(table.c.team == UNKNOWN_TEAM).values(team=team))


def _drop_known(connection: Connection, table: Table, team: str) -> None:
    """Delete of the unknown workspace what is kept of `team` already, as of one that was erased: see `erasing`."""
    key = [column.name for column in table.primary_key if column.name != "team"]
    if len(key) == len(table.primary_key):
        return
    known, mine = table.alias(), table.c.team == UNKNOWN_TEAM
    same = [known.c[name] == table.c[name] for name in key]
    if table is tables.changes:
        # Their sum must never fall: it tells whether an index is up to date.
        unknown = select(table.c.revision).where(mine).scalar_subquery()
        here = (table.c.team == team, unknown.is_not(None))
        connection.execute(update(table).where(*here).values(revision=table.c.revision + unknown))
    connection.execute(delete(table).where(mine, exists().where(known.c.team == team, *same)))


def rekey_named(connection: Connection, team: str, channels: Collection[Channel]) -> list[tuple[str, str]]:
    """Give those their ids of which only the name was known, to one channel each; returns the new and the old ones."""
    t = tables.channels
    stored = connection.execute(select(t.c.id, t.c.name).where(t.c.team == team)).all()
    called = {(row.name, row.id) for row in stored if not row.id.startswith(PLACEHOLDER)}
    sharing = Counter(name for name, _ in called | {(channel.name, channel.id) for channel in channels})
    known = {row.id for row in stored}
    found = [(c.id, PLACEHOLDER + c.name) for c in channels if PLACEHOLDER + c.name in known and sharing[c.name] == 1]
    for channel, placeholder in found:
        _rekey(connection, team, placeholder, channel)
    return found


def _rekey(connection: Connection, team: str, placeholder: str, channel: str) -> None:
    """A channel got its id: its messages move there, unless they are there already."""
    drop_channel(connection, team, placeholder)
    move_rows(connection, team, placeholder, channel, [tables.messages])


def take_url(connection: Connection, team: str, url: str, as_of: int) -> None:
    """Take in where a workspace is, unless that is known of a later time."""
    t = tables.workspaces
    older = update(t).where(t.c.team == team, t.c.as_of < as_of)
    connection.execute(older.values(url=url, as_of=as_of))
