"""Grants, refunds, reversals, transfers and expiry on real databases; and links that change."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books import accounts, corrections, journal, proof, tables, transfers
from dormpower.books.database import Books
from dormpower.domain.ledger import LotOrder
from dormpower.domain.tariff import Price

NOW = datetime(2026, 3, 1, 4, tzinfo=UTC)
TODAY = date(2026, 3, 1)
PRICE = Price(from_on=date(2026, 1, 1), kind="all", price_millifen_per_kwh=50000)  # 1000 fen buy 20,000 Wh


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
def seeded(books: Books) -> Books:
    with books.write() as connection:
        connection.execute(
            sa.insert(tables.rooms).values(
                room_id="r1", campus="c", building="b", floor="1", name="r1", rated_current_a=10
            )
        )
        for kind in ("lighting", "ac"):
            circuit_id = f"r1-{kind}"
            connection.execute(
                sa.insert(tables.circuits).values(circuit_id=circuit_id, room_id="r1", kind=kind)
            )
            connection.execute(sa.insert(tables.accounts).values(account_id=f"acc-{circuit_id}", opened_at=NOW))
            connection.execute(
                sa.insert(tables.account_links).values(
                    account_id=f"acc-{circuit_id}", circuit_id=circuit_id, from_on=date(2026, 1, 1)
                )
            )
            connection.execute(sa.insert(tables.meter_points).values(circuit_id=circuit_id))
    return books


def asked(key: str) -> dict[str, object]:
    return {"source": "test", "idempotency_key": key, "actor": "finance", "note": None, "now": NOW}


def in_books(books: Books, post: Callable[..., Any], **content: object) -> Any:
    with books.write() as connection:
        return post(connection, **content)


def recharge(books: Books, key: str, *, amount_fen: int = 1000, circuit_id: str = "r1-ac") -> journal.Posted:
    return in_books(
        books,
        journal.post_recharge,
        circuit_id=circuit_id,
        amount_fen=amount_fen,
        channel="cash",
        price=PRICE,
        **asked(key),
    )


def grant(books: Books, key: str, energy_wh: int, *, expires_at: datetime | None = None) -> journal.Posted:
    return in_books(
        books,
        journal.post_grant,
        circuit_id="r1-ac",
        energy_wh=energy_wh,
        expires_at=expires_at,
        **asked(key),
    )


def use(books: Books, energy_wh: int, *, day: int, order: LotOrder = "fifo") -> None:
    charge = Charge(used_on=date(2026, 2, day), energy_wh=energy_wh)
    in_books(books, journal.OrderedDays(order=order).post_consumptions, rows=[charge], now=NOW)
    step(books, energy_wh)


def step(books: Books, energy_wh: int, *, circuit_id: str = "r1-ac") -> None:
    """Let the meter of a circuit go on by what was charged."""
    points = tables.meter_points
    with books.write() as connection:
        connection.execute(
            sa.update(points)
            .where(points.c.circuit_id == circuit_id)
            .values(metered_wh=points.c.metered_wh + energy_wh)
        )


def balance(books: Books, account_id: str = "acc-r1-ac") -> int:
    with books.read() as connection:
        return accounts.availables_wh(connection, [account_id])[account_id]


def remaining(books: Books) -> list[tuple[int, int]]:
    with books.read() as connection:
        return [
            (row.remaining_wh, row.remaining_fen)
            for row in connection.execute(sa.select(tables.lots).order_by(tables.lots.c.lot_id))
        ]


def test_a_refund_pays_back_what_the_energy_had_cost_and_no_more_than_remains(seeded: Books):
    payment_id = recharge(seeded, "a").item["transaction_id"]
    use(seeded, 5000, day=1)
    terms = {"circuit_id": "r1-ac", "payment_id": payment_id, "channel": "cash"}
    first = in_books(seeded, corrections.post_refund, energy_wh=6000, **terms, **asked("b"))
    assert (first.item["amount_fen"], first.item["balance_after_wh"]) == (-300, 9000)
    again = in_books(seeded, corrections.post_refund, energy_wh=6000, **terms, **asked("b"))
    assert (again.repeated, again.answer) == (True, first.answer)
    with pytest.raises(journal.IdempotencyConflictError):
        in_books(seeded, corrections.post_refund, energy_wh=6001, **terms, **asked("b"))
    with pytest.raises(journal.UnableToPostError, match="at most 9000 Wh"):
        in_books(seeded, corrections.post_refund, energy_wh=9001, **terms, **asked("c"))
    rest = in_books(seeded, corrections.post_refund, energy_wh=None, **terms, **asked("d"))
    assert (rest.item["amount_fen"], balance(seeded)) == (-450, 0)
    with pytest.raises(journal.UnableToPostError, match="expected 1 to 0 Wh"):
        in_books(seeded, corrections.post_refund, energy_wh=None, **terms, **asked("e"))
    assert proof_of_ledger(seeded) == []


def test_what_was_used_and_not_settled_yet_is_not_paid_back(seeded: Books):
    payment_id = recharge(seeded, "a").item["transaction_id"]
    with seeded.write() as connection:
        connection.execute(
            sa.update(tables.meter_points)
            .where(tables.meter_points.c.circuit_id == "r1-ac")
            .values(metered_wh=15000)
        )
    terms = {"circuit_id": "r1-ac", "payment_id": payment_id, "channel": "cash"}
    with pytest.raises(journal.UnableToPostError, match="at most 5000 Wh"):
        in_books(seeded, corrections.post_refund, energy_wh=None, **terms, **asked("b"))


def test_a_grant_costs_nothing_and_is_never_paid_back(seeded: Books):
    granted_id = grant(seeded, "a", 8000).item["transaction_id"]
    assert balance(seeded) == 8000
    terms = {"circuit_id": "r1-ac", "channel": "cash", "energy_wh": 1}
    for payment_id in (granted_id, "txn_unknown"):
        with pytest.raises(journal.UnableToPostError, match="expected a recharge"):
            in_books(seeded, corrections.post_refund, payment_id=payment_id, **terms, **asked("b"))
    for energy_wh in (0, 10**14):
        with pytest.raises(journal.UnableToPostError, match="energy_wh"):
            grant(seeded, "c", energy_wh)
    with pytest.raises(journal.UnableToPostError, match="expires_at"):
        grant(seeded, "c", 1, expires_at=NOW)
    assert grant(seeded, "a", 8000).repeated
    assert proof_of_ledger(seeded) == []


def test_a_reversal_undoes_a_recharge_once_and_what_it_supplied_comes_from_elsewhere(seeded: Books):
    payment_id = recharge(seeded, "a").item["transaction_id"]
    grant(seeded, "g", 3000)
    use(seeded, 5000, day=1)
    terms = {"transaction_id": payment_id}
    done = in_books(seeded, corrections.post_reversal, **terms, **asked("b"))
    assert (done.item["amount_fen"], done.item["energy_wh"], balance(seeded)) == (-1000, -20000, -2000)
    assert in_books(seeded, corrections.post_reversal, **terms, **asked("b")).answer == done.answer
    with pytest.raises(journal.UnableToPostError, match="reversed already"):
        in_books(seeded, corrections.post_reversal, **terms, **asked("c"))
    with pytest.raises(journal.UnableToPostError, match="expected a recharge or grant, found a reversal"):
        in_books(seeded, corrections.post_reversal, transaction_id=done.item["transaction_id"], **asked("d"))
    with seeded.read() as connection:
        names = tables.ledger_accounts.c
        fen = connection.execute(sa.select(names.balance).where(names.unit == "fen")).scalars().all()
    assert set(fen) == {0}
    assert proof_of_ledger(seeded) == []


def test_a_refunded_recharge_is_not_reversed(seeded: Books):
    payment_id = recharge(seeded, "a").item["transaction_id"]
    terms = {"circuit_id": "r1-ac", "payment_id": payment_id, "channel": "cash"}
    in_books(seeded, corrections.post_refund, energy_wh=1, **terms, **asked("b"))
    with pytest.raises(journal.UnableToPostError, match="already refunded"):
        in_books(seeded, corrections.post_reversal, transaction_id=payment_id, **asked("c"))


def test_a_transfer_takes_its_money_along_and_pays_first_what_is_owed(seeded: Books):
    payment_id = recharge(seeded, "a").item["transaction_id"]
    with seeded.write() as connection:
        owed = Charge(
            circuit_id="r1-lighting", account_id="acc-r1-lighting", used_on=date(2026, 2, 1), energy_wh=3000
        )
        journal.post_consumptions(connection, [owed], now=NOW)
    step(seeded, 3000, circuit_id="r1-lighting")
    terms = {"from_circuit_id": "r1-ac", "to_circuit_id": "r1-lighting", "energy_wh": 8000}
    moved = in_books(seeded, transfers.post_transfer, **terms, **asked("b"))
    assert in_books(seeded, transfers.post_transfer, **terms, **asked("b")).answer == moved.answer
    assert (balance(seeded), balance(seeded, "acc-r1-lighting")) == (12000, 5000)
    assert remaining(seeded) == [(12000, 600), (5000, 250)]
    with pytest.raises(journal.UnableToPostError, match="at most 12000"):
        in_books(seeded, transfers.post_transfer, **{**terms, "energy_wh": 12001}, **asked("c"))
    with pytest.raises(journal.UnableToPostError, match="two accounts"):
        in_books(seeded, transfers.post_transfer, **{**terms, "to_circuit_id": "r1-ac"}, **asked("d"))
    # The money is still that of the payment: it comes back from both accounts, and only once.
    for circuit_id, amount_fen in (("r1-lighting", -250), ("r1-ac", -600)):
        refund = in_books(
            seeded,
            corrections.post_refund,
            circuit_id=circuit_id,
            payment_id=payment_id,
            energy_wh=None,
            channel="cash",
            **asked(f"refund-{circuit_id}"),
        )
        assert refund.item["amount_fen"] == amount_fen
    assert proof_of_ledger(seeded) == []


def test_both_halves_of_a_transfer_show_in_their_circuits_histories(seeded: Books):
    recharge(seeded, "a")
    terms = {"from_circuit_id": "r1-ac", "to_circuit_id": "r1-lighting", "energy_wh": 8000}
    in_books(seeded, transfers.post_transfer, **terms, **asked("b"))
    with seeded.read() as connection:
        rows = connection.execute(
            sa.select(tables.transactions.c.circuit_id, tables.transactions.c.energy_wh).where(
                tables.transactions.c.kind == "transfer"
            )
        ).all()
    assert sorted(rows) == [("r1-ac", -8000), ("r1-lighting", 8000)]


def test_expiry_takes_what_remains_of_a_lot_but_not_what_was_used_in_time(seeded: Books):
    end_at = NOW + timedelta(days=1)
    grant(seeded, "a", 8000, expires_at=end_at)
    recharge(seeded, "b")
    with seeded.write() as connection:
        connection.execute(
            sa.update(tables.meter_points)
            .where(tables.meter_points.c.circuit_id == "r1-ac")
            .values(metered_wh=3000)
        )

    def expire(connection: Connection, *, key: str, now: datetime) -> journal.Posted | None:
        return transfers.post_expiry(connection, circuit_id="r1-ac", **{**asked(key), "now": now})

    assert in_books(seeded, expire, key="x", now=NOW) is None
    with seeded.read() as connection:
        assert transfers.expired_circuits(connection, now=end_at) == ["r1-ac"]
    done = in_books(seeded, expire, key="x", now=end_at)
    assert done is not None
    assert (done.item["energy_wh"], done.item["balance_after_wh"]) == (-5000, 20000)
    repeat = in_books(seeded, expire, key="x", now=end_at)
    assert repeat is not None
    assert repeat.answer == done.answer
    assert remaining(seeded) == [(3000, 0), (20000, 1000)]
    assert proof_of_ledger(seeded) == []


def proof_of_ledger(books: Books) -> list[str]:
    """All findings but those of metering, which these tests set by hand."""
    return [str(one) for one in proof.prove(books) if one.invariant not in (10, 11)]


def test_the_order_of_lots_is_the_sites_choice(seeded: Books):
    recharge(seeded, "a")
    grant(seeded, "b", 8000)
    use(seeded, 5000, day=1, order="granted_first")
    assert remaining(seeded) == [(20000, 1000), (3000, 0)]
    use(seeded, 5000, day=2, order="paid_first")
    assert remaining(seeded) == [(15000, 750), (3000, 0)]


def test_energy_given_back_goes_to_the_lots_used_last(seeded: Books):
    recharge(seeded, "a")
    grant(seeded, "b", 8000)
    use(seeded, 5000, day=1, order="granted_first")
    use(seeded, 5000, day=2, order="paid_first")
    back = Charge(used_on=date(2026, 2, 2), energy_wh=0, number=2, difference_wh=-5000)
    in_books(seeded, journal.post_adjustment, row=back, now=NOW)
    assert remaining(seeded) == [(20000, 1000), (3000, 0)]
    back = Charge(used_on=date(2026, 2, 1), energy_wh=0, number=2, difference_wh=-1000)
    in_books(seeded, journal.post_adjustment, row=back, now=NOW)
    assert remaining(seeded) == [(20000, 1000), (4000, 0)]


# --- accounts that change ------------------------------------------------------------------------------------


def meter(books: Books, *, metered_wh: int, open_on: date, boundaries: dict[date, int]) -> None:
    """Let the circuit's position stand on a day, with the boundaries that it passed."""
    with books.write() as connection:
        connection.execute(
            sa.update(tables.meter_points)
            .where(tables.meter_points.c.circuit_id == "r1-ac")
            .values(metered_wh=metered_wh, open_on=open_on)
        )
        for begins_on, wh in boundaries.items():
            at = datetime.combine(begins_on, datetime.min.time(), UTC)
            marks = {
                f"{mark}_{name}": wh for mark in ("before", "after") for name in ("register_wh", "metered_wh")
            }
            connection.execute(
                sa.insert(tables.day_boundaries).values(
                    circuit_id="r1-ac",
                    begins_on=begins_on,
                    span_id=span_id(connection),
                    boundary_at=at,
                    cause="measured",
                    before_at=at,
                    after_at=at,
                    register_wh=wh,
                    metered_wh=wh,
                    estimated=False,
                    **marks,
                )
            )
            connection.execute(
                sa.insert(tables.day_changes).values(circuit_id="r1-ac", used_on=begins_on - timedelta(days=1))
            )


