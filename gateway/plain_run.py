"""The plain samples of a batch, judged together: what each of them would have come to by itself, and no other.

`part` decodes what came as columns (`gathering.py`), finds the circuits all of whose samples in this batch are
plain (`steady_rows.py`), and works out where they stand after them. The conditions are those of
`meter_state.stepped`, `trips.unchanged`, of a quiet circuit and of the rules' bounds. Every other circuit is
left to be judged sample by sample, and with it all that share its account, so that a balance is looked at in
order of arrival.

Nothing outside the run changes until `take_over`, after the commit.
"""

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from dormpower.books.meters import PresentRow
from dormpower.domain.meter_state import WH_DIVISOR
from dormpower.domain.samples import ChannelSample, ModuleSample
from dormpower.domain.trips import DRAWING_CURRENT_A, DRAWING_POWER_W
from dormpower.readings.columns import ReadingColumns, known_number
from gateway.columns import (
    CLOSED,
    RELAY_CODES,
    RELAYS,
    Floats,
    Integers,
    Truths,
)
from gateway.gathering import Gathered, gather
from gateway.steady_rows import NO_ACCOUNT, Lately, Positions, SteadyRows, as_array, from_us, to_us

MOST_OF_A_CIRCUIT = 16
"""A circuit with more samples in one batch than this (after an outage) is left to be judged one by one."""
_Rows = npt.NDArray[np.intp]


