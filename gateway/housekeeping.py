"""What is due again and again: settlement, sealing the audit log, mending, letting old rows age out."""

from datetime import timedelta

from config.settings import EmbeddedReadingsSettings, Settings
from dormpower.books import audit_log, events, intents, journal, scoped_holds, settlement, silences
from dormpower.books.database import Books
from dormpower.clock import Clock
from dormpower.domain.days import CampusDays
from dormpower.readings.port import ReadingsStore
from gateway.jobs import Job

KEEP_EVENTS = timedelta(days=1)
KEEP_SILENCES = timedelta(days=30)

SETTLE_EVERY_S = 5.0
SEAL_EVERY_S = 1.0
EXPORT_HEAD_EVERY_S = 10.0
AGE_OUT_EVERY_S = 600.0
COMPACT_EVERY_S = 5.0  # to look whether it is due
MEND_EVERY_S = 10.0


def housekeeping(settings: Settings, books: Books, readings: ReadingsStore, clock: Clock) -> list[Job]:
    """Return the jobs of a site's gateway."""

    def settle() -> None:
        settlement.settle(
            books,
            now=clock.now(),
            zone=settings.zone,
            journal=journal.OrderedDays(order=settings.policies.lot_order),
        )

    def mend_scopes() -> None:
        # Hold what was described after a lock-out over its floor, and end what a crash left behind.
        scoped_holds.mend(books, clock.now())

    def seal() -> None:
        with books.write() as connection:
            audit_log.seal(connection)

    def export_head() -> None:
        now = clock.now()
        path = settings.folder / audit_log.HEADS_FILE
        audit_log.export_head(books, path=path, on=CampusDays(settings.zone).day_of(now), now=now)

    def age_out() -> None:
        with books.write() as connection:
            events.drop_before(connection, clock.now() - KEEP_EVENTS)
            intents.drop_handled_before(connection, clock.now() - KEEP_EVENTS)
            silences.drop_before(connection, clock.now() - KEEP_SILENCES)
        kept = settings.readings
        if isinstance(kept, EmbeddedReadingsSettings):  # the retention of an InfluxDB bucket is the server's
            readings.drop_before(clock.now() - timedelta(days=kept.keep_days))

    def compact() -> None:
        readings.compact()

    return [
        Job(name="settle", every_s=SETTLE_EVERY_S, run=settle),
        Job(name="seal", every_s=SEAL_EVERY_S, run=seal),
        Job(name="audit_head", every_s=EXPORT_HEAD_EVERY_S, run=export_head),
        Job(name="mend_scopes", every_s=MEND_EVERY_S, run=mend_scopes),
        Job(name="age_out", every_s=AGE_OUT_EVERY_S, run=age_out),
        Job(name="compact", every_s=COMPACT_EVERY_S, run=compact),
    ]
