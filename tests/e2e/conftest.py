"""Running sites for the proofs from end to end."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from proofs.running_site import RunningSite
from proofs.site_folder import Plan, SiteFolder

OpenSite = Callable[[Plan], RunningSite]


@pytest.fixture
def open_site(request: pytest.FixtureRequest) -> Iterator[OpenSite]:
    """Open a site whose simulators and API run; the gateway is started by the test, once all is funded."""
    with ExitStack() as stack:

        def open_one(plan: Plan) -> RunningSite:
            files = SiteFolder(plan)
            stack.callback(files.remove)
            files.restart_clock()
            return stack.enter_context(RunningSite(files))

        yield open_one
