"""What intake has committed of each circuit: the meter state, when it was last seen, what was logged."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from dormpower.domain.meter_state import PLAUSIBLE_VOLTAGE_V, ChannelLimits, MeterState, Standing
from gateway.steady_rows import SteadyRows, from_us, to_us

if TYPE_CHECKING:
    from gateway.batch import Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class PointConfig:
    """The circuit that a module's channel serves, and what that channel can plausibly do."""

    circuit_id: str
    limits: ChannelLimits


class PointMemory:
    """Keeps intake's half of the steady rows. Written on the event loop's thread, by `take_over` alone.

    `ahead` and `unknown` are what was logged already of modules whose clock is ahead and of channels that the
    site doesn't know.
    """

    def __init__(self, steady: SteadyRows, points: Mapping[tuple[str, int], PointConfig]) -> None:
        self.steady = steady
        self.row_of = {channel: steady.row_of[point.circuit_id] for channel, point in points.items()}
        self.ahead: set[str] = set()
        self.unknown: set[tuple[str, int]] = set()
        self._states: dict[str, MeterState] = {}
        self._seen_at: dict[str, datetime] = {}
        for channel, point in points.items():
            row, limits = self.row_of[channel], point.limits
            steady.resolution_wh[row] = limits.resolution_wh
            steady.plausible_w[row] = limits.rated_current_a * PLAUSIBLE_VOLTAGE_V * limits.phases
            steady.slack_ms[row] = limits.slack_ms

    def state(self, circuit_id: str) -> MeterState | None:
        """Return a circuit's state; None before the books were asked, and for a circuit of others."""
        state = self._states.get(circuit_id)
        if state is None or not self.steady.positions_ahead[row := self.steady.row_of[circuit_id]]:
            return state
        positions = self.steady.positions
        return MeterState(  # as `stepped` makes it
            state.span_id,
            Standing.ACCEPTED,
            int(positions.register_wh[row]),
            from_us(int(positions.register_at[row])),
            int(positions.metered_wh[row]),
            state.segment_from_wh,
            state.segment_from_at,
            state.open_on,
            state.day_ends_at,
        )

    def seen_at(self, circuit_id: str) -> datetime | None:
        """Return the instant of a circuit's newest sample."""
        row = self.steady.row_of[circuit_id]
        if self.steady.positions_ahead[row]:
            return from_us(int(self.steady.positions.seen_at[row]))
        return self._seen_at.get(circuit_id)

    def take_over(self, batch: "Batch") -> None:
        """Make a committed batch's states the present ones."""
        if batch.plain is not None:
            batch.plain.take_over(self.steady)
        for circuit_id in batch.states.keys() | batch.seen_at.keys():
            state, seen_at = self.state(circuit_id), self.seen_at(circuit_id)
            self._keep(
                circuit_id,
                batch.states.get(circuit_id, state),
                batch.seen_at.get(circuit_id, seen_at),
                in_columns=circuit_id in batch.in_columns,
            )

    def _keep(
        self, circuit_id: str, state: MeterState | None, seen_at: datetime | None, *, in_columns: bool
    ) -> None:
        steady, row = self.steady, self.steady.row_of[circuit_id]
        steady.positions_ahead[row] = False
        if state is not None:
            self._states[circuit_id] = state
        if seen_at is not None:
            self._seen_at[circuit_id] = seen_at
        steady.stepping[row] = in_columns and self._write(row, state, seen_at)

    def _write(self, row: int, state: MeterState | None, seen_at: datetime | None) -> bool:
        """Write a row where plain steps may follow; return whether that is so."""
        if (
            state is None
            or seen_at is None
            or state.standing is not Standing.ACCEPTED
            or state.register_at is None
            or state.day_ends_at is None
        ):
            return False
        positions = self.steady.positions
        positions.register_wh[row] = state.register_wh
        positions.register_at[row] = to_us(state.register_at)
        positions.metered_wh[row] = state.metered_wh
        positions.seen_at[row] = to_us(seen_at)
        self.steady.day_ends_at[row] = to_us(state.day_ends_at)
        return True
