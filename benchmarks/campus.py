"""A campus for load: a site file, rooms on Modbus lines, books with energy on every account.

The books are filled by copying one recharge that the journal itself posted, so that every rule of the proof
holds and every account has energy enough to be quiet.
"""

import csv
import json
import math
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import yaml

from config.settings import Settings, load
from dormpower.books import control, holds, journal, journal_write, migration
from dormpower.books.database import Books, open_books
from dormpower.books.sites import sync_site
from dormpower.books.tables import (
    account_links,
    channel_spans,
    ledger_accounts,
    lots,
    metadata,
    postings,
    transactions,
)
from dormpower.books.users import Role, add_user, issue_token
from dormpower.domain import arrears
from dormpower.domain.arrears import Warnings
from dormpower.domain.holds import Reason
from dormpower.domain.site import CircuitKind
from dormpower.domain.tariff import Price, price_at

UNITS_PER_LINE = 32
BUILDINGS = 10
AMOUNT_FEN = 100_000
_ROOM_COLUMNS = (
    "room_id",
    "campus",
    "building",
    "floor",
    "name",
    "lighting_module",
    "lighting_channel",
    "ac_module",
    "ac_channel",
    "rated_current_a",
    "feeder",
)


def lines_needed(rooms: int) -> int:
    """Return how many lines of 32 modules so many rooms need."""
    return math.ceil(rooms / UNITS_PER_LINE)


def room_name(index: int) -> str:
    """Return the id of a room by its number; one number and the next are in different buildings."""
    return f"south-{index % BUILDINGS + 1:02d}-{index // BUILDINGS:04d}"


