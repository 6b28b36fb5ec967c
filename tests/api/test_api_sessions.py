"""Sign-in, sessions, the proof against forgery, and tokens."""

from datetime import timedelta

import pytest

from api.context import ApiSettings, SignInLimits
from dormpower.books import users
from dormpower.books.residencies import begin_residency

PASSWORD = "correct horse battery"


def sign_in(campus, username="student", password=PASSWORD, **options):
    return campus.client.post("/api/v1/session", json={"username": username, "password": password}, **options)


def test_signing_in_sets_a_cookie_that_scripts_cant_read_and_tells_who_is_in(campus):
    answer = sign_in(campus)
    assert answer.status_code == 200
    assert answer.json()["username"] == "student"
    assert answer.json()["role"] == "student"
    assert answer.json()["room_ids"] == ["south-01-101"]
    session = next(
        value for value in answer.headers.get_list("set-cookie") if value.startswith("dormpower_session=")
    )
    assert "HttpOnly" in session
    assert "SameSite=lax" in session
    assert "Secure" not in session
    me = campus.client.get("/api/v1/me")
    assert me.json() == answer.json()


def test_over_tls_the_cookie_is_sent_over_tls_only(sqlite_campus):
    sqlite_campus.client.base_url = "https://testserver"
    cookies = sign_in(sqlite_campus).headers.get_list("set-cookie")
    assert len(cookies) == 2
    assert all("Secure" in cookie for cookie in cookies)


@pytest.mark.parametrize(("username", "password"), [("student", "wrong password"), ("nobody", PASSWORD)])
def test_a_wrong_password_and_an_unknown_user_look_the_same(sqlite_campus, username, password):
    answer = sign_in(sqlite_campus, username, password)
    assert answer.status_code == 401
    assert answer.json()["type"] == "urn:dormpower:problem:wrong-sign-in"
    assert answer.json()["detail"] == "Check the user name and the password."


def test_signing_out_ends_the_session_for_good(campus):
    csrf = sign_in(campus).json()["csrf_token"]
    secret = campus.client.cookies["dormpower_session"]
    answer = campus.client.delete("/api/v1/session", headers={"X-CSRF-Token": csrf})
    assert answer.status_code == 204
    campus.client.cookies.set("dormpower_session", secret)
    assert campus.client.get("/api/v1/me").status_code == 401


@pytest.mark.parametrize("headers", [{}, {"X-CSRF-Token": "guessed"}, {"X-CSRF-Token": "\u00e9"}])
def test_an_unsafe_request_of_a_browser_without_its_proof_is_refused(sqlite_campus, headers):
    sign_in(sqlite_campus, "maintenance")
    answer = sqlite_campus.client.post(
        "/api/v1/circuits/south-01-101-ac/lockouts",
        json={"reason": "x"},
        headers={name: value.encode() for name, value in headers.items()},
    )
    assert answer.status_code == 403
    assert answer.json()["type"] == "urn:dormpower:problem:forgery-proof-missing"


def test_with_its_proof_a_browser_may_and_a_bearer_token_needs_none(campus):
    csrf = sign_in(campus, "maintenance").json()["csrf_token"]
    path = "/circuits/south-01-101-ac/reset"
    by_browser = campus.client.post(f"/api/v1{path}", headers={"X-CSRF-Token": csrf})
    assert by_browser.status_code == 200
    campus.client.cookies.clear()
    assert campus.ask("maintenance", "POST", path).status_code == 200


