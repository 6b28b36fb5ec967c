"""`dormpower audit`: what it says of books that prove, of books that don't, and of what rows can't tell."""

import json

import pytest
import sqlalchemy as sa
import typer

from dormpower.books import tables
from dormpower.books.database import open_books
from dormpower.books.migration import upgrade
from dormpower.commands.ledger import audit

SITE = """
site: {id: s, name: S}
lines: [{id: a, transport: tcp, host: 127.0.0.1, port: 1}]
modules: [{id: m1, profile: dormpower-dual, line: a, unit: 1}]
rooms:
  - {room_id: r1, campus: c, building: b, floor: 1, name: 1, ac_module: m1, ac_channel: 1, rated_current_a: 32}
policies: {prices: [{from: 2026-01-01, price_millifen_per_kwh: 56530}]}
"""


@pytest.fixture
def site(tmp_path):
    (tmp_path / "site.yaml").write_text(SITE, encoding="utf-8")
    books = open_books(f"sqlite:///{tmp_path}/books.db")
    upgrade(books)
    yield tmp_path / "site.yaml", books
    books.close()


def test_books_that_prove_are_told_with_what_is_proven_and_what_is_not(site, capsys):
    path, _ = site
    audit(path)
    told = capsys.readouterr()
    assert told.out.strip() == "the books prove: invariants 1, 2, 3, 4, 5, 6, 9, 10, 11, 12, 38"
    assert "invariant 7 is not proven: the books hold no payment notices" in told.err
    audit(path, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert (told["holds"], told["broken"]) == (True, [])
    assert set(told["not_proven"]) == {"7", "8"}
    assert not set(told["not_proven"]) & {str(number) for number in told["proven"]}


def test_what_fails_is_told_and_ends_with_1(site, capsys):
    path, books = site
    with books.write() as connection:
        connection.execute(
            sa.insert(tables.ledger_accounts).values(ledger_account_id="fen:sales", unit="fen", balance=5)
        )
    with pytest.raises(typer.Exit) as ended:
        audit(path)
    assert ended.value.exit_code == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert "invariant 4: fen:sales: the cached balance is 5, the sum of its postings 0" in told.err
    assert "the books don't prove" in told.err
