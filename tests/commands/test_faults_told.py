"""What a fault of the machine becomes at the edge of the command line: a sentence, and a log for the rest."""

import errno
import os

import pytest

from dormpower import cli


def told(monkeypatch, capsys, fault: Exception) -> str:
    """Run the command line with a command that fails so, and return what it says."""

    def fails(**_: object) -> None:
        raise fault

    monkeypatch.setattr(cli, "app", fails)
    monkeypatch.setattr(cli.structlog, "configure", lambda **_: None)  # other tests' logs go on as they went
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    return capsys.readouterr().err.strip()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_takes_nothing_is_told_as_such(monkeypatch, capsys, number):
    said = told(monkeypatch, capsys, OSError(number, os.strerror(number)))
    assert said == f"the disk can't be written to: {os.strerror(number)}; what was committed before is kept"


def test_a_file_that_can_t_be_used_is_named(monkeypatch, capsys):
    fault = OSError(errno.EACCES, "Permission denied", "site.yaml")
    assert told(monkeypatch, capsys, fault) == "site.yaml: Permission denied"


def test_what_nobody_expected_is_logged_with_its_traceback(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert told(monkeypatch, capsys, ZeroDivisionError("of ours")).endswith("error.log")
    assert "ZeroDivisionError: of ours" in (tmp_path / "dormpower" / "error.log").read_text(encoding="utf-8")
