"""A restored site decides in shadow until an admin confirms: one key in `meta`, read by the gateway.

While `shadow_until_confirmed` is "true" no policy's hold opens a relay, whatever its mode says; lock-outs and
what is found open in the field count as ever.
"""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books import audit_log
from dormpower.books.tables import meta

SHADOW_KEY = "shadow_until_confirmed"


def awaits_confirmation(connection: Connection) -> bool:
    """Tell whether the books were restored and nobody has confirmed them yet."""
    value = connection.execute(sa.select(meta.c.value).where(meta.c.key == SHADOW_KEY)).scalar_one_or_none()
    return value == "true"


def require_confirmation(connection: Connection) -> None:
    """Put the books in shadow."""
    connection.execute(sa.delete(meta).where(meta.c.key == SHADOW_KEY))
    connection.execute(sa.insert(meta).values(key=SHADOW_KEY, value="true"))


def confirm(connection: Connection, *, actor: str, site_id: str, now: datetime) -> bool:
    """End the shadow and say so in the audit log; False where there was none."""
    if not awaits_confirmation(connection):
        return False
    connection.execute(sa.delete(meta).where(meta.c.key == SHADOW_KEY))
    audit_log.write(
        connection,
        actor=actor,
        action="restore.confirmed",
        subject_kind="site",
        subject_id=site_id,
        detail={},
        now=now,
    )
    return True
