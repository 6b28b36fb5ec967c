"""Every page × every role × own room, another's room; proof against forgery; errors as pages."""

import pytest
from fastapi.testclient import TestClient

from api import pages
from api.app import UnguardedRouteError, create_app
from api.pages.rights import PAGES
from dormpower.books import holds, reviews
from dormpower.books.residencies import end_residency
from dormpower.domain.holds import Reason

OWN, OTHER, ABSENT = "south-01-101", "south-01-102", "south-01-999"
ROLES = ("student", "finance", "maintenance", "admin")
EVERYBODY = set(ROLES)

# Who may, written down by hand and not taken from the code.
ALLOWED = {
    "GET /": EVERYBODY,
    "POST /sign-out": EVERYBODY,
    "GET /my-room": {"student"},
    "GET /rooms": {"finance", "maintenance", "admin"},
    "GET /rooms/{room_id}": EVERYBODY,
    "GET /rooms/{room_id}/cards": EVERYBODY,
    "POST /circuits/{circuit_id}/lockouts": {"maintenance"},
    "POST /circuits/{circuit_id}/reset": {"maintenance"},
    "POST /lockouts/{lockout_id}/lift": {"maintenance", "admin"},
    "GET /circuits/{circuit_id}/recharge": {"finance"},
    "POST /circuits/{circuit_id}/recharge/check": {"finance"},
    "POST /circuits/{circuit_id}/recharge": {"finance"},
    "GET /receipts/{transaction_id}": {"finance", "admin"},
    "GET /takings": {"finance", "admin"},
    "GET /takings.csv": {"finance", "admin"},
    "GET /buildings": {"maintenance", "admin"},
    "GET /buildings/{campus}/{building}": {"maintenance", "admin"},
    "GET /circuits/{circuit_id}/timeline": EVERYBODY,
    "POST /circuits/{circuit_id}/questions": EVERYBODY,
    "GET /feeders": {"maintenance", "admin"},
    "GET /feeders/list": {"maintenance", "admin"},
    "GET /reports": {"maintenance", "admin"},
    "GET /questions": {"maintenance", "admin"},
    "POST /questions/{dispute_id}/answer": {"maintenance", "admin"},
    "GET /alarms": {"maintenance", "admin"},
    "GET /alarms/list": {"maintenance", "admin"},
    "GET /alarms/{alarm_id}": {"maintenance", "admin"},
    "POST /alarms/{alarm_id}/acknowledge": {"maintenance"},
    "POST /alarms/{alarm_id}/shelve": {"maintenance"},
    "POST /alarms/{alarm_id}/unshelve": {"maintenance"},
    "POST /alarms/{alarm_id}/reset": {"maintenance"},
}
ABOUT_A_ROOM = ("{room_id}", "{circuit_id}", "{lockout_id}")
FIELDS = {
    "verdict": "right",
    "answer": "A heater.",
    "question": "A lamp?",
    "hours": "8",
    "amount": "10",
    "channel": "cash",
    "key": "k",
    "reason": "work on the wiring",
}


def ask(place, who, method, template, room_id):
    lockout_id = "hld_none"
    if "{lockout_id}" in template and room_id != ABSENT:
        with place.books.write() as connection:
            lockout_id = holds.place_lockout(
                connection,
                circuit_id=f"{room_id}-lighting",
                holder="maintenance",
                reason="work",
                now=place.clock.now(),
            ).lockout_id
    if template.endswith("/unshelve"):
        place.post("maintenance", f"/alarms/{place.alarm_id}/shelve", hours="1", reason="known")
    fields = {**FIELDS, "key": f"{who}-{room_id}", "subject_id": "hld_none"}
    if template.endswith("/questions") and method == "POST" and room_id != ABSENT:
        fields["subject_id"] = place.hold(f"{room_id}-lighting", Reason.OVERLOAD)
    path = template.format(
        dispute_id=question(place, who) if "{dispute_id}" in template else "",
        room_id=room_id,
        circuit_id=f"{room_id}-lighting",
        lockout_id=lockout_id,
        alarm_id=place.alarm_id,
        transaction_id="txn_none",
        campus="south",
        building="01",
    )
    if method == "GET":
        return place.browser(who).get(path, follow_redirects=False)
    return place.post(who, path, **fields)


def question(place, who):
    hold_id = place.hold(f"{OWN}-ac", Reason.OVERLOAD)
    with place.books.write() as connection:
        asked = reviews.dispute(
            connection,
            subject_kind="hold",
            subject_id=hold_id,
            question="It was a lamp.",
            actor=who,
            now=place.clock.now(),
        )
    return asked.dispute_id


def test_the_matrix_says_who_may_see_which_page():
    said = {f"{method} {path}": {str(role) for role in rule.roles} for (method, path), rule in PAGES.items()}
    public = {name for name, roles in said.items() if not roles}
    assert public == {"GET /sign-in", "POST /sign-in", "POST /language"}
    assert {name: roles for name, roles in said.items() if roles} == ALLOWED


