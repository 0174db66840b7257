"""Large files are read as small ones are, element by element."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import Any

import pytest

from doppel.ingest import ImportReport, import_export, open_archive
from doppel.slack import export_files, json_stream
from doppel.slack.export import open_export
from doppel.slack.json_stream import Unread, abouts, elements
from tests.fakes.export_builder import ExportBuilder, small_team

LARGE, DEEP = Unread.TOO_LARGE, Unread.TOO_DEEP
HUGE = 2**20


@pytest.fixture(params=[2, 7, 2**19])
def read_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """However the file comes in."""
    monkeypatch.setattr(json_stream, "_READ_BYTES", request.param)


WELL = [
    "[]",
    " [ ] ",
    "[1, 2.50, -3e2, true, null]",
    '[{"a": 1, "a": 2}, {"b": [1, 2, "]", {"c": "}"}]}]',
    '["\\u00e9\\"\\\\", "é \U0001f600", ""]',
    "[1e400, 1700000000.000100]",
    "\n[\t{}\r\n]\n",
]
BROKEN = [
    "",
    " ",
    "[",
    "[1",
    "[1,",
    "[1,]",
    "[1 2]",
    "[,1]",
    "[1]]",
    "[1] x",
    "{}",
    "null",
    '"[]"',
    "[tru]",
    '["a]',
    "[1}",
    "[{]",
]


@pytest.mark.usefixtures("read_bytes")
@pytest.mark.parametrize("text", WELL)
def test_an_array_is_what_json_says(text: str) -> None:
    assert list(elements(io.BytesIO(text.encode()))) == json.loads(text)


@pytest.mark.usefixtures("read_bytes")
@pytest.mark.parametrize("text", BROKEN)
def test_what_json_refuses_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        list(elements(io.BytesIO(text.encode())))


SHAPES: list[tuple[str, list[Any]]] = [
    ('{"ok": true, "messages": [1, {"a": [2]}], "users": [3], "more": {"messages": [4]}}', [1, {"a": [2]}]),
    (' {"channels": [{"id": "C1"}]}\n', [{"id": "C1"}]),
    ('{"id": "C1", "members": ["U1"]}\n{"id": "C2"}', [{"id": "C1", "members": ["U1"]}, {"id": "C2"}]),
    ('{"ts": "1", "text": "a"}\r\n\r\n{"ts": "2", "text": "b', [{"ts": "1", "text": "a"}, Unread.BROKEN]),
    ('{"id": "a"}\nnonsense\n{"id": "b"}', [{"id": "a"}, Unread.BROKEN, {"id": "b"}]),
    ('{"t": 6, "ts": 5, "w": {}}\n{"t": 3, "ts": 5, "u": [1]}\n{"t": 4, "ts": 5, "ch": [2]}', [1, 2]),
    ('{"t": 0, "id": "C1", "m": [1]}{"t": 3, "id": "C1"}{"t": 1, "id": "C1", "m": [2]}', [1, 2]),
]


@pytest.mark.usefixtures("read_bytes")
@pytest.mark.parametrize(("text", "expected"), SHAPES)
def test_objects_that_hold_entries_and_lines(text: str, expected: list[Any]) -> None:
    assert list(elements(io.BytesIO(text.encode()))) == expected


def test_an_object_that_is_too_large_for_memory_is_gone_through() -> None:
    said = '{"ts": "0"},' * (HUGE // 8) + '{"ts": "1"}'
    text = '{"a": [[0]], "name": "x", "members": ["U1"], "messages": [' + said + '], "b": {"c": [1]}}'
    found = list(elements(io.BytesIO(text.encode())))
    assert (len(found), found[-1]) == (HUGE // 8 + 2, {"ts": "1"})
    assert list(abouts(io.BytesIO(text.encode()))) == [{"name": "x", "b": {"c": [1]}}]
    line = json.dumps({"ts": "1", "text": "x" * 2 * HUGE})
    assert list(elements(io.BytesIO(f'{{"id": 1}}\n{line}\n{{"id": 2}}'.encode()))) == [{"id": 1}, LARGE, {"id": 2}]


@pytest.mark.usefixtures("read_bytes")
@pytest.mark.parametrize("text", ['{"messages": [1', '{"messages": {}}', '{"a": [1]}', '{"ts": "1"}', "{]", '{"id": }'])
def test_objects_that_hold_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        list(elements(io.BytesIO(text.encode())))


@pytest.mark.usefixtures("read_bytes")
def test_numbers_that_are_none_pass_as_they_do_in_json() -> None:
    assert repr(list(elements(io.BytesIO(b"[NaN, Infinity, -Infinity]")))) == "[nan, inf, -inf]"


@pytest.mark.usefixtures("read_bytes")
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_any_encoding_that_says_so_is_read(encoding: str) -> None:
    mark = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}.get(encoding, b"")
    data = mark + '[{"text": "é \U0001f600"}]'.encode(encoding)
    assert list(elements(io.BytesIO(data))) == [{"text": "é \U0001f600"}]


def test_bytes_that_are_no_utf_8_are_replaced() -> None:
    assert list(elements(io.BytesIO(b'["a\xff", "\xe9"]'))) == ["a\ufffd", "\ufffd"]


@pytest.mark.parametrize(
    ("element", "found"),
    [
        ('"' + "x" * 3 * HUGE + '"', LARGE),
        ('"' + '\\"' * 2 * HUGE + '"', LARGE),
        ("[" + "1, " * HUGE + "1]", LARGE),
        ('{"a": {"b": "' + "]}" * HUGE + '"}}', LARGE),
        ('{"a" 1' + " " * 3 * HUGE + "}", LARGE),
        ("[" * 100_000 + "]" * 100_000, DEEP),
        ('{"a": ' * 5000 + "1" + "}" * 5000, DEEP),
    ],
)
def test_an_element_that_is_too_large_or_too_deep_is_left_out(element: str, found: Unread) -> None:
    text = f'[{{"a": 1}}, {element}, {{"b": 2}}]'
    assert list(elements(io.BytesIO(text.encode()))) == [{"a": 1}, found, {"b": 2}]


@pytest.mark.parametrize("end", ['"' + "x" * 3 * HUGE, "[" * 100_000, '{"a": "' + "\\" * 3 * HUGE])
def test_an_element_that_never_ends_is_a_file_that_breaks_off(end: str) -> None:
    with pytest.raises(ValueError, match="breaks off"):
        list(elements(io.BytesIO(b"[1, " + end.encode())))


def test_no_more_than_a_part_of_the_file_is_in_memory() -> None:
    class Counting(io.BytesIO):
        most = 0

        def read(self, size: int | None = -1, /) -> bytes:
            assert size is not None
            self.most = max(self.most, size)
            assert 0 < size <= HUGE
            return super().read(size)

    file = Counting(b"[" + b",".join([b'{"x": "' + b"y" * 10_000 + b'"}'] * 1000) + b"]")
    found = elements(file)
    next(found)
    assert file.tell() < 4 * HUGE
    assert sum(1 for _ in found) == 999


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_there_reads_as_json_reads_it(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr(json_stream, "_READ_BYTES", chance.choice([1, 3, 50]))
    monkeypatch.setattr(json_stream, "MAX_ELEMENT_CHARS", 400)

    def value(depth: int) -> Any:
        kind = chance.choice("nsbfoa" if depth else "nsbf")
        many = range(chance.randrange(4))
        text = "".join(chance.choice('ab"\\[]{},: é\n\u2028\U0001f600') for _ in range(chance.randrange(12)))
        if kind == "o":
            return {f"{text}{i}": value(depth - 1) for i in many}
        if kind == "a":
            return [value(depth - 1) for _ in many]
        return {"n": chance.randrange(10**6), "s": text, "b": chance.choice([True, None]), "f": -chance.random()}[kind]

    wanted = [value(3) for _ in range(30)]
    text = json.dumps(wanted, ensure_ascii=chance.choice([True, False]), indent=chance.choice([None, 1]))
    found = list(elements(io.BytesIO(text.encode())))
    assert len(found) == len(wanted)
    assert all(one == other or one is LARGE for one, other in zip(found, wanted, strict=True))
    with pytest.raises(ValueError, match=r"."):
        list(elements(io.BytesIO(text.encode()[: chance.randrange(len(text))])))


@pytest.fixture
def streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file counts as large."""
    monkeypatch.setattr(export_files, "_WHOLE_BYTES", 0)


