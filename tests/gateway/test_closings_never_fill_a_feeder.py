"""Whatever closes, in whatever order: no feeder is filled, and nobody waits for good (invariants 22 and 23)."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from dormpower.clock import ManualClock
from dormpower.domain.feeder_facts import Facts, Load, SheddingPolicy, ShedState
from dormpower.domain.holds import Enforcement, Hold, Reason
from dormpower.domain.samples import ChannelSample, ModuleSample, Observation, Relay, Verdict
from dormpower.domain.shedding import plan
from dormpower.domain.site import Circuit, CircuitKind, Feeder, Module, Room, Site
from gateway.control_memory import CircuitMemory, ControlledCircuit
from gateway.feeder_readings import FeederReadings
from gateway.feeder_rooms import FeederRooms
from gateway.steady_rows import SteadyRows
from tests.domain.saved_sheds import saved

START = datetime(2026, 7, 20, 12, 0, tzinfo=UTC)
ROOMS = 16
DRAW_W = 1000
PICKUP = 2.5
LIMITS_W = {"b": 14_000, "f0": 8_500, "f1": 8_500}
POLICY = SheddingPolicy(
    mode=Enforcement.ENFORCE, min_on_s=60, min_between_s=120, max_off_s=420, rotate_after_s=310, sustained_s=30
)


def site() -> Site:
    return Site(
        site_id="s",
        name="S",
        zone=ZoneInfo("Asia/Shanghai"),
        rooms=tuple(
            Room(
                room_id=f"r{number}",
                campus="c",
                building="01",
                floor=str(number % 2),
                name="x",
                rated_current_a=16,
                feeder=f"f{number % 2}",
                circuits=(
                    Circuit(
                        circuit_id=f"c{number}",
                        room_id=f"r{number}",
                        kind=CircuitKind.AC if number % 4 else CircuitKind.LIGHTING,
                        module_id=f"m{number}",
                        channel=0,
                    ),
                ),
            )
            for number in range(ROOMS)
        ),
        modules=tuple(Module(module_id=f"meter-{one}", profile="x") for one in LIMITS_W),
        lines=(),
        feeders=tuple(
            Feeder(
                feeder_id=one,
                parent=None if one == "b" else "b",
                limit_w=limit_w,
                meter_module_id=f"meter-{one}",
                meter_channel=0,
            )
            for one, limit_w in LIMITS_W.items()
        ),
    )


class Building:
    """Two floors whose circuits draw the same always, after a closing nothing at first and then their pickup.

    So only closings can fill a feeder. Relays follow at once. `restart` leaves what the books hold: the state
    of shedding and the closings that were commanded.
    """

    def __init__(self) -> None:
        self.clock = ManualClock(START)
        self.readings = FeederReadings(site(), self.clock)
        self.rooms = FeederRooms(clock=self.clock, readings=self.readings, policy=POLICY)
        self.state = ShedState()
        self.closed_at: dict[str, datetime] = {}
        self.shed_at: dict[str, datetime] = {}
        self.memories = {
            circuit_id: CircuitMemory(
                circuit=ControlledCircuit(
                    circuit_id=circuit_id,
                    room_id=room.room_id,
                    building="01",
                    module_id=circuit.module_id,
                    channel=0,
                    kind=circuit.kind.value,
                ),
                keep_supply=False,
                steady=SteadyRows([circuit_id]),
                row=0,
            )
            for circuit_id, (room, circuit) in self.readings.circuits.items()
        }
        self.relays = dict.fromkeys(self.memories, Relay.CLOSED)
        self.opened_at: dict[str, datetime] = {}
        self.knows = True

    def restart(self) -> None:
        """Begin anew with what is on record; circuits are read first (invariant 25)."""
        last_w = {one: self.readings.power(one)[0] or 0 for one in self.relays}
        self.readings = FeederReadings(site(), self.clock)
        self.rooms = FeederRooms(clock=self.clock, readings=self.readings, policy=POLICY)
        self.state = saved(self.state)
        since = self.clock.now() - timedelta(seconds=POLICY.pickup_s)
        commanded = {one: at for one, at in self.closed_at.items() if at >= since and one not in self.opened_at}
        self.rooms.take_up(self.state.turns, commanded, last_w)
        self.knows = False
        self.hear(heard=False)

    def floor_of(self, circuit_id: str) -> str:
        return str(self.readings.circuits[circuit_id][0].feeder)

    def power_w(self, circuit_id: str) -> int:
        if self.relays[circuit_id] is Relay.OPEN:
            return 0
        just = self.clock.now() - self.closed_at.get(circuit_id, START - timedelta(days=1))
        if just < timedelta(seconds=15):
            return 0
        return round(DRAW_W * (PICKUP if just < timedelta(seconds=60) else 1))

    def demand_w(self, feeder_id: str) -> int:
        return sum(self.power_w(one) for one in self.relays if feeder_id in ("b", self.floor_of(one)))

    def hold(self, circuit_id: str, reason: Reason) -> None:
        hold = Hold(
            hold_id="h",
            circuit_id=circuit_id,
            reason=reason,
            placed_by="x",
            placed_at=self.clock.now(),
        )
        self.memories[circuit_id].set_holds((hold,))
        self.rooms.withdraw(circuit_id)
        self.open(circuit_id)

    def open(self, circuit_id: str) -> None:
        if self.relays[circuit_id] is Relay.CLOSED:
            self.relays[circuit_id], self.opened_at[circuit_id] = Relay.OPEN, self.clock.now()

    def close_who_may(self, *, backwards: bool) -> None:
        """Have everybody ask who has nothing left that keeps them off."""
        for circuit_id in sorted(self.relays, reverse=backwards):
            memory = self.memories[circuit_id]
            if memory.holds or circuit_id in self.shed_at or self.relays[circuit_id] is Relay.CLOSED:
                continue
            if memory.closes_first and not self.knows:
                continue  # a payment's closing needs no demand (DESIGN §3.5): the one that goes by count alone
            if self.rooms.ask(memory):
                self.relays[circuit_id] = Relay.CLOSED
                self.closed_at[circuit_id] = self.clock.now()
                self.opened_at.pop(circuit_id)
                memory.after_trip_or_shed = False

    def cycle(self, *, heard: bool, backwards: bool) -> None:
        self.clock.advance(4)
        self.close_who_may(backwards=backwards)
        self.check()
        self.clock.advance(6)
        self.check()
        self.hear(heard=heard)
        self.rooms.begin_plan()
        facts = Facts(
            feeders=self.readings.feeder_facts(),
            loads=tuple(self.load(circuit_id) for circuit_id in self.relays),
            today=date(2026, 7, 20),
        )
        made = plan(facts, self.state, POLICY, now=self.clock.now())
        self.state = made.state
        for shed in made.sheds:
            self.shed_at[shed.circuit_id] = made.at
            self.memories[shed.circuit_id].after_trip_or_shed = True
            self.open(shed.circuit_id)
        for restore in made.restores:
            del self.shed_at[restore.circuit_id]
        short = frozenset(str(made.state.turns[one].feeder_id) for one in self.shed_at)
        self.rooms.end_plan(made, short=short)
        self.knows = True
        self.close_who_may(backwards=backwards)
        self.check()

    def check(self) -> None:
        for feeder_id, limit_w in LIMITS_W.items():
            assert self.demand_w(feeder_id) <= limit_w

    def hear(self, *, heard: bool) -> None:
        now = self.clock.now()
        self.readings.note(
            Observation(
                circuit_id=circuit_id,
                at=now,
                verdict=Verdict.ACCEPTED,
                metered_wh=0,
                sample=ChannelSample(
                    channel=0, relay=self.relays[circuit_id], power_w=float(self.power_w(circuit_id))
                ),
            )
            for circuit_id in self.relays
        )
        for feeder_id in LIMITS_W if heard else ():
            channel = ChannelSample(channel=0, power_w=float(self.demand_w(feeder_id)))
            self.readings.take_meters(ModuleSample(module_id=f"meter-{feeder_id}", at=now, channels=(channel,)))

    def load(self, circuit_id: str) -> Load:
        room, circuit = self.readings.circuits[circuit_id]
        power_w, power_at = self.readings.power(circuit_id)
        return self.rooms.with_closing(
            Load(
                circuit_id=circuit_id,
                room_id=room.room_id,
                feeder_id=str(room.feeder),
                kind=circuit.kind.value,
                power_w=power_w,
                power_at=power_at,
                relay=self.relays[circuit_id],
                opened_at=self.opened_at.get(circuit_id),
                shed_at=self.shed_at.get(circuit_id),
                held=bool(self.memories[circuit_id].holds),
                lately_w=self.readings.lately_w(circuit_id),
            )
        )


def settled() -> Building:
    """A building in which as many are on as its feeder bears, the others off by curfew."""
    building = Building()
    building.hear(heard=False)  # what each draws is known
    for number in range(12, ROOMS):
        building.hold(f"c{number}", Reason.CURFEW)
    for _ in range(10):
        building.cycle(heard=True, backwards=False)
    return building


steps = st.lists(
    st.tuples(
        st.sets(st.integers(0, ROOMS - 1), max_size=ROOMS),  # these are held
        st.sampled_from([Reason.CURFEW, Reason.ARREARS, Reason.OVERLOAD]),  # for this
        st.integers(0, 12),  # for so many cycles
        st.booleans(),  # the meters are heard then
        st.booleans(),  # who asks first
        st.sets(st.sampled_from(["held", "asked", "let close"])),  # the gateway is started again then
    ),
    max_size=6,
)


@settings(max_examples=40, deadline=None)
@given(steps=steps)
def test_no_closing_fills_a_feeder_over_any_restarts(
    steps: list[tuple[set[int], Reason, int, bool, bool, set[str]]],
) -> None:
    building = settled()
    for numbers, reason, cycles, heard, backwards, restarts in steps:
        for number in sorted(numbers):
            building.hold(f"c{number}", reason)
        if "held" in restarts:
            building.restart()
        # The next plan puts on record what drew how much before it opened: at most one restart comes before it.
        for _ in range(max(cycles, 1)):
            building.cycle(heard=heard, backwards=backwards)
        for memory in building.memories.values():
            memory.set_holds(())
        if "asked" in restarts:
            building.restart()
        building.close_who_may(backwards=backwards)
        building.check()
        if "let close" in restarts:
            building.restart()
            building.close_who_may(backwards=backwards)
        for _ in range(cycles):
            building.cycle(heard=heard, backwards=backwards)


@settings(max_examples=20, deadline=None)
@given(st.sets(st.integers(0, ROOMS - 1), min_size=1), st.sampled_from([Reason.CURFEW, Reason.ARREARS]))
def test_nobody_waits_for_good_though_there_is_never_room_for_all(numbers: set[int], reason: Reason) -> None:
    building = settled()
    for number in sorted(numbers):
        building.hold(f"c{number}", reason)
    building.cycle(heard=True, backwards=False)
    for memory in building.memories.values():
        memory.set_holds(())
    waiting = {one for one, relay in building.relays.items() if relay is Relay.OPEN}
    for _ in range(90):
        building.cycle(heard=True, backwards=False)
        waiting -= {one for one in waiting if building.relays[one] is Relay.CLOSED}
    assert waiting == set()
    assert len([one for one, relay in building.relays.items() if relay is Relay.CLOSED]) >= 8
