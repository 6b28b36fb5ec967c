"""What `serve` refuses: demo users, an anonymous broker, listening beyond the machine in the clear."""

import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from config.settings import load
from dormpower.books import migration
from dormpower.books.database import open_books
from dormpower.books.tables import meta
from dormpower.books.users import Role, add_user
from dormpower.commands.broker_probe import BrokerAnswer, ask_anonymously
from dormpower.commands.serve import UnableToServeError, refuse, serve, unsafe_settings, unsafe_users

SITE = """
site: {{id: s, name: S}}
rooms: []
{extra}
"""


def settings(folder: Path, extra: str):
    (folder / "secret").write_text("x", encoding="utf-8")
    path = folder / "dormpower.yaml"
    path.write_text(SITE.format(extra=extra), encoding="utf-8")
    return load(path)


def answering(answer: bytes) -> int:
    """A broker that gives one answer to whoever connects; returns its port."""
    server = socket.create_server(("127.0.0.1", 0))

    def talk() -> None:
        with server, server.accept()[0] as connection:
            connection.recv(100)
            connection.sendall(answer)

    threading.Thread(target=talk, daemon=True).start()
    return server.getsockname()[1]


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ("api: {host: 0.0.0.0}", "api.host: 0.0.0.0 is reachable from other machines without TLS"),
        ("api: {host: '::'}", "without TLS"),
        ("mqtt: {url: 'mqtt://127.0.0.1:1'}", "mqtt.username: expected the gateway's user name"),
    ],
)
def test_an_unsafe_site_is_refused(tmp_path, extra, reason):
    assert reason in unsafe_settings(settings(tmp_path, extra))[0]


@pytest.mark.parametrize(
    "extra",
    [
        "api: {host: 127.0.0.1}",
        "api: {host: '::1'}",
        "api: {host: 0.0.0.0, trusted_proxies: [10.0.0.1]}",
        "api: {host: 0.0.0.0, tls_certificate_file: secret, tls_key_file: secret}",
        "mqtt: {url: 'mqtt://127.0.0.1:1', username: gateway, password_file: secret}",
    ],
)
def test_a_safe_site_is_not(tmp_path, extra):
    assert unsafe_settings(settings(tmp_path, extra)) == []


def test_a_broker_that_lets_strangers_in_is_refused(tmp_path):
    port = answering(b"\x20\x02\x00\x00")
    site = settings(
        tmp_path, f"mqtt: {{url: 'mqtt://127.0.0.1:{port}', username: gateway, password_file: secret}}"
    )
    assert "lets in clients without credentials" in unsafe_settings(site)[0]


def test_a_broker_that_refuses_strangers_is_known_as_such(tmp_path):
    port = answering(b"\x20\x02\x00\x05")
    site = settings(tmp_path, f"mqtt: {{url: 'mqtt://127.0.0.1:{port}', username: g, password_file: secret}}")
    assert ask_anonymously(site.mqtt) is BrokerAnswer.REFUSED


def test_demo_users_are_refused_by_name(sqlite_books):
    assert unsafe_users(sqlite_books) == []
    with sqlite_books.write() as connection:
        add_user(
            connection,
            username="student",
            role=Role.STUDENT,
            password_hash=None,
            now=datetime(2026, 1, 1, tzinfo=UTC),
            demo=True,
        )
    with pytest.raises(UnableToServeError, match="serve refused: the books hold the demo users student"):
        refuse(unsafe_users(sqlite_books))


def test_a_refused_site_is_not_touched(tmp_path):
    settings(tmp_path, "api: {host: 0.0.0.0}")
    with pytest.raises(UnableToServeError):
        serve(tmp_path / "dormpower.yaml")
    assert not (tmp_path / "books.db").exists()


def test_serve_migrates_syncs_and_supervises_until_it_is_told_to_stop(tmp_path):
    settings(tmp_path, "")
    started = tmp_path / "started"
    child = f"import time; open({str(started)!r}, 'a').write('x'); time.sleep(60)"
    code = (
        "import sys, typer\nfrom dormpower.commands import serve\n"
        f"serve.process_arguments = lambda *_: [sys.executable, '-c', {child!r}]\n"
        "try:\n    serve.serve('dormpower.yaml')\n"
        "except typer.Exit as ended:\n    sys.exit(ended.exit_code)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 30
    while not started.exists() or started.read_text() != "xx":
        assert process.poll() is None, "serve ended"
        assert time.monotonic() < deadline, "the children did not start"
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0
    books = open_books("sqlite:///books.db", base=tmp_path)
    migration.require_current(books)
    with books.read() as connection:
        assert connection.execute(sa.select(meta.c.value).where(meta.c.key == "site_id")).scalar_one() == "s"
    books.close()
