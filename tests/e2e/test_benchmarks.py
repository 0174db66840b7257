"""The benchmarks' arithmetic, their order and their JSON; and one of them for real, on the sample workspace."""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from benchmarks.bare_client import Limit, timed_calls
from benchmarks.bots import Script
from benchmarks.frame import Benchmark, Contender, Measurement, MeasurementError, Run, Samples, figures, in_turn
from benchmarks.machine import machine_facts
from benchmarks.mentions import People, Thread
from benchmarks.process import Companion, in_fresh_process
from benchmarks.streamed import cut_prompts
from benchmarks.table import table
from doppel.bot.writing import UNEXPECTED
from doppel.errors import BadInputError
from doppel.records import Persona
from tests.fakes.slack import FakeSlack, Limits, Workspace

ROOT = Path(__file__).parents[2]
SCRIPT = Script(Persona("T1", "U1", "Ada", "ada"), words=10, pause=0)


def contender(name: str, *values: float) -> Contender:
    """One that measures these, one after another."""
    left: Iterator[float] = iter(values)
    return Contender(name, lambda: {"things/s": [next(left)]})


def benchmark(*contenders: Contender) -> Benchmark:
    return Benchmark("made-up", "Made up", contenders, {"things": 3}, ("pytest",), ("anything real.",))


def run(*contenders: Contender, rounds: int, warmup: int = 0) -> Run:
    return Run(benchmark(*contenders), rounds, warmup, lambda _: None)


def test_contenders_take_turns_and_the_order_turns_round() -> None:
    a, b = contender("a"), contender("b")
    assert [(number, c.name) for number, c in in_turn((a, b), 3)] == [
        (1, "a"),
        (1, "b"),
        (2, "b"),
        (2, "a"),
        (3, "a"),
        (3, "b"),
    ]


def test_the_ratio_is_taken_round_by_round_and_warm_up_does_not_count() -> None:
    measured = run(contender("ours", 1000, 10, 30, 40), contender("peer", 1, 5, 10, 40), rounds=3, warmup=1)
    measured.measure()
    result = measured.result({})
    (figure,) = result.figures
    assert result.complete
    assert asdict(figure.contenders["ours"]) == {"median": 30, "min": 10, "max": 40, "count": 3}
    assert asdict(figure.contenders["peer"]) == {"median": 10, "min": 5, "max": 40, "count": 3}
    assert asdict(figure.ratios["peer"]) == {"median": 2, "min": 1, "max": 3, "count": 3}
    assert [m.counted for m in result.measurements] == [False, False, *[True] * 6]


def test_several_samples_of_a_measurement_count_once_in_the_ratio() -> None:
    measured = [
        Measurement(1, "ours", True, 1.0, 0.0, {"s": [1.0, 2.0, 9.0]}),
        Measurement(1, "peer", True, 1.0, 0.0, {"s": [4.0]}),
        Measurement(2, "ours", True, 1.0, 0.0, {"s": [3.0, 3.0, 3.0]}),
    ]
    (figure,) = figures(("ours", "peer"), measured)
    assert (figure.contenders["ours"].median, figure.contenders["ours"].count) == (3.0, 6)
    assert (figure.ratios["peer"].median, figure.ratios["peer"].count) == (0.5, 1)


def test_a_figure_that_a_peer_does_not_have_has_no_ratio() -> None:
    other = Contender("other", lambda: {"seconds": [1.0]})
    measured = run(contender("ours", 1), other, rounds=1)
    measured.measure()
    found = {figure.name: figure for figure in measured.result({}).figures}
    assert found["things/s"].ratios == {}
    assert list(found["seconds"].contenders) == ["other"]


@pytest.mark.parametrize(
    "samples", [{}, {"s": []}, {"s": [0.0]}, {"s": [-1.0]}, {"s": [float("nan")]}, {"s": [1.0, float("inf")]}]
)
def test_what_is_no_number_above_zero_is_an_error(samples: Samples) -> None:
    measured = run(Contender("ours", lambda: samples), rounds=1)
    with pytest.raises(MeasurementError, match="ours"):
        measured.measure()
    assert measured.result({}, "it failed").figures == ()


@pytest.mark.parametrize("error", [MeasurementError("no answer"), KeyboardInterrupt()])
def test_a_run_that_ends_early_keeps_what_it_has_and_says_so(error: BaseException) -> None:
    def fails() -> Samples:
        raise error

    measured = run(contender("ours", 10, 20), Contender("peer", fails), rounds=2)
    with pytest.raises(type(error)):
        measured.measure()
    result = measured.result({}, "no answer")
    assert (result.complete, result.error) == (False, "no answer")
    assert [m.contender for m in result.measurements] == ["ours"]
    assert result.figures[0].ratios == {}


