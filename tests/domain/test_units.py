"""Conversions are exact, and round in one named way."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dormpower.domain import units

PRICES = st.integers(1, 10_000_000)


@given(st.integers(0, 10**7), PRICES)
def test_energy_bought_is_rounded_down(amount_fen: int, price: int):
    energy_wh = units.energy_bought_wh(amount_fen=amount_fen, price_millifen_per_kwh=price)
    assert energy_wh * price <= amount_fen * 10**6 < (energy_wh + 1) * price


@given(st.integers(0, 10**7), PRICES)
def test_the_amount_needed_is_the_least_that_buys_the_energy(energy_wh: int, price: int):
    amount_fen = units.amount_needed_fen(energy_wh=energy_wh, price_millifen_per_kwh=price)
    assert units.energy_bought_wh(amount_fen=amount_fen, price_millifen_per_kwh=price) >= energy_wh
    if amount_fen:
        less = units.energy_bought_wh(amount_fen=amount_fen - 1, price_millifen_per_kwh=price)
        assert less < energy_wh


@given(st.integers(0, 10**6), st.lists(st.integers(0, 10**5), min_size=1))
def test_the_shares_of_any_split_add_up_and_the_last_wh_takes_the_last_fen(cost_fen: int, parts: list[int]):
    energy_wh, used_wh, shares_fen = sum(parts), 0, 0
    for part_wh in parts:
        before = units.share_of_cost_fen(cost_fen=cost_fen, energy_wh=energy_wh, used_wh=used_wh)
        used_wh += part_wh
        after = units.share_of_cost_fen(cost_fen=cost_fen, energy_wh=energy_wh, used_wh=used_wh)
        shares_fen += after - before if energy_wh else 0
    assert shares_fen == (cost_fen if energy_wh else 0)
    assert units.share_of_cost_fen(cost_fen=cost_fen, energy_wh=energy_wh, used_wh=energy_wh) == cost_fen


def test_what_makes_no_sense_is_refused():
    for price in (0, -1):
        with pytest.raises(ValueError, match="price_millifen_per_kwh"):
            units.energy_bought_wh(amount_fen=1, price_millifen_per_kwh=price)
        with pytest.raises(ValueError, match="price_millifen_per_kwh"):
            units.amount_needed_fen(energy_wh=1, price_millifen_per_kwh=price)
    with pytest.raises(ValueError, match="amount_fen"):
        units.energy_bought_wh(amount_fen=-1, price_millifen_per_kwh=1)
    with pytest.raises(ValueError, match="energy_wh"):
        units.amount_needed_fen(energy_wh=-1, price_millifen_per_kwh=1)
    with pytest.raises(ValueError, match="used_wh"):
        units.share_of_cost_fen(cost_fen=1, energy_wh=1, used_wh=2)


def test_ties_round_to_even():
    cases = {Fraction(1, 2): 0, Fraction(3, 2): 2, Decimal("2.5"): 2, Decimal("-0.5"): 0}
    assert {value: units.round_half_even(value) for value in cases} == cases


def test_amounts_are_written_exactly():
    assert [units.format_kwh(wh) for wh in (12345, -5, 0)] == ["12.345", "-0.005", "0.000"]
    assert [units.format_yuan(fen) for fen in (1234, -5, 0)] == ["12.34", "-0.05", "0.00"]
    assert [units.format_price_yuan(price) for price in (56530, 100_000, 1)] == ["0.5653", "1.00", "0.00001"]