@pytest.mark.parametrize("name", sorted(set(ALLOWED) - {"POST /sign-out"}))
def test_each_role_sees_the_page_or_is_refused_as_the_matrix_says(sqlite_place, name):
    method, template = name.split()
    about_a_room = any(part in template for part in ABOUT_A_ROOM)
    for who in ROLES:
        for room_id in (OWN, OTHER, ABSENT) if about_a_room else (OWN,):
            status = ask(sqlite_place, who, method, template, room_id).status_code
            if about_a_room and (room_id == ABSENT or (who == "student" and room_id == OTHER)):
                assert status == 404, (who, room_id)
            elif who not in ALLOWED[name]:
                assert status == 403, (who, room_id)
            elif template.startswith("/receipts"):
                assert status == 404  # there is no such receipt
            elif template == "/alarms/{alarm_id}/reset":
                assert status == 404  # the campus's alarm is no building's
            else:
                assert status in {200, 303}, (who, room_id)


def test_who_is_not_signed_in_is_sent_to_the_sign_in_page_and_back(sqlite_place):
    stranger = TestClient(sqlite_place.app)
    for (method, template), rule in PAGES.items():
        if rule.public:
            continue
        path = template.format(
            room_id=OWN,
            circuit_id=OWN,
            lockout_id="l",
            dispute_id="d",
            alarm_id="a",
            transaction_id="t",
            campus="c",
            building="b",
        )
        answer = stranger.request(method, path, data={} if method == "POST" else None, follow_redirects=False)
        if method == "POST":
            answer = stranger.post(path, data={"a": "b"}, follow_redirects=False)
        assert answer.status_code == 303, path
        assert answer.headers["location"].startswith("/sign-in")
    page = stranger.get(f"/rooms/{OWN}")
    assert f'name="next" value="/rooms/{OWN}"' in page.text
    fragment = stranger.get(f"/rooms/{OWN}/cards", headers={"HX-Request": "true"})
    assert fragment.headers["hx-redirect"] == "/sign-in"


@pytest.mark.parametrize(
    "target", ["//evil.example", "https://evil.example", "/\\evil.example", "evil", "/\t/x"]
)
def test_signing_in_leads_nowhere_else(sqlite_place, target):
    answer = TestClient(sqlite_place.app).post(
        "/sign-in",
        data={"username": "student", "password": "correct horse battery", "next": target},
        follow_redirects=False,
    )
    assert answer.headers["location"] == "/"


@pytest.mark.parametrize("name", sorted(name for name in ALLOWED if name.startswith("POST")))
def test_a_form_without_its_proof_is_refused_and_changes_nothing(sqlite_place, name):
    template = name.split()[1]
    who = min(ALLOWED[name])
    browser = sqlite_place.browser(who)
    path = template.format(
        circuit_id=f"{OWN}-ac", lockout_id="hld_none", dispute_id="dsp_none", alarm_id=sqlite_place.alarm_id
    )
    for fields in (FIELDS, {**FIELDS, "csrf_token": "wrong"}, {**FIELDS, "csrf_token": ""}):
        answer = browser.post(path, data=fields, follow_redirects=False)
        assert answer.status_code == 403
        assert "This form is out of date" in answer.text
    assert browser.get("/api/v1/me").status_code == 200


def test_a_form_of_another_type_is_refused(sqlite_place):
    answer = sqlite_place.browser("student").post(
        "/sign-out", json={"csrf_token": sqlite_place.csrf("student")}
    )
    assert answer.status_code == 415


def test_a_room_is_gone_when_the_residency_ends(sqlite_place):
    place = sqlite_place
    browser = place.browser("student")
    assert browser.get(f"/rooms/{OWN}").status_code == 200
    with place.books.write() as connection:
        end_residency(connection, user_id=place.user_ids["student"], room_id=OWN, at=place.clock.now())
    assert browser.get(f"/rooms/{OWN}").status_code == 404
    assert browser.get(f"/rooms/{OWN}/cards").status_code == 404
    assert "No room is registered for you" in browser.get("/my-room").text


def test_anothers_room_looks_as_if_it_did_not_exist(sqlite_place):
    browser = sqlite_place.browser("student")
    other, absent = browser.get(f"/rooms/{OTHER}"), browser.get(f"/rooms/{ABSENT}")
    assert other.status_code == absent.status_code == 404
    assert other.text.replace(OTHER, ABSENT) == absent.text


def test_errors_are_pages_for_a_browser_and_problem_documents_for_the_api(sqlite_place):
    browser = sqlite_place.browser("student")
    assert "Page not found" in browser.get("/nowhere").text
    browser.cookies.set("dormpower_language", "zh")
    assert "找不到页面" in browser.get("/nowhere").text
    assert browser.get("/api/v1/nowhere").headers["content-type"] == "application/problem+json"
    script = browser.get("/nowhere", headers={"Accept": "application/json"})
    assert script.headers["content-type"] == "application/problem+json"


def test_a_fault_of_the_program_is_a_page_without_a_traceback(sqlite_place, monkeypatch):
    browser = sqlite_place.browser("student")

    def broken(*_arguments, **_options):
        raise RuntimeError("secret detail")

    monkeypatch.setattr("api.pages.room.rooms.find_room", broken)
    answer = browser.get(f"/rooms/{OWN}")
    assert answer.status_code == 500
    assert "Something went wrong" in answer.text
    assert "secret detail" not in answer.text


def test_a_page_without_a_rule_keeps_the_application_from_starting(sqlite_place, monkeypatch):
    monkeypatch.setattr(pages, "PAGES", {key: rule for key, rule in PAGES.items() if key[1] != "/takings"})
    with pytest.raises(UnguardedRouteError, match="/takings"):
        create_app(sqlite_place.context, extensions=[pages.install])
