"""The ledger's rules: what each kind of transaction posts, and which lots it moves.

Theory of operation. A resident's account is prepaid in Wh. What was bought or granted at one time is a *lot*;
an account's posted balance is what remains of its lots less what it owes:

    balance = Σ remaining − owed,    owed > 0 only while nothing remains

so a plan needs only the lots and the balance. Lots are used first in, first out, or paid or granted ones first.
What a lot has cost is a function of what remains of it alone, `cost − ⌊cost × taken / energy⌋`: however its
energy is taken, in one run or in many, given back and taken again, the same fen belong to the same remainder,
and the last Wh takes the last fen. Owed Wh have no lot and no fen; the next lot pays them first, in its own
transaction.

| kind | Wh | fen |
| --- | --- | --- |
| recharge | account + / issued − | channel + / prepaid − |
| grant | account + / issued − | (costs nothing) |
| consumption, adjustment up | account − / consumed + | prepaid + / sales − for the lots used |
| adjustment down | account + / consumed − | prepaid − / sales + for the lots given back |
| refund | account − / issued + | prepaid + / channel − |
| reversal of a recharge or grant | account − / issued + | prepaid + / channel −, its sales move to other lots |
| transfer, giving | account − / moved + | (stays prepaid, with the energy) |
| transfer, taking | account + / moved − | prepaid + / sales − where the lots pay what was owed |
| expiry | account − / expired + | prepaid + / lapsed − for the lots that expired |

A lot's energy goes five ways: used, refunded, expired, transferred, or it remains. What is transferred is
issued once more, as lots of the other account, with its fen; over all accounts the two cancel out.

Every plan sums to zero in both units (invariant 1); `_plan` refuses anything else.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from dormpower.domain.units import InvariantViolationError, share_of_cost_fen

Origin = Literal["paid", "granted"]
Cause = Literal["used", "refunded", "expired", "transferred"]
LotOrder = Literal["fifo", "paid_first", "granted_first"]

MAX_RECHARGE_FEN = 10_000_000

ISSUED = "wh:issued"
CONSUMED = "wh:consumed"
EXPIRED = "wh:expired"
MOVED = "wh:moved"  # between the two halves of a transfer; always back at zero
PREPAID = "fen:prepaid"
SALES = "fen:sales"
LAPSED = "fen:lapsed"  # what expired energy had cost


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

    @property
    def energy_wh(self) -> int:
        """The Wh that left lots (issues are not in here)."""
        return sum(move.energy_wh for move in self.moves)

    @property
    def cost_fen(self) -> int:
        """The fen that left lots with it."""
        return sum(move.cost_fen for move in self.moves)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferPlan:
    """Both halves of a transfer; `issued` are the taking account's new lots, by the lots that gave."""

    giving: Plan
    taking: Plan
    issued: tuple[tuple[int, Lot], ...]


def account_name(account_id: str) -> str:
    """Return the ledger account of a resident's account."""
    return f"wh:account:{account_id}"


def channel_name(channel: str) -> str:
    """Return the ledger account of a payment channel."""
    return f"fen:channel:{channel}"


def plan_issue(*, account_id: str, balance_wh: int, lots: Sequence[Lot], lot: Lot, channel: str | None) -> Plan:
    """Plan a recharge (with a channel) or a grant (without): a new lot, which pays owed Wh first.

    Raises UnableToPlanError for a lot without energy, InvariantViolationError for one that costs money which no
    channel brought.
    """
    if channel is None and lot.cost_fen:
        raise InvariantViolationError(f"a grant of {lot.cost_fen} fen: expected one that costs nothing")
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
    order: LotOrder = "fifo",
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
    uses: Iterable[LotMove],
    energy_wh: int,
) -> Plan:
    """Plan the return of energy charged too much: owed Wh first, then to the lots that were used last.

    `uses` are the account's moves of cause "used", newest first; no more of them are read than it takes.
    Raises InvariantViolationError where more is given back than was ever used.
    """
    owed_wh = sum(one.remaining_wh for one in lots) - balance_wh
    left_wh = energy_wh - min(owed_wh, energy_wh)
    shares: dict[int, int] = {}
    undone: dict[int, int] = {}  # given back before: these uses of a lot no longer count
    for use in uses if left_wh else ():
        if use.energy_wh < 0:
            undone[use.number] = undone.get(use.number, 0) - use.energy_wh
            continue
        cancelled_wh = min(undone.get(use.number, 0), use.energy_wh)
        undone[use.number] = undone.get(use.number, 0) - cancelled_wh
        back_wh = min(left_wh, use.energy_wh - cancelled_wh)
        shares[use.number] = shares.get(use.number, 0) + back_wh
        left_wh -= back_wh
        if not left_wh:
            break
    if left_wh:
        raise InvariantViolationError(f"account {account_id}: {left_wh} Wh more given back than was used")
    moves: list[LotMove] = []
    after = [_move(lot, -shares.get(lot.number, 0), "used", moves) for lot in lots]
    lines = {account_name(account_id): energy_wh, CONSUMED: -energy_wh}
    _add_sales(lines, moves)
    return _plan(lines, moves, after)


