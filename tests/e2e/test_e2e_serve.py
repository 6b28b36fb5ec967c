"""`dormpower serve` as it is installed: takes a site over, keeps its parts alive, ends with them."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from proofs.running_site import Process, RunningSite, eventually
from proofs.site_folder import Plan, SiteFolder

pytestmark = pytest.mark.timeout(240)

LIT = ("tcp-01-101-ac", "mqtt-01-101-ac")


@pytest.fixture
def served() -> Iterator[tuple[RunningSite, Process]]:
    """A site whose modules run; its rooms are not in the books yet, and `serve` is still to be started."""
    files = SiteFolder(Plan(tcp_rooms=1, rtu_rooms=0, mqtt_rooms=1, synced=False))
    command = [sys.executable, "-c", "from dormpower.cli import main; main()", "serve", "--config"]
    serve = Process("serve", [*command, str(files.path)], files.folder / "serve.log")
    site = RunningSite(files)
    try:
        files.restart_clock()
        site.start("simulators")
        site.wait_for_simulators()
        yield site, serve
    finally:
        if serve.running:
            serve.end(signal.SIGTERM)
        site.end_all()
        files.remove()


def pid_of(site: RunningSite, package: str) -> int | None:
    """The process of a part, found as an operator finds it: by its command line."""
    wanted = [sys.executable, "-m", package, "--config", str(site.files.path)]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            if words[: len(wanted)] == wanted:
                return int(entry.name)
    return None


def is_metered_anew(site: RunningSite) -> None:
    before = {circuit_id: site.point(circuit_id).metered_wh for circuit_id in LIT}
    for circuit_id, metered_wh in before.items():
        site.set_power(circuit_id, 3_000.0)
        eventually(
            lambda circuit_id=circuit_id, metered_wh=metered_wh: site.point(circuit_id).metered_wh > metered_wh,
            what=f"{circuit_id} is metered",
        )


def is_ready(site: RunningSite) -> bool:
    answer = site.client().get("/readyz")
    return answer.status_code == 200 and answer.json()["gateway"] == "running"


def test_serve_takes_a_site_over_brings_a_killed_gateway_back_and_ends_with_its_parts(served):
    site, serve = served
    serve.start()
    eventually(lambda: serve.running and is_ready(site), what="the site is ready", within_s=60)
    assert {room["room_id"] for room in site.get("/rooms")["items"]} == {"tcp-01-101", "mqtt-01-101"}
    site.fund_all()
    is_metered_anew(site)

    gateway, api = pid_of(site, "gateway"), pid_of(site, "api")
    assert gateway is not None
    os.kill(gateway, signal.SIGKILL)
    eventually(lambda: pid_of(site, "gateway") not in {None, gateway}, what="another gateway runs")
    is_metered_anew(site)
    assert pid_of(site, "api") == api, "its neighbour was left alone"

    assert serve.end(signal.SIGTERM) == 0
    assert (pid_of(site, "gateway"), pid_of(site, "api")) == (None, None)
    log = serve.log.read_text(encoding="utf-8")
    assert "Traceback" not in log
    assert log.count('"event": "gateway.stopped"') == 1, (
        "the one that was killed said nothing, the last one did"
    )
    done = site.dormpower("audit")
    assert done.returncode == 0, done.stderr