def take_in(where: Path | str, builder: ExportBuilder, path: Path) -> ImportReport:
    with open_archive(where) as archive, open_export(builder.zip(path)) as found:
        return import_export(archive, found)


def rows(where: Path | str) -> object:
    with open_archive(where) as archive:
        return archive.users(), archive.channels(), list(archive.messages())


def test_an_export_reads_the_same_either_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builder = small_team().put("general/canvas_1.json", '[{"id": "F1"}]').say("general", 1700000300.5, "A number.")
    builder.lists["users"].append({"name": "without an id"})
    take_in(tmp_path / "whole.db", builder, tmp_path / "export.zip")
    monkeypatch.setattr(export_files, "_WHOLE_BYTES", 0)
    report = take_in(tmp_path / "streamed.db", builder, tmp_path / "export.zip")
    assert rows(tmp_path / "streamed.db") == rows(tmp_path / "whole.db")
    assert report.skipped == {"canvas": 1, "no id": 1}


@pytest.mark.usefixtures("streamed")
@pytest.mark.parametrize("cut", [1, 2, 40, 400])
def test_a_large_day_that_breaks_off_is_left_out_whole_as_a_small_one_is(
    tmp_path: Path, where: Path | str, cut: int
) -> None:
    builder = small_team()
    day = next(iter(builder.days))
    builder.put(day, builder.contents()[day][:-cut])
    report = take_in(where, builder, tmp_path / "export.zip")
    assert (report.messages, report.skipped) == (1, {"broken day file": 1})


@pytest.mark.parametrize("is_large", [True, False])
def test_a_message_that_is_not_read_is_counted_and_the_rest_of_its_day_comes(
    tmp_path: Path, where: Path | str, is_large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_files, "_WHOLE_BYTES", 0 if is_large else 2**26)
    deep = "[" * 2000 + "]" * 2000
    day = '[{"ts": "1700000500.1", "text": "a"}, {"ts": "1700000500.2", "x": %s}, {"ts": "1700000500.3", "text": "b"}]'
    huge = json.dumps([{"ts": "1700000600.1", "text": "x" * 2 * HUGE}, {"ts": "1700000600.2", "text": "c"}])
    builder = small_team().put("general/2023-12-24.json", day.replace("%s", deep)).put("general/2023-12-25.json", huge)
    report = take_in(where, builder, tmp_path / "export.zip")
    assert report.skipped == {"nested too deep": 1, "too large": 1}
    assert report.added == 7 + 3
