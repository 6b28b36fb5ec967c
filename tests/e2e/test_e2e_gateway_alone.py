"""The gateway started alone: it makes the books know what it is about to poll, or refuses."""

import subprocess
import sys

import pytest
import yaml

from proofs.running_site import ROOT, RunningSite, eventually
from proofs.site_folder import TCP_LINE, Plan, describe_room

pytestmark = pytest.mark.timeout(180)

PLAN = Plan(tcp_rooms=1, rtu_rooms=0, mqtt_rooms=0, broker="none", synced=False)


def is_metered(site: RunningSite, circuit_id: str) -> None:
    site.set_power(circuit_id, 3_000.0)
    eventually(lambda: site.point(circuit_id).metered_wh > 0, what=f"{circuit_id} is metered")
    assert site.circuit(circuit_id)["online"]


def describe_one_room_more(site: RunningSite) -> None:
    path = site.files.path
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    document["modules"].append({"id": "m-new", "profile": "dormpower-dual", "line": TCP_LINE, "unit": 2})
    document["rooms"].append(describe_room("tcp-01-102", module_id="m-new"))
    path.write_text(yaml.safe_dump(document), encoding="utf-8")


def test_rooms_that_the_books_do_not_know_are_there_and_metered_once_the_gateway_runs(open_site):
    site = open_site(PLAN)
    assert site.get("/rooms")["items"] == []
    site.start_gateway()
    assert [room["room_id"] for room in site.get("/rooms")["items"]] == ["tcp-01-101"]
    is_metered(site, "tcp-01-101-ac")

    describe_one_room_more(site)
    assert site.stop("simulators") == 0
    site.start("simulators")
    site.wait_for_simulators()
    site.restart_gateway()
    is_metered(site, "tcp-01-102-ac")
    assert "unknown_channel" not in site.processes["gateway"].log.read_text(encoding="utf-8")
    assert site.stop("gateway") == 0
    done = site.dormpower("audit")
    assert done.returncode == 0, done.stderr


def test_books_of_another_site_are_refused_and_stay_as_they_are(open_site):
    site = open_site(PLAN)
    site.start_gateway()
    assert site.stop("gateway") == 0
    path = site.files.path
    path.write_text(path.read_text(encoding="utf-8").replace("id: proof", "id: other"), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "--config", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "the books were begun with site_id 'proof' and the site file says 'other'" in done.stderr
    assert "Traceback" not in done.stderr
    assert site.rows("SELECT 1 FROM leases WHERE name = 'gateway:g1'") == []