@dataclass(slots=True, eq=False, kw_only=True)
class PlainRun:
    """Plain samples, and where their circuits stand after them.

    `rows` are the circuits' steady rows, `positions` and `lately` what becomes of them; `samples` are by
    circuit and in order of arrival, `place` says which of `rows` each is of, `last` which is each circuit's
    newest.
    """

    circuit_ids: Sequence[str]
    rows: Integers
    positions: Positions
    lately: Lately
    samples: Gathered
    place: _Rows
    last: _Rows

    @property
    def accepted(self) -> int:
        """How many registers moved their position, or stood still on it."""
        return int(np.count_nonzero(self.samples.registered))

    @property
    def without_register(self) -> int:
        """How many samples held no register."""
        return len(self.samples) - self.accepted

    def readings(self) -> ReadingColumns:
        """Return the accepted samples as readings."""
        full = self.samples.registered
        taken = self.samples if full.all() else self.samples.some(full)
        return ReadingColumns(
            circuit_ids=self.circuit_ids,
            circuit=self.place[full],
            at_ms=taken.at // 1000,
            register_wh=taken.register_wh,
            power_w=taken.power_w,
            voltage_v=taken.voltage_v,
            current_a=taken.current_a,
            power_factor=taken.power_factor,
            relay=taken.relay,
        )

    def present_rows(self) -> list[PresentRow]:
        """Return what the circuits' newest samples leave in the books."""
        newest = self.samples.some(self.last)
        relays = [RELAYS[code] for code in newest.relay.tolist()]
        seen_ms = (newest.at // 1000).tolist()
        return list(
            zip(
                self.positions.register_wh.tolist(),
                (self.positions.register_at // 1000).tolist(),
                self.positions.metered_wh.tolist(),
                [None if relay is None else relay.value for relay in relays],
                [None if relay is None else at_ms for relay, at_ms in zip(relays, seen_ms, strict=True)],
                _known(newest.power_w),
                _known(newest.voltage_v),
                _known(newest.current_a),
                _known(newest.power_factor),
                itertools.repeat(""),
                seen_ms,
                self.circuit_ids,
                strict=False,
            )
        )

    def powers(self) -> Iterator[tuple[str, datetime, float, bool]]:
        """Yield of each sample its circuit, its instant, its power in W and whether the circuit was on."""
        taken = self.samples
        draws = (taken.power_w > DRAWING_POWER_W) | (taken.current_a > DRAWING_CURRENT_A)
        on = (taken.relay == CLOSED) | ((taken.relay == RELAY_CODES[None]) & draws)
        columns = (self.place, taken.at, taken.power_w, on)
        for place, at_us, power_w, is_on in zip(*(column.tolist() for column in columns), strict=True):
            yield self.circuit_ids[place], from_us(at_us), power_w, is_on

    def take_over(self, steady: SteadyRows) -> None:
        """Make it the present, once it is committed."""
        rows, account = self.rows, steady.account[self.rows]
        used_wh = self.lately.counted_wh - steady.lately.counted_wh[rows]
        np.add.at(steady.accounts.metered_wh, account[account >= 0], used_wh[account >= 0])
        steady.positions.put(rows, self.positions)
        steady.lately.put(rows, self.lately)
        as_array(steady.positions_ahead)[rows] = True
        as_array(steady.lately_ahead)[rows] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Parted:
    """A batch in two: what is done with, None for nothing, and what is left, in order of arrival.

    `in_columns` are the circuits whose samples came as columns and are left all the same.
    """

    run: PlainRun | None
    left: Sequence[tuple[ModuleSample, Sequence[ChannelSample]]]
    in_columns: Collection[str] = frozenset()


def part(
    samples: Sequence[ModuleSample],
    steady: SteadyRows,
    row_of: Mapping[tuple[str, int], int],
    *,
    not_after: datetime,
    changed: Iterable[str],
) -> Parted:
    """Part the samples of a batch. `row_of` gives a channel's row, `changed` are circuits changed otherwise."""
    gathered, others = gather(samples, row_of)
    if gathered is None:
        return Parted(run=None, left=[(sample, sample.channels) for sample in samples])
    columns_of: dict[int, set[int]] = {}
    keys = ((samples[item].module_id, one.channel) for item in others for one in samples[item].channels)
    one_by_one = [row_of[key] for key in keys if key in row_of]
    one_by_one += [steady.row_of[circuit_id] for circuit_id in changed]
    run, left = _judge(gathered, steady, not_after=not_after, one_by_one=one_by_one)
    for item, channel in zip(left.item.tolist(), left.channel.tolist(), strict=True):
        columns_of.setdefault(item, set()).add(channel)
    return Parted(
        run=run,
        left=[
            (samples[item], _chosen(samples[item], columns_of.get(item)))
            for item in sorted([*others, *columns_of])
        ],
        in_columns={steady.circuit_ids[row] for row in set(left.row.tolist()) if row >= 0},
    )


def _chosen(sample: ModuleSample, channels: set[int] | None) -> Sequence[ChannelSample]:
    return [one for one in sample.channels if channels is None or one.channel in channels]


def _judge(
    gathered: Gathered, steady: SteadyRows, *, not_after: datetime, one_by_one: Sequence[int]
) -> tuple[PlainRun | None, Gathered]:
    """Return the run of plain samples, None for none, and the samples that are left.

    `one_by_one` are rows of circuits that are judged sample by sample in this batch whatever their own are.
    """
    if not steady.circuit_ids:
        return None, gathered
    starts = np.flatnonzero(np.append(True, np.diff(gathered.row) != 0))
    counts = np.diff(np.append(starts, len(gathered)))
    rows = gathered.row[starts]
    place = np.repeat(np.arange(len(rows)), counts)
    plain = (rows >= 0) & (counts <= MOST_OF_A_CIRCUIT)
    plain &= as_array(steady.stepping)[rows] & as_array(steady.calm)[rows]
    plain[np.isin(rows, np.array(one_by_one, np.int64))] = False
    plain[place[~_says_nothing_new(gathered, steady, to_us(not_after))]] = False
    walk = _Walk(gathered, steady, rows)
    for number in range(min(int(counts.max()), MOST_OF_A_CIRCUIT)):
        still = np.flatnonzero(counts > number)
        plain[still[~walk.step(starts[still] + number, still)]] = False
    walk.lately.counted_wh = walk.positions.metered_wh
    plain &= ~_of_moving_accounts(steady, rows, plain, walk.lately.counted_wh, one_by_one)
    chosen = plain[place]
    if not plain.any():
        return None, gathered
    kept, kept_counts = np.flatnonzero(plain), counts[plain]
    run = PlainRun(
        circuit_ids=[steady.circuit_ids[row] for row in rows[kept].tolist()],
        rows=rows[kept],
        positions=walk.positions.at(kept),
        lately=walk.lately.at(kept),
        samples=gathered.some(chosen),
        place=np.repeat(np.arange(len(kept)), kept_counts),
        last=np.cumsum(kept_counts) - 1,
    )
    return run, gathered.some(~chosen)


def _says_nothing_new(gathered: Gathered, steady: SteadyRows, not_after_us: int) -> Truths:
    """Whether each sample, by itself, is one that no rule has to see."""
    rows, relay = gathered.row, gathered.relay
    as_it_was = (relay == RELAY_CODES[None]) | ((relay == CLOSED) & (steady.judged_relay[rows] == CLOSED))
    quiet: Truths = (
        as_it_was
        & ~gathered.flagged
        & (gathered.power_w <= steady.below_w[rows])  # not where it is unknown
        & (gathered.at <= not_after_us)
    )
    return quiet


class _Walk:
    """Where circuits stand as their samples are taken one after the other, each circuit's in its order."""

    def __init__(self, gathered: Gathered, steady: SteadyRows, rows: Integers) -> None:
        self.positions = steady.positions.at(rows)
        self.lately = steady.lately.at(rows)
        self._samples = gathered
        self._apparent_va = _apparent_va(gathered)
        self._day_ends_at = steady.day_ends_at[rows]
        self._resolution_wh = steady.resolution_wh[rows]
        self._plausible_w, self._slack_ms = steady.plausible_w[rows], steady.slack_ms[rows]
        self._rise_w, self._longest_gap_us = steady.rise_w[rows], steady.longest_gap_us[rows]

    def step(self, taken: npt.NDArray[Any], places: npt.NDArray[Any]) -> Truths:
        """Take one sample of each of some circuits; return which of them were plain."""
        samples, lately = self._samples, self.lately
        at, power_w = samples.at[taken], samples.power_w[taken]
        last_at = lately.last_at[places]
        base_w = np.minimum(lately.last_w[places], np.maximum(lately.first_w[places], lately.second_w[places]))
        plain: Truths = (
            (at > self.positions.seen_at[places])
            & (at - last_at <= self._longest_gap_us[places])
            & ~(power_w - base_w >= self._rise_w[places])  # an unknown base is one that nobody asks for
        )
        self.positions.seen_at[places] = at
        lately.before_at[places] = last_at
        for first, second, last in _RECENT:
            getattr(lately, first)[places] = getattr(lately, second)[places]
            getattr(lately, second)[places] = getattr(lately, last)[places]
        lately.last_at[places], lately.last_w[places] = at, power_w
        lately.last_va[places] = self._apparent_va[taken]
        registered = samples.registered[taken]
        if registered.all():
            return plain & self._move(taken, places)
        plain[registered] &= self._move(taken[registered], places[registered])
        return plain

    def _move(self, taken: npt.NDArray[Any], places: npt.NDArray[Any]) -> Truths:
        """Move the registers of some circuits; return which of them made a believed step within the day."""
        samples, positions, lately = self._samples, self.positions, self.lately
        at, register_wh = samples.at[taken], samples.register_wh[taken]
        elapsed_us = at - positions.register_at[places]
        step_wh = register_wh - positions.register_wh[places]
        resolution_wh = self._resolution_wh[places]
        # `ChannelLimits.largest_step_wh`
        elapsed_ms = elapsed_us // 1000 + self._slack_ms[places]
        largest_wh = self._plausible_w[places] * elapsed_ms * 11 // WH_DIVISOR + resolution_wh
        believed: Truths = (
            (elapsed_us > 0)
            & (at < self._day_ends_at[places])
            & (step_wh >= 0)
            & ((step_wh <= resolution_wh) | (step_wh <= largest_wh))
        )
        positions.register_wh[places], positions.register_at[places] = register_wh, at
        positions.metered_wh[places] += step_wh
        lately.fresh_at[places], lately.fresh_register_wh[places] = at, register_wh
        lately.fresh_voltage_v[places] = samples.voltage_v[taken]
        lately.fresh_current_a[places] = samples.current_a[taken]
        lately.fresh_power_w[places] = samples.power_w[taken]
        lately.fresh_power_factor[places] = samples.power_factor[taken]
        lately.fresh_frequency_hz[places] = samples.frequency_hz[taken]
        lately.fresh_relay[places] = samples.relay[taken]
        return believed


_RECENT = (
    ("first_at", "second_at", "last_at"),
    ("first_w", "second_w", "last_w"),
    ("first_va", "second_va", "last_va"),
)


def _known(values: Floats) -> list[float | None]:
    return [known_number(value) for value in values.tolist()]


def _apparent_va(samples: Gathered) -> Floats:
    """Return S as `loadsteps.power_sample` does: from volts and amps, else from the power factor."""
    product = np.maximum(samples.voltage_v * samples.current_a, np.abs(samples.power_w))
    factor = np.where(samples.power_factor == 0, np.nan, samples.power_factor)
    return np.where(np.isnan(product), np.abs(samples.power_w / factor), product)


def _of_moving_accounts(
    steady: SteadyRows, rows: Integers, plain: Truths, metered_wh: Integers, one_by_one: Sequence[int]
) -> Truths:
    """Whether each circuit is of an account that is looked at in this batch.

    That is one with a circuit whose samples are judged one by one, or with too little energy to be passed over.
    """
    accounts, account = steady.accounts, steady.account[rows]
    used_wh = np.where(plain & (account != NO_ACCOUNT), metered_wh - steady.lately.counted_wh[rows], 0)
    spent_wh = np.zeros(accounts.count + 1, np.int64)  # the last place is that of no account
    np.add.at(spent_wh, account, used_wh)
    left_wh = accounts.base_wh[: accounts.count] - accounts.metered_wh[: accounts.count] - spent_wh[:-1]
    moving = np.append(left_wh <= steady.quiet_above_wh, False)
    moving[account[~plain & (rows >= 0)]] = True
    moving[steady.account[list(one_by_one)]] = True
    moving[NO_ACCOUNT] = False
    found: Truths = moving[account]
    return found
