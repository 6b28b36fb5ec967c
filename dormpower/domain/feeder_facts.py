"""What shedding looks at, what it remembers, and what it proposes: plain values that can be printed and saved.

Power is whole watts, rounded at the edge; instants are campus time. A *load* is a circuit as a feeder sees it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum

from dormpower.domain.alarms import AlarmKind
from dormpower.domain.holds import Enforcement
from dormpower.domain.samples import Relay
from dormpower.domain.scopes import Scope, Where


class ShedAs(StrEnum):
    """Whether circuits of a place take their turn, go last of their kind, or are never shed."""

    IN_TURN = "in_turn"
    LAST = "last"
    NEVER = "never"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShedPlace:
    """How the circuits of a part of the site are shed."""

    scope: Scope
    shed: ShedAs


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeMode:
    """The mode of a whole tree of feeders: what a floor sheds helps its building, so they share one."""

    root_id: str
    mode: Enforcement


@dataclass(frozen=True, slots=True, kw_only=True)
class SheddingPolicy:
    """The site's figures for shedding; seconds are campus time. FACTS of load management stand behind them.

    `priorities` are kinds of circuits in the order in which they are shed; a kind that is not named is never
    shed. `places` differ from that. `shed_to` and `restore_below` are shares of a feeder's limit.
    """

    mode: Enforcement = Enforcement.SHADOW
    cycle_s: float = 10.0
    window_s: float = 900.0  # over which the trend is taken
    look_ahead_s: float = 30.0  # how far the trend is drawn out
    shed_to: float = 0.97
    restore_below: float = 0.90
    sustained_s: float = 180.0
    max_off_s: float = 900.0
    rotate_after_s: float = 300.0  # from then on a circuit may be swapped, so that not all are due at once
    min_on_s: float = 600.0
    min_between_s: float = 1200.0  # from one shed of a room to its next
    pickup: float = 2.5  # cold-load pickup until a circuit's own is learned: 200–300 % of what it drew
    pickup_s: float = 60.0  # how long a restored circuit's pickup is kept free
    draws_w: int = 100
    restores_at_once: int = 20
    silent_s: float = 60.0  # a feeder meter that was silent for longer counts for nothing
    power_stale_s: float = 90.0  # a circuit's power that is older counts for nothing
    follow_s: float = 20.0  # within which a relay is expected to follow
    priorities: tuple[str, ...] = ("ac",)
    places: tuple[ShedPlace, ...] = ()  # a later one has the last word
    modes: tuple[TreeMode, ...] = ()  # of trees of feeders whose mode is another than `mode`

    def mode_of(self, root_id: str) -> Enforcement:
        """Return the mode of the tree of feeders below a root."""
        return next((one.mode for one in self.modes if one.root_id == root_id), self.mode)

    @property
    def sleeps(self) -> bool:
        """Whether nothing is decided anywhere."""
        return {self.mode, *(one.mode for one in self.modes)} == {Enforcement.OFF}

    def shed_as(self, where: Where) -> ShedAs:
        """Return how a circuit is shed."""
        return next(
            (place.shed for place in reversed(self.places) if place.scope.covers(where)), ShedAs.IN_TURN
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FeederFacts:
    """A feeder and what its meter said last. `metered`: it has a meter at all."""

    feeder_id: str
    parent: str | None
    limit_w: int
    metered: bool = False
    power_w: int | None = None
    power_at: datetime | None = None
    sampling_period_s: float | None = None  # how far apart the last two samples were


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A circuit below a feeder.

    `shed_at` is when our own standing hold was placed. `held`: another enforced hold keeps it off. `opened_at`
    is since when its relay is reported open. `lately_w` is the most that it was seen to draw of late while it
    was on, `carries_w` the most that its wiring carries. A circuit that nothing holds any more, and that has no
    room to close yet, waits since `waits_since_at`; `urgent` closings go ahead of others, and those
    `after_trip` need a feeder meter that is heard, where there is one. For a closing that was let through,
    `promised_w` is kept free from `promised_at` on.
    """

    circuit_id: str
    room_id: str
    feeder_id: str
    kind: str
    power_w: int | None = None
    power_at: datetime | None = None
    sampling_period_s: float | None = None  # how far apart the last two samples were
    relay: Relay | None = None
    opened_at: datetime | None = None
    shed_at: datetime | None = None
    held: bool = False
    exempt: bool = False  # the room's supply is kept, or its place is never shed
    last: bool = False  # its place is shed last of its kind
    switchable: bool = True  # has a relay that reads back
    online: bool = True
    min_off_s: float = 0.0
    lately_w: int | None = None
    carries_w: int | None = None
    waits_since_at: datetime | None = None
    urgent: bool = False
    after_trip: bool = False
    promised_at: datetime | None = None
    promised_w: int = 0
    promise_is_new: bool = False  # no plan has seen it yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything that one decision looks at. `today` is the campus day.

    `listening_since_at` is since when samples have been coming in: after a start nothing is known at first, and
    that alone is no alarm.
    """

    feeders: tuple[FeederFacts, ...]
    loads: tuple[Load, ...]
    today: date
    listening_since_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FeederState:
    """What is remembered of a feeder: the hysteresis' timer, the trend, the loss, the standing alarms.

    `below_since_at` is since when the demand has been below `restore_below`, `below_seen_at` when that was last
    seen: the timer outlives a silence (a restart among them) of `silent_s`, and not a longer one.
    `points` are (instant, watts) of its demand, moved by what we switched, so that the trend is the residents'
    own. `loss` is what the meter counts beyond its circuits' sum, as a share of that sum.
    """

    below_since_at: datetime | None = None
    below_seen_at: datetime | None = None
    points: tuple[tuple[datetime, int], ...] = ()
    loss: float = 0.0
    alarms: tuple[AlarmKind, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What is remembered of a circuit.

    `turns` and `off_s` count within the fairness period (a campus day, or longer while something is shed);
    `off_s` has the finished turns only. `peak_w` is the highest power since `restored_at`, while the pickup is
    being watched; `expected_w` is the pickup that was expected then.
    """

    turns: int = 0
    off_s: float = 0.0
    shed_at: datetime | None = None  # the last time, be it over or not
    restored_at: datetime | None = None
    feeder_id: str | None = None  # whose limit it was shed for
    drew_w: int = 0  # just before it was shed
    expected_w: int = 0
    peak_w: int = 0
    watched: bool = False
    swap_under_way: bool = False  # another was shed for it: it returns as soon as the room shows
    pickup: float | None = None  # learned; None: the policy's
    most_w: int = 0  # the highest that it was ever seen to draw after a restore
    before_w: int = 0  # the most that it drew of late when its relay was last seen to open, for whatever reason