def test_every_measurement_is_told_as_it_ends() -> None:
    said: list[str] = []
    Run(benchmark(contender("ours", 1234.5, 2)), 1, 1, said.append).measure()
    assert [line.split("  (")[0] for line in said] == ["warm-up  ours: things/s 1,234", "round 1/1  ours: things/s 2"]


def test_work_of_others_is_told_and_kept() -> None:
    said: list[str] = []
    shares = iter([0.02, 0.5])
    measured = Run(benchmark(contender("ours", 1, 2)), 2, 0, said.append, lambda: next(shares))
    measured.measure()
    assert [m.others for m in measured.measurements] == [0.02, 0.5]
    assert ["others took 50% of the cores" in line for line in said] == [False, True]


def test_figures_stand_in_the_order_of_the_contenders() -> None:
    first, second = (
        Measurement(1, "ours", True, 1.0, 0.0, {"a": [1.0]}),
        Measurement(1, "peer", True, 1.0, 0.0, {"b": [1.0]}),
    )
    assert [figure.name for figure in figures(("ours", "peer"), [second, first])] == ["a", "b"]


def test_a_fresh_process_answers_fails_and_ends_as_it_should() -> None:
    assert in_fresh_process(60, divmod, 7, 3) == (2, 1)
    with pytest.raises(MeasurementError, match="ZeroDivisionError"):
        in_fresh_process(60, divmod, 7, 0)
    with pytest.raises(MeasurementError, match="status 3"):
        in_fresh_process(60, sys.exit, 3)


def test_a_process_that_takes_too_long_is_stopped() -> None:
    forever: Callable[..., object] = subprocess.run
    with pytest.raises(MeasurementError, match="longer than 1 s"):
        in_fresh_process(1, forever, ["sleep", "20"])


class Parrot(Companion):
    """Says one word, or ends, or is silent."""

    def __init__(self, word: str) -> None:
        super().__init__("The parrot", 30 if word != "silent" else 0.1, say_once, word, daemon=True)

    def started(self, told: Any) -> None:
        self.told = told


def say_once(pipe: Connection, word: str) -> None:
    if word == "end":
        sys.exit(3)
    if word != "silent":
        pipe.send(word)
    pipe.recv()


def test_a_companion_is_at_work_until_it_is_closed_or_says_how_it_ended() -> None:
    with Parrot("hello") as parrot:
        assert (parrot.told, parrot.process.is_alive()) == ("hello", True)
    assert not parrot.process.is_alive()
    with pytest.raises(MeasurementError, match="The parrot ended, status 3"), Parrot("end"):
        pass
    with pytest.raises(MeasurementError, match="The parrot did not answer"), Parrot("silent"):
        pass


def test_prompts_are_of_one_length_and_begin_differently() -> None:
    prompts = cut_prompts(range(100), [[900, 901], [902]], 10)
    assert prompts == ((900, 901, *range(8)), (902, *range(45, 54)))
    with pytest.raises(BadInputError, match="100 tokens"):
        cut_prompts(range(100), [[900]], 101)


def test_machine_facts_hold_no_name_and_no_path_of_the_machine() -> None:
    facts = machine_facts(["pytest", "no-such-library"])
    assert facts["libraries"] == {"pytest": pytest.__version__, "no-such-library": None}
    assert facts["cores"] >= 1
    assert facts["memory_gib"] > 0
    assert_holds_nothing_private(facts)
    assert platform.node() not in [word for value in facts.values() for word in str(value).split()]


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks" / "results").glob("*.json")), ids=lambda p: str(p.name))
def test_published_results_are_complete_and_hold_nothing_private(path: Path) -> None:
    published = json.loads(path.read_text(encoding="utf-8"))
    assert published["complete"] is True
    assert published["benchmark"] == path.stem
    assert_holds_nothing_private(published)


