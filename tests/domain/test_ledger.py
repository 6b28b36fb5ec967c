"""Plans of the ledger: whatever comes in whatever order, lots and postings add up in Wh and in fen."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dormpower.domain import ledger
from dormpower.domain.ledger import Lot, LotMove, LotOrder, Plan, UnableToPlanError
from dormpower.domain.units import InvariantViolationError

ENERGIES = st.integers(0, 30_000)
ORDERS: st.SearchStrategy[LotOrder] = st.sampled_from(["fifo", "paid_first", "granted_first"])


def lot(number: int, energy_wh: int, cost_fen: int, *, remaining_wh: int | None = None) -> Lot:
    return Lot(
        number=number,
        origin="paid" if cost_fen else "granted",
        energy_wh=energy_wh,
        cost_fen=cost_fen,
        remaining_wh=energy_wh if remaining_wh is None else remaining_wh,
    )


@dataclass
class Account:
    """One account as plans left it: what a store would keep."""

    name: str
    lots: tuple[Lot, ...] = ()
    balance_wh: int = 0
    moves: list[LotMove] = field(default_factory=list)
    sums: dict[str, int] = field(default_factory=dict)

    def apply(self, plan: Plan) -> None:
        for unit in ("wh:", "fen:"):
            assert sum(p.amount for p in plan.postings if p.ledger_account_id.startswith(unit)) == 0
        for line in plan.postings:
            self.sums[line.ledger_account_id] = self.sums.get(line.ledger_account_id, 0) + line.amount
        self.balance_wh = self.sums.get(ledger.account_name(self.name), 0)
        self.moves += plan.moves
        self.lots = plan.lots
        self.check()

    def check(self) -> None:
        assert sum(one.remaining_wh for one in self.lots) == max(self.balance_wh, 0)
        for one in self.lots:
            moved = [move for move in self.moves if move.number == one.number]
            assert one.energy_wh == one.remaining_wh + sum(move.energy_wh for move in moved)
            assert one.cost_fen == one.remaining_fen + sum(move.cost_fen for move in moved)
            assert one.used_wh == sum(move.energy_wh for move in moved if move.cause == "used")
            assert one.remaining_wh or not one.remaining_fen  # the last Wh takes the last fen

    def uses(self) -> list[LotMove]:
        return [move for move in reversed(self.moves) if move.cause == "used"]

    def issue(self, number: int, energy_wh: int, cost_fen: int) -> None:
        self.apply(
            ledger.plan_issue(
                account_id=self.name,
                balance_wh=self.balance_wh,
                lots=self.lots,
                lot=lot(number, energy_wh, cost_fen),
                channel="cash" if cost_fen else None,
            )
        )

    def use(self, energy_wh: int, order: LotOrder = "fifo") -> None:
        self.apply(
            ledger.plan_consumption(account_id=self.name, lots=self.lots, energy_wh=energy_wh, order=order)
        )


@given(st.data())
def test_any_sequence_keeps_lots_and_postings_adding_up(data: st.DataObject):
    here, there = Account("here"), Account("there")
    used_wh = 0
    for number in range(1, 1 + data.draw(st.integers(1, 25))):
        kind = data.draw(
            st.sampled_from(["issue", "use", "give_back", "refund", "reversal", "transfer", "expiry"])
        )
        energy_wh, order = data.draw(ENERGIES), data.draw(ORDERS)
        numbers = {one.number for one in here.lots if data.draw(st.booleans())}
        try:
            if kind == "issue":
                here.issue(number, energy_wh, data.draw(st.sampled_from([0, 1, 999, 1000])))
            elif kind == "use":
                here.use(energy_wh, order)
                used_wh += energy_wh
            elif kind == "give_back":
                energy_wh = min(energy_wh, max(0, -here.balance_wh) + sum(one.used_wh for one in here.lots))
                plan = ledger.plan_give_back(
                    account_id="here",
                    balance_wh=here.balance_wh,
                    lots=here.lots,
                    uses=here.uses(),
                    energy_wh=energy_wh,
                )
                here.apply(plan)
                used_wh -= energy_wh
            elif kind == "refund":
                here.apply(
                    ledger.plan_refund(
                        account_id="here", lots=here.lots, numbers=numbers, energy_wh=energy_wh, channel="cash"
                    )
                )
            elif kind == "reversal":
                chosen = data.draw(st.sampled_from([*here.lots, lot(0, 1, 0)]))
                here.apply(
                    ledger.plan_reversal(
                        account_id="here",
                        lots=here.lots,
                        number=chosen.number,
                        channel="cash" if chosen.cost_fen else None,
                        order=order,
                    )
                )
            elif kind == "transfer":
                there.use(data.draw(ENERGIES))
                moved = ledger.plan_transfer(
                    from_account_id="here",
                    from_lots=here.lots,
                    to_account_id="there",
                    to_lots=there.lots,
                    to_balance_wh=there.balance_wh,
                    energy_wh=energy_wh,
                    first_number=1000 * number,
                    order=order,
                )
                here.apply(moved.giving)
                there.apply(moved.taking)
                assert here.sums[ledger.MOVED] + there.sums[ledger.MOVED] == 0
                assert moved.giving.cost_fen == sum(new.cost_fen for _, new in moved.issued)
            else:
                here.apply(
                    ledger.plan_expiry(
                        account_id="here", lots=here.lots, numbers=numbers, reserved_wh=energy_wh, order=order
                    )
                )
        except UnableToPlanError:
            here.check()  # a refusal changes nothing
    assert here.sums.get(ledger.CONSUMED, 0) == used_wh
    liability_fen = sum(one.remaining_fen for account in (here, there) for one in account.lots)
    assert -sum(account.sums.get(ledger.PREPAID, 0) for account in (here, there)) == liability_fen


@given(st.lists(ENERGIES, min_size=1, max_size=8), st.lists(st.integers(0, 9999), min_size=1, max_size=4))
def test_one_period_computed_in_many_runs_equals_one_run_in_fen_too(parts: list[int], costs: list[int]):
    whole, split = Account("a"), Account("a")
    for account in (whole, split):
        for number, cost_fen in enumerate(costs):
            account.issue(number, 7001, cost_fen)
    whole.use(sum(parts))
    for part in parts:
        split.use(part)
    assert (whole.lots, whole.sums) == (split.lots, split.sums)


def test_energy_given_back_goes_to_the_lots_used_last_and_not_twice():
    account = Account("a")
    account.issue(1, 10, 100)
    account.issue(2, 10, 0)
    account.use(4)
    account.use(6, "granted_first")
    for energy_wh, expected in ((2, [6, 6]), (5, [7, 10])):
        account.apply(
            ledger.plan_give_back(
                account_id="a",
                balance_wh=account.balance_wh,
                lots=account.lots,
                uses=account.uses(),
                energy_wh=energy_wh,
            )
        )
        assert [one.remaining_wh for one in account.lots] == expected


def test_more_given_back_than_was_used_breaks_an_invariant():
    with pytest.raises(InvariantViolationError, match="1 Wh more"):
        ledger.plan_give_back(account_id="a", balance_wh=0, lots=(), uses=(), energy_wh=1)


def test_negative_energy_breaks_an_invariant():
    with pytest.raises(InvariantViolationError, match="zero or more"):
        ledger.plan_consumption(account_id="a", lots=(), energy_wh=-1)


def test_a_grant_that_costs_money_breaks_an_invariant():
    with pytest.raises(InvariantViolationError, match="costs nothing"):
        ledger.plan_issue(account_id="a", balance_wh=0, lots=(), lot=lot(1, 1, 1), channel=None)


def test_a_reversal_of_a_payment_without_its_channel_does_not_balance():
    with pytest.raises(InvariantViolationError, match="does not balance in fen"):
        ledger.plan_reversal(account_id="a", lots=(lot(1, 5, 5),), number=1, channel=None)


def test_refusals_say_why():
    paid, granted = lot(1, 10, 10, remaining_wh=4), lot(2, 10, 0)
    both = (paid, granted)
    with pytest.raises(UnableToPlanError, match="less than 1 Wh"):
        ledger.plan_issue(account_id="a", balance_wh=0, lots=(), lot=lot(1, 0, 1), channel="cash")
    with pytest.raises(UnableToPlanError, match="cost nothing"):
        ledger.plan_refund(account_id="a", lots=both, numbers={1, 2}, energy_wh=1, channel="cash")
    with pytest.raises(UnableToPlanError, match="1 to 4 Wh"):
        ledger.plan_refund(account_id="a", lots=both, numbers={1}, energy_wh=5, channel="cash")
    with pytest.raises(UnableToPlanError, match="already refunded"):
        ledger.plan_reversal(account_id="a", lots=both, number=1, channel="cash")
    with pytest.raises(UnableToPlanError, match="lot 9"):
        ledger.plan_reversal(account_id="a", lots=both, number=9, channel="cash")
    terms = {"from_lots": both, "to_lots": (), "to_balance_wh": 0, "first_number": 3}
    with pytest.raises(UnableToPlanError, match="two accounts"):
        ledger.plan_transfer(from_account_id="a", to_account_id="a", energy_wh=1, **terms)
    with pytest.raises(UnableToPlanError, match="1 to 14 Wh"):
        ledger.plan_transfer(from_account_id="a", to_account_id="b", energy_wh=15, **terms)


def test_what_was_used_in_time_does_not_expire():
    plan = ledger.plan_expiry(
        account_id="a", lots=(replace(lot(1, 10, 100)), lot(2, 10, 0)), numbers={1}, reserved_wh=4
    )
    assert (plan.energy_wh, plan.cost_fen, plan.lots[0].remaining_wh) == (6, 60, 4)