def span_id(connection: Connection) -> int:
    found: int | None = connection.scalar(sa.select(tables.channel_spans.c.span_id))
    if found is not None:
        return found
    connection.execute(sa.insert(tables.modules).values(module_id="m1", profile="p"))
    connection.execute(
        sa.insert(tables.channel_spans).values(circuit_id="r1-ac", module_id="m1", channel=0, from_at=NOW)
    )
    return span_id(connection)


def link(books: Books, account_id: str, from_on: date) -> None:
    in_books(
        books,
        accounts.link,
        circuit_id="r1-ac",
        account_id=account_id,
        from_on=from_on,
        today=TODAY,
        actor="finance",
        now=NOW,
    )


@pytest.mark.parametrize(
    ("open_on", "boundaries", "old_wh", "new_wh"),
    [
        pytest.param(TODAY, {TODAY: 3000}, 17000, -1000, id="position past the change"),
        pytest.param(date(2026, 2, 28), {}, 16000, 0, id="position before the change"),
        pytest.param(TODAY, {}, 20000, -4000, id="metering began on the day of the change"),
    ],
)
def test_unsettled_energy_belongs_to_the_account_of_its_day(
    seeded: Books, open_on: date, boundaries: dict[date, int], old_wh: int, new_wh: int
):
    recharge(seeded, "a")
    meter(seeded, metered_wh=4000, open_on=open_on, boundaries=boundaries)
    assert balance(seeded) == 16000
    link(seeded, "acc-new", TODAY)
    assert (balance(seeded), balance(seeded, "acc-new")) == (old_wh, new_wh)
    with seeded.read() as connection:
        base_wh = accounts.base_wh(connection, ["acc-r1-ac", "acc-new"])
        assert base_wh == {"acc-r1-ac": old_wh, "acc-new": new_wh + 4000}
        assert accounts.account_of(connection, circuit_id="r1-ac", on=TODAY) == "acc-new"
        assert accounts.account_of(connection, circuit_id="r1-ac", on=date(2026, 2, 28)) == "acc-r1-ac"
        with pytest.raises(accounts.UnableToFindAccountError):
            accounts.account_of(connection, circuit_id="r1-ac", on=date(2025, 12, 31))


