"""What a module's own flags mean on its model: a trip, an alarm, both, or nothing.

Theory of operation. A flag is what a module says of itself: its name says what it saw, not what it did then.
One model opens its relay when its cover is opened, another only reports that; one trips on a heater, another
only warns. The model's profile says which, flag by flag:

    meaning          relay open with the flag    the flag alone
    trip             hold module_trip            nothing
    alarm            as without the flag         an alarm of the flag's name
    trip_and_alarm   hold module_trip            an alarm of the flag's name
    ignored          as without the flag         nothing: the flag is not even taken in

What a profile does not say is as `STANDARD` has it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from dormpower.domain.alarms import AlarmKind
from dormpower.domain.samples import Flag


class Meaning(StrEnum):
    """What a flag means on a model; see the module's text."""

    TRIP = "trip"
    ALARM = "alarm"
    TRIP_AND_ALARM = "trip_and_alarm"
    IGNORED = "ignored"


STANDARD: Mapping[Flag, Meaning] = MappingProxyType(
    {
        Flag.OVERLOAD_TRIP: Meaning.TRIP,
        Flag.PROHIBITED_TRIP: Meaning.TRIP,
        Flag.OVER_TEMPERATURE: Meaning.TRIP_AND_ALARM,
        Flag.COVER_OPEN: Meaning.ALARM,
        Flag.RELAY_FAULT: Meaning.ALARM,
    }
)

ALARM_OF: Mapping[Flag, AlarmKind] = MappingProxyType({flag: AlarmKind(flag.value) for flag in Flag})
"""The alarm of each flag; the two have one name, by which the books know one from the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlagMeanings:
    """A model's flags by what follows from them."""

    trips: frozenset[Flag]
    alarms: frozenset[Flag]
    ignored: frozenset[Flag]


def meanings_of(said: Mapping[Flag, Meaning]) -> FlagMeanings:
    """Return what the flags of a model mean whose profile says so much of them."""
    meaning_of = {**STANDARD, **said}

    def having(*meanings: Meaning) -> frozenset[Flag]:
        return frozenset(flag for flag, meaning in meaning_of.items() if meaning in meanings)

    return FlagMeanings(
        trips=having(Meaning.TRIP, Meaning.TRIP_AND_ALARM),
        alarms=having(Meaning.ALARM, Meaning.TRIP_AND_ALARM),
        ignored=having(Meaning.IGNORED),
    )


STANDARD_MEANINGS = meanings_of({})
