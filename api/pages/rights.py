"""The role matrix of the pages: every page, who may see it, and what it is about (invariant 35).

Money is finance's to move; maintenance works on circuits; an admin sees both and moves no money.
"""

from collections.abc import Mapping

from api.roles import Rule, Subject
from dormpower.books.users import STAFF, Role

_PUBLIC = Rule(public=True)
_ALL = frozenset(Role)
_FINANCE = frozenset({Role.FINANCE})
_FINANCE_AND_ADMIN = frozenset({Role.FINANCE, Role.ADMIN})
_MAINTENANCE = frozenset({Role.MAINTENANCE})
_MAINTENANCE_AND_ADMIN = frozenset({Role.MAINTENANCE, Role.ADMIN})

PAGES: Mapping[tuple[str, str], Rule] = {
    ("GET", "/"): Rule(roles=_ALL),
    ("GET", "/sign-in"): _PUBLIC,
    ("POST", "/sign-in"): _PUBLIC,
    ("POST", "/sign-out"): Rule(roles=_ALL),
    ("POST", "/language"): _PUBLIC,
    ("GET", "/my-room"): Rule(roles=frozenset({Role.STUDENT})),
    ("GET", "/rooms"): Rule(roles=STAFF),
    ("GET", "/rooms/{room_id}"): Rule(roles=_ALL, subject=Subject.ROOM),
    ("GET", "/rooms/{room_id}/cards"): Rule(roles=_ALL, subject=Subject.ROOM),
    ("POST", "/circuits/{circuit_id}/lockouts"): Rule(roles=_MAINTENANCE, subject=Subject.CIRCUIT),
    ("POST", "/circuits/{circuit_id}/reset"): Rule(roles=_MAINTENANCE, subject=Subject.CIRCUIT),
    ("POST", "/lockouts/{lockout_id}/lift"): Rule(roles=_MAINTENANCE_AND_ADMIN, subject=Subject.LOCKOUT),
    ("GET", "/circuits/{circuit_id}/recharge"): Rule(roles=_FINANCE, subject=Subject.CIRCUIT),
    ("POST", "/circuits/{circuit_id}/recharge/check"): Rule(roles=_FINANCE, subject=Subject.CIRCUIT),
    ("POST", "/circuits/{circuit_id}/recharge"): Rule(roles=_FINANCE, subject=Subject.CIRCUIT),
    ("GET", "/receipts/{transaction_id}"): Rule(roles=_FINANCE_AND_ADMIN),
    ("GET", "/takings"): Rule(roles=_FINANCE_AND_ADMIN),
    ("GET", "/takings.csv"): Rule(roles=_FINANCE_AND_ADMIN),
    ("GET", "/buildings"): Rule(roles=_MAINTENANCE_AND_ADMIN),
    ("GET", "/buildings/{campus}/{building}"): Rule(roles=_MAINTENANCE_AND_ADMIN),
    ("GET", "/feeders"): Rule(roles=_MAINTENANCE_AND_ADMIN),
    ("GET", "/feeders/list"): Rule(roles=_MAINTENANCE_AND_ADMIN),
    ("GET", "/reports"): Rule(roles=_MAINTENANCE_AND_ADMIN),
    ("GET", "/questions"): Rule(roles=_MAINTENANCE_AND_ADMIN),
    ("POST", "/questions/{dispute_id}/answer"): Rule(roles=_MAINTENANCE_AND_ADMIN),
    ("GET", "/circuits/{circuit_id}/timeline"): Rule(roles=_ALL, subject=Subject.CIRCUIT),
    ("POST", "/circuits/{circuit_id}/questions"): Rule(roles=_ALL, subject=Subject.CIRCUIT),
    ("GET", "/alarms"): Rule(roles=_MAINTENANCE_AND_ADMIN),
    ("GET", "/alarms/list"): Rule(roles=_MAINTENANCE_AND_ADMIN),
    ("GET", "/alarms/{alarm_id}"): Rule(roles=_MAINTENANCE_AND_ADMIN),
    ("POST", "/alarms/{alarm_id}/acknowledge"): Rule(roles=_MAINTENANCE),
    ("POST", "/alarms/{alarm_id}/shelve"): Rule(roles=_MAINTENANCE),
    ("POST", "/alarms/{alarm_id}/unshelve"): Rule(roles=_MAINTENANCE),
    ("POST", "/alarms/{alarm_id}/reset"): Rule(roles=_MAINTENANCE),
}

# Where each role begins.
HOMES: Mapping[Role, str] = {
    Role.STUDENT: "/my-room",
    Role.FINANCE: "/rooms",
    Role.MAINTENANCE: "/buildings",
    Role.ADMIN: "/buildings",
}


def may(role: Role, method: str, path: str) -> bool:
    """Whether a page's link or form is shown to a role: what would be refused is not offered."""
    return role in PAGES[(method, path)].roles
