"""The recharge history and the counter's route; what the journal does with an order is the books' test."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from dormpower.books.tables import residencies, transactions

CIRCUIT = "south-01-101-ac"
PATH = f"/circuits/{CIRCUIT}/recharges"
PAID = {"amount_fen": 5000, "channel": "cash"}


def post(campus, body=PAID, key="k1", path=PATH, who="finance"):
    headers = {} if key is None else {"Idempotency-Key": key}
    return campus.ask(who, "POST", path, json=body, headers=headers)


def keep(campus, *, number, kind="recharge", hours=0, circuit_id=CIRCUIT):
    with campus.books.write() as connection:
        connection.execute(
            transactions.insert().values(
                transaction_id=f"t{number}",
                sequence=number,
                source="test",
                idempotency_key=str(number),
                content_sha256="",
                kind=kind,
                posted_at=campus.clock.now() + timedelta(hours=hours),
                account_id=f"acc-{circuit_id}",
                circuit_id=circuit_id,
                amount_fen=5000,
                energy_wh=88_448,
                balance_after_wh=90_000 + number,
                price_millifen_per_kwh=56_530,
                channel="cash",
                actor="finance",
            )
        )


def test_a_recharge_is_posted_once_and_answered_with_the_same_bytes(campus):
    first = post(campus)
    campus.clock.advance(3600)
    again = post(campus)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.content == again.content
    answer = first.json()
    assert answer["circuit_id"] == CIRCUIT
    assert answer["energy_wh"] == answer["balance_after_wh"] == 88_448
    assert answer["price_yuan_per_kwh"] == "0.5653"
    items = campus.ask("student", "GET", PATH).json()["items"]
    assert items == [
        {name: value for name, value in answer.items() if name != "circuit_id"}
        | {"recharged_at": items[0]["recharged_at"]}
    ]
    circuit = campus.ask("student", "GET", "/rooms/south-01-101").json()["circuits"][1]
    assert (circuit["balance_wh"], circuit["level"]) == (88_448, "ok")


def test_a_key_with_other_content_is_a_conflict(sqlite_campus):
    post(sqlite_campus)
    answer = post(sqlite_campus, PAID | {"amount_fen": 5001})
    assert answer.status_code == 409
    assert answer.json()["type"] == "urn:dormpower:problem:key-reused"
    assert post(sqlite_campus, path="/circuits/south-01-102-ac/recharges").status_code == 409


@pytest.mark.parametrize("key", [None, "", " ", "x" * 201, "two words"])
def test_a_missing_or_unusable_key_is_refused(sqlite_campus, key):
    answer = post(sqlite_campus, key=key)
    assert answer.status_code == 400
    assert answer.json()["type"] == "urn:dormpower:problem:no-idempotency-key"


@pytest.mark.parametrize(
    "change",
    [
        {"amount_fen": 0},
        {"amount_fen": -1},
        {"amount_fen": 1.5},
        {"amount_fen": 100.0},
        {"amount_fen": "100"},
        {"amount_fen": True},
        {"amount_fen": 10**12},
        {"channel": "barter"},
        {"note": ""},
        {"fee": 1},
    ],
)
def test_a_bad_order_is_refused(sqlite_campus, change):
    assert post(sqlite_campus, PAID | change).status_code == 422


def test_the_history_has_every_field_of_the_interface_newest_first(campus):
    for number, kind in enumerate(("recharge", "consumption", "grant", "adjustment", "refund"), start=1):
        keep(campus, number=number, kind=kind)
    items = campus.ask("student", "GET", PATH).json()["items"]
    assert [item["kind"] for item in items] == ["refund", "grant", "recharge"]
    assert items[-1] == {
        "transaction_id": "t1",
        "kind": "recharge",
        "recharged_at": "2026-05-20T04:00:00Z",
        "amount_fen": 5000,
        "price_yuan_per_kwh": "0.5653",
        "energy_wh": 88_448,
        "balance_after_wh": 90_001,
        "channel": "cash",
    }
    only = campus.ask("student", "GET", PATH, params={"kind": "grant"}).json()["items"]
    assert [item["transaction_id"] for item in only] == ["t3"]


def test_pages_of_history_follow_each_other_though_more_comes_meanwhile(campus):
    for number in range(1, 6):
        keep(campus, number=number)
    first = campus.ask("finance", "GET", PATH, params={"limit": 2}).json()
    keep(campus, number=6)
    found, cursor = first["items"], first["next_cursor"]
    while cursor is not None:
        page = campus.ask("finance", "GET", PATH, params={"limit": 2, "cursor": cursor}).json()
        found, cursor = found + page["items"], page["next_cursor"]
    assert [item["transaction_id"] for item in found] == ["t5", "t4", "t3", "t2", "t1"]
    assert campus.ask("finance", "GET", PATH, params={"cursor": "none"}).status_code == 422


def test_a_resident_sees_the_recharges_of_the_own_residency_and_circuit(campus):
    for number, hours in enumerate((-49, -48, -1), start=1):
        keep(campus, number=number, hours=hours)
    keep(campus, number=4, circuit_id="south-01-101-lighting")
    with campus.books.write() as connection:
        connection.execute(sa.update(residencies).values(from_at=campus.clock.now() - timedelta(hours=48)))
    own = campus.ask("student", "GET", PATH).json()["items"]
    assert [item["transaction_id"] for item in own] == ["t3", "t2"]
    assert len(campus.ask("finance", "GET", PATH).json()["items"]) == 3
