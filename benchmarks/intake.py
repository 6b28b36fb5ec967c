"""Rooms polled, decoded, charged and durable, by one gateway process on one core.

The gateway is the one of production (`gateway.service.Gateway`: lines, intake, control, jobs, SQLite books,
embedded readings) against the light responder on the other core. Beside it, in turns, a bare pymodbus loop
reads the same registers over as many connections and throws them away. The bound is held on 50 connections of
32 modules; a campus of 10,000 rooms on 313 is measured as well, and told. Then the gateway alone at 10,000
rooms a minute: how much of a core that takes.
"""

import json
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from benchmarks import campus, peers
from benchmarks.report import Report, median, parser
from config.settings import Settings
from dormpower.books import proof
from dormpower.books.database import Books
from dormpower.books.tables import meter_points
from dormpower.readings.embedded import EmbeddedReadings

BOUND_OF_BARE = 0.7
BOUND_OF_CORE = 0.10
ROOMS = 1_600  # on 50 connections
MANY_ROOMS = 10_000
ROOMS_A_MINUTE = 10_000
ALL_TIME = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))


def main() -> int:
    arguments = parser("intake", __doc__)
    arguments.add_argument("--rooms", type=int, default=None, help="rooms of the bounded run at full speed")
    arguments.add_argument("--rounds", type=int, default=None)
    wanted = arguments.parse_args()
    quick = wanted.quick
    rooms = wanted.rooms or (320 if quick else ROOMS)
    rounds = wanted.rounds or (1 if quick else 3)
    measured, other = peers.cores()
    report = Report(
        name="intake",
        assumptions={
            "rooms": rooms,
            "connections": campus.lines_needed(rooms),
            "registers a room": 0x2C,
            "rounds": rounds,
            "gateway on core": measured,
            "responder on core": other,
        },
    )
    with tempfile.TemporaryDirectory(prefix="dormpower-intake-") as folder:
        seconds = 1.5 if quick else 10.0
        ratio = _flat_out(Path(folder), report, rooms=rooms, rounds=rounds, seconds=seconds)
        report.bound(f"at least {BOUND_OF_BARE} of the bare loop", ratio >= BOUND_OF_BARE)
    if not quick:
        with tempfile.TemporaryDirectory(prefix="dormpower-intake-") as folder:
            _flat_out(Path(folder), report, rooms=MANY_ROOMS, rounds=1, seconds=seconds, name="many_rooms")
    with tempfile.TemporaryDirectory(prefix="dormpower-intake-") as folder:
        _paced(Path(folder), report, rooms=320 if quick else ROOMS_A_MINUTE, seconds=3.0 if quick else 60.0)
    report.publish(wanted.results)
    return report.exit_code(quick=quick)


def _flat_out(
    folder: Path, report: Report, *, rooms: int, rounds: int, seconds: float, name: str = "flat_out"
) -> float:
    """Measure at full speed, tell, and return the ratio."""
    measured, other = peers.cores()
    gateways: list[dict[str, Any]] = []
    bares: list[dict[str, Any]] = []
    with peers.responder(lines=campus.lines_needed(rooms), core=other) as ports:
        settings = campus.write_site(folder, rooms=rooms, ports=ports, poll_s=30)
        books = campus.make_books(settings)
        campus.commission(books, settings)
        options = ("--flat-out", "--settle-s", "20" if rooms == MANY_ROOMS else "0")
        for _ in range(rounds):
            bares.append(_bare(ports, core=measured, seconds=seconds))
            gateways.append(_gateway(settings, rooms=rooms, core=measured, seconds=seconds, options=options))
        bares.append(_bare(ports, core=measured, seconds=seconds))
        _check(report, settings, books, gateways)
        books.close()
    bare_rates = [one["transactions"] / one["elapsed_s"] for one in bares]
    rates = [one["accepted"] / 2 / one["between_commits_s"] for one in gateways]
    # Each round of ours is held against the mean of the bare rounds before and after it.
    ratios = [
        rate / ((before + after) / 2)
        for rate, before, after in zip(rates, bare_rates[:-1], bare_rates[1:], strict=True)
    ]
    report.row(f"{rooms:,} rooms on {len(ports)} connections", "", "at full speed")
    report.row("gateway, rooms a second", f"{median(rates):,.0f}", _list(rates))
    report.row("bare pymodbus loop, reads a second", f"{median(bare_rates):,.0f}", _list(bare_rates))
    report.row("ratio", f"{median(ratios):.2f}", " ".join(f"{one:.2f}" for one in ratios))
    # Processor time doesn't count the time in which somebody else has the core.
    cpu_us = [one["between_commits_cpu_s"] / (one["accepted"] / 2) * 1e6 for one in gateways]
    bare_us = [one["cpu_s"] / one["transactions"] * 1e6 for one in bares]
    cpu_ratio = median(bare_us) / median(cpu_us)
    report.row("gateway, processor time a room", f"{median(cpu_us):.1f} µs", _list(cpu_us))
    report.row("bare loop, processor time a read", f"{median(bare_us):.1f} µs", _list(bare_us))
    report.row("ratio by processor time", f"{cpu_ratio:.2f}", "the same, without the time that others took")
    plain = sum(one["measured"]["intake_plain"] for one in gateways)
    taken = sum(one["measured"]["intake_accepted"] for one in gateways)
    report.row("samples judged together", f"{plain / taken:.1%}", "the others say something new")
    deepest = max(one["deepest_queue"] for one in gateways)
    report.row("deepest queue", f"{deepest:,}", "modules' samples")
    report.figures[name] = {
        "rooms": rooms,
        "connections": len(ports),
        "rooms_per_s": median(rates),
        "rooms_per_s_rounds": rates,
        "bare_reads_per_s": median(bare_rates),
        "bare_reads_per_s_rounds": bare_rates,
        "ratio": median(ratios),
        "ratio_rounds": ratios,
        "gateway_cpu_us_per_room": cpu_us,
        "bare_cpu_us_per_read": bare_us,
        "cpu_ratio": cpu_ratio,
        "deepest_queue": deepest,
        "plain_share": plain / taken,
    }
    return median(ratios)


