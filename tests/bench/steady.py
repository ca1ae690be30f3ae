"""What must not grow: memory over a million requests and by connections, CPU with a thousand endpoints, imbalance of
two workers.

`make bench-steady` calls it. Writes results/steady.json. Each part stands alone:
``--only memory,idle,endpoints,spread``.
"""

from __future__ import annotations

import argparse
import json
import resource
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
from bench import machine
from bench.contenders import CONTENDERS, Contender
from bench.fleet import Fleet
from bench.measure import SHAPES, Shape, Work, h2load, h2load_command, summary
from bench.payloads import PATH, SIZES, framed, predict
from bench.proc import connections_per_worker, cpu_seconds, resident_bytes
from fixtures.processes import Process

RESULTS = Path(__file__).parent / "results"
ADDRESS = "127.0.0.1:18700"
REPLY_BYTES = 64
REQUESTS = 1_000_000
STEPS = 20
# Of one HTTP/2 connection without calls, bytes.
IDLE_BAR = 8 * 1024
WARM_CONNECTIONS = 200
IDLE_LIMITS = {"service": {"limits": {"max_connections": 20_000, "max_connections_per_ip": 20_000}}}
FRAME_HEAD = 9


def main() -> None:
    """Measure what the command line says, write the result, print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contender", default="ours", choices=[name for name in CONTENDERS if name != "none"])
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument("--connections", type=int, default=3_000, help="of --only idle")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS / "steady.json")
    options = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65_536)), hard))  # a thousand endpoints
    result: dict[str, Any] = {"what": "what must not grow", "contender": options.contender, **machine.describe()}
    arguments = " ".join(sys.argv[1:])
    result["command"] = f'make bench-steady BENCH_ARGS="{arguments}"' if arguments else "make bench-steady"
    for part in options.only.split(","):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            folder.chmod(0o755)  # nginx's worker is another user
            result[part] = PARTS[part](options, folder)
        print(part, json.dumps({key: value for key, value in result[part].items() if key != "each"}), flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


def memory(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Resident memory while the requests pass, in equal steps; the second half may grow by less than 2 %."""
    work = _work(folder)
    with Fleet(2, REPLY_BYTES) as fleet, _started(options.contender, fleet, folder) as contender:
        sizes = []
        for _ in range(STEPS):
            h2load(contender.address, work, SHAPES[0], 600, options.requests // STEPS)
            sizes.append(resident_bytes(_pid(contender)))
    growth = sizes[-1] / sizes[STEPS // 2 - 1] - 1
    return {
        "requests": options.requests,
        "resident_bytes": sizes,
        "growth_second_half": growth,
        "bar": 0.02,
        "reached": growth < 0.02,
    }


def idle(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Resident memory of a connection that has made a call and now makes none: ours beside the other proxies."""
    request = _one_request(folder)
    bytes_each = {}
    for name in ("ours", "envoy", "nginx", "haproxy"):
        with Fleet(2, REPLY_BYTES) as fleet, ExitStack() as stack:
            contender = stack.enter_context(_started(name, fleet, folder, **(IDLE_LIMITS if name == "ours" else {})))
            # What is taken once is taken before.
            for _ in range(WARM_CONNECTIONS):
                stack.enter_context(_idle_connection(contender.address, request))
            before = resident_bytes(_pid(contender))
            for _ in range(options.connections):
                stack.enter_context(_idle_connection(contender.address, request))
            bytes_each[name] = (resident_bytes(_pid(contender)) - before) / options.connections
    reached = bytes_each["ours"] <= IDLE_BAR
    return {"connections": options.connections, "bytes_each": bytes_each, "bar": IDLE_BAR, "reached": reached}


def _one_request(folder: Path) -> bytes:
    """Return what a client of HTTP/2 sends for one call, from its preface on."""
    work = _work(folder)
    client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    client.initiate_connection()
    head = [(":method", "POST"), (":scheme", "http"), (":path", PATH), (":authority", "bench")]
    client.send_headers(1, [*head, ("content-type", "application/grpc"), ("te", "trailers")])
    client.send_data(1, work.body.read_bytes(), end_stream=True)
    return client.data_to_send()


@contextmanager
def _idle_connection(address: str, request: bytes) -> Iterator[None]:
    """A connection whose one call has been answered."""
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(request)
        came = b""
        while b"grpc-status" not in came and not _ends_stream(came):
            part = connection.recv(65_536)
            if not part:
                raise RuntimeError(f"{address} closed a connection: {came!r}")
            came += part
        yield


def _ends_stream(came: bytes) -> bool:
    """Whether a frame of HEADERS or DATA ends a stream."""
    while len(came) >= FRAME_HEAD:
        length, kind, flags = int.from_bytes(came[:3]), came[3], came[4]
        if kind <= 1 and flags & 1:
            return True
        came = came[FRAME_HEAD + length :]
    return False


def endpoints(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """CPU per request with 10 and with 1,000 endpoints, in turn.

    Two shapes: at 4 x 16 the requests to 10 endpoints share writes, those to 1,000 cannot; at 1 stream neither do, and
    the difference is the price of choosing.
    """
    work = _work(folder)
    each: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        for count in (10, 1000):
            with Fleet(count, REPLY_BYTES) as fleet, _started(options.contender, fleet, folder) as contender:
                for shape in SHAPES[:2]:
                    h2load(contender.address, work, shape, options.seconds)  # every endpoint gets its connection
                    before = cpu_seconds(_pid(contender))
                    calls = h2load(contender.address, work, shape, options.seconds)["calls"]
                    used = cpu_seconds(_pid(contender)) - before
                    each.setdefault(f"{count} endpoints, {shape.name}", []).append(used / calls * 1e6)
    ratios = {}
    for shape in SHAPES[:2]:
        pairs = zip(each[f"1000 endpoints, {shape.name}"], each[f"10 endpoints, {shape.name}"], strict=True)
        ratios[shape.name] = summary([many / few for many, few in pairs])
    reached = {name: ratio["median"] <= 1.1 for name, ratio in ratios.items()}
    cpu = {name: summary(values) for name, values in each.items()}
    return {"cpu_us": cpu, "each": each, "ratio": ratios, "bar": 1.1, "reached": reached}


def spread(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Connections of each of two workers, for several numbers of connections, while they are in use."""
    work = _work(folder)
    counts: dict[int, list[int]] = {}
    with Fleet(2, REPLY_BYTES) as fleet, _started(options.contender, fleet, folder, workers=2) as contender:
        for connections in (2, 4, 8, 64):
            command = h2load_command(work, Shape("", connections, 1), ["-D", f"{options.seconds:g}"])
            load = Process([*command, f"http://{contender.address}{PATH}"])
            try:
                counts[connections] = _settled(contender, connections)
                load.wait(options.seconds + 60)
            finally:
                load.kill()
    even = all(len(each) == 2 and each[1] - each[0] <= 1 for each in counts.values())
    return {"connections_per_worker": counts, "bar": 1, "reached": even}


PARTS = {"memory": memory, "idle": idle, "endpoints": endpoints, "spread": spread}


def _work(folder: Path) -> Work:
    message = folder / "message"
    message.write_bytes(predict(SIZES["small"]))
    body = folder / "body"
    body.write_bytes(framed(message.read_bytes()))
    return Work(PATH, message, body, folder / "log")


def _pid(contender: Contender) -> int:
    if contender.process is None:
        raise RuntimeError(f"{contender.name} has no process to look at")
    return contender.process.pid


@contextmanager
def _started(name: str, fleet: Fleet, folder: Path, workers: int = 1, **options: Any) -> Iterator[Contender]:
    place = Path(tempfile.mkdtemp(dir=folder))
    place.chmod(0o755)
    contender = CONTENDERS[name](ADDRESS, fleet.addresses, place, workers, **options)
    try:
        fleet.check(contender, predict(SIZES["small"]))
        yield contender
    finally:
        if contender.process is not None:
            contender.process.kill()


def _settled(contender: Contender, connections: int) -> list[int]:
    """Look until all connections are accepted; h2load keeps them open meanwhile."""
    port = int(contender.address.rsplit(":", 1)[1])
    for _ in range(1000):
        counts = connections_per_worker(_pid(contender), port)
        if sum(counts) == connections:
            return counts
    raise RuntimeError(f"{contender.name}: {sum(counts)} of {connections} connections accepted")


if __name__ == "__main__":
    main()
