"""Contenders measured in turn, and what their numbers come to. Knows nothing of what is measured."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import median
from typing import Any, Self

from doppel.errors import DoppelError

Samples = Mapping[str, Sequence[float]]
"""What one measurement came to: the name of a figure with its unit, and one number or several."""

Say = Callable[[str], None]

DISTURBING = 0.1
"""A share of the cores that others take from which on a figure is not to be trusted."""

RATIO = "the first contender's figure divided by the other's, round by round, of the medians of a round"


class MeasurementError(DoppelError):
    """A measurement failed or did not finish. There is no number then."""


@dataclass(frozen=True, slots=True)
class Contender:
    """Something to measure, as often as it is called."""

    name: str
    measure: Callable[[], Samples]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """What is measured: ours first, then its peers. `workload` says on what, `does_not_show` what to make of it."""

    name: str
    title: str
    contenders: tuple[Contender, ...]
    workload: Mapping[str, Any]
    libraries: tuple[str, ...]
    does_not_show: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Measurement:
    """One call of one contender; those of warm-up rounds are not counted.

    `seconds` includes what is not timed; `others` is the share of the cores that was busy just before it.
    """

    round: int
    contender: str
    counted: bool
    seconds: float
    others: float
    samples: dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle and the ends of some numbers."""

    median: float
    min: float
    max: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """The spread of at least one number."""
        return cls(median(values), min(values), max(values), len(values))


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure by contender, and its ratio by peer (see RATIO)."""

    name: str
    contenders: dict[str, Spread]
    ratios: dict[str, Spread]


@dataclass(frozen=True, slots=True)
class Result:
    """A run. One that failed or was interrupted is not `complete`, says why, and holds what was measured before."""

    benchmark: str
    title: str
    complete: bool
    error: str | None
    started: str
    seconds: float
    rounds: int
    warmup_rounds: int
    contenders: tuple[str, ...]
    ratio: str
    figures: tuple[Figure, ...]
    does_not_show: tuple[str, ...]
    workload: Mapping[str, Any]
    machine: Mapping[str, Any]
    measurements: tuple[Measurement, ...]


@dataclass
class Run:
    """The rounds of a benchmark, and what they have come to so far."""

    benchmark: Benchmark
    rounds: int
    warmup: int
    say: Say
    busy: Callable[[], float] = lambda: 0.0
    measurements: list[Measurement] = field(default_factory=list)
    _started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    _clock: float = field(default_factory=time.perf_counter)

    def measure(self) -> None:
        """Measure every contender once a round, in turn; raises what a measurement raises."""
        for number, contender in in_turn(self.benchmark.contenders, self.warmup + self.rounds):
            others, started = self.busy(), time.perf_counter()
            samples = _checked(contender.name, contender.measure())
            seconds = time.perf_counter() - started
            measurement = Measurement(number, contender.name, number > self.warmup, seconds, others, samples)
            self.measurements.append(measurement)
            self.say(self._line(measurement))

    def result(self, machine: Mapping[str, Any], error: str | None = None) -> Result:
        """What was measured, with the reason if that is not all."""
        names = tuple(contender.name for contender in self.benchmark.contenders)
        return Result(
            benchmark=self.benchmark.name,
            title=self.benchmark.title,
            complete=error is None and len(self.measurements) == len(names) * (self.warmup + self.rounds),
            error=error,
            started=self._started,
            seconds=time.perf_counter() - self._clock,
            rounds=self.rounds,
            warmup_rounds=self.warmup,
            contenders=names,
            ratio=RATIO,
            figures=tuple(figures(names, self.measurements)),
            does_not_show=self.benchmark.does_not_show,
            workload=self.benchmark.workload,
            machine=machine,
            measurements=tuple(self.measurements),
        )

    def _line(self, measured: Measurement) -> str:
        said = ", ".join(f"{name} {short(median(values))}" for name, values in measured.samples.items())
        kind = f"round {measured.round - self.warmup}/{self.rounds}" if measured.counted else "warm-up"
        disturbed = f", others took {measured.others:.0%} of the cores" if measured.others >= DISTURBING else ""
        return f"{kind}  {measured.contender}: {said}  ({measured.seconds:.1f} s in all{disturbed})"


def in_turn(contenders: Sequence[Contender], rounds: int) -> Iterator[tuple[int, Contender]]:
    """(round, contender): every contender once a round, rounds from 1, the order turned round each time."""
    for number in range(1, rounds + 1):
        order = contenders if number % 2 else contenders[::-1]
        yield from ((number, contender) for contender in order)


def figures(names: Sequence[str], measurements: Sequence[Measurement]) -> Iterator[Figure]:
    """What the counted measurements come to, `names` being the contenders, ours first."""
    counted = [m for m in measurements if m.counted]
    in_order = sorted(counted, key=lambda m: names.index(m.contender))
    for figure in dict.fromkeys(key for m in in_order for key in m.samples):
        values = {name: _by_round(name, figure, counted) for name in names}
        spreads = {name: Spread.of([v for vs in found.values() for v in vs]) for name, found in values.items() if found}
        ratios = {peer: _ratios(values[names[0]], values[peer]) for peer in names[1:]}
        yield Figure(figure, spreads, {peer: Spread.of(found) for peer, found in ratios.items() if found})


def short(value: float) -> str:
    """Three significant digits, and never fewer than those before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _by_round(name: str, figure: str, measurements: Sequence[Measurement]) -> dict[int, list[float]]:
    return {m.round: m.samples[figure] for m in measurements if m.contender == name and figure in m.samples}


def _ratios(ours: Mapping[int, list[float]], theirs: Mapping[int, list[float]]) -> list[float]:
    return [median(ours[number]) / median(theirs[number]) for number in sorted(ours.keys() & theirs.keys())]


def _checked(name: str, samples: Samples) -> dict[str, list[float]]:
    """The samples, every one a number above zero. Raises MeasurementError."""
    for figure, values in samples.items():
        if not values or not all(math.isfinite(value) and value > 0 for value in values):
            raise MeasurementError(f"{name} measured {list(values)} as its {figure}, which is no result.")
    if not samples:
        raise MeasurementError(f"{name} measured nothing.")
    return {figure: list(values) for figure, values in samples.items()}
