"""The role matrix of the pages: every page, who may see it, and what it is about (invariant 35).

Money is finance's to move; maintenance works on circuits; an admin sees both and moves no money.
"""

from collections.abc import Mapping

from api.roles import Rule, Subject
from dormpower.books.users import Role

_PUBLIC = Rule(public=True)
_ALL = frozenset(Role)
_MAINTENANCE = frozenset({Role.MAINTENANCE})
_MAINTENANCE_AND_ADMIN = frozenset({Role.MAINTENANCE, Role.ADMIN})

PAGES: Mapping[tuple[str, str], Rule] = {
    ("GET", "/"): Rule(roles=_ALL),
    ("GET", "/sign-in"): _PUBLIC,
    ("POST", "/sign-in"): _PUBLIC,
    ("POST", "/sign-out"): Rule(roles=_ALL),
    ("POST", "/language"): _PUBLIC,
    ("GET", "/my-room"): Rule(roles=frozenset({Role.STUDENT})),
    ("GET", "/rooms/{room_id}"): Rule(roles=_ALL, subject=Subject.ROOM),
    ("GET", "/rooms/{room_id}/cards"): Rule(roles=_ALL, subject=Subject.ROOM),
    ("POST", "/circuits/{circuit_id}/lockouts"): Rule(roles=_MAINTENANCE, subject=Subject.CIRCUIT),
    ("POST", "/circuits/{circuit_id}/reset"): Rule(roles=_MAINTENANCE, subject=Subject.CIRCUIT),
    ("POST", "/lockouts/{lockout_id}/lift"): Rule(roles=_MAINTENANCE_AND_ADMIN, subject=Subject.LOCKOUT),
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
    rule = PAGES.get((method, path))
    return rule is not None and role in rule.roles
