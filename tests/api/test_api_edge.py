"""What holds for every request: problem documents, headers, bounds, health, metrics, docs."""

import pytest
from fastapi.testclient import TestClient
from structlog.testing import capture_logs

from api.app import create_app
from api.context import ApiSettings
from dormpower.books import counters
from dormpower.readings.port import UnableToReachReadingsError

CONTRACT_ROUTES = {
    "POST /api/v1/session",
    "DELETE /api/v1/session",
    "GET /api/v1/me",
    "GET /api/v1/rooms",
    "GET /api/v1/rooms/{room_id}",
    "GET /api/v1/circuits/{circuit_id}/recharges",
    "GET /api/v1/circuits/{circuit_id}/usage/daily",
    "GET /api/v1/circuits/{circuit_id}/readings",
    "POST /api/v1/circuits/{circuit_id}/recharges",
    "GET /api/v1/alarms",
    "POST /api/v1/alarms/{alarm_id}/acknowledge",
    "POST /api/v1/circuits/{circuit_id}/lockouts",
    "DELETE /api/v1/lockouts/{lockout_id}",
    "POST /api/v1/circuits/{circuit_id}/reset",
    "GET /api/v1/events",
    "GET /healthz",
    "GET /readyz",
    "GET /metrics",
}


def problem(answer, status, kind):
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == status
    assert document["type"] == f"urn:dormpower:problem:{kind}"
    assert document["detail"]
    return document


def test_every_route_of_the_interfaces_is_described(sqlite_campus):
    paths = sqlite_campus.client.get("/openapi.json").json()["paths"]
    described = {f"{method.upper()} {path}" for path, operations in paths.items() for method in operations}
    assert described >= CONTRACT_ROUTES


def test_an_unknown_address_and_a_wrong_method_are_problems(sqlite_campus):
    problem(sqlite_campus.client.get("/api/v1/nothing"), 404, "not-found")
    answer = sqlite_campus.client.put("/api/v1/rooms")
    problem(answer, 405, "wrong-method")


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        (b"{", 400, "unusable-request"),
        (b'{"username": "a", "password": "b", "extra": 1}', 422, "invalid"),
        (b'{"username": "a\\u0000", "password": "b"}', 422, "invalid"),
        (b'{"username": "\\ud800", "password": "b"}', 422, "invalid"),
        (b"[]", 422, "invalid"),
        (b"x" * 70_000, 413, "body-too-large"),
    ],
)
def test_a_body_that_cant_be_used_is_refused(sqlite_campus, body, status, kind):
    answer = sqlite_campus.client.post(
        "/api/v1/session", content=body, headers={"Content-Type": "application/json"}
    )
    problem(answer, status, kind)


def test_a_body_of_unknown_length_is_bounded_too(sqlite_campus):
    answer = sqlite_campus.client.post(
        "/api/v1/session",
        content=(b"x" * 1000 for _ in range(100)),
        headers={"Content-Type": "application/json"},
    )
    problem(answer, 413, "body-too-large")


def test_a_refusal_does_not_repeat_what_was_sent(sqlite_campus):
    answer = sqlite_campus.client.post(
        "/api/v1/session", json={"username": "a", "password": ["my secret password"]}
    )
    assert "my secret" not in answer.text


def test_a_nul_character_never_reaches_the_books(campus):
    assert campus.ask("admin", "GET", "/rooms/a%00b").status_code == 404
    assert campus.ask("admin", "GET", "/rooms?q=a%00b").status_code == 400


def test_a_fault_is_told_without_a_traceback(sqlite_campus):
    app = create_app(sqlite_campus.context)

    @app.get("/breaks")
    def breaks() -> None:
        raise RuntimeError("internal detail")

    with capture_logs() as logs:
        answer = TestClient(app).get("/breaks")
    problem(answer, 500, "internal")
    assert "internal detail" not in answer.text
    assert any(one["event"] == "request.failed" and one["exc_info"] for one in logs)


def test_readings_that_cant_be_reached_are_a_problem_of_their_own(sqlite_campus):
    def unreachable(*args, **options):
        raise UnableToReachReadingsError("influxdb: no answer from http://127.0.0.1:8086")

    sqlite_campus.readings.between = unreachable
    answer = sqlite_campus.ask(
        "admin",
        "GET",
        "/circuits/south-01-101-ac/readings",
        params={"start": "2026-05-20T00:00:00Z", "end": "2026-05-20T01:00:00Z"},
    )
    problem(answer, 503, "readings-unreachable")


