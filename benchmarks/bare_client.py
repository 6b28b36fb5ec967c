"""The baseline of polling: pymodbus clients in a bare loop, one a line, nothing done with what they read.

Prints one line of JSON: transactions and the seconds that they took.
"""

import argparse
import asyncio
import json
import sys
import time

import uvloop
from pymodbus.client import AsyncModbusTcpClient


class _Tally:
    done = 0
    over = False


async def _poll(client: AsyncModbusTcpClient, wanted: argparse.Namespace, tally: _Tally) -> None:
    address, count = wanted.address, wanted.count
    while not tally.over:
        for unit in range(1, wanted.units + 1):
            answer = await client.read_holding_registers(address, count=count, device_id=unit)
            if answer.isError() or len(answer.registers) != count:
                raise RuntimeError(f"unit {unit}: {answer}")
            tally.done += 1


async def _run(wanted: argparse.Namespace) -> None:
    clients = [AsyncModbusTcpClient("127.0.0.1", port=port, retries=0, timeout=10) for port in wanted.ports]
    for client in clients:
        await client.connect()
    tally = _Tally()
    polls = [asyncio.create_task(_poll(client, wanted, tally)) for client in clients]
    await asyncio.sleep(wanted.warm_up_s)
    before, started_s, cpu_s = tally.done, time.perf_counter(), time.process_time()
    await asyncio.sleep(wanted.measure_s)
    taken, elapsed_s, used_s = tally.done - before, time.perf_counter() - started_s, time.process_time() - cpu_s
    tally.over = True  # each ends by itself: pymodbus takes a cancellation for a fault of the connection
    await asyncio.gather(*polls)
    for client in clients:
        client.close()
    sys.stdout.write(json.dumps({"transactions": taken, "elapsed_s": elapsed_s, "cpu_s": used_s}) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bare_client", description=__doc__)
    parser.add_argument("--ports", type=json.loads, required=True)
    parser.add_argument("--units", type=int, default=32)
    parser.add_argument("--address", type=int, default=0x10)
    parser.add_argument("--count", type=int, default=0x2C)
    parser.add_argument("--warm-up-s", type=float, default=1.0)
    parser.add_argument("--measure-s", type=float, default=10.0)
    uvloop.run(_run(parser.parse_args()))


if __name__ == "__main__":
    main()
