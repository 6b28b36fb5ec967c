"""A small site on real books with control at work, and fake relays: what several files of tests use."""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from dormpower.books import (
    alarms,
    holds,
)
from dormpower.books.database import Books
from dormpower.books.intents import leave
from dormpower.books.tables import (
    account_links,
    accounts,
    channel_spans,
    circuits,
    ledger_accounts,
    meter_points,
    modules,
    rooms,
)
from dormpower.clock import ManualClock
from dormpower.domain.arrears import ArrearsPolicy
from dormpower.domain.holds import Enforcement, Reason
from dormpower.domain.openings import OpeningsPolicy
from dormpower.domain.prohibited import ProhibitedPolicy
from dormpower.domain.protection import OverloadPolicy
from dormpower.domain.samples import ChannelSample, Flag, Observation, Relay, Verdict
from dormpower.domain.spread import SpreadPolicy
from gateway.control import Control
from gateway.control_memory import ControlledCircuit
from gateway.policies import Placed, described
from gateway.ports import SwitchOutcome, SwitchResult
from gateway.rules import build_policies
from gateway.schedule_rule import ScheduleRule

ZONE = ZoneInfo("Asia/Shanghai")
NOON = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)
STALE_S = 150.0


class FakeSwitch:
    """Relays that follow, unless told to fail; remembers what it was asked."""

    def __init__(self) -> None:
        self.relays: dict[tuple[str, int], Relay] = {}
        self.sent: list[tuple[str, int, Relay]] = []
        self.next_outcomes: list[SwitchOutcome] = []

    async def switch(
        self, *, module_id: str, channel: int, relay: Relay, command_id: str, expires_at: datetime
    ) -> SwitchResult:
        self.sent.append((module_id, channel, relay))
        if self.next_outcomes:
            outcome = self.next_outcomes.pop(0)
            if outcome is SwitchOutcome.NOT_FOLLOWED:
                other = Relay.OPEN if relay is Relay.CLOSED else Relay.CLOSED
                return SwitchResult(outcome=outcome, relay=other)
            if outcome is not SwitchOutcome.CONFIRMED:
                return SwitchResult(outcome=outcome)
        self.relays[module_id, channel] = relay
        return SwitchResult(outcome=SwitchOutcome.CONFIRMED, relay=relay)


