"""Scores of the prohibited-load rule: `python -m benchmarks.prohibited_load`.

    --csv FILE …    labelled traces: at,power_w,apparent_va,label (1/0, or names of appliances joined by +)
    --data FOLDER   real recordings (default: $DORMPOWER_DATA, else ../shared/data beside the repository)
    --seeds A-B     seeds of the rooms; 1-10 were looked at when thresholds were chosen, others were not
    --json          the table as JSON

An *event* is a stretch in which a prohibited appliance is on. It is found if the rule reports a resistive step
within it (or one sampling period after). A report outside of every event is false. Precision = reports within
events / reports; recall = events found / events. What the recordings lack (apparent power) is assumed, see
`POWER_FACTORS`; the table in docs/prohibited-load.md says so.
"""

import argparse
import csv
import gzip
import json
import os
import random
import sys
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import hypot, sqrt
from pathlib import Path

from dormpower.domain.loadsteps import NOTHING_SEEN, PowerSample, StepRules, watch
from simulators import habits

PERIODS_S = (1.0, 5.0, 30.0)
EPOCH = datetime(2026, 3, 2, tzinfo=UTC)
DAY_S = 86_400
HOLD_S = 30.0  # a recording's last value is taken for so long; beyond it nothing is known and 0 W assumed
ON_ABOVE_W = 200.0
PAUSE_S = 60.0
SITE_DECIDES = "microwave"

# The assumed P/S by class of appliance: the recordings hold active power alone.
POWER_FACTORS = {
    "WaterKettle": 1.0,
    "Coffeemaker": 0.99,
    "Toaster": 1.0,
    "WaterFountain": 0.99,
    "Refrigerator": 0.7,
    "MicrowaveOven": 0.9,
    "Monitor-TFT": 0.6,
    "PC-Laptop": 0.6,
    "Lamp": 0.6,
    "Router": 0.55,
    "Charger-Smartphone": 0.5,
}
PROHIBITED = frozenset({"WaterKettle", "Coffeemaker", "Toaster"})
PROHIBITED_NAMES = frozenset(
    {"1", "true", "yes", "prohibited", "malignant", "kettle", "waterkettle", "coffeemaker", "coffee maker"}
    | {"toaster", "heater", "hair dryer", "hairdryer", "iron", "rice cooker"}
)
ALLOWED_NAMES = frozenset(
    {
        "",
        "0",
        "false",
        "no",
        "none",
        "off",
        "normal",
        "allowed",
        "dispenser",
        "water dispenser",
        "waterfountain",
    }
    | {"charger", "chargers", "laptop", "pc-laptop", "lamp", "router", "monitor", "monitor-tft", "fridge"}
    | {"refrigerator", "fan", "charger-smartphone", "inverter ac", "fixed ac", "ac", "background", "base"}
)


@dataclass(frozen=True, slots=True)
class Trace:
    """A room's load: (second, W, VA, whether a prohibited appliance is on, whether the site has to decide)."""

    name: str
    rows: Sequence[tuple[float, float, float, bool, bool]]


@dataclass(slots=True)
class Score:
    """Counts of one table row."""

    events: int = 0
    found: int = 0
    reports: int = 0
    right: int = 0

    def add(self, other: "Score") -> None:
        self.events += other.events
        self.found += other.found
        self.reports += other.reports
        self.right += other.right

    @property
    def precision(self) -> float | None:
        return self.right / self.reports if self.reports else None

    @property
    def recall(self) -> float | None:
        return self.found / self.events if self.events else None


def score(trace: Trace, period_s: float, rules: StepRules) -> Score:
    """Run the rule over a trace, sampled every `period_s`."""
    result = Score()
    events = _events(trace)
    result.events = len(events)
    starts = [start for start, _ in events]
    found: set[int] = set()
    seen = NOTHING_SEEN
    next_s = 0.0
    for second, power_w, apparent_va, _, site_decides in trace.rows:
        if second < next_s:
            continue
        next_s = second - second % period_s + period_s
        before = seen.found
        sample = PowerSample(at=EPOCH + timedelta(seconds=second), power_w=power_w, apparent_va=apparent_va)
        seen = watch(seen, sample, rules)
        if seen.found is None or seen.found is before:
            continue
        index = bisect_right(starts, second) - 1
        inside = index >= 0 and second <= events[index][1] + period_s
        if site_decides and not inside:
            continue
        result.reports += 1
        if inside:
            result.right += 1
            found.add(index)
    result.found = len(found)
    return result


