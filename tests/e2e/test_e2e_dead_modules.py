"""Four dead modules of 32 on real sockets; nobody's single cycle is bounded here, but in virtual time."""

import pytest

from proofs.dead_modules import BOUND, prove


@pytest.mark.timeout(400)
def test_four_dead_modules_of_32_leave_the_others_their_cycle_and_the_line_online() -> None:
    outcome = prove(cycles=3)
    assert outcome.broken == []
    assert len(outcome.with_dead.steps_s) == 28
    assert outcome.usual_ratio <= BOUND  # of the usual cycles, in one run: a busy machine slows both
