"""Books that are busy when a form is sent: a page that says to try again."""

from dormpower.books import database
from dormpower.domain.holds import Reason

CIRCUIT = "south-01-101-ac"


def test_a_form_that_comes_while_the_books_are_busy_is_told_to_come_again(sqlite_place, monkeypatch):
    sqlite_place.hold(CIRCUIT, Reason.OPENED_LOCALLY)
    sqlite_place.csrf("maintenance")
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.05)
    with sqlite_place.books.write():
        page = sqlite_place.post("maintenance", f"/circuits/{CIRCUIT}/reset")
    assert page.status_code == 503
    assert "The books are busy or out of reach. Try again in a moment." in page.text
    assert sqlite_place.post("maintenance", f"/circuits/{CIRCUIT}/reset").status_code == 303
