"""The ports between the gateway's parts: what a driver offers, and how trouble in the field is told.

Each kind of trouble has its own type because each has its own consequence for polling and switching.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from dormpower.domain.samples import ChannelSample, Relay


class FieldError(Exception):
    """Trouble with a module or its line. No library's own exception crosses a driver's port."""


class LineDownError(FieldError):
    """The line can't be reached (no connection, port gone): nothing can be said of its modules."""


class ConnectionLostError(LineDownError):
    """The connection ended while this module was asked: by what the module did, or with the line itself."""


class NoAnswerError(FieldError):
    """The module did not answer in time; it is backed off, its neighbours are not."""


class UnusableReplyError(FieldError):
    """An answer that can't be this module's answer: bad check sum, wrong unit, wrong length."""


class RefusedError(FieldError):
    """The module answered with an exception."""

    def __init__(self, message: str, *, code: int) -> None:
        super().__init__(message)
        self.code = code


class Rate(StrEnum):
    """What a poll reads: everything with registers each cycle, or power, relay and flags more often."""

    FULL = "full"
    FAST = "fast"


class SwitchOutcome(StrEnum):
    """How a command ended. Only CONFIRMED means that the module's own state was read back (invariant 16)."""

    CONFIRMED = "confirmed"
    UNCONFIRMED = "unconfirmed"  # the profile documents no read-back
    NOT_FOLLOWED = "not_followed"  # read back, and the relay reports the other state
    TIMED_OUT = "timed_out"
    REFUSED = "refused"
    EXPIRED = "expired"
    LINE_DOWN = "line_down"
    NO_RELAY = "no_relay"  # the profile has no relay: the circuit is metered and never cut


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchResult:
    """The end of one command; `relay` is what was read back, None where nothing was."""

    outcome: SwitchOutcome
    relay: Relay | None = None
    detail: str = ""


class FieldModule(Protocol):
    """One module, as polling sees it. Never a host or a connection."""

    module_id: str

    async def read(self, rate: Rate) -> Sequence[ChannelSample]:
        """Read all channels in as few transactions as the profile allows. Raises FieldError."""


class ReadInTurn(Protocol):
    """Reads modules of one line, one after the other."""

    async def __call__(
        self, modules: Sequence[FieldModule], rate: Rate, take: Callable[[Sequence[ChannelSample]], None]
    ) -> None:
        """Read the first module and any number of those that follow, handing each one's channels to `take`.

        Raises FieldError about the module after those that were taken.
        """


class Switch(Protocol):
    """Switches one channel and reads back; goes ahead of the next poll. Never raises for field trouble."""

    async def switch(
        self, *, module_id: str, channel: int, relay: Relay, command_id: str, expires_at: datetime
    ) -> SwitchResult:
        """Carry out a command once; `expires_at` is real time, after it the command must not act."""