def plan_refund(
    *, account_id: str, lots: Sequence[Lot], numbers: Collection[int], energy_wh: int, channel: str
) -> Plan:
    """Plan paying back unused energy of a payment's lots; so refunds can't exceed a payment (invariant 9).

    Raises UnableToPlanError for granted lots or more than remains of them.
    """
    chosen = [lot for lot in lots if lot.number in numbers]
    if any(lot.origin != "paid" for lot in chosen):
        raise UnableToPlanError("refund: what was granted cost nothing and can't be paid back")
    remaining_wh = sum(lot.remaining_wh for lot in chosen)
    if not 0 < energy_wh <= remaining_wh:
        raise UnableToPlanError(
            f"refund: expected 1 to {remaining_wh} Wh, which remain of this payment; got {energy_wh} Wh"
        )
    moves, after, _ = _take(chosen, energy_wh, cause="refunded")
    cost_fen = sum(move.cost_fen for move in moves)
    lines = {
        account_name(account_id): -energy_wh,
        ISSUED: energy_wh,
        PREPAID: cost_fen,
        channel_name(channel): -cost_fen,
    }
    return _plan(lines, moves, (*(lot for lot in lots if lot.number not in numbers), *after))


def plan_reversal(
    *,
    account_id: str,
    lots: Sequence[Lot],
    number: int,
    channel: str | None,
    order: LotOrder = "fifo",
) -> Plan:
    """Plan undoing a recharge or a grant whole: what its lot has supplied is taken from other lots or owed.

    Raises UnableToPlanError where part of the lot was refunded, transferred, or has expired already.
    """
    lot = _one(lots, number)
    if lot.used_wh + lot.remaining_wh != lot.energy_wh:
        raise UnableToPlanError(
            "reversal: part of this transaction's energy was already refunded, transferred, or has expired"
        )
    moves: list[LotMove] = []
    whole = _move(lot, -lot.used_wh, "used", moves)
    empty = _move(whole, whole.energy_wh, "refunded", moves)
    others = _ordered([one for one in lots if one is not lot], order)
    taken, after, _ = _take(others, lot.used_wh, cause="used")
    moves.extend(taken)
    lines = {account_name(account_id): -lot.energy_wh, ISSUED: lot.energy_wh, PREPAID: lot.cost_fen}
    if channel is not None:
        lines[channel_name(channel)] = -lot.cost_fen
    _add_sales(lines, moves)
    return _plan(lines, moves, (*after, empty))


def plan_transfer(
    *,
    from_account_id: str,
    from_lots: Sequence[Lot],
    to_account_id: str,
    to_lots: Sequence[Lot],
    to_balance_wh: int,
    energy_wh: int,
    first_number: int,
    order: LotOrder = "fifo",
) -> TransferPlan:
    """Plan moving energy with what it cost to another account: a new lot there for each lot that gave.

    The new lots are numbered from `first_number` on and pay first what the taking account owes. Raises
    UnableToPlanError for more than remains, or from an account to itself.
    """
    if from_account_id == to_account_id:
        raise UnableToPlanError(f"transfer: expected two accounts, got {from_account_id} twice")
    remaining_wh = sum(lot.remaining_wh for lot in from_lots)
    if not 0 < energy_wh <= remaining_wh:
        raise UnableToPlanError(f"transfer: expected 1 to {remaining_wh} Wh, which remain; got {energy_wh} Wh")
    given, left, _ = _take(_ordered(from_lots, order), energy_wh, cause="transferred")
    origins = {lot.number: lot.origin for lot in from_lots}
    issued = [
        Lot(
            number=first_number + index,
            origin=origins[move.number],
            energy_wh=move.energy_wh,
            cost_fen=move.cost_fen,
            remaining_wh=move.energy_wh,
        )
        for index, move in enumerate(given)
    ]
    owed_wh = sum(lot.remaining_wh for lot in to_lots) - to_balance_wh
    paid, after, _ = _take(issued, owed_wh, cause="used")
    taking = {account_name(to_account_id): energy_wh, MOVED: -energy_wh}
    _add_sales(taking, paid)
    return TransferPlan(
        giving=_plan({account_name(from_account_id): -energy_wh, MOVED: energy_wh}, given, left),
        taking=_plan(taking, paid, (*to_lots, *after)),
        issued=tuple((move.number, lot) for move, lot in zip(given, issued, strict=True)),
    )


def plan_expiry(
    *,
    account_id: str,
    lots: Sequence[Lot],
    numbers: Collection[int],
    reserved_wh: int,
    order: LotOrder = "fifo",
) -> Plan:
    """Plan the end of lots whose time is over: what remains of them, less what was used in time.

    `reserved_wh` has been used and not been settled yet; the lots that settlement will take it from keep it.
    The plan may be empty.
    """
    reserved, _, _ = _take(_ordered(lots, order), max(reserved_wh, 0), cause="used")
    kept_wh = {move.number: move.energy_wh for move in reserved}
    moves: list[LotMove] = []
    after = [
        _move(lot, lot.remaining_wh - kept_wh.get(lot.number, 0), "expired", moves)
        if lot.number in numbers
        else lot
        for lot in lots
    ]
    energy_wh = sum(move.energy_wh for move in moves)
    cost_fen = sum(move.cost_fen for move in moves)
    lines = {account_name(account_id): -energy_wh, EXPIRED: energy_wh, PREPAID: cost_fen, LAPSED: -cost_fen}
    return _plan(lines, moves, after)


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
