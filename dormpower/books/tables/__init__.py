"""The books' tables, by subject. One schema; the migrations under `migrations/` bring a database to it.

Conventions: instants are `Instant` (UTC milliseconds) and end in `_at`; campus days are `Date` and end in
`_on`; energy is `_wh`, money `_fen`, both BIGINT. `transactions`, `postings`, `lot_moves` and `audit_log` are
append-only: the database refuses changes by trigger (invariant 3, 38; see `immutability.py`).
"""

from dormpower.books.tables.control import (
    alarm_steps,
    alarms,
    commands,
    control_points,
    emergency_proposals,
    holds,
    intents,
    outages,
    pending_cuts,
    scoped_holds,
    shadow_alarms,
    state_changes,
)
from dormpower.books.tables.feeders import feeder_states, shed_minutes, shed_turns
from dormpower.books.tables.journal import (
    account_links,
    accounts,
    ledger_accounts,
    lot_moves,
    lots,
    postings,
    transactions,
)
from dormpower.books.tables.metering import (
    day_boundaries,
    day_changes,
    meter_changes,
    meter_points,
    quarantines,
    segments,
    settled_days,
)
from dormpower.books.tables.people import (
    audit_log,
    audit_seals,
    residencies,
    sessions,
    sign_in_origins,
    tokens,
    users,
)
from dormpower.books.tables.places import channel_spans, circuits, meta, modules, rooms
from dormpower.books.tables.policies import (
    disputes,
    permits,
    policy_proposals,
    policy_versions,
    reviews,
    rule_memories,
    silences,
)
from dormpower.books.tables.processes import events, jobs, leases, notices, process_counters
from dormpower.books.tables.schema import metadata

__all__ = [
    "account_links",
    "accounts",
    "alarm_steps",
    "alarms",
    "audit_log",
    "audit_seals",
    "channel_spans",
    "circuits",
    "commands",
    "control_points",
    "day_boundaries",
    "day_changes",
    "disputes",
    "emergency_proposals",
    "events",
    "feeder_states",
    "holds",
    "intents",
    "jobs",
    "leases",
    "ledger_accounts",
    "lot_moves",
    "lots",
    "meta",
    "metadata",
    "meter_changes",
    "meter_points",
    "modules",
    "notices",
    "outages",
    "pending_cuts",
    "permits",
    "policy_proposals",
    "policy_versions",
    "postings",
    "process_counters",
    "quarantines",
    "residencies",
    "reviews",
    "rooms",
    "rule_memories",
    "scoped_holds",
    "segments",
    "sessions",
    "settled_days",
    "shadow_alarms",
    "shed_minutes",
    "shed_turns",
    "sign_in_origins",
    "silences",
    "state_changes",
    "tokens",
    "transactions",
    "users",
]
