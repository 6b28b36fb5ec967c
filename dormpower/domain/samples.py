"""What a module said at one instant: the value that drivers hand to intake, before anything is judged.

These are values: replaced, never changed. They are not frozen because thousands are made every second, and a
frozen dataclass takes twice as long to make.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Relay(StrEnum):
    """What a module reports of its relay; None where it reports nothing. "open" is a report, never "dead"."""

    CLOSED = "closed"
    OPEN = "open"


class Flag(StrEnum):
    """Conditions that a module reports by itself (CONTRACT: flags)."""

    OVERLOAD_TRIP = "overload_trip"
    PROHIBITED_TRIP = "prohibited_trip"
    OVER_TEMPERATURE = "over_temperature"
    COVER_OPEN = "cover_open"
    RELAY_FAULT = "relay_fault"


@dataclass(slots=True, unsafe_hash=True)
class ChannelSample:
    """One channel of a sample; a quantity that the profile lacks or that was not read is None.

    The order of the fields is for the Modbus decoder, which fills them in a row; others name them.

    `register_wh` is import energy, decoded exactly and rounded half-even to the Wh once. Volts are the mean of
    the phases, amps and watts their sum.
    """

    channel: int
    register_wh: int | None = None
    voltage_v: float | None = None
    current_a: float | None = None
    power_w: float | None = None
    power_factor: float | None = None
    frequency_hz: float | None = None
    relay: Relay | None = None
    flags: frozenset[Flag] = frozenset()


@dataclass(slots=True, unsafe_hash=True)
class ModuleSample:
    """One module's channels, read together. `at` is campus time of the sample, UTC.

    The order of the fields is for polling, which fills the first three in a row; others name them.
    """

    module_id: str
    at: datetime
    channels: Sequence[ChannelSample]
    boot_id: str | None = None
    seq: int | None = None


class Verdict(StrEnum):
    """What became of a channel's sample when it was taken in."""

    ACCEPTED = "accepted"  # moved the position, or stood still on it
    COMMISSIONING = "commissioning"  # one of the consistent samples that a new channel needs; charges nothing
    LATE = "late"  # at or before the position's time: never changes the present
    QUARANTINED = "quarantined"  # register not believed; charges nothing
    NO_REGISTER = "no_register"  # a fast sample: power, relay and flags only


def is_believed(verdict: Verdict, *, before: bool) -> bool:
    """Whether a channel's samples are believed after one more; a fast one as the register before it.

    Where not, they may still open a relay for protection; they never permit a closing (DESIGN §3.5).
    """
    return before if verdict is Verdict.NO_REGISTER else verdict is Verdict.ACCEPTED


@dataclass(slots=True, unsafe_hash=True)
class Observation:
    """A channel's sample as taken in: what policies look at. Late ones are never handed to a policy.

    The order of the fields is for intake, which fills them in a row; others name them.

    `metered_wh` is the circuit's monotone metered energy after this sample. `fresh` says that the register was
    accepted: only then may the observation cause an arrears cut (invariant 19).
    """

    circuit_id: str
    at: datetime
    verdict: Verdict
    metered_wh: int
    sample: ChannelSample

    @property
    def fresh(self) -> bool:
        """Whether the register of this sample was accepted."""
        return self.verdict is Verdict.ACCEPTED