class World:
    """A site of some rooms, its books, and control."""

    def __init__(self, books: Books, *, rooms_count: int = 1, **policy: Any) -> None:
        self.books = books
        self.clock = ManualClock(NOON)
        self.switch = FakeSwitch()
        self.executor = ThreadPoolExecutor(max_workers=1)
        self.policy = ArrearsPolicy(zone=ZONE, courtesy=("23:00-07:00",), **policy)
        self.overload = OverloadPolicy(zone=ZONE, limit_w=2000, restores_a_day=2, mode=Enforcement.ENFORCE)
        self.prohibited = ProhibitedPolicy(zone=ZONE, restores_a_day=2, mode=Enforcement.ENFORCE)
        self.circuits = {
            f"r-{number}-ac": ControlledCircuit(
                circuit_id=f"r-{number}-ac",
                room_id=f"r-{number}",
                building="01",
                module_id=f"m-{number}",
                channel=0,
                kind="ac",
                line_id="line-a",
                min_off_s=0.0,
            )
            for number in range(rooms_count)
        }
        self.schedule: ScheduleRule | None = None
        self.spread: SpreadPolicy | None = None
        self.openings: OpeningsPolicy | None = None
        self.metered = dict.fromkeys(self.circuits, 0)
        self.describe()
        self.control = self.start()

    def describe(self) -> None:
        with self.books.write() as connection:
            for circuit in self.circuits.values():
                connection.execute(
                    sa.insert(rooms).values(
                        room_id=circuit.room_id,
                        campus="south",
                        building="01",
                        floor="1",
                        name="x",
                        rated_current_a=40,
                    )
                )
                connection.execute(
                    sa.insert(circuits).values(
                        circuit_id=circuit.circuit_id, room_id=circuit.room_id, kind="ac"
                    )
                )
                connection.execute(sa.insert(modules).values(module_id=circuit.module_id, profile="x"))
                connection.execute(
                    sa.insert(channel_spans).values(
                        circuit_id=circuit.circuit_id, module_id=circuit.module_id, channel=0, from_at=NOON
                    )
                )
                connection.execute(sa.insert(meter_points).values(circuit_id=circuit.circuit_id))
                name = f"a-{circuit.circuit_id}"
                connection.execute(sa.insert(accounts).values(account_id=name, opened_at=NOON))
                connection.execute(
                    sa.insert(account_links).values(
                        account_id=name, circuit_id=circuit.circuit_id, from_on=date(2026, 1, 1)
                    )
                )
                connection.execute(
                    sa.insert(ledger_accounts).values(
                        ledger_account_id=f"wh:account:{name}", unit="wh", balance=100_000
                    )
                )

    def start(self, **more: Any) -> Control:
        control = Control(
            books=self.books,
            clock=self.clock,
            switch=self.switch,
            circuits={one: self.replace(circuit, **more) for one, circuit in self.circuits.items()},
            policies=build_policies(
                arrears=Placed(
                    by_circuit=dict.fromkeys(self.circuits, self.policy), configured=described(self.policy)
                ),
                overload=Placed(
                    by_circuit=dict.fromkeys(self.circuits, self.overload), configured=described(self.overload)
                ),
                prohibited=Placed(
                    by_circuit=dict.fromkeys(self.circuits, self.prohibited),
                    configured=described(self.prohibited),
                ),
                schedule=self.schedule,
            ),
            executor=self.executor,
            zone=ZONE,
            stale_after_s=STALE_S,
            warning_channels=("wechat", "page"),
            spread=self.spread,
            openings_policy=self.openings,
        )
        control.load()
        return control

    @staticmethod
    def replace(circuit: ControlledCircuit, **more: Any) -> ControlledCircuit:
        return replace(circuit, **more)

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run(coroutine)

    def sample(
        self,
        *,
        wh: int = 0,
        relay: Relay | str | None = "actual",
        flags: frozenset[Flag] = frozenset(),
        power_w: float = 0.0,
        power_factor: float | None = None,
        verdict: Verdict = Verdict.ACCEPTED,
        after_s: float = 30.0,
        on_its_way_s: float = 0.0,
        only: str | None = None,
    ) -> None:
        """Every circuit (or one) gives a sample, and everything that follows is carried out.

        What is given of the relay of a sample that was long `on_its_way_s` is not where the relay is now.
        """

        async def go() -> None:
            self.clock.advance(after_s)
            now = self.clock.now()
            taken_at = now - timedelta(seconds=on_its_way_s)
            found = []
            for circuit_id in self.circuits if only is None else [only]:
                circuit = self.circuits[circuit_id]
                self.metered[circuit_id] += wh
                key = (circuit.module_id, 0)
                shown = self.switch.relays.setdefault(key, Relay.CLOSED) if relay == "actual" else relay
                if isinstance(shown, Relay) and not on_its_way_s:
                    self.switch.relays[key] = shown
                found.append(
                    Observation(
                        circuit_id=circuit_id,
                        at=taken_at,
                        verdict=verdict,
                        metered_wh=self.metered[circuit_id],
                        sample=ChannelSample(
                            channel=0,
                            relay=shown,  # type: ignore[arg-type]
                            flags=flags,
                            power_w=power_w,
                            power_factor=power_factor,
                        ),
                    )
                )
            with self.books.write() as connection:
                for one in found:
                    values = {
                        "metered_wh": one.metered_wh,
                        "relay": None if one.sample.relay is None else one.sample.relay.value,
                        "flags": ",".join(sorted(one.sample.flags)),
                        "power_w": one.sample.power_w,
                        "power_factor": one.sample.power_factor,
                    }
                    if one.fresh:
                        values["last_seen_at"] = taken_at
                    connection.execute(
                        sa.update(meter_points)
                        .where(meter_points.c.circuit_id == one.circuit_id)
                        .values(**values)
                    )
                after_commit = self.control.decide_batch(connection, found, now)
            after_commit()
            await self.rest()

        self.run(go())

    def tick(self) -> None:
        """Look at the relays whose waiting is over by now, as the gateway does each second."""

        async def go() -> None:
            self.control.reconciler.kick_due()
            await self.rest()

        self.run(go())

    async def rest(self) -> None:
        await self.control.settle()
        while await self.control.handle_intents():
            await self.control.settle()

    def settle(self) -> None:
        self.run(self.rest())

    def pay(self, circuit_id: str, energy_wh: int) -> None:
        self.post(circuit_id, energy_wh)
        self.settle()

    def post(self, circuit_id: str, energy_wh: int) -> None:
        with self.books.write() as connection:
            connection.execute(
                sa.update(ledger_accounts)
                .where(ledger_accounts.c.ledger_account_id == f"wh:account:a-{circuit_id}")
                .values(balance=ledger_accounts.c.balance + energy_wh)
            )
            leave(connection, circuit_id=circuit_id, cause="recharge", now=self.clock.now())

    def lock_out(self, holder: str = "wang", *, circuit_id: str = "r-0-ac") -> str:
        """Lock a circuit out, let control do what follows, and return the lock-out's id."""
        with self.books.write() as connection:
            lockout = holds.place_lockout(
                connection, circuit_id=circuit_id, holder=holder, reason="work", now=self.clock.now()
            )
        self.settle()
        return lockout.lockout_id

    def confirmed_at(self, lockout_id: str) -> datetime | None:
        """Return when a lock-out was confirmed open; None while it is not."""
        with self.books.read() as connection:
            return holds.get_lockout(connection, lockout_id).confirmed_open_at

    def standing(self, circuit_id: str = "r-0-ac") -> list[Reason]:
        with self.books.read() as connection:
            return [hold.reason for hold in holds.standing(connection).get(circuit_id, ())]

    def active_alarms(self) -> list[str]:
        with self.books.read() as connection:
            return sorted(alarm.kind for alarm in alarms.active(connection))

    def into_arrears(self) -> None:
        """Use everything up, be warned twice, and let the lead pass at a decent hour."""
        self.sample()
        self.sample(wh=97_000)
        self.sample(wh=4_000)
        self.sample(after_s=86_400)
        self.sample()

    def close(self) -> None:
        self.executor.shutdown()


def plug_in_a_kettle(world: World) -> None:
    """A kettle of 1500 W, until the relay opens."""
    for power_w in (60.0, 60.0, 1560.0, 1560.0, 1560.0):
        world.sample(
            power_w=power_w if world.switch.relays["m-0", 0] is Relay.CLOSED else 0.0, power_factor=0.99
        )
