"""The proof: looks for rows that break an invariant; an empty list means that the books prove as far as asked.

Each rule is one query that returns only what breaks it. Not proven here yet: the audit chain, gaps between the
segments of a circuit, and a replay of the journal into empty books.
"""

from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from dormpower.books import immutability
from dormpower.books.database import Books


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One broken rule and where."""

    invariant: int
    where: str
    text: str

    def __str__(self) -> str:
        return f"invariant {self.invariant}: {self.where}: {self.text}"


_MOVED = "(SELECT COALESCE(SUM(m.{0}), 0) FROM lot_moves m WHERE m.lot_id = l.lot_id)"

RULES: tuple[tuple[int, str, str], ...] = (
    (
        1,
        "a transaction does not sum to zero in a unit",
        "SELECT transaction_id FROM postings GROUP BY transaction_id, unit HAVING SUM(amount) <> 0",
    ),
    (
        4,
        "a cached balance is not the sum of its postings",
        (
            "SELECT a.ledger_account_id FROM ledger_accounts a WHERE a.balance <> "
            "(SELECT COALESCE(SUM(p.amount), 0) FROM postings p WHERE p.ledger_account_id = a.ledger_account_id)"
        ),
    ),
    (
        12,
        "a lot's energy does not add up",
        "SELECT l.lot_id FROM lots l WHERE l.energy_wh <> l.remaining_wh + " + _MOVED.format("energy_wh"),
    ),
    (
        12,
        "a lot's money does not add up",
        "SELECT l.lot_id FROM lots l WHERE l.cost_fen <> l.remaining_fen + " + _MOVED.format("cost_fen"),
    ),
    (
        10,
        "two segments of a circuit overlap",
        (
            "SELECT s.segment_id FROM segments s JOIN segments o ON o.circuit_id = s.circuit_id "
            "AND o.segment_id > s.segment_id AND o.from_at < s.to_at AND s.from_at < o.to_at"
        ),
    ),
    (
        11,
        "settled energy is not the sum of the settled days",
        (
            "SELECT p.circuit_id FROM meter_points p WHERE p.settled_wh <> (SELECT COALESCE(SUM(d.energy_wh), 0) "
            "FROM settled_days d WHERE d.circuit_id = p.circuit_id)"
        ),
    ),
    (
        11,
        "a settled day is not what was charged for it",
        (
            "SELECT d.circuit_id FROM settled_days d WHERE d.energy_wh <> (SELECT COALESCE(SUM(-t.energy_wh), 0) "
            "FROM transactions t WHERE t.circuit_id = d.circuit_id AND t.used_on = d.used_on "
            "AND t.kind IN ('consumption', 'adjustment'))"
        ),
    ),
)


def prove(books: Books, *, progress: Callable[[str], None] | None = None) -> list[Finding]:
    """Return what breaks invariants 1, 3, 4, 10 (overlaps), 11 and 12 (lots); reads one consistent view."""
    found: list[Finding] = []
    with books.read() as connection:
        for name in sorted(immutability.missing_triggers(connection)):
            found.append(Finding(invariant=3, where=name, text="the trigger is missing"))  # noqa: PERF401
        for number, text, query in RULES:
            if progress is not None:
                progress(text)
            found.extend(
                Finding(invariant=number, where=str(row[0]), text=text)
                for row in connection.execute(sa.text(query))
            )
    return found
