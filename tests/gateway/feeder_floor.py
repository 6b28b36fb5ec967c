"""A floor of air conditioners on one feeder: real books, control at work, fake relays, virtual time."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from dormpower.books import alarms, holds
from dormpower.books.database import Books
from dormpower.books.tables import channel_spans, circuits, meter_points, modules, rooms
from dormpower.clock import ManualClock
from dormpower.domain.days import CampusDays
from dormpower.domain.feeder_facts import SheddingPolicy
from dormpower.domain.holds import Enforcement, Reason
from dormpower.domain.samples import ChannelSample, ModuleSample, Observation, Relay, Verdict
from dormpower.domain.site import Circuit, CircuitKind, Feeder, Module, Room, Site
from gateway.control import Control
from gateway.control_memory import ControlledCircuit
from gateway.feeders import FeederControl
from gateway.ports import SwitchOutcome, SwitchResult

ZONE = ZoneInfo("Asia/Shanghai")
EVENING = datetime(2026, 7, 20, 12, 0, tzinfo=UTC)
DAYS = CampusDays(ZONE)
ROOMS = 10
DRAW_W = 1000


class FollowingSwitch:
    """Relays that follow at once."""

    def __init__(self) -> None:
        self.relays: dict[str, Relay] = {}
        self.closed_at: list[tuple[str, datetime]] = []

    async def switch(
        self, *, module_id: str, channel: int, relay: Relay, command_id: str, expires_at: datetime
    ) -> SwitchResult:
        self.relays[module_id] = relay
        return SwitchResult(outcome=SwitchOutcome.CONFIRMED, relay=relay)


class Floor:
    """Ten rooms with an air conditioner of 1 kW each on one metered feeder."""

    def __init__(self, books: Books, *, limit_w: int, mode: Enforcement = Enforcement.ENFORCE) -> None:
        self.books = books
        self.clock = ManualClock(EVENING)
        self.switch = FollowingSwitch()
        self.executor = ThreadPoolExecutor(max_workers=1)
        self.policy = SheddingPolicy(mode=mode)
        self.draw_w = DRAW_W
        self.meter_heard = True
        self.circuits_heard = True
        room_list = tuple(
            Room(
                room_id=f"r-{number}",
                campus="south",
                building="01",
                floor="1",
                name="x",
                rated_current_a=16,
                feeder="floor",
                circuits=(
                    Circuit(
                        circuit_id=f"r-{number}-ac",
                        room_id=f"r-{number}",
                        kind=CircuitKind.AC,
                        module_id=f"m-{number}",
                        channel=0,
                    ),
                ),
            )
            for number in range(ROOMS)
        )
        self.site = Site(
            site_id="s",
            name="S",
            zone=ZONE,
            rooms=room_list,
            modules=(
                *(Module(module_id=f"m-{number}", profile="x") for number in range(ROOMS)),
                Module(module_id="m-main", profile="x"),
            ),
            lines=(),
            feeders=(
                Feeder(
                    feeder_id="floor", parent="away", limit_w=limit_w, meter_module_id="m-main", meter_channel=0
                ),
            ),
        )
        self.describe()
        self.start()

    def describe(self) -> None:
        with self.books.write() as connection:
            for room in self.site.rooms:
                circuit = room.circuits[0]
                connection.execute(
                    sa.insert(rooms).values(
                        room_id=room.room_id,
                        campus="south",
                        building="01",
                        floor="1",
                        name="x",
                        rated_current_a=16,
                        feeder="floor",
                    )
                )
                connection.execute(
                    sa.insert(circuits).values(circuit_id=circuit.circuit_id, room_id=room.room_id, kind="ac")
                )
                connection.execute(sa.insert(modules).values(module_id=circuit.module_id, profile="x"))
                connection.execute(
                    sa.insert(channel_spans).values(
                        circuit_id=circuit.circuit_id, module_id=circuit.module_id, channel=0, from_at=EVENING
                    )
                )
                connection.execute(sa.insert(meter_points).values(circuit_id=circuit.circuit_id))

    def start(self) -> None:
        self.control = Control(
            books=self.books,
            clock=self.clock,
            switch=self.switch,
            circuits={
                circuit.circuit_id: ControlledCircuit(
                    circuit_id=circuit.circuit_id,
                    room_id=circuit.room_id,
                    building="01",
                    module_id=circuit.module_id,
                    channel=0,
                    kind="ac",
                    min_off_s=300.0,
                )
                for circuit in self.site.circuits()
            },
            policies=(),
            executor=self.executor,
            zone=ZONE,
            stale_after_s=150.0,
        )
        self.control.load()
        self.feeders = FeederControl(
            books=self.books,
            clock=self.clock,
            site=self.site,
            policy=self.policy,
            memory=self.control.memory,
            reachable=self.control.reachable,
            handle_intents=self.control.handle_intents,
            executor=self.executor,
            zone=ZONE,
        )
        self.feeders.load()

    def cycle(self, count: int = 1) -> None:
        for _ in range(count):
            asyncio.run(self._cycle())

    async def _cycle(self) -> None:
        self.clock.advance(self.policy.cycle_s)
        if self.circuits_heard:
            self.hear_circuits()
        if self.meter_heard:
            self.hear_meter()
        await self.feeders.cycle()
        self.control.reconciler.kick_due()
        await self.control.settle()

    def hear_circuits(self) -> None:
        now = self.clock.now()
        found = [
            Observation(
                circuit_id=circuit.circuit_id,
                at=now,
                verdict=Verdict.ACCEPTED,
                metered_wh=0,
                sample=ChannelSample(
                    channel=0,
                    relay=self.switch.relays.setdefault(circuit.module_id, Relay.CLOSED),
                    power_w=self.power_w(circuit.module_id),
                ),
            )
            for circuit in self.site.circuits()
        ]
        with self.books.write() as connection:
            connection.execute(sa.update(meter_points).values(last_seen_at=now))
            after_commit = self.control.decide_batch(connection, found, now)
        after_commit()
        self.feeders.note(found)

    def hear_meter(self) -> None:
        sample = ModuleSample(
            module_id="m-main",
            at=self.clock.now(),
            channels=(ChannelSample(channel=0, register_wh=1, power_w=self.demand_w()),),
        )
        assert self.feeders.take_meters(sample) is None

    def power_w(self, module_id: str) -> float:
        return float(self.draw_w) if self.switch.relays[module_id] is Relay.CLOSED else 0.0

    def demand_w(self) -> float:
        return sum(self.power_w(module_id) for module_id in self.switch.relays)

    def shed(self, *, shadow: bool = False) -> set[str]:
        with self.books.read() as connection:
            return {
                circuit_id
                for circuit_id, standing in holds.standing(connection).items()
                for hold in standing
                if hold.reason is Reason.SHED and hold.shadow is shadow
            }

    def active_alarms(self) -> list[tuple[str, str]]:
        with self.books.read() as connection:
            return sorted((alarm.kind, alarm.subject_id) for alarm in alarms.active(connection))

    def close(self) -> None:
        self.executor.shutdown()
