"""Exact conversions between energy, money and prices, and the only rounding functions of the project.

Energy is integer watt-hours (Wh), money integer fen (1/100 yuan), prices integer millifen per kWh
(1 millifen = 1/1000 fen = 1/100 000 yuan; 0.5653 yuan/kWh is 56 530). Floats never enter (invariant 2).
"""

from decimal import Decimal
from fractions import Fraction

WH_PER_KWH = 1000
MILLIFEN_PER_FEN = 1000
MILLIFEN_PER_YUAN = 100_000

# A sum above these is a mistake of the caller, and would not fit the books' 64-bit columns with room to spare.
MAX_AMOUNT_FEN = 10**11
MAX_ENERGY_WH = 10**13


class InvariantViolationError(Exception):
    """Something that must always hold does not; stops what broke it, is never passed over."""


def energy_bought_wh(*, amount_fen: int, price_millifen_per_kwh: int) -> int:
    """Return the whole Wh that an amount buys, rounded down (DESIGN: energy bought is rounded down).

    Raises ValueError for a price that is not positive or a negative amount.
    """
    if price_millifen_per_kwh <= 0:
        raise ValueError(f"price_millifen_per_kwh: expected a positive integer, got {price_millifen_per_kwh}")
    if amount_fen < 0:
        raise ValueError(f"amount_fen: expected zero or more, got {amount_fen}")
    return amount_fen * MILLIFEN_PER_FEN * WH_PER_KWH // price_millifen_per_kwh


def amount_needed_fen(*, energy_wh: int, price_millifen_per_kwh: int) -> int:
    """Return the least fen that buys at least `energy_wh`: the inverse of `energy_bought_wh`, rounded up.

    Raises ValueError for a price that is not positive or a negative energy.
    """
    if price_millifen_per_kwh <= 0:
        raise ValueError(f"price_millifen_per_kwh: expected a positive integer, got {price_millifen_per_kwh}")
    if energy_wh < 0:
        raise ValueError(f"energy_wh: expected zero or more, got {energy_wh}")
    return -(-energy_wh * price_millifen_per_kwh // (MILLIFEN_PER_FEN * WH_PER_KWH))


def share_of_cost_fen(*, cost_fen: int, energy_wh: int, used_wh: int) -> int:
    """Return the fen that the first `used_wh` of a lot have cost, rounded down.

    Taken cumulatively, so that the last Wh of a lot takes the lot's last fen: the shares of any split of the
    lot add up to `cost_fen` exactly.
    """
    if not 0 <= used_wh <= energy_wh:
        raise ValueError(f"used_wh: expected 0 to {energy_wh}, got {used_wh}")
    if energy_wh == 0:
        return cost_fen
    return cost_fen * used_wh // energy_wh


def round_half_even(value: Fraction | Decimal) -> int:
    """Round an exact number to an integer, ties to even: the rule for every register and split."""
    return round(Fraction(value))


def format_kwh(energy_wh: int) -> str:
    """Write Wh as a decimal string in kWh, exactly: 12345 → "12.345"."""
    sign = "-" if energy_wh < 0 else ""
    whole, rest = divmod(abs(energy_wh), WH_PER_KWH)
    return f"{sign}{whole}.{rest:03d}"


def format_yuan(amount_fen: int) -> str:
    """Write fen as a decimal string in yuan, exactly: 1234 → "12.34"."""
    sign = "-" if amount_fen < 0 else ""
    whole, rest = divmod(abs(amount_fen), 100)
    return f"{sign}{whole}.{rest:02d}"


def format_price_yuan(price_millifen_per_kwh: int) -> str:
    """Write a price as a decimal string in yuan per kWh, exactly, with at least two decimals: "0.5653"."""
    whole, rest = divmod(price_millifen_per_kwh, MILLIFEN_PER_YUAN)
    decimals = f"{rest:05d}".rstrip("0").ljust(2, "0")
    return f"{whole}.{decimals}"
