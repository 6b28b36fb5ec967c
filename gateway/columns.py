"""Modules' channels as they came: one answer each, decoded one by one or many at a time.

A poll's answer is a few dozen bytes; the samples that are made of it are some dozen objects. What waits for its
batch is therefore the answer, and a batch decodes all answers of a model together, as columns.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, overload

import numpy as np
import numpy.typing as npt

from dormpower.domain.samples import ChannelSample, Relay

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int8]
Truths = npt.NDArray[np.bool_]

RELAY_CODES = {Relay.OPEN: 0, Relay.CLOSED: 1, None: -1}
OPEN, CLOSED = RELAY_CODES[Relay.OPEN], RELAY_CODES[Relay.CLOSED]
RELAYS = (Relay.OPEN, Relay.CLOSED, None)
"""By code, -1 the last; the codes are those of `dormpower.readings.columns`."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Quantities:
    """What many channel samples say beside the register, as in `ChannelSample`; not-a-number is None.

    `flagged`: the module reports some condition.
    """

    voltage_v: Floats
    current_a: Floats
    power_w: Floats
    power_factor: Floats
    frequency_hz: Floats
    relay: Codes
    flagged: Truths


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ChannelColumns(Quantities):
    """One channel of many modules; `register_wh` is None where the answers hold no register."""

    channel: int
    register_wh: Integers | None


class ColumnDecoder(Protocol):
    """Decodes polls that take one answer each; never refuses one that has the right length."""

    def decode(self, answers: Sequence[bytes]) -> Sequence[ChannelSample]:
        """Return the samples of one poll's only answer."""

    def columns(self, answers: Sequence[bytes]) -> Sequence[ChannelColumns]:
        """Return the channels of many polls, of the model's channels each."""


class PackedChannels(Sequence[ChannelSample]):
    """A module's channels as the answer that they came in; iterating decodes it."""

    __slots__ = ("answer", "decoder")

    def __init__(self, decoder: ColumnDecoder, answer: bytes) -> None:
        self.decoder = decoder
        self.answer = answer

    def __len__(self) -> int:
        """Return how many channels these are."""
        return len(self._decoded())

    @overload
    def __getitem__(self, place: int) -> ChannelSample: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[ChannelSample]: ...

    def __getitem__(self, place: int | slice) -> ChannelSample | Sequence[ChannelSample]:
        """Return one channel, or some."""
        return self._decoded()[place]

    def __iter__(self) -> Iterator[ChannelSample]:
        """Yield the channels."""
        return iter(self._decoded())

    def __eq__(self, other: object) -> bool:
        """Whether another sequence holds the same samples."""
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Write the samples."""
        return repr(list(self))

    def _decoded(self) -> Sequence[ChannelSample]:
        return self.decoder.decode((self.answer,))
