"""The supervisor with tiny children: restarts, stops together, gives up on a refusal, leaves no orphan."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from dormpower.commands.supervisor import Child, Supervisor

SLEEP = "import time; time.sleep(60)"


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def wait_until(condition, within_s: float = 20.0):
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def stop_when(supervisor: Supervisor, condition) -> threading.Thread:
    def watch() -> None:
        try:
            wait_until(condition)
        finally:
            supervisor.stop()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def lines_of(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_child_that_crashes_is_started_again_and_its_neighbour_is_left_alone(tmp_path):
    starts, steady = tmp_path / "starts", tmp_path / "steady"
    note = "import os; open({!r}, 'a').write(f'{{os.getpid()}}\\n')"
    crashing = python(f"{note.format(str(starts))}; os.kill(os.getpid(), 9)")
    calm = python(f"{note.format(str(steady))}; {SLEEP}")
    supervisor = Supervisor(
        [Child(name="crashing", arguments=crashing), Child(name="calm", arguments=calm)], first_delay_s=0.01
    )
    thread = stop_when(supervisor, lambda: len(lines_of(starts)) >= 3)
    assert supervisor.run() == 0
    thread.join()
    assert len(set(lines_of(starts))) >= 3
    assert len(lines_of(steady)) == 1
    assert not is_alive(int(lines_of(steady)[0]))


def test_a_child_that_refuses_at_the_start_ends_all_with_its_exit_code():
    supervisor = Supervisor(
        [
            Child(name="calm", arguments=python(SLEEP)),
            Child(name="refusing", arguments=python("raise SystemExit(1)")),
        ]
    )
    assert supervisor.run() == 1


def test_sigterm_stops_all_children_with_exit_code_0(tmp_path):
    pids = tmp_path / "pids"
    child = f"import os; open({str(pids)!r}, 'a').write(str(os.getpid())); {SLEEP}"
    code = (
        "import sys\nfrom dormpower.commands.supervisor import Child, Supervisor\n"
        f"sys.exit(Supervisor([Child(name='c', arguments=[sys.executable, '-c', {child!r}])]).run())"
    )
    process = subprocess.Popen(python(code), stdout=subprocess.DEVNULL)
    wait_until(lambda: len(lines_of(pids)) == 1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 0
    assert not is_alive(int(lines_of(pids)[0]))


def test_children_die_with_a_supervisor_that_is_killed(tmp_path):
    pids = tmp_path / "pids"
    child = f"import os; open({str(pids)!r}, 'a').write(str(os.getpid())); {SLEEP}"
    code = (
        "import sys\nfrom dormpower.commands.supervisor import Child, Supervisor\n"
        f"sys.exit(Supervisor([Child(name='c', arguments=[sys.executable, '-c', {child!r}])]).run())"
    )
    process = subprocess.Popen(python(code), stdout=subprocess.DEVNULL)
    wait_until(lambda: len(lines_of(pids)) == 1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(timeout=20)
    wait_until(lambda: not is_alive(int(lines_of(pids)[0])))


def test_what_a_child_says_stands_in_its_log_and_its_refusal_is_at_hand(tmp_path, capfd):
    log = tmp_path / "all.log"
    log.write_text('{"event": "earlier"}\n')
    refusing = python(
        'import sys; print(\'{"event": "begun"}\'); sys.stdout.flush(); '
        'sys.stderr.write(\'port 1: taken; choose another\\n{"event": "ended"}\\n\'); sys.exit(1)'
    )
    supervisor = Supervisor([Child(name="refusing", arguments=refusing, log=log)])
    assert supervisor.run() == 1
    assert supervisor.last_words == "port 1: taken; choose another"
    assert log.read_text().splitlines()[0] == '{"event": "earlier"}'
    assert len(log.read_text().splitlines()) == 4
    shown = capfd.readouterr()
    assert "begun" not in shown.out
    assert "port 1" not in shown.err
