"""`python -m proofs.kill_nine`: kill -9 of the gateway and the API at random moments, under load, many times.

A simulated campus runs on; residents draw power; recharges are posted all the time, each with its own key, sent
again until it is acknowledged and now and then once more after that. After all the kills, what must hold is
held against what really happened:

- `dormpower audit` proves the books (and after every few kills);
- every acknowledged recharge stands in the journal exactly once, and no other does;
- the same key gives the same bytes, however often and whenever it is sent;
- each circuit is charged what flowed through it, to its module's resolution: no Wh twice, none lost;
- the balance shown is what was bought less what was charged;
- every position that the books ever showed after a kill is a reading that is still there;
- no register was doubted: a kill looks like nothing worse than a pause.

Exit code 0 where all of it holds, 1 with what does not; the seed that it prints gives the same kills again (the
machine's own timing stays its own).
"""

import argparse
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from proofs.main_job import RESOLUTION_WH, as_instant
from proofs.running_site import NotInTimeError, RunningSite, eventually
from proofs.site_folder import Plan, SiteFolder

EVENING = datetime(2026, 5, 20, 13, 30, tzinfo=UTC)  # half past nine in Shanghai: midnight comes under fire
ROUNDS_BETWEEN_AUDITS = 10
WORKERS = 3
_LONGEST_LIFE_S = 4.0
_AGAIN_SHARE = 0.3
_RETRY_S = 0.05


@dataclass(slots=True)
class Ledger:
    """What the payers know: which keys were acknowledged with which bytes."""

    acknowledged: dict[str, bytes] = field(default_factory=dict)
    orders: dict[str, tuple[str, int]] = field(default_factory=dict)
    retries: int = 0
    repeats: int = 0
    faults: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(slots=True)
class Outcome:
    """What was done, and what does not hold (empty: everything does)."""

    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    recharges: int = 0
    retries: int = 0
    repeats: int = 0
    circuits: int = 0
    charged_wh: int = 0
    settled_days: int = 0
    positions: int = 0
    cuts: int = 0
    broken: list[str] = field(default_factory=list)


