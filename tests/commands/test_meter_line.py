"""`dormpower meter` and `dormpower line` against a foreign Modbus server that holds a dual's registers."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pyModbusTCP.server import DataBank, ModbusServer
from typer.testing import CliRunner

from config.settings import load
from dormpower.books import holds, leases, migration, sites
from dormpower.books.database import Books, open_books
from dormpower.books.tables import audit_log
from dormpower.domain.holds import Reason
from dormpower.wake import WAKE_SOCKET
from gateway.commands import line, meter
from gateway.endpoint_guard import UnableToUseEndpointError

NOW = datetime(2026, 3, 1, tzinfo=UTC)
CHANNEL = [0, 4200, 2301, 217, 0, 4990, 998, 5001, 1, 0, 0, 0]


class DualBank(DataBank):
    """A dual's registers; its relays follow a command at once, unless they are stuck."""

    def __init__(self) -> None:
        super().__init__(h_regs_size=0x60)
        self.stuck = False
        self.set_holding_registers(0x0000, [0x4450, 0x0102, 0, 7])
        self.set_holding_registers(0x0010, CHANNEL)
        self.set_holding_registers(0x0030, CHANNEL)

    def set_holding_registers(self, address: int, word_list: list[int], srv_info: Any = None) -> Any:
        if srv_info is not None and address in (0x1B, 0x3B) and not self.stuck:
            super().set_holding_registers(address - 3, [int(word_list == [0xAA55])])
        return super().set_holding_registers(address, word_list, srv_info)


@pytest.fixture
def bank() -> DualBank:
    return DualBank()


@pytest.fixture
def port(bank: DualBank) -> Iterator[int]:
    server = ModbusServer(host="127.0.0.1", port=0, no_block=True, data_bank=bank)
    server.start()
    yield server._service.socket.getsockname()[1]
    server.stop()


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DORMPOWER_CONFIG", raising=False)


def endpoint(port: int) -> list[str]:
    return ["--profile", "dormpower-dual", "--host", "127.0.0.1", "--port", str(port), "--unit", "1"]


