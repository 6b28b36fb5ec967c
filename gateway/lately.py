"""What a circuit's samples said lately: a value of control's memory, its way into the steady rows and back."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from dormpower.domain.loadsteps import PowerSample
from dormpower.domain.samples import ChannelSample
from dormpower.readings.columns import known_number
from gateway.columns import RELAY_CODES, RELAYS, Floats
from gateway.steady_rows import NEVER_US, SteadyRows, from_us, to_us

_NAN = float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class LatelySeen:
    """The circuit's samples up to the last one that is committed.

    `observed_at` is the last sample's, believed or not, `observed_before_at` that of the one before;
    `fresh_at` the last accepted register's, `sample` that one's where it is of this run. `watched` is what the
    rules that watch make of the samples, in their order.
    """

    metered_wh: int = 0
    observed_at: datetime | None = None
    observed_before_at: datetime | None = None
    fresh_at: datetime | None = None
    sample: ChannelSample | None = None
    watched: tuple[object, ...] = ()

    @property
    def sampling_period_s(self) -> float | None:
        """The time between the last two samples."""
        return seconds_between(self.observed_before_at, self.observed_at)


NOTHING_SEEN = LatelySeen()


def seconds_between(before_at: datetime | None, at: datetime | None) -> float | None:
    """Return how far apart two instants are; None where one is not there."""
    return None if before_at is None or at is None else (at - before_at).total_seconds()


def read(steady: SteadyRows, row: int, *, channel: int) -> LatelySeen:
    """Return what a row says."""
    lately = steady.lately
    return LatelySeen(
        metered_wh=int(lately.counted_wh[row]),
        observed_at=from_us(int(lately.last_at[row])),
        observed_before_at=_instant(int(lately.before_at[row])),
        fresh_at=from_us(int(lately.fresh_at[row])),
        sample=ChannelSample(
            channel=channel,
            register_wh=int(lately.fresh_register_wh[row]),
            voltage_v=_known(lately.fresh_voltage_v, row),
            current_a=_known(lately.fresh_current_a, row),
            power_w=_known(lately.fresh_power_w, row),
            power_factor=_known(lately.fresh_power_factor, row),
            frequency_hz=_known(lately.fresh_frequency_hz, row),
            relay=RELAYS[lately.fresh_relay[row]],
        ),
        watched=tuple(one.resting(steady.circuit_ids[row], _recent(steady, row)) for one in steady.watchers),
    )


def write(steady: SteadyRows, row: int, seen: LatelySeen) -> bool:
    """Write a row where the samples that follow may be plain; return whether that is so."""
    sample, observed_at, fresh_at = seen.sample, seen.observed_at, seen.fresh_at
    if sample is None or observed_at is None or fresh_at is None or sample.flags:
        return False
    recent: Sequence[PowerSample] = ()
    for watcher, watched in zip(steady.watchers, seen.watched, strict=True):
        known = watcher.recent(steady.circuit_ids[row], watched)
        if known is None or (known and known[-1].at != observed_at):
            return False
        recent = known or recent
    lately = steady.lately
    lately.counted_wh[row] = seen.metered_wh
    lately.before_at[row] = NEVER_US if seen.observed_before_at is None else to_us(seen.observed_before_at)
    _write_recent(steady, row, recent, observed_at)
    lately.fresh_at[row] = to_us(fresh_at)
    lately.fresh_register_wh[row] = sample.register_wh or 0
    lately.fresh_voltage_v[row] = sample.voltage_v  # None is not-a-number
    lately.fresh_current_a[row] = sample.current_a
    lately.fresh_power_w[row] = sample.power_w
    lately.fresh_power_factor[row] = sample.power_factor
    lately.fresh_frequency_hz[row] = sample.frequency_hz
    lately.fresh_relay[row] = RELAY_CODES[sample.relay]
    return True


def _write_recent(steady: SteadyRows, row: int, recent: Sequence[PowerSample], observed_at: datetime) -> None:
    lately = steady.lately
    places = (
        (lately.first_at, lately.first_w, lately.first_va),
        (lately.second_at, lately.second_w, lately.second_va),
        (lately.last_at, lately.last_w, lately.last_va),
    )
    samples = recent or [PowerSample(observed_at, _NAN, None)] * len(places)
    for (at, power_w, apparent_va), one in zip(places, samples, strict=True):
        at[row], power_w[row] = to_us(one.at), one.power_w
        apparent_va[row] = one.apparent_va


def _recent(steady: SteadyRows, row: int) -> tuple[PowerSample, ...]:
    lately = steady.lately
    return (
        PowerSample(
            from_us(int(lately.first_at[row])), float(lately.first_w[row]), _known(lately.first_va, row)
        ),
        PowerSample(
            from_us(int(lately.second_at[row])), float(lately.second_w[row]), _known(lately.second_va, row)
        ),
        PowerSample(from_us(int(lately.last_at[row])), float(lately.last_w[row]), _known(lately.last_va, row)),
    )


def _instant(at_us: int) -> datetime | None:
    return None if at_us == NEVER_US else from_us(at_us)


def _known(values: Floats, row: int) -> float | None:
    return known_number(float(values[row]))
