"""What of a batch came as columns: each model's answers decoded together, in order of circuit and arrival."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from dormpower.domain.samples import ModuleSample
from gateway.columns import ColumnDecoder, Integers, PackedChannels, Quantities, Truths
from gateway.steady_rows import to_us

_UNKNOWN_ROW = -1


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Gathered(Quantities):
    """Channel samples that came as columns, by circuit and in order of arrival.

    `item` is the place of the module's sample in the batch, `row` the circuit's (-1 for a channel that no
    circuit of ours is on). `registered`: the sample holds a register.
    """

    item: Integers
    channel: Integers
    row: Integers
    at: Integers
    registered: Truths
    register_wh: Integers

    def __len__(self) -> int:
        """Return how many channel samples these are."""
        return len(self.item)

    def some(self, chosen: npt.NDArray[Any]) -> "Gathered":
        """Return those at some places, or where an array is true."""
        return Gathered(**{one.name: getattr(self, one.name)[chosen] for one in fields(self)})


def gather(
    samples: Sequence[ModuleSample], row_of: Mapping[tuple[str, int], int]
) -> tuple[Gathered | None, list[int]]:
    """Return what came as columns, None for nothing, and the places of all other samples."""
    groups: dict[ColumnDecoder, _Group] = {}
    others: list[int] = []
    for item, sample in enumerate(samples):
        channels = sample.channels
        if type(channels) is PackedChannels:
            group = groups.get(channels.decoder)
            if group is None:
                group = groups[channels.decoder] = _Group()
            group.items.append(item)
            group.module_ids.append(sample.module_id)
            group.instants.append(sample.at)
            group.answers.append(channels.answer)
        else:
            others.append(item)
    if not groups:
        return None, others
    parts = [part for decoder, group in groups.items() for part in group.decoded(decoder, row_of)]
    whole = Gathered(
        **{one.name: np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(Gathered)}
    )
    return whole.some(np.lexsort((whole.item, whole.row))), others


class _Group:
    """The polls of one model at one rate."""

    __slots__ = ("answers", "instants", "items", "module_ids")

    def __init__(self) -> None:
        self.items: list[int] = []
        self.module_ids: list[str] = []
        self.instants: list[datetime] = []
        self.answers: list[bytes] = []

    def decoded(self, decoder: ColumnDecoder, row_of: Mapping[tuple[str, int], int]) -> Iterator[Gathered]:
        """Yield each channel of them."""
        items = np.array(self.items, np.int64)
        at = np.array([to_us(one) for one in self.instants], np.int64)
        for one in decoder.columns(self.answers):
            number = one.channel
            rows = [row_of.get((module_id, number), _UNKNOWN_ROW) for module_id in self.module_ids]
            yield Gathered(
                item=items,
                channel=np.full(len(items), number, np.int64),
                row=np.array(rows, np.int64),
                at=at,
                registered=np.full(len(items), one.register_wh is not None),
                register_wh=np.zeros(len(items), np.int64) if one.register_wh is None else one.register_wh,
                **{quantity.name: getattr(one, quantity.name) for quantity in fields(Quantities)},
            )
