"""What control keeps in memory of each circuit, so that an unchanged observation costs no query.

Everything here can be rebuilt from the books (`memory_fill.py`), except what must be seen anew in each run:
whether a module has answered yet (`seen`), and when the last try was (a new run may try at once).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from dormpower.domain.arrears import NO_WARNINGS, Warnings
from dormpower.domain.flags import STANDARD_MEANINGS, FlagMeanings
from dormpower.domain.holds import TRIPS_AND_SHEDS, AnyReason, Hold, Reason, SupplyState, wanted_relay
from dormpower.domain.prohibited import Allowance
from dormpower.domain.reconcile import Control, Waiting
from dormpower.domain.restoring import Restore
from dormpower.domain.samples import ChannelSample, Observation, Relay, Verdict, is_believed
from dormpower.domain.switching import TripsPolicy
from dormpower.domain.trips import Judged
from gateway import lately
from gateway.columns import RELAY_CODES
from gateway.lately import NOTHING_SEEN, LatelySeen, seconds_between
from gateway.steady_rows import AccountRows, SteadyRows, from_us


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlledCircuit:
    """What control needs to know of a circuit from the site and its module's profile."""

    circuit_id: str
    room_id: str
    building: str
    campus: str = ""
    module_id: str
    channel: int
    kind: str
    line_id: str | None = None
    has_relay: bool = True
    has_readback: bool = True
    flag_meanings: FlagMeanings = STANDARD_MEANINGS
    min_off_s: float = 0.0
    self_restore_s: float | None = None
    restores_a_day: int = TripsPolicy().restores_a_day
    keep_supply: bool = False
    carries_w: int | None = None  # the most that its wiring carries


class AccountMemory:
    """A prepaid account: available = base − metered over its circuits, in Wh. Kept in the steady rows."""

    __slots__ = ("_rows", "account_id", "next_metered_wh", "row", "token")

    def __init__(self, account_id: str, rows: AccountRows) -> None:
        self.account_id = account_id
        self.token: object = None  # the batch that `next_metered_wh` belongs to
        self.next_metered_wh = 0
        self._rows = rows
        self.row = rows.add()

    @property
    def base_wh(self) -> int:
        """What the books say of it (`accounts.base_wh`)."""
        return int(self._rows.base_wh[self.row])

    @base_wh.setter
    def base_wh(self, base_wh: int) -> None:
        self._rows.base_wh[self.row] = base_wh

    @property
    def metered_wh(self) -> int:
        """What its circuits have metered."""
        return int(self._rows.metered_wh[self.row])

    @metered_wh.setter
    def metered_wh(self, metered_wh: int) -> None:
        self._rows.metered_wh[self.row] = metered_wh


