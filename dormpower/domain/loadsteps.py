"""Steps of load in a stream of samples, and whether what was switched on looks resistive.

Theory of operation. A heating element draws its full power at once, holds it, and draws no reactive power: what
it adds is a step ΔP of active power with ΔP/ΔS near 1. A motor starts with an inrush several times its running
power and adds reactive power; a converter with power factor correction ramps up. So a step is followed through
three stages:

    rising   power went up by at least `min_step_w` over the samples before; one sample may fall into the rise
    settled  it has stopped rising, held for `persist_s` and at least `min_samples`, within a tenth of the step
    found    judged resistive: stays found until it has been switched off again

What ends a rise without a verdict: it falls back (a short pulse), comes in several parts (a ramp), or settles
far below its first peak (an inrush). What was added is measured against the samples before the rise. Apparent
power does not add up, its two parts do: with N = √(S² − P²), ΔN = N after − N before and ΔS = √(ΔP² + ΔN²). N
mixes displacement and distortion, and a capacitive load beside an inductive one makes it too small; both errors
are small against a heating element.

Over a silence too long to say what happened in it a rise under way is forgotten, and what was found stays so
while the power still holds at least half of it.

A sample's instant and order matter, its period does not: the same rules work at 1 s, 5 s and 30 s. What a long
period hides (the inrush, a pulse shorter than two samples) is hidden here too, and the period is told.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from math import hypot, sqrt
from statistics import median
from typing import Any

from dormpower.domain.samples import ChannelSample

BEFORE_SAMPLES = 3
KEPT_SAMPLES = 10
# *Suggested*, from how such loads behave: nichrome's cold inrush stays below a tenth, a motor's is several
# times its running power; one sample can fall into the rise of a mechanical switch, none into two.
SETTLED_WITHIN = 0.10
INRUSH_ABOVE = 1.30
RISING_SAMPLES = 2
# A switch makes its step at once: one sample may fall into it and split it, then half is the larger part.
AT_ONCE = 0.45
OFF_BELOW = 0.5


@dataclass(slots=True, unsafe_hash=True)
class PowerSample:
    """Active and apparent power at one instant; `apparent_va` None where it is not measured.

    A value: replaced, never changed (not frozen, for speed of making).
    """

    at: datetime
    power_w: float
    apparent_va: float | None

    @property
    def other_va(self) -> float | None:
        """The part of S that does no work: displacement and distortion together."""
        if self.apparent_va is None:
            return None
        return sqrt(max(self.apparent_va**2 - self.power_w**2, 0.0))

    def as_json(self) -> list[Any]:
        """Return [instant, W, VA]."""
        apparent = None if self.apparent_va is None else round(self.apparent_va, 1)
        return [self.at.isoformat(), round(self.power_w, 1), apparent]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRules:
    """What counts as a step. Raises ValueError for a single sample or a ratio beyond 0–1."""

    min_step_w: float = 500.0
    resistive_from: float = 0.95
    min_samples: int = 2
    persist_s: float = 5.0
    max_gap_s: float = 150.0
    longest_gap: timedelta = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Check the bounds."""
        object.__setattr__(self, "longest_gap", timedelta(seconds=self.max_gap_s))
        if self.min_samples < 2 or not 0 < self.resistive_from <= 1 or self.min_step_w <= 0:
            raise ValueError(
                "expected min_samples of 2 or more, min_step_w above 0 and resistive_from in 0–1, got "
                f"{self.min_samples}, {self.min_step_w} and {self.resistive_from}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadStep:
    """A resistive step that was found, with the samples that show it."""

    judged_at: datetime
    delta_w: float
    delta_va: float
    power_factor: float | None
    duration_s: float
    sampling_period_s: float
    before: tuple[PowerSample, ...]
    after: tuple[PowerSample, ...]

    @property
    def ratio(self) -> float:
        """ΔP/ΔS."""
        return self.delta_w / self.delta_va

    def evidence(self) -> dict[str, Any]:
        """Return what the verdict is based on, as JSON values."""
        return {
            "delta_w": round(self.delta_w, 1),
            "delta_va": round(self.delta_va, 1),
            "ratio": round(self.ratio, 4),
            "power_factor": None if self.power_factor is None else round(self.power_factor, 4),
            "duration_s": self.duration_s,
            "sampling_period_s": self.sampling_period_s,
            "before": [sample.as_json() for sample in self.before],
            "after": [sample.as_json() for sample in self.after],
        }


@dataclass(slots=True, unsafe_hash=True)
class StepWatch:
    """The stream so far: the latest samples, a rise under way, and what was found and is still on.

    A value: replaced, never changed (not frozen, for speed of making).
    """

    recent: tuple[PowerSample, ...] = ()
    rising: tuple[PowerSample, ...] = ()
    peak_w: float = 0.0
    jump_w: float = 0.0
    rises: int = 0
    found: LoadStep | None = None


NOTHING_SEEN = StepWatch()
_NO_TIME = timedelta()


def to_json(watched: StepWatch) -> dict[str, Any] | None:
    """Return what has to survive a restart, as JSON values: a rise under way, or what is on; else None.

    What is on stays as it was found, so that it is written once.
    """
    if watched.found is not None:
        found = watched.found
        written = {name: getattr(found, name) for name in _FOUND_NUMBERS}
        return {
            "found": {
                **written,
                "judged_at": found.judged_at.isoformat(),
                "before": [_written(one) for one in found.before],
                "after": [_written(one) for one in found.after],
            }
        }
    if not watched.rising:
        return None
    return {
        **{name: getattr(watched, name) for name in _RISE_NUMBERS},
        "recent": [_written(one) for one in watched.recent],
        "rising": [_written(one) for one in watched.rising],
    }


def from_json(written: Mapping[str, Any]) -> StepWatch:
    """Return what `to_json` wrote."""
    if "found" in written:
        found = written["found"]
        return StepWatch(
            found=LoadStep(
                **{name: found[name] for name in _FOUND_NUMBERS},
                judged_at=datetime.fromisoformat(found["judged_at"]),
                before=tuple(_read(one) for one in found["before"]),
                after=tuple(_read(one) for one in found["after"]),
            )
        )
    return StepWatch(
        **{name: written[name] for name in _RISE_NUMBERS},
        recent=tuple(_read(one) for one in written["recent"]),
        rising=tuple(_read(one) for one in written["rising"]),
    )


_FOUND_NUMBERS = ("delta_w", "delta_va", "power_factor", "duration_s", "sampling_period_s")
_RISE_NUMBERS = ("peak_w", "jump_w", "rises")


def _written(sample: PowerSample) -> list[Any]:
    return [sample.at.isoformat(), sample.power_w, sample.apparent_va]


def _read(written: list[Any]) -> PowerSample:
    at, power_w, apparent_va = written
    return PowerSample(at=datetime.fromisoformat(at), power_w=power_w, apparent_va=apparent_va)


def power_sample(sample: ChannelSample, at: datetime) -> PowerSample | None:
    """Return a channel's powers: S from volts and amps, else from the power factor; None without W."""
    if sample.power_w is None:
        return None
    apparent_va: float | None = None
    if sample.voltage_v is not None and sample.current_a is not None:
        apparent_va = max(sample.voltage_v * sample.current_a, abs(sample.power_w))
    elif sample.power_factor:
        apparent_va = abs(sample.power_w / sample.power_factor)
    return PowerSample(at, sample.power_w, apparent_va)


def watch(before: StepWatch, sample: PowerSample, rules: StepRules) -> StepWatch:
    """Return the stream after one more sample. One that is not newer than the last changes nothing."""
    stream = before.rising or before.recent
    if stream and sample.at <= stream[-1].at:
        return before
    if not stream or (sample.at - stream[-1].at).total_seconds() > rules.max_gap_s:
        # Nobody knows what was switched meanwhile; what was found is taken to be on while the power says so.
        still_on = before.found is not None and not _is_off(before.found, sample)
        return StepWatch((sample,), found=before.found if still_on else None)
    if before.found is not None:
        return _while_found(before, before.found, sample)
    if before.rising:
        return _while_rising(before, sample, rules)
    base_w = _base_w(before.recent)
    if sample.power_w - base_w >= rules.min_step_w:
        jump_w = sample.power_w - before.recent[-1].power_w
        return StepWatch(recent=before.recent, rising=(sample,), peak_w=sample.power_w, jump_w=jump_w)
    return StepWatch(_latest(before.recent, sample))


Seen = tuple[datetime, ChannelSample | PowerSample]
Level = tuple[Seen, Seen, Seen]
"""A stream in which nothing rises and nothing was found: its latest samples, as they came.

Nearly every circuit is so nearly always; apparent power is worked out once a step makes it needed.
"""


def level_of(watched: StepWatch) -> Level | None:
    """Return a stream as a level; None where it is more than that, or has just begun."""
    if watched.rising or watched.found is not None or len(watched.recent) < BEFORE_SAMPLES:
        return None
    first, second, last = watched.recent
    return (first.at, first), (second.at, second), (last.at, last)


def watch_of(level: Level) -> StepWatch:
    """Return a level as a stream."""
    powers = (one if isinstance(one, PowerSample) else power_sample(one, at) for at, one in level)
    return StepWatch(tuple(power for power in powers if power is not None))


def still_level(level: Level, sample: ChannelSample, at: datetime, rules: StepRules) -> Level | None:
    """Return the level after one more sample; None where `watch` has to look: a step, a silence, nothing new.

    The short way of `watch`, because every sample of every circuit comes by.
    """
    first, second, last = level
    power_w, first_w, second_w, last_w = sample.power_w, first[1].power_w, second[1].power_w, last[1].power_w
    if power_w is None or first_w is None or second_w is None or last_w is None:
        return None
    if not _NO_TIME < at - last[0] <= rules.longest_gap:
        return None
    # `_base_w` without its calls.
    base_w = first_w if first_w > second_w else second_w  # noqa: FURB136
    if last_w < base_w:  # noqa: PLR1730
        base_w = last_w
    if power_w - base_w >= rules.min_step_w:
        return None
    return second, last, (at, sample)


def _base_w(recent: tuple[PowerSample, ...]) -> float:
    """The level before a step: the last sample, unless a short pulse stands out against the two before it.

    That is the lower of the last sample and the median of all.
    """
    last_w = recent[-1].power_w
    if len(recent) < BEFORE_SAMPLES:
        return min(last_w, median(sample.power_w for sample in recent))
    # Of three, written out because every sample of every circuit comes by: a last one above both others is
    # above the median, which is then the higher of the two; else it is the median or below it.
    return min(last_w, max(recent[0].power_w, recent[1].power_w))


def _latest(recent: tuple[PowerSample, ...], sample: PowerSample) -> tuple[PowerSample, ...]:
    return (*recent, sample)[-BEFORE_SAMPLES:]


def _while_found(before: StepWatch, found: LoadStep, sample: PowerSample) -> StepWatch:
    fell_w = max(one.power_w for one in before.recent[-2:]) - sample.power_w
    if _is_off(found, sample) or fell_w > OFF_BELOW * found.delta_w:
        return StepWatch(recent=(sample,))
    return replace(before, recent=_latest(before.recent, sample))


def _is_off(found: LoadStep, sample: PowerSample) -> bool:
    return sample.power_w < _base_w(found.before) + OFF_BELOW * found.delta_w


def _while_rising(before: StepWatch, sample: PowerSample, rules: StepRules) -> StepWatch:
    base_w = _base_w(before.recent)
    step_w = before.rising[-1].power_w - base_w
    moved_w = sample.power_w - before.rising[-1].power_w
    peak_w, jump_w = max(before.peak_w, sample.power_w), max(before.jump_w, moved_w)
    if sample.power_w - base_w < rules.min_step_w:
        return StepWatch(recent=_latest(before.recent, sample))  # a pulse
    if abs(moved_w) > SETTLED_WITHIN * max(step_w, sample.power_w - base_w):
        if before.rises >= RISING_SAMPLES:
            return StepWatch(recent=(sample,))  # a ramp, or nothing that holds its power
        return replace(before, rising=(sample,), peak_w=peak_w, jump_w=jump_w, rises=before.rises + 1)
    rising = (*before.rising, sample)
    lasted_s = (rising[-1].at - rising[0].at).total_seconds()
    if len(rising) < rules.min_samples or lasted_s < rules.persist_s:
        # The first one is when it began; of the others as many as count, and no more than show the step.
        latest = max(KEPT_SAMPLES, rules.min_samples) - 1
        kept = (rising[0], *rising[1:][-latest:])
        return replace(before, rising=kept, peak_w=peak_w)
    found = _judge(before, rising, peak_w, rules)
    if found is None:
        return StepWatch(recent=rising[-BEFORE_SAMPLES:])
    return StepWatch(recent=rising[-BEFORE_SAMPLES:], found=found)


def _period_s(after: tuple[PowerSample, ...]) -> float:
    """The mean distance of the samples: a long rise keeps its first and its latest ones, not those between."""
    in_a_row = after[1:] if len(after) > 2 else after
    return (in_a_row[-1].at - in_a_row[0].at).total_seconds() / (len(in_a_row) - 1)


def _judge(
    watched: StepWatch, after: tuple[PowerSample, ...], peak_w: float, rules: StepRules
) -> LoadStep | None:
    before = watched.recent
    base_w = _base_w(before)
    delta_w = median(sample.power_w for sample in after) - base_w
    others_before = [sample.other_va for sample in before if sample.other_va is not None]
    others_after = [sample.other_va for sample in after if sample.other_va is not None]
    if not others_before or not others_after:
        return None  # without apparent power nothing can be said
    delta_va = hypot(delta_w, median(others_after) - median(others_before))
    inrush = peak_w - base_w > INRUSH_ABOVE * delta_w
    ramp = watched.jump_w < AT_ONCE * delta_w
    if delta_w < rules.min_step_w or delta_w < rules.resistive_from * delta_va or inrush or ramp:
        return None
    newest = after[-1]
    return LoadStep(
        judged_at=newest.at,
        delta_w=delta_w,
        delta_va=delta_va,
        power_factor=newest.power_w / newest.apparent_va if newest.apparent_va else None,
        duration_s=(newest.at - after[0].at).total_seconds(),
        sampling_period_s=_period_s(after),
        before=before,
        after=after,
    )
