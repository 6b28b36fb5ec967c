"""What a repeat of a key would be answered (invariant 6), proven from the rows.

A person's transaction keeps the bytes that answered for it, and a digest of what was asked. Who repeats it gets
these bytes where the content is the same, so they must tell of this transaction and of nothing else. Where the
row holds all that was asked, its digest must be that of it. Days are charged by settlement and keep no answer.
"""

import json
from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books.findings import Finding
from dormpower.books.journal import SETTLEMENT, recharge_content
from dormpower.books.journal_write import digest, history_item
from dormpower.books.tables import transactions

CHUNK = 1000


def check_answers(connection: Connection) -> Iterator[Finding]:
    """Yield each transaction whose repeat would not be answered with what was posted."""
    after = 0
    while True:
        rows = (
            connection.execute(
                sa.select(transactions)
                .where(transactions.c.source != SETTLEMENT, transactions.c.sequence > after)
                .order_by(transactions.c.sequence)
                .limit(CHUNK)
            )
            .mappings()
            .all()
        )
        for row in rows:
            for text in _faults(row):
                yield Finding(invariant=6, where=f"transaction {row['transaction_id']}", text=text)
        if len(rows) < CHUNK:
            return
        after = rows[-1]["sequence"]


def _faults(row: sa.RowMapping) -> Iterator[str]:
    if row["kind"] == "recharge":
        content = {name: row[name] for name in ("circuit_id", "amount_fen", "channel", "note")}
        if row["content_sha256"] != digest(recharge_content(**content)):
            yield "its digest is not that of its content: a repeat would be refused as other content"
    if row["answer"] is None:
        yield "it keeps no answer: a repeat would be refused as other content"
        return
    try:
        answer = json.loads(bytes(row["answer"]))
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        yield "its answer can't be read"
        return
    wrong = [name for name, value in history_item(row).items() if answer.get(name, ...) != value]
    if wrong:
        yield f"its answer does not tell what was posted: {', '.join(wrong)}"
