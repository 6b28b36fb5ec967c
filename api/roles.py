"""The role matrix: every route of the API, who may use it, and what it is about (invariant 35).

The application refuses to start with a route that is not in here. `access.py` enforces it for each request:
own room without the right is 403; another's room is 404, as if it did not exist.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from dormpower.books.users import STAFF, Role

PREFIX = "/api/v1"


class Subject(StrEnum):
    """What a route's path names, and so how a resident's own room is found."""

    NOTHING = "nothing"
    ROOM = "room"
    CIRCUIT = "circuit"
    LOCKOUT = "lockout"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Who may use a route; `public` needs no sign-in."""

    roles: frozenset[Role] = frozenset()
    subject: Subject = Subject.NOTHING
    public: bool = False


_PUBLIC = Rule(public=True)
_ALL = Rule(roles=frozenset(Role))
_STAFF = STAFF
_OWN_AND_STAFF = frozenset(Role)
_MAINTENANCE = frozenset({Role.MAINTENANCE})
_MAINTENANCE_AND_ADMIN = frozenset({Role.MAINTENANCE, Role.ADMIN})

MATRIX: Mapping[tuple[str, str], Rule] = {
    ("GET", "/healthz"): _PUBLIC,
    ("GET", "/readyz"): _PUBLIC,
    ("GET", "/metrics"): _PUBLIC,
    ("GET", "/openapi.json"): _PUBLIC,
    ("GET", "/docs"): _PUBLIC,
    ("POST", f"{PREFIX}/session"): _PUBLIC,
    ("DELETE", f"{PREFIX}/session"): _ALL,
    ("GET", f"{PREFIX}/me"): _ALL,
    ("GET", f"{PREFIX}/rooms"): Rule(roles=_STAFF),
    ("GET", f"{PREFIX}/rooms/{{room_id}}"): Rule(roles=_OWN_AND_STAFF, subject=Subject.ROOM),
    ("GET", f"{PREFIX}/circuits/{{circuit_id}}/recharges"): Rule(roles=_OWN_AND_STAFF, subject=Subject.CIRCUIT),
    ("POST", f"{PREFIX}/circuits/{{circuit_id}}/recharges"): Rule(
        roles=frozenset({Role.FINANCE}), subject=Subject.CIRCUIT
    ),
    ("GET", f"{PREFIX}/circuits/{{circuit_id}}/usage/daily"): Rule(
        roles=_OWN_AND_STAFF, subject=Subject.CIRCUIT
    ),
    ("GET", f"{PREFIX}/circuits/{{circuit_id}}/readings"): Rule(roles=_OWN_AND_STAFF, subject=Subject.CIRCUIT),
    ("GET", f"{PREFIX}/circuits/{{circuit_id}}/timeline"): Rule(roles=_OWN_AND_STAFF, subject=Subject.CIRCUIT),
    ("POST", f"{PREFIX}/circuits/{{circuit_id}}/lockouts"): Rule(roles=_MAINTENANCE, subject=Subject.CIRCUIT),
    ("DELETE", f"{PREFIX}/lockouts/{{lockout_id}}"): Rule(
        roles=_MAINTENANCE_AND_ADMIN, subject=Subject.LOCKOUT
    ),
    ("POST", f"{PREFIX}/circuits/{{circuit_id}}/reset"): Rule(roles=_MAINTENANCE, subject=Subject.CIRCUIT),
    ("POST", f"{PREFIX}/resets"): Rule(roles=_MAINTENANCE),
    ("GET", f"{PREFIX}/circuits/{{circuit_id}}/alarms"): Rule(roles=_OWN_AND_STAFF, subject=Subject.CIRCUIT),
    ("GET", f"{PREFIX}/alarms"): Rule(roles=_MAINTENANCE_AND_ADMIN),
    ("GET", f"{PREFIX}/alarms/figures"): Rule(roles=_MAINTENANCE_AND_ADMIN),
    ("GET", f"{PREFIX}/alarms/{{alarm_id}}"): Rule(roles=_MAINTENANCE_AND_ADMIN),
    ("POST", f"{PREFIX}/alarms/{{alarm_id}}/acknowledge"): Rule(roles=_MAINTENANCE),
    ("POST", f"{PREFIX}/alarms/{{alarm_id}}/shelve"): Rule(roles=_MAINTENANCE),
    ("DELETE", f"{PREFIX}/alarms/{{alarm_id}}/shelve"): Rule(roles=_MAINTENANCE),
    ("GET", f"{PREFIX}/quarantines"): Rule(roles=_MAINTENANCE_AND_ADMIN),
    ("POST", f"{PREFIX}/quarantines/{{quarantine_id}}/decision"): Rule(roles=_MAINTENANCE_AND_ADMIN),
    ("GET", f"{PREFIX}/meter-changes"): Rule(roles=_MAINTENANCE_AND_ADMIN),
    ("POST", f"{PREFIX}/circuits/{{circuit_id}}/replacements"): Rule(
        roles=_MAINTENANCE_AND_ADMIN, subject=Subject.CIRCUIT
    ),
    ("POST", f"{PREFIX}/circuits/{{circuit_id}}/commissioning"): Rule(
        roles=_MAINTENANCE_AND_ADMIN, subject=Subject.CIRCUIT
    ),
    ("GET", f"{PREFIX}/lockouts"): Rule(roles=_MAINTENANCE_AND_ADMIN),
    ("POST", f"{PREFIX}/lockouts"): Rule(roles=_MAINTENANCE),
    ("GET", f"{PREFIX}/vacancies"): Rule(roles=_MAINTENANCE_AND_ADMIN),
    ("POST", f"{PREFIX}/vacancies"): Rule(roles=_MAINTENANCE_AND_ADMIN),
    ("DELETE", f"{PREFIX}/vacancies/{{scoped_hold_id}}"): Rule(roles=_MAINTENANCE_AND_ADMIN),
    ("GET", f"{PREFIX}/emergencies"): Rule(roles=_MAINTENANCE_AND_ADMIN),
    ("POST", f"{PREFIX}/emergencies/proposals"): Rule(roles=_MAINTENANCE_AND_ADMIN),
    ("POST", f"{PREFIX}/emergencies"): Rule(roles=_MAINTENANCE_AND_ADMIN),
    ("DELETE", f"{PREFIX}/emergencies/{{scoped_hold_id}}"): Rule(roles=_MAINTENANCE_AND_ADMIN),
    ("GET", f"{PREFIX}/outages"): Rule(roles=_STAFF),
    ("POST", f"{PREFIX}/outages"): Rule(roles=_MAINTENANCE_AND_ADMIN),
    ("DELETE", f"{PREFIX}/outages/{{outage_id}}"): Rule(roles=_MAINTENANCE_AND_ADMIN),
    ("GET", f"{PREFIX}/keep-supply"): Rule(roles=_STAFF),
    ("PUT", f"{PREFIX}/rooms/{{room_id}}/keep-supply"): Rule(
        roles=frozenset({Role.ADMIN}), subject=Subject.ROOM
    ),
    ("POST", f"{PREFIX}/circuits/{{circuit_id}}/disputes"): Rule(roles=_OWN_AND_STAFF, subject=Subject.CIRCUIT),
    ("GET", f"{PREFIX}/circuits/{{circuit_id}}/disputes"): Rule(roles=_OWN_AND_STAFF, subject=Subject.CIRCUIT),
    ("GET", f"{PREFIX}/disputes"): Rule(roles=_MAINTENANCE_AND_ADMIN),
    ("POST", f"{PREFIX}/disputes/{{dispute_id}}/answer"): Rule(roles=_MAINTENANCE_AND_ADMIN),
    ("POST", f"{PREFIX}/reviews"): Rule(roles=_MAINTENANCE_AND_ADMIN),
    ("GET", f"{PREFIX}/permits"): Rule(roles=_MAINTENANCE_AND_ADMIN),
    ("POST", f"{PREFIX}/rooms/{{room_id}}/permits"): Rule(roles=_MAINTENANCE_AND_ADMIN, subject=Subject.ROOM),
    ("DELETE", f"{PREFIX}/permits/{{permit_id}}"): Rule(roles=_MAINTENANCE_AND_ADMIN),
    ("GET", f"{PREFIX}/feeders"): Rule(roles=_MAINTENANCE_AND_ADMIN),
    ("GET", f"{PREFIX}/reports/fairness"): Rule(roles=_MAINTENANCE_AND_ADMIN),
    ("GET", f"{PREFIX}/reports/shadow"): Rule(roles=_MAINTENANCE_AND_ADMIN),
    ("GET", f"{PREFIX}/reports/shadow/alarms"): Rule(roles=_MAINTENANCE_AND_ADMIN),
    ("GET", f"{PREFIX}/reports/false-trips"): Rule(roles=_MAINTENANCE_AND_ADMIN),
    ("GET", f"{PREFIX}/rooms/{{room_id}}/fairness"): Rule(roles=_OWN_AND_STAFF, subject=Subject.ROOM),
    ("GET", f"{PREFIX}/policies"): Rule(roles=_MAINTENANCE_AND_ADMIN),
    ("GET", f"{PREFIX}/policies/proposals"): Rule(roles=_MAINTENANCE_AND_ADMIN),
    ("POST", f"{PREFIX}/policies/proposals"): Rule(roles=_MAINTENANCE_AND_ADMIN),
    ("GET", f"{PREFIX}/policies/proposals/{{proposal_id}}"): Rule(roles=_MAINTENANCE_AND_ADMIN),
    ("DELETE", f"{PREFIX}/policies/proposals/{{proposal_id}}"): Rule(roles=_MAINTENANCE_AND_ADMIN),
    ("POST", f"{PREFIX}/policies/proposals/{{proposal_id}}/dry-run"): Rule(roles=_MAINTENANCE_AND_ADMIN),
    ("POST", f"{PREFIX}/policies/proposals/{{proposal_id}}/apply"): Rule(roles=frozenset({Role.ADMIN})),
    ("GET", f"{PREFIX}/approvals"): Rule(roles=frozenset({Role.ADMIN})),
    ("POST", f"{PREFIX}/approvals"): Rule(roles=frozenset({Role.ADMIN})),
    ("POST", f"{PREFIX}/approvals/refusals"): Rule(roles=frozenset({Role.ADMIN})),
    ("GET", f"{PREFIX}/events"): _ALL,
}

ALARM_READERS = _MAINTENANCE_AND_ADMIN
