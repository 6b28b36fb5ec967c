"""A floor of air conditioners on one feeder: real books, control at work, fake relays, virtual time."""

import asyncio
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
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
from dormpower.domain.spread import SpreadPolicy
from gateway.control import Control
from gateway.control_memory import ControlledCircuit
from gateway.feeder_readings import FeederReadings
from gateway.feeder_rooms import FeederRooms
from gateway.feeders import FeederControl
from gateway.ports import SwitchOutcome, SwitchResult

ZONE = ZoneInfo("Asia/Shanghai")
EVENING = datetime(2026, 7, 20, 12, 0, tzinfo=UTC)
DAYS = CampusDays(ZONE)
ROOMS = 10
DRAW_W = 1000
HAND = "rule:test"


class FollowingSwitch:
    """Relays that follow at once."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.reads_back = True
        self.relays: dict[str, Relay] = {}
        self.closed_at: dict[str, datetime] = {}

    async def switch(
        self, *, module_id: str, channel: int, relay: Relay, command_id: str, expires_at: datetime
    ) -> SwitchResult:
        self.relays[module_id] = relay
        if relay is Relay.CLOSED:
            self.closed_at[module_id] = self.clock.now()
        if not self.reads_back:
            return SwitchResult(outcome=SwitchOutcome.UNCONFIRMED)
        return SwitchResult(outcome=SwitchOutcome.CONFIRMED, relay=relay)

    def reported(self, module_id: str) -> Relay | None:
        relay = self.relays.setdefault(module_id, Relay.CLOSED)
        return relay if self.reads_back else None


class Floor:
    """Ten rooms with an air conditioner of 1 kW each on one metered feeder."""

    def __init__(
        self,
        books: Books,
        *,
        limit_w: int,
        mode: Enforcement = Enforcement.ENFORCE,
        count: int = ROOMS,
        spread: SpreadPolicy | None = None,
    ) -> None:
        self.books = books
        self.clock = ManualClock(EVENING)
        self.switch = FollowingSwitch(self.clock)
        self.executor = ThreadPoolExecutor(max_workers=1)
        self.policy = SheddingPolicy(mode=mode)
        self.carries_w: int | None = None
        self.draw_w = DRAW_W
        self.draw_of: dict[str, int] = {}  # of these modules instead
        self.pickup = 1.0  # so many times that, for a minute after a relay has closed
        self.starts_s = 0.0  # within that minute nothing is drawn for so long
        self.meter_heard = True
        self.circuits_heard = True
        self.powers_heard = True
        self.verdict = Verdict.ACCEPTED
        self.spread = spread
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
            for number in range(count)
        )
        self.site = Site(
            site_id="s",
            name="S",
            zone=ZONE,
            rooms=room_list,
            modules=(
                *(Module(module_id=f"m-{number}", profile="x") for number in range(count)),
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
        self.readings = FeederReadings(self.site, self.clock)
        self.rooms = FeederRooms(clock=self.clock, readings=self.readings, policy=self.policy)
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
                    carries_w=self.carries_w,
                    has_readback=self.switch.reads_back,
                )
                for circuit in self.site.circuits()
            },
            policies=(),
            executor=self.executor,
            zone=ZONE,
            stale_after_s=150.0,
            spread=self.spread,
            room=self.rooms,
        )
        self.control.load()
        self.feeders = FeederControl(
            books=self.books,
            clock=self.clock,
            site=self.site,
            readings=self.readings,
            rooms=self.rooms,
            memory=self.control.memory,
            reachable=self.control.reachable,
            handle_intents=self.control.handle_intents,
            kick=self.control.reconciler.kick,
            executor=self.executor,
            zone=ZONE,
        )
        self.feeders.load()

    def cycle(self, count: int = 1) -> None:
        for _ in range(count):
            asyncio.run(self._cycle())

    async def _cycle(self) -> None:
        self.clock.advance(self.policy.cycle_s)
        self.hear()
        await self.feeders.cycle()
        self.control.reconciler.kick_due()
        await self.control.settle()

    def hear(self) -> None:
        if self.circuits_heard:
            self.hear_circuits()
        if self.meter_heard:
            self.hear_meter()

    def hear_circuits(self) -> None:
        now = self.clock.now()
        found = [
            Observation(
                circuit_id=circuit.circuit_id,
                at=now,
                verdict=self.verdict,
                metered_wh=0,
                sample=ChannelSample(
                    channel=0,
                    relay=self.switch.reported(circuit.module_id),
                    power_w=self.power_w(circuit.module_id) if self.powers_heard else None,
                ),
            )
            for circuit in self.site.circuits()
        ]
        with self.books.write() as connection:
            connection.execute(sa.update(meter_points).values(last_seen_at=now))
            after_commit = self.control.decide_batch(connection, found, now)
        after_commit()
        self.readings.note(found)

    def hear_meter(self) -> None:
        sample = ModuleSample(
            module_id="m-main",
            at=self.clock.now(),
            channels=(ChannelSample(channel=0, register_wh=1, power_w=self.demand_w()),),
        )
        assert self.readings.take_meters(sample) is None

    def power_w(self, module_id: str) -> float:
        if self.switch.relays[module_id] is Relay.OPEN:
            return 0.0
        closed_at = self.switch.closed_at.get(module_id)
        since = timedelta(days=1) if closed_at is None else self.clock.now() - closed_at
        if since < timedelta(seconds=self.starts_s):
            return 0.0
        draw_w = self.draw_of.get(module_id, self.draw_w)
        return draw_w * (self.pickup if since < timedelta(seconds=60) else 1.0)

    def demand_w(self) -> float:
        return sum(self.power_w(module_id) for module_id in self.switch.relays)

    def hold(self, circuit_ids: Iterable[str], reason: Reason) -> None:
        """Hold circuits off and let the relays follow."""
        with self.books.write() as connection:
            for circuit_id in circuit_ids:
                holds.place(
                    connection,
                    circuit_id=circuit_id,
                    reason=reason,
                    placed_by=HAND,
                    evidence={},
                    now=self.clock.now(),
                )
        self.decide()

    def let_go(self, circuit_ids: Iterable[str], reason: Reason) -> None:
        """Release what `hold` placed and let the relays follow as far as they may."""
        with self.books.write() as connection:
            for circuit_id in circuit_ids:
                holds.release(
                    connection,
                    circuit_id=circuit_id,
                    reason=reason,
                    released_by=HAND,
                    evidence={},
                    now=self.clock.now(),
                )
        self.decide()

    def decide(self) -> None:
        """Take intents and let everything rest, without a cycle of shedding."""
        asyncio.run(self._decide())

    async def _decide(self) -> None:
        while await self.control.handle_intents():
            pass
        self.control.reconciler.kick_due()
        await self.control.settle()

    def is_on(self, circuit_id: str) -> bool:
        return self.switch.relays[circuit_id.replace("r-", "m-").removesuffix("-ac")] is Relay.CLOSED

    def on(self) -> set[str]:
        return {circuit.circuit_id for circuit in self.site.circuits() if self.is_on(circuit.circuit_id)}

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