@pytest.mark.parametrize(
    "query",
    [
        {"from": "2025-05-20", "to": "2026-05-21"},
        {"from": "2026-05-20", "to": "2026-05-19"},
        {"from": "9999-12-31", "to": "9999-12-31"},
        {"from": "2026-05-21"},  # without an end it is up to today, the 20th
        {"from": "yesterday", "to": "2026-05-20"},
    ],
)
def test_a_period_is_bounded(sqlite_campus, query):
    path = "/circuits/south-01-101-ac/usage/daily"
    problem(sqlite_campus.ask("admin", "GET", path, params=query), 422, "invalid")


def test_a_year_of_days_may_be_asked_for(sqlite_campus):
    query = {"from": "2025-05-20", "to": "2026-05-20"}
    answer = sqlite_campus.ask("admin", "GET", "/circuits/south-01-101-ac/usage/daily", params=query)
    assert len(answer.json()["items"]) == 366


@pytest.mark.parametrize(
    "query",
    [
        {"start": "2026-05-20T00:00:00", "end": "2026-05-20T01:00:00Z"},
        {"start": "2026-05-20T00:00:00Z", "end": "2026-05-20T00:00:00Z"},
        {"start": "0001-01-01T00:00:00Z", "end": "9999-12-31T00:00:00Z"},
        {"start": "2026-05-20T00:00:00Z", "end": "2026-05-20T01:00:00Z", "every": "0"},
        {"start": "2026-05-20T00:00:00Z", "end": "2026-05-20T01:00:00Z", "every": "1.5"},
    ],
)
def test_a_span_of_readings_is_checked(sqlite_campus, query):
    path = "/circuits/south-01-101-ac/readings"
    problem(sqlite_campus.ask("admin", "GET", path, params=query), 422, "invalid")


@pytest.mark.parametrize("path", ["/healthz", "/docs", "/api/v1/nothing", "/api/v1/me"])
def test_every_answer_has_the_security_headers(sqlite_campus, path):
    headers = sqlite_campus.client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "http:" not in headers["content-security-policy"]
    assert headers["cache-control"] == "no-store"


def test_the_log_names_routes_and_never_what_was_asked_for(sqlite_campus):
    with capture_logs() as logs:
        sqlite_campus.ask("admin", "GET", "/rooms/south-01-101?x=1", headers={"X-Test": "1"})
        sqlite_campus.client.post(
            "/api/v1/session", json={"username": "13800000000", "password": "secret words"}
        )
    text = str(logs)
    assert "/api/v1/rooms/{room_id}" in text
    for hidden in ("south-01-101", "13800000000", "secret words", sqlite_campus.tokens["admin"]):
        assert hidden not in text


def test_health_readiness_and_the_gateways_lease(campus):
    assert campus.client.get("/healthz").json() == {"status": "ok"}
    ready = campus.client.get("/readyz").json()
    assert ready["status"] == "ready"
    assert ready["gateway"] == "away"


def test_books_of_another_version_are_not_ready(sqlite_campus):
    with sqlite_campus.books.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'of the future'")
    problem(sqlite_campus.client.get("/readyz"), 503, "unavailable")


def test_metrics_count_requests_and_circuits_without_naming_rooms(campus):
    campus.ask("admin", "GET", "/rooms/south-01-101")
    text = campus.client.get("/metrics").text
    assert "dormpower_rooms 3.0" in text
    assert 'dormpower_circuits_by_state{state="offline"} 6.0' in text
    assert "dormpower_books_reachable 1.0" in text
    assert 'route="/api/v1/rooms/{room_id}",status="200"} 1.0' in text
    assert "south-01-101" not in text


def test_metrics_tell_what_each_process_has_counted(campus):
    with campus.books.write() as connection:
        counters.write(connection, process="g1", values={"outbox_dropped": 7}, real_now=campus.clock.real_now())
    text = campus.client.get("/metrics").text
    assert 'dormpower_process{name="outbox_dropped",process="g1"} 7.0' in text


def test_docs_load_nothing_from_elsewhere(sqlite_campus):
    page = sqlite_campus.client.get("/docs").text
    assert "//" not in page.replace("<!doctype", "")
    script = sqlite_campus.client.get("/static/docs.js")
    assert script.status_code == 200
    assert "https://" not in script.text


def test_the_description_is_given_without_sign_in_and_names_problem_documents(sqlite_campus):
    schema = sqlite_campus.client.get("/openapi.json").json()
    operation = schema["paths"]["/api/v1/rooms"]["get"]
    assert "application/problem+json" in operation["responses"]["default"]["content"]
    assert {"bearer": []} in operation["security"]


def test_the_settings_bound_the_body(sqlite_books, make_campus):
    campus = make_campus(sqlite_books, ApiSettings(max_body_bytes=10))
    problem(campus.client.post("/api/v1/session", json={"username": "a"}), 413, "body-too-large")
