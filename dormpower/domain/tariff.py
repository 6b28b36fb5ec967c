"""Prices: dated, for all circuits or for one kind, chosen at the moment of purchase."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Literal

from dormpower.domain.site import CircuitKind

PriceKind = Literal["all", "lighting", "ac"]


class UnableToPriceError(Exception):
    """No price is in force for a kind of circuit on a day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """A price from a campus day on, in millifen per kWh."""

    from_on: date
    kind: PriceKind
    price_millifen_per_kwh: int


def price_at(prices: Iterable[Price], *, kind: CircuitKind, on: date) -> Price:
    """Return the price in force: one for the circuit's kind before one for all, then the latest begun.

    Raises UnableToPriceError where none has begun.
    """
    begun = [price for price in prices if price.from_on <= on and price.kind in ("all", kind.value)]
    if not begun:
        raise UnableToPriceError(
            f"no price is in force for {kind.value} on {on}; add one with an earlier `from` to policies.prices"
        )
    return max(begun, key=lambda price: (price.kind != "all", price.from_on))
