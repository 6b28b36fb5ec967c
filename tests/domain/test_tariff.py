"""Prices: the one for the circuit's kind first, then the latest that has begun."""

from datetime import date

import pytest

from dormpower.domain.site import CircuitKind
from dormpower.domain.tariff import Price, UnableToPriceError, price_at

PRICES = [
    Price(from_on=date(2026, 1, 1), kind="all", price_millifen_per_kwh=50000),
    Price(from_on=date(2026, 7, 1), kind="all", price_millifen_per_kwh=60000),
    Price(from_on=date(2026, 3, 1), kind="ac", price_millifen_per_kwh=70000),
]


@pytest.mark.parametrize(
    ("kind", "on", "expected"),
    [
        (CircuitKind.LIGHTING, date(2026, 1, 1), 50000),
        (CircuitKind.LIGHTING, date(2026, 6, 30), 50000),
        (CircuitKind.LIGHTING, date(2026, 7, 1), 60000),
        (CircuitKind.AC, date(2026, 2, 28), 50000),
        (CircuitKind.AC, date(2026, 3, 1), 70000),
        (CircuitKind.AC, date(2026, 8, 1), 70000),
    ],
)
def test_a_price_is_in_force_from_its_day_on(kind: CircuitKind, on: date, expected: int):
    assert price_at(PRICES, kind=kind, on=on).price_millifen_per_kwh == expected


def test_no_price_before_the_first():
    with pytest.raises(UnableToPriceError, match="2025-12-31"):
        price_at(PRICES, kind=CircuitKind.AC, on=date(2025, 12, 31))