def test_balances_stay_the_same_when_the_days_before_a_change_are_settled(seeded: Books):
    recharge(seeded, "a")
    changes = {date(2026, 2, 27): 1000, date(2026, 2, 28): 2500, TODAY: 3000}
    meter(seeded, metered_wh=4000, open_on=TODAY, boundaries=changes)
    link(seeded, "acc-second", date(2026, 2, 28))
    link(seeded, "acc-third", TODAY)
    names = ("acc-r1-ac", "acc-second", "acc-third")
    expected = (17500, -500, -1000)
    assert tuple(balance(seeded, name) for name in names) == expected
    days = (("acc-r1-ac", 26, 1000), ("acc-r1-ac", 27, 1500), ("acc-second", 28, 500))
    for account_id, day, energy_wh in days:
        charge = Charge(account_id=account_id, used_on=date(2026, 2, day), energy_wh=energy_wh)
        with seeded.write() as connection:
            journal.post_consumptions(connection, [charge], now=NOW)
            connection.execute(
                sa.delete(tables.day_changes).where(tables.day_changes.c.used_on == charge.used_on)
            )
        assert tuple(balance(seeded, name) for name in names) == expected
    assert proof_of_ledger(seeded) == []


def test_a_circuit_changes_accounts_only_where_nothing_is_settled_and_never_ahead(seeded: Books):
    use(seeded, 1000, day=10)
    cases = [
        ("acc-new", date(2026, 3, 2), "expected 2026-03-01 or earlier"),
        ("acc-new", date(2026, 2, 10), "which is settled"),
        ("acc-r1-ac", TODAY, "expected another account"),
    ]
    for account_id, on, text in cases:
        with pytest.raises(accounts.UnableToLinkError, match=text):
            link(seeded, account_id, on)
    link(seeded, "acc-new", date(2026, 2, 11))
    with pytest.raises(accounts.UnableToLinkError, match="a later day"):
        link(seeded, "acc-r1-ac", date(2026, 2, 11))
