"""kill -9 in its short form: a few kills of each process under load, then all is held against what happened.

The long form is a command: `python -m proofs.kill_nine --kills 50`.
"""

import pytest

from proofs.kill_nine import prove

pytestmark = pytest.mark.timeout(300)

SEED = 5  # draws kills of the gateway, of the API, and of both at once


def test_kill_nine_of_gateway_and_api_under_load_loses_nothing_and_doubles_nothing():
    outcome = prove(kills=5, seed=SEED)
    assert outcome.broken == []
    assert outcome.kills["gateway"] > 0
    assert outcome.kills["api"] > 0
    assert outcome.retries > 0, "no payment was under way at a kill: nothing was proven"
    assert outcome.recharges > outcome.kills["api"]
    assert outcome.charged_wh > 0
    assert outcome.positions > 0