def run(app: Any, *arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def test_reading_prints_the_documented_object_and_nothing_else(port: int) -> None:
    result = run(meter, "read", *endpoint(port))
    assert result.exit_code == 0, result.output
    channel = {
        "register_wh": 42_000,
        "voltage_v": 230.1,
        "current_a": 2.17,
        "power_w": 499.0,
        "power_factor": 0.998,
        "frequency_hz": 50.01,
        "relay": "closed",
        "flags": [],
    }
    assert json.loads(result.stdout) == {
        "profile": "dormpower-dual",
        "unit": 1,
        "channels": [{"channel": 0, **channel}, {"channel": 1, **channel}],
    }


def test_switching_ends_with_0_only_if_the_relay_was_read_back(port: int, bank: DualBank) -> None:
    opened = run(meter, "relay", "open", *endpoint(port), "--channel", "1")
    assert opened.exit_code == 0, opened.output
    assert (json.loads(opened.stdout)["outcome"], json.loads(opened.stdout)["relay"]) == ("confirmed", "open")
    bank.stuck = True
    closed = run(meter, "relay", "close", *endpoint(port), "--channel", "1")
    assert closed.exit_code == 1
    assert json.loads(closed.stdout)["outcome"] == "not_followed"
    assert "told closed, reports open" in closed.stderr


def test_a_profile_without_a_read_back_ends_unconfirmed(port: int) -> None:
    arguments = [word.replace("dormpower-dual", "acrel-ddsy1352") for word in endpoint(port)]
    result = run(meter, "relay", "open", *arguments, "--channel", "0")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["outcome"] == "unconfirmed"
    assert result.stderr.startswith("unconfirmed: acrel-ddsy1352 documents no read-back")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--profile", "acme", "--unit", "1", "--host", "h", "--port", "1"], "is unknown"),
        (["--profile", "dormpower-mqtt", "--unit", "1", "--host", "h", "--port", "1"], "speaks MQTT"),
        (["--profile", "dormpower-dual", "--unit", "1", "--host", "h"], "expected --host and --port"),
        (["--profile", "dormpower-dual", "--unit", "1", "--host", "h", "--serial", "/dev/x"], "got both"),
        (["--profile", "dormpower-dual", "--unit", "300", "--host", "h", "--port", "1"], "247"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_was_expected(arguments: list[str], told: str) -> None:
    result = run(meter, "read", *arguments)
    assert result.exit_code == 2
    assert told in " ".join(result.stderr.replace("│", " ").split())


def test_a_dead_endpoint_is_one_sentence_and_exit_1(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        arguments = endpoint(unused.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-c", "from dormpower.cli import main; main()", "meter", "read", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=tmp_path,
            env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
        )
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert "Connect call failed" in done.stderr


def test_a_scan_says_which_units_answer_and_which_profiles_fit(port: int) -> None:
    result = run(line, "scan", "--host", "127.0.0.1", "--port", str(port), "--units", "1,3-4")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [entry["unit"] for entry in found["units"]] == [1, 3, 4]  # this peer answers for every unit
    assert found["units"][0]["profiles"] == [{"name": "dormpower-dual", "certain": True}]


def test_a_scan_with_wrong_units_is_wrong_usage() -> None:
    assert run(line, "scan", "--host", "h", "--port", "1", "--units", "5-300").exit_code == 2


# --- where a site file owns the endpoint ---------------------------------------------------------------------

SITE = """
site: {{id: bench, name: Bench, zone: Asia/Shanghai}}
database: sqlite:///books.db
readings: {{store: embedded, path: readings.db, keep_days: 90}}
lines:
  - {{id: bench-a, transport: tcp, host: localhost, port: {port}, framer: socket}}
modules:
  - {{id: m-bench-101, profile: dormpower-dual, line: bench-a, unit: 1}}
rooms:
  - {{room_id: bench-101, campus: bench, building: bench, floor: 1, name: 101, lighting_module: m-bench-101,
     lighting_channel: 0, ac_module: m-bench-101, ac_channel: 1, rated_current_a: 32}}
policies:
  prices: [{{from: 2026-01-01, kind: all, price_millifen_per_kwh: 56530}}]
"""


@pytest.fixture
def owned(tmp_path: Path, port: int) -> Iterator[tuple[Books, list[str]]]:
    """The books of a site that owns the endpoint, and the arguments that name both."""
    path = tmp_path / "bench.yaml"
    path.write_text(SITE.format(port=port), encoding="utf-8")
    settings = load(path)
    books = open_books(settings.database, base=settings.folder)
    migration.upgrade(books)
    sites.sync_site(books=books, site=settings.site, now=NOW, today=NOW.date())
    yield books, [*endpoint(port), "--config", str(path)]
    books.close()


def hold(books: Books, reason: Reason, holder: str = "") -> None:
    with books.write() as connection:
        holds.place(
            connection,
            circuit_id="bench-101-ac",
            reason=reason,
            placed_by=holder or "rule:test",
            holder=holder,
            evidence={},
            now=NOW,
        )


def refusal(result: Any) -> str:
    assert isinstance(result.exception, UnableToUseEndpointError), result.output
    assert result.exit_code == 1
    return str(result.exception)


def test_a_stopped_gateway_leaves_its_line_to_the_hand(owned: tuple[Books, list[str]]) -> None:
    _, arguments = owned
    assert run(meter, "read", *arguments).exit_code == 0


def test_a_running_gateway_refuses_the_hand_by_its_wake_socket(
    owned: tuple[Books, list[str]], tmp_path: Path
) -> None:
    _, arguments = owned
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / WAKE_SOCKET))
        assert "its gateway is running" in refusal(run(meter, "read", *arguments))
        scan = arguments[2:6] + arguments[-2:]
        assert "its gateway is running" in refusal(run(line, "scan", *scan))


def test_a_running_gateway_refuses_the_hand_by_its_lease_even_with_force(
    owned: tuple[Books, list[str]], bank: DualBank
) -> None:
    books, arguments = owned
    leases.acquire(books=books, name="jobs", holder="g1", real_now=datetime.now(UTC), for_s=60)
    command = run(
        meter, "relay", "open", *arguments, "--channel", "1", "--force", "--reason", "a test of the rule"
    )
    assert "its gateway is running (g1)" in refusal(command)
    assert bank.get_holding_registers(0x38) == [1]


def test_a_lease_that_ran_out_is_no_running_gateway(owned: tuple[Books, list[str]]) -> None:
    books, arguments = owned
    past = datetime.now(UTC) - timedelta(seconds=90)
    leases.acquire(books=books, name="jobs", holder="g1", real_now=past, for_s=30)
    assert run(meter, "read", *arguments).exit_code == 0


def test_closing_a_circuit_that_has_a_hold_needs_force_and_a_reason_and_is_audited(
    owned: tuple[Books, list[str]], bank: DualBank
) -> None:
    books, arguments = owned
    hold(books, Reason.ARREARS)
    assert run(meter, "relay", "open", *arguments, "--channel", "1").exit_code == 0
    close = ["relay", "close", *arguments, "--channel", "1"]
    assert "bench-101-ac must stay open (arrears)" in refusal(run(meter, *close))
    assert bank.get_holding_registers(0x38) == [0]
    assert run(meter, *close, "--force").exit_code == 2
    assert run(meter, *close, "--force", "--reason", "commissioning").exit_code == 0
    with books.read() as connection:
        row = connection.execute(sa.select(audit_log).where(audit_log.c.action == "relay.forced_by_hand")).one()
    assert (row.subject_id, row.detail["reason"]) == ("bench-101-ac", "commissioning")
    assert row.actor.startswith("cli:")


def test_a_lock_out_is_never_closed_by_force(owned: tuple[Books, list[str]], bank: DualBank) -> None:
    books, arguments = owned
    hold(books, Reason.LOCKOUT, holder="li")
    assert run(meter, "relay", "open", *arguments, "--channel", "1").exit_code == 0
    close = ["relay", "close", *arguments, "--channel", "1", "--force", "--reason", "it is dark"]
    assert "locked out by li" in refusal(run(meter, *close))
    assert bank.get_holding_registers(0x38) == [0]


def test_a_line_of_nobody_is_free_even_beside_a_site_file(
    owned: tuple[Books, list[str]], tmp_path: Path, port: int
) -> None:
    _, arguments = owned
    other = tmp_path / "bench.yaml"
    other.write_text(SITE.format(port=1), encoding="utf-8")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / WAKE_SOCKET))
        assert run(meter, "read", *arguments).exit_code == 0