class Payers:
    """Threads that post recharges without pause, each with a key of its own until it is acknowledged."""

    def __init__(self, site: RunningSite, *, seed: int) -> None:
        self.ledger = Ledger()
        self._site = site
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._pay, args=(number, random.Random(f"{seed}/{number}")))  # noqa: S311 - a load, not a secret
            for number in range(WORKERS)
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let each finish what it has begun; the API must run by now."""
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            if thread.is_alive():
                raise NotInTimeError("a payer is still waiting for an answer")

    def _pay(self, number: int, draw: random.Random) -> None:
        files, ledger = self._site.files, self.ledger
        headers = {"Authorization": f"Bearer {files.tokens['finance']}"}
        with httpx.Client(base_url=f"{files.url}/api/v1", timeout=5.0, headers=headers) as client:
            count = 0
            while not self._stop.is_set():
                key, circuit_id = f"p{number}-{count}", draw.choice(files.circuits)
                amount_fen = draw.randrange(1, 10)  # a little less than is used: cuts come and go under fire
                with ledger.lock:
                    ledger.orders[key] = (circuit_id, amount_fen)
                body = self._until_acknowledged(client, key, circuit_id, amount_fen)
                with ledger.lock:
                    ledger.acknowledged[key] = body
                if draw.random() < _AGAIN_SHARE:
                    self._expect_same(client, key, circuit_id, amount_fen, body)
                count += 1
                self._stop.wait(draw.uniform(0.0, 0.2))

    def _until_acknowledged(self, client: httpx.Client, key: str, circuit_id: str, amount_fen: int) -> bytes:
        while True:
            with suppress(httpx.TransportError):
                answer = post_recharge(client, key, circuit_id, amount_fen)
                if answer.status_code in {200, 201}:
                    return answer.content
                if answer.status_code < 500 and answer.status_code != 429:
                    with self.ledger.lock:
                        self.ledger.faults.append(f"{key}: {answer.status_code} {answer.text}")
                    return b""
            with self.ledger.lock:
                self.ledger.retries += 1
            time.sleep(_RETRY_S)

    def _expect_same(
        self, client: httpx.Client, key: str, circuit_id: str, amount_fen: int, body: bytes
    ) -> None:
        again = self._until_acknowledged(client, key, circuit_id, amount_fen)
        with self.ledger.lock:
            self.ledger.repeats += 1
            if again != body:
                self.ledger.faults.append(f"{key}: answered {body!r}, then {again!r}")


def post_recharge(client: httpx.Client, key: str, circuit_id: str, amount_fen: int) -> httpx.Response:
    """Post one recharge."""
    return client.post(
        f"/circuits/{circuit_id}/recharges",
        json={"amount_fen": amount_fen, "channel": "cash"},
        headers={"Idempotency-Key": key},
    )


def prove(
    *, kills: int, seed: int, speed: float = 120.0, on_kill: Callable[[int, str], None] | None = None
) -> Outcome:
    """Run the campus, kill as often as asked, and return what holds and what does not."""
    draw = random.Random(seed)  # noqa: S311 - a choice of moments, not a secret
    files = SiteFolder(
        Plan(tcp_rooms=4, rtu_rooms=4, mqtt_rooms=4, speed=speed, campus_start=EVENING, poll_s=0.4)
    )
    files.restart_clock()
    outcome = Outcome(seed=seed, circuits=len(files.circuits))
    try:
        with RunningSite(files) as site:
            site.set_all_powers(0.0)
            before = {circuit_id: site.truth(circuit_id) for circuit_id in files.circuits}
            site.fund_all(60)
            site.start_gateway()
            eventually(
                lambda: all(site.point(one).standing == "accepted" for one in files.circuits),
                what="every register is believed",
            )
            for circuit_id in files.circuits:
                site.set_power(circuit_id, draw.uniform(100.0, 3_000.0))
            payers = Payers(site, seed=seed)
            payers.start()
            try:
                positions = _kill_many(site, draw, kills, outcome, on_kill)
            finally:
                site.start("gateway", "api")
                site.wait_for_api()
                payers.stop()
            _settle_down(site)
            _judge(site, payers.ledger, before, positions, outcome)
            if outcome.broken:
                outcome.broken.append(site.logs())
    finally:
        files.remove()
    return outcome


def _kill_many(
    site: RunningSite,
    draw: random.Random,
    kills: int,
    outcome: Outcome,
    on_kill: Callable[[int, str], None] | None,
) -> list[tuple[str, datetime, int]]:
    """Kill and start again; returns the positions that the books showed right after each kill."""
    positions: list[tuple[str, datetime, int]] = []
    for number in range(1, kills + 1):
        time.sleep(draw.uniform(0.1, _LONGEST_LIFE_S))  # the moment is drawn: a start is hit too
        victims = draw.choices((("gateway",), ("api",), ("gateway", "api")), weights=(6, 3, 1))[0]
        for name in victims:
            if not site.processes[name].running:
                outcome.broken.append(f"{name} had ended by itself: {site.processes[name].tail()}")
            site.kill(name)
            outcome.kills[name] += 1
        positions += [
            (row.circuit_id, as_instant(row.register_at), row.register_wh)
            for row in site.rows("SELECT circuit_id, register_at, register_wh FROM meter_points")
        ]
        if number % ROUNDS_BETWEEN_AUDITS == 0:
            _audit(site, outcome, f"after {number} kills")
        site.start(*victims)
        if on_kill is not None:
            on_kill(number, " and ".join(victims))
    return positions


def _audit(site: RunningSite, outcome: Outcome, when: str) -> None:
    audited = site.dormpower("audit")
    if audited.returncode != 0:
        outcome.broken.append(f"audit {when}: {audited.stderr.strip()}")


def _settle_down(site: RunningSite) -> None:
    """Draw nothing any more, and wait until the last registers are in and what is due is settled."""
    site.set_all_powers(0.0)

    def rests() -> bool:
        for circuit_id in site.files.circuits:
            assert site.point(circuit_id).register_wh == site.truth(circuit_id)["register_wh"], circuit_id
        return True

    eventually(rests, what="the last registers are taken in", within_s=90)
    last_day = (site.files.clock.now() - timedelta(hours=1)).astimezone(site.files.settings.zone).date()

    def settled() -> bool:
        rows = site.rows("SELECT DISTINCT circuit_id FROM settled_days WHERE used_on = :on", on="2026-05-20")
        return last_day.isoformat() <= "2026-05-20" or len(rows) == len(site.files.circuits)

    eventually(settled, what="the day that ended is settled", within_s=90)


def _judge(
    site: RunningSite,
    ledger: Ledger,
    before: dict[str, dict[str, Any]],
    positions: Sequence[tuple[str, datetime, int]],
    outcome: Outcome,
) -> None:
    broken = outcome.broken
    _audit(site, outcome, "at the end")
    broken += ledger.faults
    _judge_recharges(site, ledger, broken)
    for circuit_id in site.files.circuits:
        _judge_circuit(site, circuit_id, before[circuit_id], outcome)
    broken += _judge_readings(site, positions)
    doubted = site.rows("SELECT circuit_id, reason FROM quarantines")
    broken += [f"{row.circuit_id}: its register was doubted ({row.reason})" for row in doubted]
    outcome.recharges, outcome.retries = len(ledger.acknowledged), ledger.retries
    outcome.repeats = ledger.repeats + len(ledger.acknowledged)
    outcome.positions = len(positions)
    outcome.cuts = site.rows("SELECT COUNT(*) AS n FROM holds WHERE reason = 'arrears'")[0].n
    outcome.settled_days = site.rows("SELECT COUNT(*) AS n FROM settled_days")[0].n


def _judge_recharges(site: RunningSite, ledger: Ledger, broken: list[str]) -> None:
    found = Counter(
        row.idempotency_key
        for row in site.rows("SELECT idempotency_key FROM transactions WHERE kind = 'recharge'")
    )
    wanted = set(ledger.acknowledged) | {f"fund-{circuit_id}" for circuit_id in site.files.circuits}
    broken += [f"recharge {key}: {found[key]} times in the journal" for key in wanted if found[key] != 1]
    broken += [f"recharge {key}: in the journal, never asked for" for key in found.keys() - wanted]
    headers = {"Authorization": f"Bearer {site.files.tokens['finance']}"}
    with httpx.Client(base_url=f"{site.files.url}/api/v1", timeout=10.0, headers=headers) as client:
        for key, (circuit_id, amount_fen) in ledger.orders.items():
            again = post_recharge(client, key, circuit_id, amount_fen)
            if (again.status_code, again.content) != (200, ledger.acknowledged.get(key)):
                broken.append(f"recharge {key}: answered otherwise at the end: {again.status_code}")


def _judge_circuit(site: RunningSite, circuit_id: str, before: dict[str, Any], outcome: Outcome) -> None:
    point, truth = site.point(circuit_id), site.truth(circuit_id)
    metered_wh = truth["register_wh"] - before["register_wh"]
    flowed_wh = truth["energy_wh"] - before["energy_wh"]
    (posted,) = site.rows(
        "SELECT COALESCE(SUM(energy_wh), 0) AS charged FROM transactions "
        "WHERE circuit_id = :circuit_id AND kind IN ('consumption', 'adjustment')",
        circuit_id=circuit_id,
    )
    (bought,) = site.rows(
        "SELECT SUM(energy_wh) AS energy_wh FROM transactions "
        "WHERE circuit_id = :circuit_id AND kind = 'recharge'",
        circuit_id=circuit_id,
    )
    charged_wh = -posted.charged + point.metered_wh - point.settled_wh
    outcome.charged_wh += charged_wh
    if charged_wh != metered_wh or abs(charged_wh - flowed_wh) > RESOLUTION_WH:
        outcome.broken.append(
            f"{circuit_id}: charged {charged_wh} Wh, registered {metered_wh} Wh, flowed {flowed_wh} Wh"
        )
    balance_wh = site.circuit(circuit_id)["balance_wh"]
    if balance_wh != bought.energy_wh - charged_wh:
        outcome.broken.append(
            f"{circuit_id}: balance {balance_wh} Wh, bought {bought.energy_wh} Wh, charged {charged_wh} Wh"
        )


def _judge_readings(site: RunningSite, positions: Sequence[tuple[str, datetime, int]]) -> list[str]:
    """Return the positions that the books stood on and that the readings store doesn't have."""
    by_circuit: dict[str, dict[datetime, int]] = {}
    for circuit_id, at, register_wh in positions:
        by_circuit.setdefault(circuit_id, {})[at] = register_wh
    missing = []
    for circuit_id, wanted in by_circuit.items():
        for at, register_wh in wanted.items():
            span = {"start": _text(at), "end": _text(at + timedelta(seconds=1))}
            items = site.get(f"/circuits/{circuit_id}/readings", params=span)["items"]
            if not any(item["register_wh"] == register_wh for item in items):
                missing.append(f"{circuit_id}: the reading of {at} ({register_wh} Wh) is gone")
    return missing


