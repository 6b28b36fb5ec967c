"""Fixtures that several folders of tests share."""

import os
import shutil
from pathlib import Path

import pytest


def find_program(name: str) -> str | None:
    """Return the path of a program, looking where Debian keeps servers too."""
    found = shutil.which(
        name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    )
    if found:
        return found
    candidates = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    return str(candidates[0]) if candidates else None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, with its reason, a test whose programs this machine lacks; in CI that is a failure."""
    for mark in item.iter_markers("needs"):
        missing = [name for name in mark.args if find_program(name) is None]
        if missing:
            reason = f"this machine lacks {', '.join(missing)}"
            if os.environ.get("CI") == "true":
                pytest.fail(f"in CI nothing may be skipped: {reason}")
            pytest.skip(reason)
