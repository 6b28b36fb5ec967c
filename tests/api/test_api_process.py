"""The API as a process of its own: users from the command line, a real server, a clean end."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

from config.settings import load
from dormpower.books import migration
from dormpower.books.database import open_books
from dormpower.books.sites import sync_site
from dormpower.commands.opening import campus_now

ROOT = Path(__file__).parents[2]
DEADLINE_S = 30
SITE = """
site: {{id: process, name: Process, zone: Asia/Shanghai}}
database: sqlite:///books.db
api: {{host: 127.0.0.1, port: {port}}}
lines: [{{id: l1, transport: tcp, host: 127.0.0.1, port: 5020}}]
modules: [{{id: m-1, profile: dormpower-dual, line: l1, unit: 1}}]
rooms:
  - {{room_id: r-1, campus: south, building: "01", floor: "1", name: "101", lighting_module: m-1,
      lighting_channel: 0, ac_module: m-1, ac_channel: 1, rated_current_a: 20}}
policies: {{prices: [{{from: 2026-01-01, kind: all, price_millifen_per_kwh: 56530}}]}}
"""


def command(path, *arguments, password=None):
    return subprocess.run(
        [sys.executable, "-c", "from dormpower.cli import main; main()", *arguments, "--config", str(path)],
        input=password,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=DEADLINE_S,
        check=False,
    )


def assert_gibberish_is_answered_with_a_problem_document(port):
    """What is no HTTP at all reaches no application: the server itself answers it."""
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) as connection:
        connection.sendall(b"\x16\x03\x01 gibberish\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(4096), b""))  # it closes the connection
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/problem+json" in head.lower()
    assert json.loads(body)["type"] == "urn:dormpower:problem:unusable-request"


def test_a_user_from_the_command_line_is_served_until_the_process_is_told_to_stop(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = tmp_path / "dormpower.yaml"
    path.write_text(SITE.format(port=port), encoding="utf-8")
    settings = load(path)
    books = open_books(settings.database, base=settings.folder)
    migration.upgrade(books)
    now, today = campus_now(settings)
    sync_site(books=books, site=settings.site, now=now, today=today)
    books.close()

    assert command(path, "user", "add", "li", "--role", "student", password="").returncode == 1
    added = command(path, "user", "add", "li", "--role", "student", "--room", "r-1", password="12345678\n")
    assert added.returncode == 0, added.stderr
    issued = command(path, "user", "token", "li")
    assert issued.returncode == 0, issued.stderr
    header = {"Authorization": f"Bearer {issued.stdout.strip()}"}

    process = subprocess.Popen(
        [sys.executable, "-m", "api", "--config", str(path)],
        cwd=ROOT,
        env=os.environ,
        stderr=subprocess.PIPE,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                httpx.get(f"{url}/healthz")
                break
            except httpx.ConnectError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        assert_gibberish_is_answered_with_a_problem_document(port)
        assert httpx.get(f"{url}/api/v1/me", headers=header).json()["room_ids"] == ["r-1"]
        assert command(path, "user", "disable", "li").returncode == 0
        assert httpx.get(f"{url}/api/v1/me", headers=header).status_code == 401
    finally:
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, log
    assert b"api.stopped" in log
    assert issued.stdout.strip().encode() not in log