def _text(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def main(arguments: Sequence[str] | None = None) -> int:
    """Prove it and tell; exit code 1 with what does not hold."""
    parser = argparse.ArgumentParser(prog="python -m proofs.kill_nine", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="how often (default 50)")
    parser.add_argument("--seed", type=int, default=None, help="the same seed draws the same kills")
    parser.add_argument("--speed", type=float, default=120.0, help="campus seconds in a second (default 120)")
    wanted = parser.parse_args(arguments)
    seed = wanted.seed if wanted.seed is not None else random.SystemRandom().randrange(2**31)
    console = Console(stderr=True)
    columns = (TextColumn("kill -9"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.description}"), console=console) as progress:
        task = progress.add_task("starting", total=wanted.kills)
        outcome = prove(
            kills=wanted.kills,
            seed=seed,
            speed=wanted.speed,
            on_kill=lambda _, victim: progress.update(task, advance=1, description=victim),
        )
    for sentence in outcome.broken:
        console.print(sentence, style="red", highlight=False, markup=False)
    sys.stdout.write(
        f"seed {outcome.seed}: {sum(outcome.kills.values())} kills "
        f"(gateway {outcome.kills['gateway']}, API {outcome.kills['api']}); "
        f"{outcome.recharges} recharges acknowledged, {outcome.retries} sent again after a failure, "
        f"{outcome.repeats} repeated keys compared; {outcome.circuits} circuits, "
        f"{outcome.charged_wh} Wh charged, {outcome.settled_days} days settled, {outcome.cuts} arrears cuts, "
        f"{outcome.positions} positions found again as readings\n"
    )
    sys.stdout.write(
        "everything holds\n" if not outcome.broken else f"{len(outcome.broken)} things do not hold\n"
    )
    return 1 if outcome.broken else 0


if __name__ == "__main__":
    sys.exit(main())