def test_another_sites_page_cant_sign_a_browser_in(sqlite_campus):
    answer = sign_in(sqlite_campus, headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 403


def test_a_session_ends_with_its_time_and_a_token_with_its_own(campus):
    sign_in(campus)
    campus.clock.real += timedelta(hours=12, seconds=1)
    assert campus.client.get("/api/v1/me").status_code == 401
    campus.client.cookies.clear()
    assert campus.ask("student", "GET", "/me").status_code == 200
    campus.clock.real += timedelta(days=31)
    assert campus.ask("student", "GET", "/me").status_code == 401


def test_a_disabled_user_is_gone_at_the_next_request(campus):
    sign_in(campus)
    with campus.books.write() as connection:
        users.disable_user(connection, username="student", now=campus.clock.real_now())
    assert campus.client.get("/api/v1/me").status_code == 401
    campus.client.cookies.clear()
    assert campus.ask("student", "GET", "/me").status_code == 401
    assert sign_in(campus).status_code == 401


def test_a_revoked_token_is_gone_at_the_next_request(campus):
    with campus.books.write() as connection:
        issued = users.issue_token(
            connection, user_id=campus.user_ids["admin"], days=1, now=campus.clock.real_now()
        )
    header = {"Authorization": f"Bearer {issued.secret}"}
    assert campus.client.get("/api/v1/me", headers=header).json()["csrf_token"] == ""
    with campus.books.write() as connection:
        users.revoke_token(connection, token_id=issued.token_id, now=campus.clock.real_now())
    answer = campus.client.get("/api/v1/me", headers=header)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_new_sign_in_ends_the_browsers_former_session(sqlite_campus):
    sign_in(sqlite_campus)
    former = sqlite_campus.client.cookies["dormpower_session"]
    sign_in(sqlite_campus)
    sqlite_campus.client.cookies.clear()
    sqlite_campus.client.cookies.set("dormpower_session", former)
    assert sqlite_campus.client.get("/api/v1/me").status_code == 401


def test_rooms_of_a_residency_to_come_are_not_told(sqlite_campus):
    with sqlite_campus.books.write() as connection:
        begin_residency(
            connection,
            user_id=sqlite_campus.user_ids["student"],
            room_id="south-01-102",
            from_at=sqlite_campus.clock.now() + timedelta(days=1),
        )
    assert sqlite_campus.ask("student", "GET", "/me").json()["room_ids"] == ["south-01-101"]


# --- limits (invariant 37) ----------------------------------------------------------------------------------

FEW = SignInLimits(pair_attempts=2, account_attempts=3, address_failures=100)


@pytest.fixture
def guarded(sqlite_books, make_campus):
    return make_campus(sqlite_books, ApiSettings(sign_in=FEW))


def from_address(campus, address, password="guess"):
    """Sign in as if from another address, without the cookies of this browser."""
    from fastapi.testclient import TestClient

    client = TestClient(campus.client.app, client=(address, 1))
    answer = client.post("/api/v1/session", json={"username": "student", "password": password})
    return answer, client


def test_attempts_of_one_place_are_limited_even_with_the_right_password(guarded):
    assert [from_address(guarded, "10.0.0.1")[0].status_code for _ in range(2)] == [401, 401]
    answer, _ = from_address(guarded, "10.0.0.1", PASSWORD)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1


def test_many_places_together_are_slowed_down_to_one_attempt_each(guarded):
    assert [from_address(guarded, f"10.0.0.{last}")[0].status_code for last in range(1, 4)] == [401] * 3
    assert from_address(guarded, "10.0.1.1")[0].status_code == 401
    assert from_address(guarded, "10.0.1.1")[0].status_code == 429
    assert from_address(guarded, "10.0.1.2", PASSWORD)[0].status_code == 200, "never shut"


def test_strangers_cant_lock_a_person_out_of_a_known_address(guarded):
    assert from_address(guarded, "10.9.9.9", PASSWORD)[0].status_code == 200
    for last in range(1, 8):
        from_address(guarded, f"10.0.0.{last}")
    assert from_address(guarded, "10.9.9.9", PASSWORD)[0].status_code == 200
    assert from_address(guarded, "10.9.9.9", PASSWORD)[0].status_code == 200


def test_a_stranger_at_the_same_address_cant_lock_a_known_device_out(guarded):
    _, device = from_address(guarded, "10.0.0.1", PASSWORD)
    for _ in range(5):
        from_address(guarded, "10.0.0.1")
    assert from_address(guarded, "10.0.0.1", PASSWORD)[0].status_code == 429
    device.cookies.delete("dormpower_session")
    answer = device.post("/api/v1/session", json={"username": "student", "password": PASSWORD})
    assert answer.status_code == 200


def test_success_forgets_the_failures_of_that_place(guarded):
    for _ in range(3):
        assert from_address(guarded, "10.0.0.1")[0].status_code == 401
        assert from_address(guarded, "10.0.0.1", PASSWORD)[0].status_code == 200


def test_trying_many_names_from_one_address_is_limited(sqlite_books, make_campus):
    campus = make_campus(sqlite_books, ApiSettings(sign_in=SignInLimits(address_failures=3)))
    codes = [sign_in(campus, f"name{number}", "guess").status_code for number in range(5)]
    assert codes == [401, 401, 401, 429, 429]
