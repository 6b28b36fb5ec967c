"""Accounts and the journal (`books.accounts`, `books.journal`)."""

import sqlalchemy as sa
from sqlalchemy import Column, Date, ForeignKey, Index, LargeBinary, String, Table, UniqueConstraint

from dormpower.books.tables.schema import Amount, SerialId, metadata
from dormpower.books.types import Instant

accounts = Table(
    "accounts",
    metadata,
    Column("account_id", String, primary_key=True),
    Column("unit", String, nullable=False, server_default="wh"),
    Column("opened_at", Instant, nullable=False),
    Column("closed_at", Instant),
)

# Whole campus days [from_on, to_on).
account_links = Table(
    "account_links",
    metadata,
    Column("account_id", ForeignKey("accounts.account_id"), primary_key=True),
    Column("circuit_id", ForeignKey("circuits.circuit_id"), primary_key=True),
    Column("from_on", Date, primary_key=True),
    Column("to_on", Date),
    Index("ix_account_links_circuit_id", "circuit_id"),
)

# "wh:account:{account_id}", "wh:issued", "wh:consumed", "fen:channel:{channel}", "fen:prepaid", "fen:sales" …
ledger_accounts = Table(
    "ledger_accounts",
    metadata,
    Column("ledger_account_id", String, primary_key=True),
    Column("unit", String, nullable=False),
    Column("balance", Amount, nullable=False, server_default="0"),
)

transactions = Table(
    "transactions",
    metadata,
    Column("transaction_id", String, primary_key=True),
    Column("sequence", SerialId, nullable=False, unique=True),  # order of commit; taken under the write lock
    Column("source", String, nullable=False),
    Column("idempotency_key", String, nullable=False),
    Column("content_sha256", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("posted_at", Instant, nullable=False),
    Column("account_id", ForeignKey("accounts.account_id")),
    Column("circuit_id", ForeignKey("circuits.circuit_id")),
    Column("used_on", Date),
    Column("amount_fen", Amount, nullable=False, server_default="0"),
    Column("energy_wh", Amount, nullable=False, server_default="0"),
    Column("balance_after_wh", Amount),
    Column("price_millifen_per_kwh", Amount),
    Column("channel", String),
    Column("note", String),
    Column("actor", String, nullable=False),
    Column("reverses_id", ForeignKey("transactions.transaction_id"), unique=True),
    Column("answer", LargeBinary),  # the first answer, repeated byte for byte
    UniqueConstraint("source", "idempotency_key"),
    Index("ix_transactions_circuit_id_sequence", "circuit_id", "sequence"),
    Index("ix_transactions_account_id_sequence", "account_id", "sequence"),
)

postings = Table(
    "postings",
    metadata,
    Column("posting_id", SerialId, primary_key=True, autoincrement=True),
    Column("transaction_id", ForeignKey("transactions.transaction_id"), nullable=False, index=True),
    Column("ledger_account_id", ForeignKey("ledger_accounts.ledger_account_id"), nullable=False, index=True),
    Column("unit", String, nullable=False),
    Column("amount", Amount, nullable=False),
)

lots = Table(
    "lots",
    metadata,
    Column("lot_id", SerialId, primary_key=True, autoincrement=True),
    Column("account_id", ForeignKey("accounts.account_id"), nullable=False, index=True),
    Column("transaction_id", ForeignKey("transactions.transaction_id"), nullable=False, index=True),
    Column("origin", String, nullable=False),  # paid|granted
    # The recharge whose money this is, also after a transfer: its refunds never exceed it (invariant 9).
    Column("payment_id", ForeignKey("transactions.transaction_id"), index=True),
    Column("issued_at", Instant, nullable=False),
    Column("energy_wh", Amount, nullable=False),
    Column("cost_fen", Amount, nullable=False),
    Column("price_millifen_per_kwh", Amount),
    Column("expires_at", Instant),
    Column("remaining_wh", Amount, nullable=False),
    Column("remaining_fen", Amount, nullable=False),
    sa.CheckConstraint("remaining_wh BETWEEN 0 AND energy_wh", name="remaining_wh"),
    sa.CheckConstraint("remaining_fen BETWEEN 0 AND cost_fen", name="remaining_fen"),
)

# Every change of a lot after its issue: issued = used + remaining + refunded + expired + transferred
# (invariant 12; what was transferred is issued once more, in the other account).
lot_moves = Table(
    "lot_moves",
    metadata,
    Column("lot_move_id", SerialId, primary_key=True, autoincrement=True),
    Column("lot_id", ForeignKey("lots.lot_id"), nullable=False, index=True),
    Column("transaction_id", ForeignKey("transactions.transaction_id"), nullable=False, index=True),
    Column("cause", String, nullable=False),  # used|refunded|expired|transferred; negative when given back
    Column("energy_wh", Amount, nullable=False),
    Column("cost_fen", Amount, nullable=False),
)
