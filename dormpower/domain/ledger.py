"""The ledger's rules: what each kind of transaction posts, and which lots it moves.

Theory of operation. A resident's account is prepaid in Wh. What was bought or granted at one time is a *lot*;
an account's posted balance is what remains of its lots less what it owes:

    balance = Σ remaining − owed,    owed > 0 only while nothing remains

so a plan needs only the lots and the balance. Lots are used first in, first out. What a lot has cost is a
function of what remains of it alone, `cost − ⌊cost × taken / energy⌋`: however its energy is taken, in one run
or in many, given back and taken again, the same fen belong to the same remainder, and the last Wh takes the
last fen. Owed Wh have no lot and no fen; the next lot pays them first, in its own transaction.

| kind | Wh | fen |
| --- | --- | --- |
| recharge | account + / issued − | channel + / prepaid − |
| grant | account + / issued − | (costs nothing) |
| consumption, adjustment up | account − / consumed + | prepaid + / sales − for the lots used |
| adjustment down | account + / consumed − | prepaid − / sales + for the lots given back |
| refund | account − / issued + | prepaid + / channel − |
| reversal of a recharge | account − / issued + | prepaid + / channel −, its sales move to other lots |

Every plan sums to zero in both units (invariant 1); `_plan` refuses anything else.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from dormpower.domain.units import InvariantViolationError, share_of_cost_fen

Origin = Literal["paid", "granted"]
Cause = Literal["used", "refunded", "expired"]
LotOrder = Literal["paid_first", "granted_first", "first_in_first_out"]

MAX_RECHARGE_FEN = 10_000_000

ISSUED = "wh:issued"
CONSUMED = "wh:consumed"
PREPAID = "fen:prepaid"
SALES = "fen:sales"


class UnableToPlanError(Exception):
    """The lots don't allow what was asked; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lot:
    """Energy issued at one time, what it cost, and what remains. `number` orders lots by issue."""

    number: int
    origin: Origin
    energy_wh: int
    cost_fen: int
    remaining_wh: int
    used_wh: int = 0

    @property
    def remaining_fen(self) -> int:
        """The fen that belong to what remains."""
        taken_wh = self.energy_wh - self.remaining_wh
        return self.cost_fen - share_of_cost_fen(
            cost_fen=self.cost_fen, energy_wh=self.energy_wh, used_wh=taken_wh
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LotMove:
    """A change of a lot after its issue; negative when given back."""

    number: int
    cause: Cause
    energy_wh: int
    cost_fen: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Posting:
    """One line of a transaction; the unit is the prefix of the ledger account's name."""

    ledger_account_id: str
    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A transaction before it is written: postings, lot moves, and the account's lots afterwards."""

    postings: tuple[Posting, ...]
    moves: tuple[LotMove, ...]
    lots: tuple[Lot, ...]


def account_name(account_id: str) -> str:
    """Return the ledger account of a resident's account."""
    return f"wh:account:{account_id}"


def channel_name(channel: str) -> str:
    """Return the ledger account of a payment channel."""
    return f"fen:channel:{channel}"


def plan_issue(*, account_id: str, balance_wh: int, lots: Sequence[Lot], lot: Lot, channel: str | None) -> Plan:
    """Plan a recharge (with a channel) or a grant (without): a new lot, which pays owed Wh first.

    Raises UnableToPlanError for a lot without energy.
    """
    if lot.energy_wh <= 0:
        raise UnableToPlanError("the amount buys less than 1 Wh at this price; nothing was posted")
    owed_wh = sum(one.remaining_wh for one in lots) - balance_wh
    moves, after, _ = _take((lot,), owed_wh, cause="used")
    lines = {account_name(account_id): lot.energy_wh, ISSUED: -lot.energy_wh}
    if channel is not None:
        lines[channel_name(channel)] = lot.cost_fen
        lines[PREPAID] = -lot.cost_fen
    _add_sales(lines, moves)
    return _plan(lines, moves, (*lots, *after))


def plan_consumption(
    *,
    account_id: str,
    lots: Sequence[Lot],
    energy_wh: int,
    order: LotOrder = "first_in_first_out",
) -> Plan:
    """Plan the use of energy: lots in the site's order; what no lot covers is owed."""
    moves, after, _ = _take(_ordered(lots, order), energy_wh, cause="used")
    lines = {account_name(account_id): -energy_wh, CONSUMED: energy_wh}
    _add_sales(lines, moves)
    return _plan(lines, moves, after)


def plan_give_back(
    *,
    account_id: str,
    balance_wh: int,
    lots: Sequence[Lot],
    energy_wh: int,
    order: LotOrder = "first_in_first_out",
) -> Plan:
    """Plan the return of energy charged too much: owed Wh first, then the lots used last.

    Raises InvariantViolationError where more is given back than was ever used.
    """
    owed_wh = sum(one.remaining_wh for one in lots) - balance_wh
    left_wh = energy_wh - min(owed_wh, energy_wh)
    moves: list[LotMove] = []
    after: list[Lot] = []
    for lot in reversed(_ordered(lots, order)):
        back_wh = min(left_wh, lot.used_wh)
        left_wh -= back_wh
        after.append(_move(lot, -back_wh, "used", moves))
    if left_wh:
        raise InvariantViolationError(f"account {account_id}: {left_wh} Wh more given back than was used")
    lines = {account_name(account_id): energy_wh, CONSUMED: -energy_wh}
    _add_sales(lines, moves)
    return _plan(lines, moves, after)


def plan_refund(*, account_id: str, lots: Sequence[Lot], number: int, energy_wh: int, channel: str) -> Plan:
    """Plan paying back unused energy of one paid lot; so refunds can't exceed a payment (invariant 9).

    Raises UnableToPlanError for a granted lot or more than remains of it.
    """
    lot = _one(lots, number)
    if lot.origin != "paid" or not 0 < energy_wh <= lot.remaining_wh:
        raise UnableToPlanError(
            f"refund: expected 1 to {lot.remaining_wh} Wh of a paid lot, "
            f"got {energy_wh} Wh of a {lot.origin} one"
        )
    moves: list[LotMove] = []
    after = [_move(one, energy_wh if one is lot else 0, "refunded", moves) for one in lots]
    cost_fen = sum(move.cost_fen for move in moves)
    lines = {
        account_name(account_id): -energy_wh,
        ISSUED: energy_wh,
        PREPAID: cost_fen,
        channel_name(channel): -cost_fen,
    }
    return _plan(lines, moves, after)


def plan_reversal(
    *,
    account_id: str,
    lots: Sequence[Lot],
    number: int,
    channel: str,
    order: LotOrder = "first_in_first_out",
) -> Plan:
    """Plan undoing a recharge whole: what its lot has supplied is taken from other lots or owed.

    Raises UnableToPlanError where part of the lot was refunded or expired already.
    """
    lot = _one(lots, number)
    if lot.used_wh + lot.remaining_wh != lot.energy_wh:
        raise UnableToPlanError("reversal: part of this payment was already refunded or has expired")
    moves: list[LotMove] = []
    whole = _move(lot, -lot.used_wh, "used", moves)
    empty = _move(whole, whole.energy_wh, "refunded", moves)
    others = _ordered([one for one in lots if one is not lot], order)
    taken, after, _ = _take(others, lot.used_wh, cause="used")
    moves.extend(taken)
    lines = {
        account_name(account_id): -lot.energy_wh,
        ISSUED: lot.energy_wh,
        PREPAID: lot.cost_fen,
        channel_name(channel): -lot.cost_fen,
    }
    _add_sales(lines, moves)
    return _plan(lines, moves, (*after, empty))


def _ordered(lots: Sequence[Lot], order: LotOrder) -> list[Lot]:
    first = {"paid_first": "paid", "granted_first": "granted"}.get(order)
    return sorted(lots, key=lambda lot: (first is not None and lot.origin != first, lot.number))


def _one(lots: Sequence[Lot], number: int) -> Lot:
    for lot in lots:
        if lot.number == number:
            return lot
    raise UnableToPlanError(f"lot {number}: not found in this account")


def _move(lot: Lot, energy_wh: int, cause: Cause, moves: list[LotMove]) -> Lot:
    """Take energy from a lot (negative: give it back), and note the move with its fen."""
    if energy_wh == 0:
        return lot
    after = replace(
        lot,
        remaining_wh=lot.remaining_wh - energy_wh,
        used_wh=lot.used_wh + (energy_wh if cause == "used" else 0),
    )
    cost_fen = lot.remaining_fen - after.remaining_fen
    moves.append(LotMove(number=lot.number, cause=cause, energy_wh=energy_wh, cost_fen=cost_fen))
    return after


def _take(lots: Sequence[Lot], energy_wh: int, *, cause: Cause) -> tuple[list[LotMove], list[Lot], int]:
    """Take energy from lots in turn; returns the moves, the lots afterwards, and what no lot covers."""
    if energy_wh < 0:
        raise InvariantViolationError(f"expected zero or more Wh to take, got {energy_wh}")
    moves: list[LotMove] = []
    after: list[Lot] = []
    left_wh = energy_wh
    for lot in lots:
        part_wh = min(left_wh, lot.remaining_wh)
        left_wh -= part_wh
        after.append(_move(lot, part_wh, cause, moves))
    return moves, after, left_wh


def _add_sales(lines: dict[str, int], moves: Sequence[LotMove]) -> None:
    sold_fen = sum(move.cost_fen for move in moves if move.cause == "used")
    lines[PREPAID] = lines.get(PREPAID, 0) + sold_fen
    lines[SALES] = lines.get(SALES, 0) - sold_fen


def _plan(lines: dict[str, int], moves: Sequence[LotMove], lots: Sequence[Lot]) -> Plan:
    for unit in ("wh:", "fen:"):
        total = sum(amount for name, amount in lines.items() if name.startswith(unit))
        if total:
            raise InvariantViolationError(f"a plan that does not balance in {unit[:-1]}: {lines}")
    return Plan(
        postings=tuple(
            Posting(ledger_account_id=name, amount=amount) for name, amount in sorted(lines.items()) if amount
        ),
        moves=tuple(moves),
        lots=tuple(sorted(lots, key=lambda lot: lot.number)),
    )
