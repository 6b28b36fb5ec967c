"""Books that a newer version wrote: the pages show its reasons and alarms by their bare codes."""

import sqlalchemy as sa

from dormpower.books.tables import alarms, holds
from dormpower.domain.holds import Reason

OWN = "south-01-101"
CIRCUIT = f"{OWN}-ac"


def test_what_this_version_does_not_know_is_shown_by_its_code(place):
    place.hold(CIRCUIT, Reason.OVERLOAD)
    place.hold(CIRCUIT, Reason.OVERLOAD, shadow=True)
    with place.books.write() as connection:
        connection.execute(sa.update(holds).values(reason="quake"))
        connection.execute(sa.update(alarms).values(kind="ground_moves"))
    for who, path, code in (
        ("student", f"/rooms/{OWN}", "quake"),
        ("student", f"/circuits/{CIRCUIT}/timeline", "quake"),
        ("maintenance", f"/rooms/{OWN}", "quake"),
        ("maintenance", "/alarms", "ground_moves"),
        ("maintenance", f"/alarms/{place.alarm_id}", "ground_moves"),
        ("maintenance", "/reports", "quake"),
    ):
        page = place.browser(who).get(path)
        assert page.status_code == 200, (who, path)
        assert code in page.text, (who, path)
