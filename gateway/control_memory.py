"""What control keeps in memory of each circuit, so that an unchanged observation costs no query.

Everything here can be rebuilt from the books (`fill`), except what must be seen anew in each run: whether a
module has answered yet (`seen`), and when the last try was (a new run may try at once).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books import accounts as books_accounts
from dormpower.books import alarms as books_alarms
from dormpower.books import control as books_control
from dormpower.books import holds as books_holds
from dormpower.books import permits, policies
from dormpower.books import trips as books_trips
from dormpower.books.tables import account_links, commands, meter_points, rooms
from dormpower.domain.arrears import NO_WARNINGS, Warnings
from dormpower.domain.flags import STANDARD_MEANINGS, FlagMeanings
from dormpower.domain.holds import TRIPS_AND_SHEDS, AnyReason, Hold, Reason, SupplyState, wanted_relay
from dormpower.domain.prohibited import Allowance
from dormpower.domain.reconcile import Control, Waiting
from dormpower.domain.restoring import LOOK_BACK_S, Restore
from dormpower.domain.samples import ChannelSample, Flag, Observation, Relay, Verdict, is_believed
from dormpower.domain.switching import TripsPolicy
from dormpower.domain.trips import DRAWING_SAMPLES, Judged
from gateway import lately
from gateway.columns import RELAY_CODES
from gateway.lately import NOTHING_SEEN, LatelySeen, seconds_between
from gateway.steady_rows import NO_ACCOUNT, AccountRows, SteadyRows, from_us


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


def fill(
    connection: Connection,
    memories: Sequence[CircuitMemory],
    account_memories: dict[str, AccountMemory],
    *,
    today: date,
    now: datetime,
    first: bool,
) -> None:
    """Take over holds, control points, balances, warnings and waiting cuts from the books.

    `first` also takes over what was last judged of the relays and where the metering stands; later these are
    kept up by the observations.
    """
    by_id = {memory.circuit.circuit_id: memory for memory in memories}
    ids = sorted(by_id)
    standing = books_holds.standing(connection, ids)
    points = books_control.points(connection, ids)
    waiting: dict[str, dict[str, bool]] = {}
    for cut in books_control.pending(connection):
        waiting.setdefault(cut.circuit_id, {})[cut.reason] = cut.approved_at is not None
    _fill_keep_supply(connection, memories)
    for circuit_id, memory in by_id.items():
        point = points.get(circuit_id)
        if point is not None:
            memory.warnings, memory.state = point.warnings, point.state
            memory.control, memory.expected_change_at = point.control, point.expected_change_at
            memory.waiting = point.waiting
            if first:
                memory.opened_at, memory.failures = point.opened_at, point.failures
                memory.sent, memory.ours_open = point.commanded_relay, point.commanded_relay is Relay.OPEN
        memory.set_holds(standing.get(circuit_id, ()))
        memory.pending_cuts = waiting.get(circuit_id, {})
    if first:
        _fill_first(connection, by_id)
    restored = books_trips.restores(connection, circuit_ids=ids, since=now - timedelta(seconds=LOOK_BACK_S))
    for circuit_id, memory in by_id.items():
        memory.restores = restored.get(circuit_id, ())
    _fill_permits(connection, memories, now)
    _fill_accounts(connection, by_id, account_memories, today=today)
    for memory in memories:
        memory.settle_quiet()
        memory.settle_calm()


def _fill_permits(connection: Connection, memories: Sequence[CircuitMemory], now: datetime) -> None:
    room_ids = {memory.circuit.room_id for memory in memories}
    standing = permits.standing(connection, now=now, room_ids=sorted(room_ids))
    for memory in memories:
        memory.permits = tuple(
            Allowance(appliance=one.appliance, from_w=one.from_w, to_w=one.to_w, until_at=one.to_at)
            for one in standing.get(memory.circuit.room_id, ())
        )


def _fill_keep_supply(connection: Connection, memories: Sequence[CircuitMemory]) -> None:
    room_ids = {memory.circuit.room_id for memory in memories}
    kept = set(
        connection.scalars(
            sa.select(rooms.c.room_id).where(
                rooms.c.room_id.in_(sorted(room_ids)), rooms.c.keep_supply.is_(sa.true())
            )
        )
    )
    for memory in memories:
        memory.keep_supply = memory.circuit.keep_supply or memory.circuit.room_id in kept


def _fill_first(connection: Connection, by_id: Mapping[str, CircuitMemory]) -> None:
    closing = [one for one, memory in by_id.items() if memory.ours_open and memory.wanted is Relay.CLOSED]
    for circuit_id, reasons in books_holds.last_released(connection, closing).items():
        by_id[circuit_id].freed_of = reasons
    drawing = {
        alarm.circuit_id for alarm in books_alarms.active(connection) if alarm.kind == "open_but_drawing"
    }
    last_ended = (
        sa.select(commands.c.finished_at)
        .where(commands.c.circuit_id == meter_points.c.circuit_id)
        .order_by(commands.c.recorded_at.desc())
        .limit(1)
        .scalar_subquery()
    )
    rows = connection.execute(
        sa.select(
            meter_points.c.circuit_id,
            last_ended.label("command_ended_at"),
            meter_points.c.metered_wh,
            meter_points.c.relay,
            meter_points.c.flags,
            meter_points.c.power_w,
            meter_points.c.voltage_v,
            meter_points.c.current_a,
            meter_points.c.power_factor,
            meter_points.c.last_seen_at,
        ).where(meter_points.c.circuit_id.in_(sorted(by_id)))
    )
    for circuit_id, kept in policies.memories(connection, sorted(by_id)).items():
        by_id[circuit_id].kept = {rule: one for rule, one in kept.items() if rule.startswith("rule:")}
    for row in rows:
        memory = by_id[row.circuit_id]
        memory.lately = LatelySeen(
            metered_wh=row.metered_wh, fresh_at=row.last_seen_at, observed_at=row.last_seen_at
        )
        memory.command_ended_at = row.command_ended_at
        memory.earlier = ChannelSample(
            channel=memory.circuit.channel,
            power_w=row.power_w,
            voltage_v=row.voltage_v,
            current_a=row.current_a,
            power_factor=row.power_factor,
        )
        memory.judged = Judged(
            relay=None if row.relay is None else Relay(row.relay),
            flags=frozenset(flag for flag in Flag if flag in row.flags.split(",")),  # those that are known here
            drawing_samples=DRAWING_SAMPLES if row.circuit_id in drawing else 0,
        )
        memory.after_trip_or_shed = memory.after_trip_or_shed or (
            memory.judged.relay is Relay.OPEN and not memory.ours_open
        )


def _fill_accounts(
    connection: Connection,
    by_id: Mapping[str, CircuitMemory],
    account_memories: dict[str, AccountMemory],
    *,
    today: date,
) -> None:
    links = connection.execute(
        sa.select(account_links.c.circuit_id, account_links.c.account_id).where(
            account_links.c.circuit_id.in_(sorted(by_id)),
            account_links.c.from_on <= today,
            account_links.c.to_on.is_(None),  # the same links as `accounts.base_wh`: their sums must agree
        )
    ).all()
    linked = {row.circuit_id: row.account_id for row in links}
    for circuit_id, memory in by_id.items():
        account_id = linked.get(circuit_id)
        before = memory.account
        if before is not None and before.account_id == account_id:
            continue
        if before is not None:
            before.metered_wh -= memory.lately.metered_wh
        memory.account = None
        if account_id is not None:
            if account_id not in account_memories:
                account_memories[account_id] = AccountMemory(account_id, memory.steady.accounts)
            memory.account = account_memories[account_id]
            memory.account.metered_wh += memory.lately.metered_wh
        memory.steady.account[memory.row] = NO_ACCOUNT if memory.account is None else memory.account.row
    wanted_ids = sorted(set(linked.values()))
    for account_id, base_wh in books_accounts.base_wh(connection, wanted_ids).items():
        account_memories[account_id].base_wh = base_wh
