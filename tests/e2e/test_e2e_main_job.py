"""The main job, from the module's register to the resident's balance, on real processes and sockets."""

import pytest

from proofs.main_job import MAIN_PLAN, prove_main_job

pytestmark = pytest.mark.timeout(240)


def test_a_room_is_metered_charged_warned_cut_paid_for_and_closed_and_its_day_is_settled(open_site):
    prove_main_job(open_site(MAIN_PLAN))