def _events(trace: Trace) -> list[tuple[float, float]]:
    """Return the stretches in which something prohibited is on; a thermostat's pauses are no end of a use."""
    events: list[tuple[float, float]] = []
    for second, _, _, prohibited, _ in trace.rows:
        if not prohibited:
            continue
        if events and second - events[-1][1] <= PAUSE_S:
            events[-1] = (events[-1][0], second)
        else:
            events.append((second, second))
    return events


# --- labelled traces ------------------------------------------------------------------------------------------


def read_csv(path: Path) -> Trace:
    """Read at,power_w,apparent_va,label. Raises SystemExit with a sentence for what can't be read."""
    rows = []
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
        first: float | None = None
        for number, row in enumerate(csv.DictReader(file), start=2):
            try:
                second = _second(row["at"])
                power_w, apparent_va = float(row["power_w"]), float(row["apparent_va"])
                prohibited, decides = _label(row["label"] or "")
            except (KeyError, ValueError, TypeError) as fault:
                raise SystemExit(
                    f"{path}:{number}: expected at,power_w,apparent_va,label, got {row} ({fault})"
                ) from fault
            first = second if first is None else first
            rows.append((second - first, power_w, apparent_va, prohibited, decides))
    return Trace(path.name, rows)


def _second(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return datetime.fromisoformat(text).timestamp()


def _label(text: str) -> tuple[bool, bool]:
    names = [part.strip().lower().replace("_", " ") for part in text.split("+")]
    known = PROHIBITED_NAMES | ALLOWED_NAMES | {SITE_DECIDES, "microwaveoven"}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"unknown label {unknown[0]!r}; known: {', '.join(sorted(known))}")
    return any(name in PROHIBITED_NAMES for name in names), any("microwave" in name for name in names)


# --- rooms mixed from real recordings ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Recording:
    appliance: str
    seconds: Sequence[float]
    watts: Sequence[float]

    def at(self, second: float) -> float:
        index = bisect_right(self.seconds, second) - 1
        if index < 0 or second - self.seconds[index] > HOLD_S:
            return 0.0
        return self.watts[index]


def read_recordings(folder: Path) -> list[Recording]:
    """Read tracebase's recordings (ODbL): appliance__device_day.csv.gz with `timestamp,W`."""
    found = []
    for path in sorted(folder.glob("*.csv.gz")):
        seconds, watts = [], []
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for line in file:
                at, _, value = line.strip().partition(",")
                clock = at[11:19]
                seconds.append(int(clock[0:2]) * 3600.0 + int(clock[3:5]) * 60 + int(clock[6:8]))
                watts.append(float(value))
        found.append(Recording(path.name.partition("__")[0], seconds, watts))
    return found


def mixed_room(recordings: Sequence[Recording], seed: int) -> Trace:
    """Lay several recordings over each other at random offsets; the day is that of a room, second by second."""
    draw = random.Random(f"mixed/{seed}")
    by_kind: dict[bool, list[Recording]] = {True: [], False: []}
    for recording in recordings:
        by_kind[recording.appliance in PROHIBITED].append(recording)
    chosen = draw.sample(by_kind[False], k=min(draw.randint(4, 7), len(by_kind[False])))
    chosen += draw.sample(by_kind[True], k=min(draw.randint(1, 2), len(by_kind[True])))
    active, other = [0.0] * DAY_S, [0.0] * DAY_S
    prohibited, decides = bytearray(DAY_S), bytearray(DAY_S)
    for recording in chosen:
        offset = draw.randrange(DAY_S)
        factor = POWER_FACTORS[recording.appliance]
        ratio = sqrt(1 / factor**2 - 1)
        _lay(recording, offset, ratio, active, other)
        marks = prohibited if recording.appliance in PROHIBITED else None
        if recording.appliance == "MicrowaveOven":
            marks = decides
        if marks is not None:
            for second in range(DAY_S):
                if recording.at((second + offset) % DAY_S) > ON_ABOVE_W:
                    marks[second] = 1
    rows = [
        (
            float(second),
            active[second],
            hypot(active[second], other[second]),
            bool(prohibited[second]),
            bool(decides[second]),
        )
        for second in range(DAY_S)
    ]
    return Trace(f"mixed-{seed}", rows)


def _lay(recording: Recording, offset: int, ratio: float, active: list[float], other: list[float]) -> None:
    for index, second in enumerate(recording.seconds):
        until = recording.seconds[index + 1] if index + 1 < len(recording.seconds) else second + HOLD_S
        for step in range(int(second), int(min(until, second + HOLD_S))):
            place = (step - offset) % DAY_S
            active[place] += recording.watts[index]
            other[place] += recording.watts[index] * ratio


# --- simulated appliances that are hard to tell apart ---------------------------------------------------------

