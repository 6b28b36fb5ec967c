"""A real InfluxDB of Debian's package on loopback, behind a forwarder that speaks the client's write path."""

import json
import socket
import subprocess
import threading
import time
import urllib.parse
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import urllib3

CONFIG = """
reporting-disabled = true
bind-address = "127.0.0.1:{rpc_port}"
[meta]
  dir = "{folder}/meta"
[data]
  dir = "{folder}/data"
  wal-dir = "{folder}/wal"
  query-log-enabled = false
[monitor]
  store-enabled = false
[http]
  bind-address = "127.0.0.1:{http_port}"
  log-enabled = false
"""


def free_port() -> int:
    """Ask the machine for a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Forwarder:
    """Turns the client's /api/v2/write into /write of InfluxDB 1.6; everything else goes through as it is.

    It invents no answer but two: 502 while the server behind it is away, and 503 for so many writes as
    `lose_answers` says, after the server has taken them (an answer lost on its way).
    """

    def __init__(self, target_port: int) -> None:
        self.writes = 0
        self.lose_answers = 0
        forwarder = self
        pool = urllib3.HTTPConnectionPool("127.0.0.1", target_port, maxsize=16, retries=False, timeout=10)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.forward("GET")

            def do_POST(self) -> None:
                self.forward("POST")

            def forward(self, method: str) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                path = self.path
                url = urllib.parse.urlsplit(path)
                is_write = url.path == "/api/v2/write"
                if is_write:
                    asked = dict(urllib.parse.parse_qsl(url.query))
                    path = "/write?" + urllib.parse.urlencode(
                        {"db": asked["bucket"], "precision": asked["precision"]}
                    )
                try:
                    answer = pool.request(method, path, body=body)
                    status, data = answer.status, answer.data
                except urllib3.exceptions.HTTPError as fault:
                    status, data = 502, json.dumps({"error": str(fault)}).encode()
                if is_write:
                    forwarder.writes += 1
                    if status < 300 and forwarder.lose_answers > 0:
                        forwarder.lose_answers -= 1
                        status, data = 503, b'{"error": "answer lost"}'
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                if status != 204:
                    self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if status != 204:
                    self.wfile.write(data)

            def log_message(self, *_args: object) -> None:
                """Say nothing."""

        self._pool = pool
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        """Stop forwarding."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._pool.close()


class InfluxServer:
    """An InfluxDB process of the tests: stopped, killed and started again on the same data."""

    def __init__(self, folder: Path) -> None:
        from_path = next(
            path
            for path in ("/usr/bin/influxd", "/usr/sbin/influxd", "/usr/local/bin/influxd")
            if Path(path).exists()
        )
        self._program = from_path
        self._http_port = free_port()
        self._config = folder / "influxdb.conf"
        self._config.write_text(
            CONFIG.format(folder=folder, http_port=self._http_port, rpc_port=free_port()), encoding="utf-8"
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._log = (folder / "influxd.log").open("ab")
        self.start()
        self.forwarder = Forwarder(self._http_port)
        self.url = self.forwarder.url

    def start(self) -> None:
        """Start the server and wait until it answers queries."""
        self._process = subprocess.Popen(  # noqa: S603 - a program of the machine, no shell
            [self._program, "-config", str(self._config)], stdout=self._log, stderr=self._log
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                self.query("SHOW DATABASES")
            except urllib3.exceptions.HTTPError:
                assert time.monotonic() < deadline, "influxd did not come up"
                time.sleep(0.05)
            else:
                return

    def kill(self) -> None:
        """End the server with kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def query(self, text: str, db: str = "") -> dict[str, Any]:
        """Ask in InfluxQL, past the forwarder."""
        with urllib3.PoolManager(retries=False) as pool:
            answer = pool.request(
                "POST", f"http://127.0.0.1:{self._http_port}/query", fields={"q": text, "db": db}
            )
            return dict(json.loads(answer.data))

    def new_bucket(self) -> str:
        """Make a database of its own and return its name."""
        name = f"dorm_{uuid.uuid4().hex[:12]}"
        self.query(f'CREATE DATABASE "{name}"')
        return name

    def close(self) -> None:
        """End the server and its forwarder."""
        self.kill()
        self.forwarder.close()
        self._log.close()