NO_TURN = Turn()
NO_FEEDER_STATE = FeederState()


@dataclass(frozen=True, slots=True, kw_only=True)
class ShedState:
    """All that shedding remembers. Saved with what it decided, so that every timer survives a restart."""

    feeders: Mapping[str, FeederState] = field(default_factory=dict)
    turns: Mapping[str, Turn] = field(default_factory=dict)
    period_on: date | None = None


class Source(StrEnum):
    """Where a feeder's demand comes from."""

    METERED = "metered"
    SUMMED = "summed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """A feeder's demand at one decision, in watts.

    `measured_w` is what flows. `sure_w` is what a restore is judged by: what flows, and what restored circuits
    may still pick up. `expected_w` is what a shed is judged by: without what has been shed and is about to
    open. `projected_w` draws the trend out from there. `may_restore`: the source permits a restore at all.
    """

    feeder_id: str
    limit_w: int
    source: Source
    measured_w: int | None = None
    sure_w: int = 0
    expected_w: int = 0
    projected_w: int = 0
    reserved_w: int = 0
    sampled_at: datetime | None = None
    sampling_period_s: float | None = None  # the meter's, or the median of the circuits that were summed
    may_restore: bool = False
    sustained: bool = False


class Why(StrEnum):
    """Why a circuit is shed or restored."""

    OVER = "over"  # the feeder is over its limit
    PROJECTED = "projected"  # it will be, by the trend
    SWAP = "swap"  # shed for another that has been off long enough
    TURN_OVER = "turn_over"  # restored, another is off instead
    CAPACITY = "capacity"  # restored, the feeder has had room for long enough


@dataclass(frozen=True, slots=True, kw_only=True)
class Shed:
    """Take this circuit off."""

    circuit_id: str
    room_id: str
    feeder_id: str
    why: Why
    power_w: int
    demand_w: int
    limit_w: int
    turn: int
    for_circuit_id: str | None = None  # whom it is swapped for


@dataclass(frozen=True, slots=True, kw_only=True)
class Restore:
    """Put this circuit back; `pickup_w` is the most that it is expected to draw at once."""

    circuit_id: str
    room_id: str
    why: Why
    pickup_w: int
    shed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Let a closing begin that has waited for room; `pickup_w` is kept free for it."""

    circuit_id: str
    pickup_w: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FeederAlarm:
    """A condition of a feeder that stands now, with its figures."""

    kind: AlarmKind
    feeder_id: str
    demand_w: int | None
    limit_w: int
    source: Source
    circuits_off: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One decision: what to shed and restore, whose closing may begin, what stands, what to remember."""

    at: datetime
    demands: tuple[Demand, ...]
    sheds: tuple[Shed, ...]
    restores: tuple[Restore, ...]
    grants: tuple[Grant, ...]
    alarms: tuple[FeederAlarm, ...]
    state: ShedState

    def __str__(self) -> str:
        """Tell the plan in lines that a person can read."""
        lines = [f"{self.at.isoformat()}"]
        lines += [
            f"  {one.feeder_id}: {one.measured_w} W of {one.limit_w} W ({one.source}), "
            f"expected {one.expected_w} W, projected {one.projected_w} W, reserved {one.reserved_w} W"
            for one in self.demands
        ]
        lines += [
            f"  shed {one.circuit_id}: {one.power_w} W for {one.feeder_id} ({one.why})" for one in self.sheds
        ]
        lines += [f"  restore {one.circuit_id}: up to {one.pickup_w} W ({one.why})" for one in self.restores]
        lines += [f"  let close {one.circuit_id}: up to {one.pickup_w} W" for one in self.grants]
        lines += [f"  {one.kind}: {one.feeder_id}" for one in self.alarms]
        return "\n".join(lines)