@dataclass(slots=True, kw_only=True, eq=False)
class CircuitMemory:
    """One circuit as control sees it. The `next_` fields belong to the batch under way, named by `token`.

    `row` is the circuit's among the steady rows, in which its plain samples are judged while it is `calm`.
    """

    circuit: ControlledCircuit
    keep_supply: bool
    steady: SteadyRows
    row: int
    account: AccountMemory | None = None
    holds: tuple[Hold, ...] = ()
    wanted: Relay = Relay.CLOSED
    judged: Judged = field(default_factory=Judged)
    warnings: Warnings = NO_WARNINGS
    state: SupplyState = SupplyState.OFFLINE
    control: Control = Control.SETTLED
    expected_change_at: datetime | None = None
    waiting: Waiting | None = None
    active_alarms: frozenset[str] = frozenset()
    shadow_alarms: frozenset[str] = frozenset()  # that a rule in shadow would have raised
    pending_cuts: Mapping[str, bool] = field(default_factory=dict)  # on the breaker's list: reason, approved
    cut_due_at: datetime | None = None  # since when a cut waits only for a reading
    # the field
    seen: bool = False  # a sample or read-back of this run
    believed: bool = False  # the last register of this run was accepted
    kept_lately: LatelySeen = NOTHING_SEEN  # see `lately`
    earlier: ChannelSample | None = None  # the last one of earlier runs: its powers
    command_ended_at: datetime | None = None  # samples from before it say nothing of what it did
    ours_open: bool = False
    opened_at: datetime | None = None
    sent: Relay | None = None
    outstanding: bool = False
    failures: int = 0
    last_try_at: datetime | None = None
    after_trip_or_shed: bool = False
    freed_of: frozenset[AnyReason] = frozenset()  # what kept it off last
    restores: tuple[Restore, ...] = ()
    permits: tuple[Allowance, ...] = ()
    # what of the rules' watching the books hold, by rule
    kept: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    # the batch under way
    token: object = None
    before: LatelySeen = NOTHING_SEEN
    next_metered_wh: int = 0
    next_judged: Judged = field(default_factory=Judged)
    next_believed: bool = False
    next_observed_at: datetime | None = None
    next_observed_before_at: datetime | None = None
    next_fresh_at: datetime | None = None  # None where the batch brought no accepted register
    next_sample: ChannelSample | None = None  # the one of `next_fresh_at`
    next_seen: bool = False
    next_watched: tuple[object, ...] = ()
    quiet: bool = False

    def set_holds(self, holds: tuple[Hold, ...]) -> None:
        """Take over the standing holds, and remember that a trip or shed stood until the relay has closed."""
        if any(hold.reason in TRIPS_AND_SHEDS and not hold.shadow for hold in holds):
            self.after_trip_or_shed = True
        wanted = wanted_relay(holds)
        if self.wanted is Relay.OPEN and wanted is Relay.CLOSED:
            self.freed_of = frozenset(hold.reason for hold in self.holds if not hold.shadow)
        self.holds = holds
        self.wanted = wanted
        self.steady.calm[self.row] = False  # until it is settled

    @property
    def lately(self) -> LatelySeen:
        """What the circuit's samples said lately; of the steady row where that is ahead."""
        if self.steady.lately_ahead[self.row]:
            return lately.read(self.steady, self.row, channel=self.circuit.channel)
        return self.kept_lately

    @lately.setter
    def lately(self, seen: LatelySeen) -> None:
        self.kept_lately = seen
        self.steady.lately_ahead[self.row] = False
        self.steady.calm[self.row] = False  # until it is settled

    @property
    def fresh_at(self) -> datetime | None:
        """When the last accepted register was sampled: of `lately`, for who asks of many circuits."""
        if self.steady.lately_ahead[self.row]:
            return from_us(int(self.steady.lately.fresh_at[self.row]))
        return self.kept_lately.fresh_at

    @property
    def closes_first(self) -> bool:
        """Whether a closing goes ahead of others: a payment brought it about, or the room's supply is kept."""
        return self.keep_supply or self.freed_of == {Reason.ARREARS}

    def begin_batch(self, token: object) -> None:
        """Let the batch that `token` names start from what is known."""
        self.token, self.before = token, self.lately
        before = self.before
        self.next_metered_wh, self.next_judged = before.metered_wh, self.judged
        self.next_watched, self.next_believed = before.watched, self.believed
        self.next_observed_at, self.next_observed_before_at = before.observed_at, before.observed_before_at
        self.next_fresh_at, self.next_seen = None, self.seen

    def observe(self, observation: Observation) -> int | None:
        """Take note of one more sample of the batch: whether it is believed, and when it was taken.

        Return what is available after it; None without an account.
        """
        at, verdict, metered_wh = observation.at, observation.verdict, observation.metered_wh
        self.next_observed_before_at, self.next_observed_at = self.next_observed_at, at
        if verdict is Verdict.ACCEPTED:
            self.next_believed = True
            self.next_fresh_at, self.next_sample = at, observation.sample
        else:
            self.next_believed = is_believed(verdict, before=self.next_believed)
        if not self.next_seen:
            self.next_seen = observation.sample.relay is not None or not self.circuit.has_readback
        used_wh, self.next_metered_wh = metered_wh - self.next_metered_wh, metered_wh
        account = self.account
        if account is None:
            return None
        if account.token is not self.token:
            account.token, account.next_metered_wh = self.token, account.metered_wh
        account.next_metered_wh += used_wh
        return account.base_wh - account.next_metered_wh

    def end_batch(self) -> None:
        """Take over what the batch's samples were, once it is committed."""
        before, fresh = self.before, self.next_fresh_at is not None
        if self.account is not None:
            self.account.metered_wh += self.next_metered_wh - before.metered_wh
        self.believed = self.next_believed
        self.lately = LatelySeen(
            metered_wh=self.next_metered_wh,
            observed_at=self.next_observed_at,
            observed_before_at=self.next_observed_before_at,
            fresh_at=self.next_fresh_at if fresh else before.fresh_at,
            sample=self.next_sample if fresh else before.sample,
            watched=self.next_watched,
        )

    @property
    def next_sampling_period_s(self) -> float | None:
        """The time between the last two samples, those of the batch under way among them."""
        return seconds_between(self.next_observed_before_at, self.next_observed_at)

    def settle_quiet(self) -> None:
        """Work out whether only a balance or a relay that moves can ask for a closer look.

        A relay that never followed a command of ours has to be seen closed once more: until then that command
        would explain an opening that is somebody's hand (invariant 15). The next sample is judged by itself.
        """
        self.quiet = (
            not self.holds
            and self.warnings == NO_WARNINGS
            and self.state is SupplyState.NORMAL
            and self.control is Control.SETTLED
            and not self.active_alarms
            and not self.pending_cuts
            and self.seen
            and not self.ours_open
            and not self.failures
        )
        self.steady.calm[self.row] = False

    def settle_calm(self) -> None:
        """Have samples that say nothing new judged in the steady row from here on, if may be. Under `turn`.

        Commands change what this goes by without the turn, on either thread, and then take the mark back. So it
        is looked at once more when the mark is there: either this sees the change, or the change comes after.
        """
        steady, row = self.steady, self.row
        if not self._is_calm() or not (steady.lately_ahead[row] or lately.write(steady, row, self.kept_lately)):
            steady.calm[row] = False
            return
        steady.judged_relay[row] = RELAY_CODES[self.judged.relay]
        steady.calm[row] = True
        if not self._is_calm():
            steady.calm[row] = False

    def _is_calm(self) -> bool:
        return bool(
            self.steady.stepping[self.row]
            and self.quiet
            and self.believed
            and not self.kept
            and self.wanted is Relay.CLOSED
            and self.judged.relay is not Relay.OPEN
            and not self.judged.flags
            and not self.judged.drawing_samples
        )

    def stir(self) -> None:
        """Have the next sample looked at."""
        self.quiet = False
        self.steady.calm[self.row] = False


def build(circuits: Iterable[ControlledCircuit], steady: SteadyRows) -> dict[str, CircuitMemory]:
    """Return an empty memory for each circuit; `fill` takes over what the books hold."""
    return {
        circuit.circuit_id: CircuitMemory(
            circuit=circuit,
            keep_supply=circuit.keep_supply,
            steady=steady,
            row=steady.row_of[circuit.circuit_id],
        )
        for circuit in circuits
    }
