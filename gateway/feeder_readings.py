"""What feeder meters and the circuits below them said last, as shedding and closings go by it.

Lives in the event loop's thread. Only what intake believes counts: a sample whose register is doubted says
nothing of the power either.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from dormpower.clock import Clock
from dormpower.domain.demand import Tree
from dormpower.domain.feeder_facts import FeederFacts, SheddingPolicy
from dormpower.domain.holds import Enforcement
from dormpower.domain.samples import ModuleSample, Observation, Relay, is_believed
from dormpower.domain.scopes import where_of
from dormpower.domain.site import Circuit, Room, Site
from dormpower.domain.trips import draws
from gateway.plain_run import PlainRun

AHEAD = timedelta(seconds=30)  # a feeder meter's clock may be ahead of ours by this much
LATELY = timedelta(minutes=15)  # on: over this and the span before it the highest power of a circuit is kept


@dataclass(slots=True)
class _Highest:
    """The highest power of the present span and of the one before it.

    Only of samples that were taken while the circuit was on; where no relay is reported, while it drew. Spans
    are of time on: what was drawn before a night off is still the best guess for the morning, and an air
    conditioner that has been on for some seconds has not shown yet what it draws.
    """

    now_w: int = 0
    before_w: int = 0
    lasted: timedelta = timedelta(0)
    on_since_at: datetime | None = None  # the last sample, if it was on then

    def take(self, power_w: int, at: datetime) -> None:
        if self.on_since_at is not None:
            self.lasted += at - self.on_since_at
        if self.lasted >= LATELY:
            self.before_w, self.now_w, self.lasted = self.now_w, 0, timedelta(0)
        self.now_w = max(self.now_w, power_w)
        self.on_since_at = at

    def pause(self) -> None:
        self.on_since_at = None


@dataclass(frozen=True, slots=True)
class _Power:
    power_w: int
    at: datetime
    period_s: float | None  # from the sample before it


def _after(before: _Power | None, power_w: float, at: datetime) -> _Power:
    return _Power(round(power_w), at, None if before is None else (at - before.at).total_seconds())


class FeederReadings:
    """The latest powers of a site's feeders and of the circuits below them."""

    def __init__(self, site: Site, clock: Clock) -> None:
        self._site = site
        self._clock = clock
        known = {feeder.feeder_id for feeder in site.feeders}
        self.circuits: dict[str, tuple[Room, Circuit]] = {
            circuit.circuit_id: (room, circuit)
            for room in site.rooms
            if room.feeder in known
            for circuit in room.circuits
        }
        self.where_of = where_of(site)
        self._meters: dict[tuple[str, int], _Power] = {}
        self._powers: dict[str, _Power] = {}
        self._highest: dict[str, _Highest] = {}
        self._believed: set[str] = set()
        self._feeder_channels = {
            (feeder.meter_module_id, feeder.meter_channel or 0)
            for feeder in site.feeders
            if feeder.meter_module_id is not None
        }
        self._meter_modules = {module_id for module_id, _ in self._feeder_channels}
        self._modules = {module.module_id for module in site.modules}
        self.root_of = {one: path[-1] for one, path in Tree(self.feeder_facts(), ()).paths.items()}

    def mode_at(self, policy: SheddingPolicy, circuit_id: str) -> Enforcement:
        """Return in which mode a circuit is shed: its tree's; off where it hangs on no feeder."""
        if circuit_id not in self.circuits:
            return Enforcement.OFF
        room, _ = self.circuits[circuit_id]
        return policy.mode_of(self.root_of[str(room.feeder)])

    def is_meter(self, module_id: str) -> bool:
        """Whether a module measures a feeder."""
        return module_id in self._meter_modules

    def take_meters(self, sample: ModuleSample) -> ModuleSample | None:
        """Take the feeder meters' channels out of a sample; None where nothing is left for intake."""
        if sample.module_id not in self._meter_modules:
            return sample
        kept = []
        for channel in sample.channels:
            key = (sample.module_id, channel.channel)
            if key not in self._feeder_channels:
                kept.append(channel)
            elif channel.power_w is not None and sample.at <= self._clock.now() + AHEAD:
                before = self._meters.get(key)
                if before is None or sample.at > before.at:
                    self._meters[key] = _after(before, channel.power_w, sample.at)
        if len(kept) == len(sample.channels):
            return sample
        return replace(sample, channels=kept) if kept else None

    def note(self, observations: Iterable[Observation]) -> None:
        """Take note of circuits' powers, after the commit of their batch."""
        if not self.circuits:
            return
        for one in observations:
            if one.circuit_id not in self.circuits:
                continue
            believed = is_believed(one.verdict, before=one.circuit_id in self._believed)
            (self._believed.add if believed else self._believed.discard)(one.circuit_id)
            if not believed or one.sample.power_w is None:
                continue
            on = one.sample.relay is Relay.CLOSED or (one.sample.relay is None and draws(one.sample))
            self._note(one.circuit_id, one.at, one.sample.power_w, on=on)

    def note_plain(self, run: PlainRun) -> None:
        """Take note of plain samples' powers, after the commit of their batch: all are believed."""
        if not self.circuits:
            return
        for circuit_id, at, power_w, on in run.powers():
            if circuit_id in self.circuits:
                self._believed.add(circuit_id)
                self._note(circuit_id, at, power_w, on=on)

    def _note(self, circuit_id: str, at: datetime, power_w: float, *, on: bool) -> None:
        power = _after(self._powers.get(circuit_id), power_w, at)
        self._powers[circuit_id] = power
        if on:
            self._highest.setdefault(circuit_id, _Highest()).take(power.power_w, at)
        elif circuit_id in self._highest:
            self._highest[circuit_id].pause()

    def begin_with(self, drew_before_w: Mapping[str, int]) -> None:
        """Begin with what earlier runs saw circuits draw, until they have been on for long enough."""
        for circuit_id in drew_before_w.keys() & self.circuits.keys():
            self._highest[circuit_id] = _Highest(before_w=drew_before_w[circuit_id])

    def power(self, circuit_id: str) -> tuple[int | None, datetime | None]:
        """Return a circuit's power in watts and when it was sampled; None, None where nothing was heard."""
        power = self._powers.get(circuit_id)
        return (None, None) if power is None else (power.power_w, power.at)

    def power_period_s(self, circuit_id: str) -> float | None:
        """Return how far apart a circuit's last two samples were; None where there were not two."""
        power = self._powers.get(circuit_id)
        return None if power is None else power.period_s

    def lately_w(self, circuit_id: str) -> int | None:
        """Return the most that a circuit drew in its last quarter to half an hour on; None: nobody knows."""
        highest = self._highest.get(circuit_id)
        return None if highest is None else max(highest.now_w, highest.before_w)

    def feeder_facts(self) -> tuple[FeederFacts, ...]:
        """Return the feeders and what their meters said last."""
        found = []
        for feeder in self._site.feeders:
            heard = self._meters.get((feeder.meter_module_id or "", feeder.meter_channel or 0))
            found.append(
                FeederFacts(
                    feeder_id=feeder.feeder_id,
                    parent=feeder.parent,
                    limit_w=feeder.limit_w,
                    metered=feeder.meter_module_id in self._modules,
                    power_w=None if heard is None else heard.power_w,
                    power_at=None if heard is None else heard.at,
                    sampling_period_s=None if heard is None else heard.period_s,
                )
            )
        return tuple(found)