def write_site(
    folder: Path,
    *,
    rooms: int,
    ports: Sequence[int],
    poll_s: float,
    api_port: int = 8000,
    framers: Mapping[int, str] | None = None,
    timeout_ms: int = 1000,
) -> Settings:
    """Write the site file of a campus with a dormpower-dual module in every room, and load it.

    `framers` names the lines, by index, that are not Modbus TCP.
    """
    lines: list[dict[str, Any]] = []
    for index, port in enumerate(ports):
        framer = (framers or {}).get(index, "socket")
        lines.append(
            {"id": f"line-{index:03d}", "transport": "tcp", "host": "127.0.0.1", "port": port, "framer": framer}
            | {"timeout_ms": timeout_ms}
        )
    modules = [
        {
            "id": f"m-{room_name(index)}",
            "profile": "dormpower-dual",
            "line": f"line-{index // UNITS_PER_LINE:03d}",
            "unit": index % UNITS_PER_LINE + 1,
        }
        for index in range(rooms)
    ]
    document = {
        "site": {"id": "benchmark", "name": "Benchmark campus", "zone": "Asia/Shanghai"},
        "database": "sqlite:///books.db",
        "readings": {"store": "embedded", "path": "readings.db", "keep_days": 90},
        "api": {"host": "127.0.0.1", "port": api_port},
        "gateway": {"id": "g1", "poll_s": poll_s, "fast_poll_s": poll_s, "missed_polls": 1000},
        "lines": lines,
        "modules": modules,
        "rooms_file": "rooms.csv",
        "policies": {
            "prices": [{"from": date(2020, 1, 1), "kind": "all", "price_millifen_per_kwh": 56530}],
            "arrears": {"low_wh": 20000, "critical_wh": 5000, "overdraft_wh": 0, "mode": "enforce"},
        },
    }
    with (folder / "rooms.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_ROOM_COLUMNS)
        for index in range(rooms):
            room_id = room_name(index)
            _, building, door = room_id.split("-")
            module_id = f"m-{room_id}"
            place = (room_id, "south", f"south-{building}", door[:2], door)
            writer.writerow((*place, module_id, 0, module_id, 1, 32, ""))
    path = folder / "dormpower.yaml"
    path.write_text(yaml.dump(document, Dumper=yaml.CSafeDumper, sort_keys=False), encoding="utf-8")
    return load(path)


def make_books(
    settings: Settings, *, now: datetime | None = None, without: Collection[str] = frozenset()
) -> Books:
    """Make the site's books: migrated, synced, a recharge on every account but for circuits `without`."""
    books = open_books(settings.database, base=settings.folder)
    migration.upgrade(books)
    at = datetime.now(UTC) if now is None else now
    sync_site(books=books, site=settings.site, now=at, today=at.astimezone(settings.zone).date())
    fund(books, settings, now=at, without=without)
    return books


def commission(books: Books, settings: Settings) -> None:
    """Record the first registers of the light responder's modules, so that the first sample counts already."""
    lines = {line.line_id: index for index, line in enumerate(settings.site.lines)}
    rows = []
    for module in settings.site.modules:
        number = lines[str(module.line_id)] * 256 + (module.unit or 0)
        for channel, base_wh in enumerate((1_000_000, 2_000_000)):
            rows.append(
                {
                    "of_module": module.module_id,
                    "of_channel": channel,
                    "first_register_wh": base_wh + 1000 * number,
                }
            )
    statement = sa.update(channel_spans).where(
        channel_spans.c.module_id == sa.bindparam("of_module"),
        channel_spans.c.channel == sa.bindparam("of_channel"),
    )
    values = {"first_register_wh": sa.bindparam("first_register_wh")}
    with books.write() as connection:
        connection.execute(statement.values(values), rows)


def fund(books: Books, settings: Settings, *, now: datetime, without: Collection[str] = frozenset()) -> None:
    """Give every account the same recharge, but for those of circuits `without`."""
    circuit = next(one for one in settings.site.circuits() if one.circuit_id not in without)
    prices = [
        Price(from_on=row.from_on, kind=row.kind, price_millifen_per_kwh=row.price_millifen_per_kwh)
        for row in settings.policies.prices
    ]
    with books.write() as connection:
        journal.post_recharge(
            connection,
            circuit_id=circuit.circuit_id,
            amount_fen=AMOUNT_FEN,
            channel="cash",
            price=price_at(prices, kind=CircuitKind.LIGHTING, on=now.astimezone(settings.zone).date()),
            source="benchmark",
            idempotency_key="0",
            transaction_id="txn-benchmark",
            actor="benchmark",
            note=None,
            now=now,
        )
        _copy_recharge(connection, without)


def _copy_recharge(connection: sa.Connection, without: Collection[str]) -> None:
    """Post for every other account what was posted for the first one."""
    first = connection.execute(sa.select(transactions)).mappings().one()
    others = sa.select(account_links.c.account_id, account_links.c.circuit_id).where(
        account_links.c.account_id != first["account_id"]
    )
    links = [link for link in connection.execute(others) if link.circuit_id not in without]
    own = f"wh:account:{first['account_id']}"
    lines = connection.execute(sa.select(postings)).mappings().all()
    lot = connection.execute(sa.select(lots)).mappings().one()
    answer = json.loads(first["answer"])
    entries, copied, issued = [], [], []
    for number, link in enumerate(links, start=1):
        transaction_id = f"txn-benchmark-{number}"
        entries.append(
            dict(first)
            | {
                "transaction_id": transaction_id,
                "sequence": first["sequence"] + number,
                "idempotency_key": str(number),
                "account_id": link.account_id,
                "circuit_id": link.circuit_id,
                "content_sha256": journal_write.digest(
                    journal.recharge_content(
                        circuit_id=link.circuit_id, amount_fen=AMOUNT_FEN, channel="cash", note=None
                    )
                ),
                "answer": journal_write.as_answer(
                    {**answer, "transaction_id": transaction_id, "circuit_id": link.circuit_id}
                ),
            }
        )
        for line in lines:
            account = line["ledger_account_id"]
            copied.append(
                {
                    "transaction_id": transaction_id,
                    "ledger_account_id": f"wh:account:{link.account_id}" if account == own else account,
                    "unit": line["unit"],
                    "amount": line["amount"],
                }
            )
        moved = {key: value for key, value in lot.items() if key != "lot_id"}
        issued.append(moved | {"account_id": link.account_id, "transaction_id": transaction_id})
    if not entries:
        return
    connection.execute(sa.insert(transactions), entries)
    connection.execute(sa.insert(postings), copied)
    connection.execute(sa.insert(lots), issued)
    total = sa.select(sa.func.coalesce(sa.func.sum(postings.c.amount), 0)).where(
        postings.c.ledger_account_id == ledger_accounts.c.ledger_account_id
    )
    connection.execute(sa.update(ledger_accounts).values(balance=total.scalar_subquery()))


def cut_for_arrears(books: Books, circuit_ids: Collection[str], *, now: datetime | None = None) -> None:
    """Leave behind what a cut of yesterday would have left: two warnings and the hold."""
    at = datetime.now(UTC) if now is None else now
    first_at, second_at, cut_at = (at - timedelta(hours=hours) for hours in (40, 28, 15))
    with books.write() as connection:
        for circuit_id in circuit_ids:
            control.save_warnings(
                connection,
                circuit_id=circuit_id,
                warnings=Warnings(first_at=first_at, second_at=second_at),
                now=second_at,
            )
            holds.place(
                connection,
                circuit_id=circuit_id,
                reason=Reason.ARREARS,
                placed_by=arrears.RULE,
                evidence={"available_wh": 0, "floor_wh": 0},
                now=cut_at,
            )


def make_token(books: Books, *, role: Role, now: datetime | None = None) -> str:
    """Add a user of a role without a password and return a bearer token."""
    at = datetime.now(UTC) if now is None else now
    with books.write() as connection:
        user_id = add_user(connection, username=f"bench-{role.value}", role=role, password_hash="!", now=at)
        return issue_token(connection, user_id=user_id, days=2, now=at).secret


def count_rows(books: Books) -> dict[str, int]:
    """Return how many rows each table of the books has, empty ones left out."""
    with books.read() as connection:
        counted = {
            table.name: connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0
            for table in metadata.sorted_tables
        }
    return {name: rows for name, rows in counted.items() if rows}


def days_before(on: date, count: int) -> list[date]:
    """Return the `count` days before a day, oldest first."""
    return [on - timedelta(days=count - number) for number in range(count)]