def test_importing_writes_what_it_promises(tmp_path: Path) -> None:
    out = tmp_path / "importing.json"
    command = [sys.executable, "-m", "benchmarks.importing", "--rounds", "1", "--warmup", "0", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    written = json.loads(out.read_text(encoding="utf-8"))
    assert (written["benchmark"], written["complete"], written["error"]) == ("importing", True, None)
    assert {figure["name"] for figure in written["figures"]} == {"messages/s", "MB/s", "seconds"}
    assert len(written["measurements"]) == len(written["contenders"]) == 3
    assert all(m["samples"]["messages/s"][0] > 0 for m in written["measurements"])
    assert set(written["figures"][0]["ratios"]) == set(written["contenders"][1:])
    assert {"processor", "cores", "memory_gib", "python", "libraries", "commit"} <= set(written["machine"])
    assert written["workload"]["messages"] > 1000
    assert written["does_not_show"]
    assert all(sentence.split()[-1] in done.stdout for sentence in written["does_not_show"])
    assert done.stderr.count("round 1/1") == 3
    assert_holds_nothing_private(written)


def test_sync_writes_what_it_promises(tmp_path: Path) -> None:
    out = tmp_path / "sync.json"
    scale = ["--time-scale", "300"]
    command = [sys.executable, "-m", "benchmarks.sync", "--rounds", "1", "--warmup", "0", "--out", str(out), *scale]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    written = json.loads(out.read_text(encoding="utf-8"))
    assert (written["benchmark"], written["complete"], written["error"]) == ("sync", True, None)
    ours, peer, nothing_new = (m["samples"] for m in written["measurements"])
    assert set(written["figures"][0]["ratios"]) == {"bare client, same calls"}
    assert ours["seconds"][0] >= peer["seconds"][0] >= written["workload"]["least_seconds_the_limits_allow"] == 0.4
    assert ours["calls for messages"][0] >= peer["calls for messages"][0] == 6 + 102
    assert nothing_new["calls a channel"] == nothing_new["conversations.history a channel"] == [1]
    assert "conversations.replies a channel" not in nothing_new
    assert written["workload"]["calls_needed"]["conversations.replies"] == 102
    assert_holds_nothing_private(written)


def test_a_soak_of_the_bot_writes_what_it_promises(tmp_path: Path) -> None:
    out = tmp_path / "soak.json"
    command = [sys.executable, "-m", "benchmarks.slack", "--soak", "0.05", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    written = json.loads(out.read_text(encoding="utf-8"))
    assert (written["benchmark"], written["complete"], len(written["measurements"])) == ("slack-soak", True, 1)
    (samples,) = (m["samples"] for m in written["measurements"])
    assert samples["mentions"][0] >= 3
    assert samples["events"][0] >= 3 * samples["mentions"][0]
    assert samples["mentions answered or excused"] == samples["mentions"]
    assert all(samples[f"RSS in MiB, {when}"][0] > 50 for when in ("at the start", "in the middle", "at the end"))
    assert_holds_nothing_private(written)


def test_what_people_see_of_an_answer_is_told_apart() -> None:
    workspace = Workspace()
    workspace.channel("general", workspace.user("ada"))
    with FakeSlack(workspace) as slack:
        people, script = People(slack, SCRIPT.text), SCRIPT.text
        asked = [people.mention() for _ in range(4)]
        said = [[script], [script, script], [f"{script[:20]}", UNEXPECTED], []]
        for (channel, ts), texts in zip(asked, said, strict=True):
            for text in texts:
                workspace.post(channel, workspace.bot_user, text, ts, bot_id=workspace.bot_id)
        found = [people.thread(*place) for place in asked]
        assert found == [Thread(1, 0, 0), Thread(2, 0, 0), Thread(0, 1, 1), Thread(0, 0, 0)]
        assert [thread.is_answered for thread in found] == [True, True, True, False]
        assert len(people.seconds_to_text(asked)) == 3
        assert people.wait(asked[:3], 1) is not None
        assert people.wait(asked[3:], 0.1) is None


def test_limits_allow_a_window_at_once_and_then_wait_for_it() -> None:
    limit = Limit(50, 60.0)
    assert [limit.least_seconds(calls) for calls in (0, 1, 50, 51, 100, 101)] == [0, 0, 0, 60, 60, 120]
    assert limit.seconds_at_rate(75) == 90


def test_a_bare_client_that_is_refused_is_no_ceiling() -> None:
    workspace = Workspace()
    calls = {"conversations.history": [{"channel": workspace.channel("general")}] * 3}
    limited = FakeSlack(workspace, limits=Limits(quotas={"conversations.history": 2}))
    with limited as slack, pytest.raises(MeasurementError, match="status 429"):
        timed_calls(slack.api_url, slack.bot_token, calls, {"conversations.history": Limit(3, 60.0)})


def test_a_missing_export_is_one_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.importing", "--export", str(tmp_path / "none.zip")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "There is nothing at" in done.stderr
    assert "Traceback" not in done.stderr
    assert "left" not in done.stderr, "an empty folder is not worth keeping"


def test_an_incomplete_result_says_so_in_its_table() -> None:
    measured = run(contender("ours", 1), rounds=1)
    measured.measure()
    machine = machine_facts([])
    assert "INCOMPLETE" not in str(table(measured.result(machine)).title)
    assert "INCOMPLETE (interrupted)" in str(table(measured.result(machine, "interrupted")).title)


def assert_holds_nothing_private(value: Any) -> None:
    """No absolute path."""
    assert not re.search(r"(?<![\w.])/\w", json.dumps(value))