# (name, W, power factor, inrush factor, minutes, prohibited). Rated powers are drawn around these by ±10 %.
HARD = (
    *(
        (one.name, one.power_w, one.power_factor, 1.03, minutes, True)
        for one, minutes in ((habits.KETTLE, 5), (habits.HEATER, 30), (habits.HAIR_DRYER, 5), (habits.IRON, 8))
    ),
    ("water dispenser", habits.WATER_DISPENSER.power_w, habits.WATER_DISPENSER.power_factor, 1.0, 6, False),
    ("chargers", 240, 0.6, 1.5, 60, False),
    ("fridge", habits.FRIDGE.power_w, habits.FRIDGE.power_factor, 6.0, 14, False),
    ("fixed-speed AC", 980, 0.916, 4.0, 12, False),
    ("inverter AC", 900, 0.97, 0.0, 40, False),
)


def simulated_room(seed: int) -> Trace:
    """A day on one circuit with every hard appliance several times, at random, over a fluctuating base."""
    draw = random.Random(f"simulated/{seed}")
    active = [55.0 + draw.gauss(0, 2) for _ in range(DAY_S)]
    other = [45.0] * DAY_S
    prohibited = bytearray(DAY_S)
    for name, watts, factor, inrush, minutes, is_prohibited in HARD:
        power_w = watts * draw.uniform(0.9, 1.1)
        ratio = sqrt(1 / factor**2 - 1)
        for _ in range(4):
            start = draw.randrange(600, DAY_S - 3600 * 2)
            length = round(minutes * 60 * draw.uniform(0.5, 1.3))
            thermostat = name == "iron"
            for step in range(length):
                if thermostat and step % 60 > 35:
                    continue
                share = min(step / 90, 1.0) * (0.8 + 0.2 * (step // 240 % 2)) if name == "inverter AC" else 1.0
                share = inrush if step == 0 and inrush else share
                active[start + step] += power_w * share * draw.uniform(0.995, 1.005)
                other[start + step] += power_w * share * ratio
                if is_prohibited:
                    prohibited[start + step] = 1
    rows = [
        (float(second), active[second], hypot(active[second], other[second]), bool(prohibited[second]), False)
        for second in range(DAY_S)
    ]
    return Trace(f"simulated-{seed}", rows)


# --- the command ----------------------------------------------------------------------------------------------


def data_folder(given: Path | None = None) -> Path:
    """Return where the real recordings are: the option, $DORMPOWER_DATA, or ../shared/data."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    return given or Path(os.environ.get("DORMPOWER_DATA", default))


def table(
    traces: Iterable[Trace], *, periods_s: Sequence[float] = PERIODS_S, rules: StepRules | None = None
) -> dict[float, Score]:
    """Return the sum of the scores by sampling period."""
    sums = {period_s: Score() for period_s in periods_s}
    for trace in traces:
        for period_s, total in sums.items():
            total.add(score(trace, period_s, rules or StepRules()))
    return sums


def seeds_of(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Scores of the prohibited-load rule.")
    parser.add_argument("--csv", type=Path, nargs="*", default=[])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seeds", type=seeds_of, default=seeds_of("101-110"))
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    results: dict[str, dict[float, Score]] = {}
    if wanted.csv:
        results["labelled traces"] = table(map(read_csv, wanted.csv))
    else:
        results["simulated appliances"] = table(map(simulated_room, wanted.seeds))
        folder = data_folder(wanted.data) / "tracebase"
        if folder.is_dir():
            recordings = read_recordings(folder)
            results["mixed recordings"] = table(mixed_room(recordings, seed) for seed in wanted.seeds)
        else:
            sys.stderr.write(f"no recordings at {folder}: mixed rooms are left out (--data FOLDER)\n")
    if wanted.json:
        rows = [
            {"rooms": name, "period_s": period_s, **_row(one)}
            for name, scores in results.items()
            for period_s, one in scores.items()
        ]
        print(json.dumps(rows))
        return 0
    print("| rooms | sampling | events | found | reports | false | precision | recall |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, scores in results.items():
        print("\n".join(lines(name, scores)))
    return 0


def lines(name: str, scores: Mapping[float, Score]) -> list[str]:
    """Return the rows of a table, as docs/prohibited-load.md has them."""
    return [
        f"| {name} | {period_s:g} s | {one.events} | {one.found} | {one.reports} | {one.reports - one.right} "
        f"| {_share(one.precision)} | {_share(one.recall)} |"
        for period_s, one in scores.items()
    ]


def _row(one: Score) -> dict[str, float | int | None]:
    return {
        "events": one.events,
        "found": one.found,
        "reports": one.reports,
        "right": one.right,
        "precision": one.precision,
        "recall": one.recall,
    }


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    sys.exit(main())
