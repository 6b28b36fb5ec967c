"""People (`books.users`) and the audit log (`books.audit_log`)."""

import sqlalchemy as sa
from sqlalchemy import Boolean, Column, ForeignKey, String, Table

from dormpower.books.tables.schema import Json, SerialId, metadata
from dormpower.books.types import Instant

users = Table(
    "users",
    metadata,
    Column("user_id", SerialId, primary_key=True, autoincrement=True),
    Column("username", String, nullable=False, unique=True),
    Column("role", String, nullable=False),
    Column("password_hash", String),
    Column("demo", Boolean, nullable=False, server_default=sa.false()),
    Column("created_at", Instant, nullable=False),
    Column("disabled_at", Instant),
)

residencies = Table(
    "residencies",
    metadata,
    Column("residency_id", SerialId, primary_key=True, autoincrement=True),
    Column("user_id", ForeignKey("users.user_id"), nullable=False, index=True),
    Column("room_id", ForeignKey("rooms.room_id"), nullable=False, index=True),
    Column("from_at", Instant, nullable=False),
    Column("to_at", Instant),
)

# Sign-in sessions and bearer tokens: only the SHA-256 of the secret is kept. Real time.
sessions = Table(
    "sessions",
    metadata,
    Column("secret_sha256", String, primary_key=True),
    Column("user_id", ForeignKey("users.user_id"), nullable=False, index=True),
    Column("csrf_token", String, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column("token_id", String, primary_key=True),
    Column("user_id", ForeignKey("users.user_id"), nullable=False, index=True),
    Column("secret_sha256", String, nullable=False, unique=True),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("revoked_at", Instant),
)

# From where a user has signed in before (addresses and devices, as digests): others' failed attempts must not
# lock a person out (invariant 37). Real time.
sign_in_origins = Table(
    "sign_in_origins",
    metadata,
    Column("origin_sha256", String, primary_key=True),
    Column("user_id", ForeignKey("users.user_id"), nullable=False, index=True),
    Column("used_at", Instant, nullable=False),
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("audit_id", SerialId, primary_key=True, autoincrement=True),
    Column("written_at", Instant, nullable=False),
    Column("actor", String, nullable=False),
    Column("action", String, nullable=False),
    Column("subject_kind", String, nullable=False),
    Column("subject_id", String, nullable=False),
    Column("detail", Json, nullable=False),
)

# The sealer's chain over audit_log: each row's hash covers the one before.
audit_seals = Table(
    "audit_seals",
    metadata,
    Column("position", SerialId, primary_key=True, autoincrement=False),
    Column("audit_id", ForeignKey("audit_log.audit_id"), nullable=False, unique=True),
    Column("hash", String, nullable=False),
)