def _bare(ports: list[int], *, core: int, seconds: float) -> dict[str, Any]:
    arguments = [sys.executable, "-m", "benchmarks.bare_client", "--ports", json.dumps(ports)]
    return peers.run_json([*arguments, "--measure-s", str(seconds)], core=core)


def _gateway(
    settings: Settings, *, rooms: int, core: int, seconds: float, options: tuple[str, ...] = ()
) -> dict[str, Any]:
    arguments = [sys.executable, "-m", "benchmarks.gateway_process", "--config", str(settings.path)]
    arguments += ["--rooms", str(rooms), "--measure-s", str(seconds), *options]
    return peers.run_json(arguments, core=core)


def _check(report: Report, settings: Settings, books: Books, runs: list[dict[str, Any]]) -> None:
    """Hold what was counted against what is in both stores; a figure without this would be worth nothing."""
    totals: dict[str, float] = {}
    for run in runs:
        for name, value in run["whole_run"].items():
            totals[name] = totals.get(name, 0.0) + value
    missed = (
        totals["poll_timeouts"] + totals["poll_unusable"] + totals["poll_refused"] + totals["poll_line_downs"]
    )
    taken = totals["intake_accepted"] + totals["intake_commissioning"]
    report.check("no poll failed", missed == 0)
    report.check(
        "every sample of the measured time accepted", all(_all_accepted(run["measured"]) for run in runs)
    )
    report.check(
        "accepted = 2 × rooms polled, no sample dropped",
        totals["intake_dropped"] == 0
        and 0 <= 2 * totals["poll_polls"] - taken <= 2 * len(settings.site.lines) * len(runs),
    )
    report.check(
        "every accepted sample is a row of the readings", _stored(settings) == totals["intake_accepted"]
    )
    report.check("the books stand where the readings end", _positions_agree(settings, books))
    findings = proof.prove(books)
    report.check("the proof of the books finds nothing", not findings)
    report.figures["counted"] = totals
    report.figures["findings"] = [str(one) for one in findings]


def _all_accepted(measured: dict[str, float]) -> bool:
    refused = (
        "late",
        "quarantined",
        "refused",
        "commissioning",
        "without_register",
        "unknown_channel",
        "dropped",
    )
    return measured["intake_accepted"] > 0 and not any(measured[f"intake_{name}"] for name in refused)


def _stored(settings: Settings) -> int:
    """Count the readings of every circuit, as anyone would read them."""
    readings = EmbeddedReadings(settings.folder / "readings.db", read_only=True)
    try:
        return sum(
            len(readings.between(one.circuit_id, *ALL_TIME, limit=sys.maxsize))
            for one in settings.site.circuits()
        )
    finally:
        readings.close()


def _positions_agree(settings: Settings, books: Books) -> bool:
    """Whether each circuit's position in the books is its last reading."""
    readings = EmbeddedReadings(settings.folder / "readings.db", read_only=True)
    with books.read() as connection:
        positions = connection.execute(
            sa.select(meter_points.c.circuit_id, meter_points.c.register_at, meter_points.c.register_wh)
        ).all()
    try:
        return len(positions) == 2 * len(settings.site.rooms) and all(
            [(one.at, one.register_wh) for one in readings.between(circuit_id, at, ALL_TIME[1])]
            == [(at, register_wh)]
            for circuit_id, at, register_wh in positions
        )
    finally:
        readings.close()


def _paced(folder: Path, report: Report, *, rooms: int, seconds: float) -> None:
    measured, other = peers.cores()
    cycle_s = 60.0 * rooms / ROOMS_A_MINUTE
    with peers.responder(lines=campus.lines_needed(rooms), core=other) as ports:
        settings = campus.write_site(folder, rooms=rooms, ports=ports, poll_s=cycle_s)
        books = campus.make_books(settings)
        campus.commission(books, settings)
        books.close()
        options = ("--warm-up-cycles", "1", "--look-every-s", "0.2", "--settle-s", "5" if rooms > 1000 else "0")
        run = _gateway(settings, rooms=rooms, core=measured, seconds=seconds, options=options)
    share = run["cpu_s"] / run["elapsed_s"]
    polled = run["measured"]["poll_polls"] / run["elapsed_s"] * 60
    report.row("paced: rooms a minute", f"{polled:,.0f}", f"over {run['elapsed_s']:.0f} s")
    report.row("paced: share of a core, all threads", f"{share:.1%}", f"{run['cpu_s']:.2f} s of processor time")
    report.figures["paced"] = {
        "rooms": rooms,
        "rooms_per_minute": polled,
        "share_of_core": share,
        "cpu_s": run["cpu_s"],
        "elapsed_s": run["elapsed_s"],
    }
    report.check("paced: every sample taken in", not run["measured"]["intake_dropped"])
    report.bound(f"10,000 rooms a minute below {BOUND_OF_CORE:.0%} of a core", share < BOUND_OF_CORE)


def _list(values: list[float]) -> str:
    return " ".join(f"{one:,.0f}" for one in values)


if __name__ == "__main__":
    sys.exit(main())
