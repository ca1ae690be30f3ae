"""One measurement: load on an address, and what the programs under it used meanwhile."""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fixtures.processes import ROOT

TARGET = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release"


@dataclass(frozen=True)
class Shape:
    """How much goes on at once."""

    name: str
    connections: int
    streams: int


SHAPES = [Shape("4 x 16", 4, 16), Shape("1 stream", 1, 1), Shape("64 x 1", 64, 1)]


@dataclass(frozen=True)
class Work:
    """What a call sends, as files, and where a load generator may write."""

    path: str
    """``/package.Service/Method``."""
    message: Path
    body: Path
    """What is sent: the message, with gRPC's prefix where it is gRPC."""
    log: Path
    content_type: str = "application/grpc"
    """Any other is sent over HTTP/1.1, where a connection carries one call at a time."""
    headers: tuple[str, ...] = ()
    """More of them, as ``name: value``."""
    scheme: str = "http"

    @property
    def is_http1(self) -> bool:
        """Whether it is not gRPC."""
        return self.content_type != "application/grpc"


def h2load(address: str, work: Work, shape: Shape, seconds: float, calls: int | None = None) -> dict[str, float]:
    """Load an address with as many calls as it takes; return calls, req/s and latencies in ms.

    Args:
        address: where.
        work: what a call sends.
        shape: how much at once.
        seconds: how long; with ``calls`` how long at most, about.
        calls: how many calls, instead of a time.

    Raises:
        RuntimeError: a call failed, or h2load did not say what it did.
    """
    work.log.unlink(missing_ok=True)
    command = h2load_command(work, shape, ["-D", f"{seconds * 1000:.0f}ms"] if calls is None else ["-n", str(calls)])
    if shape.streams == shape.connections == 1:
        command += ["--log-file", str(work.log)]  # a line a call: too much work for the other shapes
    done = _run([*command, f"{work.scheme}://{address}{work.path}"], seconds)
    counts = re.search(r"(\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored", done.stdout)
    rate = re.search(r"finished in [\d.]+\w+, ([\d.]+) req/s", done.stdout)
    if not counts or not rate or int(counts[2]) == 0 or int(counts[3]) + int(counts[4]) > 0:
        raise RuntimeError(f"h2load on {address} failed:\n{done.stdout}{done.stderr}")
    result = {"calls": float(counts[2]), "rps": float(rate[1])}
    if work.log.exists():
        result |= _latencies([int(line.split("\t")[2]) for line in work.log.read_text().splitlines()])
    return result


def h2load_command(work: Work, shape: Shape, amount: list[str]) -> list[str]:
    """Return h2load's command but for its address."""
    command = ["h2load", "-t", "1", "-c", str(shape.connections), "-m", str(shape.streams), *amount]
    command += ["--h1"] if work.is_http1 else ["-H", "te: trailers"]
    for header in work.headers:
        command += ["-H", header]
    return [*command, "-d", str(work.body), "-H", f"content-type: {work.content_type}"]


def _run(command: list[str], seconds: float) -> subprocess.CompletedProcess[str]:
    """Run a load generator; what it could not do is in its output, read by the caller."""
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=seconds + 60, stdin=subprocess.DEVNULL
    )


def _latencies(microseconds: list[int]) -> dict[str, float]:
    cuts = statistics.quantiles(microseconds, n=1000, method="inclusive")
    result = {"mean_ms": statistics.fmean(microseconds)}
    result |= {"p50_ms": cuts[499], "p99_ms": cuts[989], "p99_9_ms": cuts[998]}
    return {name: value / 1000 for name, value in result.items()}


def summary(values: list[float]) -> dict[str, float]:
    """Return median, minimum and maximum."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def summaries(rounds: list[dict[str, float]]) -> dict[str, Any]:
    """Sum up each figure over the rounds."""
    return {name: summary([one[name] for one in rounds]) for name in rounds[0]}


def fixed_rate(
    address: str,
    work: Work,
    rate: float,
    seconds: float,
    connections: int,
    *,
    deadline_ms: int = 1000,
    may_fail: bool = False,
) -> dict[str, float]:
    """Call at a fixed rate, whatever the answers do; return latencies in ms from when each call was due.

    Args:
        address: where.
        work: what a call sends.
        rate: calls/s.
        seconds: how long.
        connections: how many; over HTTP/1.1 how many at most.
        deadline_ms: of each call.
        may_fail: count calls that fail as ``failed``; their latencies are among the others.

    Raises:
        RuntimeError: a call failed that must not.
    """
    command = [str(TARGET / "load"), address, "--path", work.path, "--body", str(work.message), "--rate", f"{rate:g}"]
    command += ["--seconds", f"{seconds:g}", "--connections", str(connections), "--deadline-ms", f"{deadline_ms}"]
    if work.is_http1:
        command += ["--http1", "yes", "--header", f"content-type={work.content_type}"]
    done = _run(command, seconds)
    if done.returncode != 0:
        raise RuntimeError(f"load on {address} failed: {done.stderr}")
    report = json.loads(done.stdout.splitlines()[-1])
    if report["failed"] and not may_fail:
        raise RuntimeError(
            f"{report['failed']} of {report['calls']} calls on {address} failed: {report['failures'][0]}"
        )
    latency = {f"{name}_ms": value for name, value in report["latency_ms"].items()}
    failed = {"failed": report["failed"]} if may_fail else {}
    return {"calls": report["calls"], "rps": report["calls"] / seconds, **failed, **latency}
