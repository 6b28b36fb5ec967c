"""docs/interfaces.md names every route of the API and every kind of alarm."""

import re
from pathlib import Path

import pytest

from api.roles import MATRIX, PREFIX
from dormpower.domain.alarms import AlarmKind

TEXT = (Path(__file__).parents[2] / "docs" / "interfaces.md").read_text(encoding="utf-8")
CODE = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL))
METHODS = r"(?:GET|POST|PUT|PATCH|DELETE)"


def comparable(path: str) -> str:
    """A path without its query, whatever its placeholders are called."""
    return re.sub(r"\{[^}]*\}", "{}", path.partition("?")[0])


def documented() -> set[tuple[str, str]]:
    """Routes as the document writes them: `GET\\|POST /path?query`."""
    found = set()
    for code in CODE:
        written = re.match(rf"({METHODS}(?:\\?\|{METHODS})*) (/\S*)", code)
        if written is not None:
            found |= {(method, comparable(written[2])) for method in re.findall(METHODS, written[1])}
    return found


@pytest.mark.parametrize(("method", "path"), sorted(MATRIX))
def test_every_route_is_documented(method, path):
    if not path.startswith(PREFIX):  # for machines that watch: written as paths alone
        assert path in CODE
        return
    assert (method, comparable(path.removeprefix(PREFIX))) in documented()


@pytest.mark.parametrize("kind", list(AlarmKind))
def test_every_kind_of_alarm_is_documented(kind):
    assert kind.value in CODE


def test_every_route_in_the_document_is_there():
    present = {(method, comparable(path.removeprefix(PREFIX))) for method, path in MATRIX}
    assert documented() - present == set()
