"""Every fault that a simulated module or line can have, against the real gateway: what it must do, and not do.

One site runs for all cases. After each, all that flowed since the beginning has been charged, to the module's
resolution, unless the case says that a person decided otherwise.
"""

from collections.abc import Iterator

import pytest

from dormpower.domain.samples import Flag
from proofs.fault_cases import CASES, FAULT_PLAN, NEIGHBOUR, ROLLING
from proofs.field import POWER_W, Field, charged
from proofs.main_job import as_instant, expect_normal
from proofs.running_site import RunningSite
from proofs.site_folder import RTU_LINE, TCP_LINE, SiteFolder
from simulators.faults import FaultKind

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def world() -> Iterator[Field]:
    files = SiteFolder(FAULT_PLAN)
    files.restart_clock()
    try:
        with RunningSite(files) as site:
            site.set_all_powers(0.0)
            site.fault(f"m-{ROLLING}", FaultKind.ROLLOVER_SOON, in_wh=300)
            site.fund_all()
            found = Field(site, {circuit_id: site.truth(circuit_id) for circuit_id in files.circuits})
            site.start_gateway()
            for circuit_id in files.circuits:
                expect_normal(site, circuit_id)
            site.set_all_powers(POWER_W)
            yield found
    finally:
        files.remove()


def test_every_kind_of_fault_has_a_case():
    assert {case.kind for case in CASES} == set(FaultKind)


def test_every_variant_of_a_fault_has_a_case():
    def variants(kind: FaultKind, name: str) -> set[str | None]:
        return {case.params.get(name) for case in CASES if case.kind is kind}

    assert variants(FaultKind.FLAG, "flag") == set(Flag)
    assert variants(FaultKind.WELDED_RELAY, "reports") == {"open", "closed"}
    assert variants(FaultKind.SWITCHED_LOCALLY, "relay") == {"open", "closed"}
    assert variants(FaultKind.REBOOT, "relay") == {None, "open"}
    assert {case.subject for case in CASES if case.kind is FaultKind.LINE_DOWN} == {TCP_LINE, RTU_LINE}
    delays_s = [case.params["delay_s"] for case in CASES if case.kind is FaultKind.SLOW]
    assert min(delays_s) < FAULT_PLAN.timeout_ms / 1000 < max(delays_s)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_gateway_meets_a_fault(world, case):
    site, neighbour = world.site, NEIGHBOUR[case.room.partition("-")[0]]
    began = site.point(neighbour).register_at
    if case.prepare is not None:
        case.prepare(world, case.room)
    if case.kind is not FaultKind.ROLLOVER_SOON:
        site.fault(case.subject or f"m-{case.room}", case.kind, **case.params)
    case.must(world, case.room)
    for circuit_id in (f"{case.room}-lighting", f"{case.room}-ac", neighbour):
        charged(world, circuit_id)
    assert as_instant(site.point(neighbour).register_at) > as_instant(began)


def test_the_books_prove_after_all_that(world):
    audited = world.site.dormpower("audit")
    assert audited.returncode == 0, audited.stderr
    charged(world, NEIGHBOUR["tcp"])
