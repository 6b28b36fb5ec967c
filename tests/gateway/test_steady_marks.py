"""When a circuit's samples may be judged together, and what takes that back: one mark, set and withdrawn."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from dormpower.domain.holds import Reason
from gateway import lately
from gateway.control_memory import CircuitMemory
from gateway.ports import Rate
from gateway.steady_rows import SteadyRows
from tests.gateway.polled_answers import Channel
from tests.gateway.two_ways import EVENING, Poll, Site

CIRCUIT = "r-3-ac"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        site = Site(tmp_path / "site", packed=True)
        stack.callback(site.close)
        for number in range(4):
            sample(site, register_wh=3_000 + 10 * number)
        yield site


def sample(site: Site, *, register_wh: int, power_w: float = 200.0, as_sample: bool = False) -> None:
    """Module `m-3` gives a sample of its two channels."""
    site.clock.advance(30.0)
    shown = {channel: Channel(register_wh=register_wh, power_w=power_w) for channel in (0, 1)}
    poll = Poll(module_id="m-3", offset_s=0.0, rate=Rate.FULL, channels=shown, as_sample=as_sample)
    site.take([poll])


def memory_of(site: Site) -> CircuitMemory:
    return site.gateway.control.memory(CIRCUIT)


def is_calm(site: Site) -> bool:
    memory = memory_of(site)
    return bool(memory.steady.calm[memory.row])


def test_a_quiet_circuit_is_calm_once_its_load_is_known(site: Site) -> None:
    assert is_calm(site)
    before = site.gateway.intake.counters.plain
    sample(site, register_wh=3_040)
    assert site.gateway.intake.counters.plain == before + 2
    assert memory_of(site).lately.observed_at == site.clock.now()


def test_a_circuit_whose_samples_come_one_by_one_is_never_calm(site: Site) -> None:
    sample(site, register_wh=3_040, as_sample=True)
    assert not is_calm(site)
    sample(site, register_wh=3_050)
    assert is_calm(site)


def test_memory_reads_where_the_row_is_ahead_and_where_it_is_not(site: Site) -> None:
    account = memory_of(site).account
    assert account is not None
    before_wh = account.metered_wh
    for number in range(1, 7):
        sample(site, register_wh=3_030 + 10 * number, as_sample=number % 3 == 0)
        state, seen = site.gateway.intake.state(CIRCUIT), memory_of(site).lately
        assert state is not None
        assert state.register_wh == 3_030 + 10 * number
        assert state.register_at == seen.observed_at == seen.fresh_at == site.clock.now()
        assert seen.metered_wh == state.metered_wh
        assert seen.sampling_period_s == 30.0
    assert account.metered_wh == before_wh + 60


def _begins_a_command(memory: CircuitMemory) -> None:
    memory.stir()


def _learns_of_a_hold(memory: CircuitMemory) -> None:
    memory.set_holds(memory.holds)
    memory.quiet = False


@pytest.mark.parametrize("change", [_begins_a_command, _learns_of_a_hold])
def test_what_happens_while_the_row_is_written_takes_the_mark_back(
    site: Site, monkeypatch: pytest.MonkeyPatch, change: Callable[[CircuitMemory], None]
) -> None:
    memory = memory_of(site)
    memory.lately = memory.lately
    write = lately.write

    def interrupted(rows: SteadyRows, row: int, seen: lately.LatelySeen) -> bool:
        written = write(rows, row, seen)
        change(memory)
        return written

    monkeypatch.setattr(lately, "write", interrupted)
    memory.settle_calm()
    assert not is_calm(site)


def test_what_commands_settle_is_judged_by_itself_once(site: Site) -> None:
    memory_of(site).settle_quiet()
    assert not is_calm(site)
    before = site.plain
    sample(site, register_wh=3_040)
    assert (site.plain, is_calm(site)) == (before + 1, True)


def test_a_load_that_makes_a_step_is_seen_by_the_rule_with_the_samples_before_it(site: Site) -> None:
    for number in range(1, 4):
        sample(site, register_wh=3_030 + 10 * number, power_w=200.0 + number)
    for number in range(4, 6):
        sample(site, register_wh=3_030 + 10 * number, power_w=1_700.0)
    (hold,) = [one for one in site.holds(CIRCUIT) if one.reason is Reason.PROHIBITED]
    assert [power_w for _, power_w, _ in hold.evidence["before"]] == [201.0, 202.0, 203.0]
    assert not is_calm(site)
    assert site.clock.now() > EVENING
