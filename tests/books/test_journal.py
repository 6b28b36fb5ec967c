"""The journal on real databases: one posting for one key, lots that add up, and a proof that finds faults."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime

import pytest
import sqlalchemy as sa

from dormpower.books import accounts, journal, proof, tables
from dormpower.books.database import Books
from dormpower.domain.tariff import Price

NOW = datetime(2026, 3, 1, 4, tzinfo=UTC)
PRICE = Price(from_on=date(2026, 1, 1), kind="all", price_millifen_per_kwh=56530)


@dataclass(frozen=True, kw_only=True)
class Charge:
    circuit_id: str = "r1-ac"
    account_id: str = "acc-r1-ac"
    used_on: date
    energy_wh: int
    number: int = 1
    estimated: bool = False
    difference_wh: int = 0


@pytest.fixture
def seeded(one_room: Books) -> Books:
    return one_room


def recharge(books: Books, *, amount_fen: int = 1000, key: str = "k1") -> journal.Posted:
    with books.write() as connection:
        return journal.post_recharge(
            connection,
            circuit_id="r1-ac",
            amount_fen=amount_fen,
            channel="cash",
            price=PRICE,
            source="counter",
            idempotency_key=key,
            actor="finance",
            note=None,
            now=NOW,
        )


def test_the_same_key_gets_the_same_bytes_and_other_content_a_conflict(seeded: Books):
    first, second = recharge(seeded), recharge(seeded)
    assert (second.answer, second.repeated) == (first.answer, True)
    with pytest.raises(journal.IdempotencyConflictError):
        recharge(seeded, amount_fen=999)
    with seeded.read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(tables.transactions)) == 1
    assert proof.prove(seeded) == []


def test_days_overdraft_adjustments_and_the_next_recharge_keep_the_books_proven(
    seeded: Books, meter: Callable[[dict[date, int]], None]
):
    recharge(seeded)
    meter({date(2026, 2, 1): 9000, date(2026, 2, 2): 9500, date(2026, 2, 3): 0})
    with seeded.write() as connection:
        days = [Charge(used_on=date(2026, 2, day), energy_wh=9000) for day in (1, 2, 3)]
        journal.post_consumptions(connection, days, now=NOW)
        assert accounts.balances_wh(connection, ["acc-r1-ac"]) == {"acc-r1-ac": 17689 - 27000}
        back = Charge(used_on=date(2026, 2, 3), energy_wh=0, number=2, difference_wh=-9000)
        journal.post_adjustment(connection, back, now=NOW)
        more = Charge(used_on=date(2026, 2, 2), energy_wh=9500, number=2, difference_wh=500)
        journal.post_adjustment(connection, more, now=NOW)
        connection.execute(sa.delete(tables.day_changes))
    recharge(seeded, key="k2")
    with seeded.read() as connection:
        assert accounts.balances_wh(connection, ["acc-r1-ac"]) == {"acc-r1-ac": 2 * 17689 - 18500}
    assert proof.prove(seeded) == []


def test_the_database_refuses_to_change_history_and_the_proof_finds_a_false_balance(seeded: Books):
    recharge(seeded)
    with pytest.raises(sa.exc.DBAPIError, match="immutable"), seeded.write() as connection:
        connection.execute(sa.update(tables.postings).values(amount=1))
    with seeded.write() as connection:
        connection.execute(sa.update(tables.ledger_accounts).values(balance=7))
    assert {finding.invariant for finding in proof.prove(seeded)} == {4}
