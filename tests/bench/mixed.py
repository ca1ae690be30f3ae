"""A hundred thousand calls of every kind while endpoints fail, and a million cancels: no wrong answer, nothing left.

`make mixed` calls it. The calls are those of `mixed` (dataplane/crates/bench): unary ones and streams, up to 16 MiB, by
slow callers and quick ones, cancelled, out of time, on connections that are left; each answer is compared with what was
asked. Afterwards the access service may have no call, no byte of one and no connection, and its memory must be what it
was after the first calls. Writes results/mixed.json; exit status 1 where something was wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import signal
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import machine
from bench.measure import TARGET
from bench.mixed_verdict import verdict
from bench.proc import resident_bytes
from fixtures.access_process import Access, cluster, wait_until
from fixtures.processes import Endpoint, Process

RESULTS = Path(__file__).parent / "results"
CALLS = 100_000
CANCELS = 1_000_000
WARM_CALLS = 5_000
ENDPOINTS = 4
# How long an endpoint has a fault, and then none, s.
FAULT_S = (0.2, 1.0)
# What an endpoint does to all calls or connections, until it is told `ok`; some take a while to be found out.
MODES = (
    *("rst", "half", "refuse", "close", "unlisten", "garbage", "half-close", "nostatus", "restart", "http 503"),
    *("status 14", "hang", "hang-headers", "slow 300", "goaway-every 3"),
)
EVENTS = ("goaway", "goaway0", "reset")
# An endpoint that hangs is left for another after this time.
SETTINGS = {"attempt_timeout_ms": 2000}
# Endpoints that take a while, so that there is something to cancel.
SERVICE = ("--service", "exponential:1")
KILL, FREEZE = "kill", "freeze"
# Of a whole run: more than a machine with other work needs.
LIMIT_S = 3000
# After the load: what the service has in hand ends with its callers.
END_S = 30


@dataclass
class Faults:
    """Endpoints that fail one after the other, the first one never."""

    endpoints: list[Endpoint]
    done: Counter[str] = field(default_factory=Counter)
    failure: BaseException | None = None

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Let them fail until the block ends; then none has a fault."""
        over = threading.Event()
        thread = threading.Thread(target=self._run, args=(over,))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(60)
        if thread.is_alive() or self.failure:
            raise AssertionError(f"the faults have not ended well: {self.failure}")

    def _run(self, over: threading.Event) -> None:
        chance = random.Random(1)
        kinds = [*MODES, *EVENTS, KILL, FREEZE]
        try:
            while not over.is_set():
                chance.shuffle(kinds)
                for kind in kinds:
                    self._fail(chance.choice(self.endpoints[1:]), kind, lambda: over.wait(chance.uniform(*FAULT_S)))
                    if over.wait(chance.uniform(*FAULT_S)):
                        return
        except (AssertionError, OSError) as error:
            self.failure = error

    def _fail(self, endpoint: Endpoint, kind: str, pause: Callable[[], object]) -> None:
        self.done[kind] += 1
        if kind == KILL:
            endpoint.kill()
            pause()
            endpoint.restart()
        elif kind == FREEZE:
            endpoint.freeze()
            pause()
            endpoint.thaw()
        else:
            endpoint.tell(kind)
            pause()
            endpoint.tell("ok")


class Scene:
    """The access service, its endpoints, and what it holds."""

    def __init__(
        self,
        folder: Path,
        start: Callable[..., Process],
        *options: str,
        limits: dict[str, int] | None = None,
        **settings: Any,
    ) -> None:
        self._start = start
        program = TARGET / "endpoint"
        self.endpoints = [Endpoint(start, program, ("--echo", "yes", *options)) for _ in range(ENDPOINTS)]
        addresses = [each.address for each in self.endpoints]
        self.access = Access(start, folder, {**cluster(addresses, **settings), "limits": limits or {}})
        self.access.wait_live(*addresses)

    def calls(self, *options: str, during: Callable[[Process], None] = lambda _: None) -> dict[str, Any]:
        """Make calls; return the report of `mixed`."""
        process = self._start([TARGET / "mixed", self.access.address, *options])
        process.wait_line("^started")
        during(process)
        found: dict[str, Any] = json.loads(process.wait_line(r"^\{.*\}$", timeout_s=LIMIT_S)[0])
        process.wait()
        return found

    def resident(self) -> int:
        """Return the service's resident memory, bytes."""
        return resident_bytes(self.access.process.pid)

    def held(self) -> dict[str, float]:
        """Return what the service has of calls, once it has nothing or the time for that is over."""

        def now() -> dict[str, float]:
            status = self.access.status()
            return {
                "in_flight": status["in_flight"],
                "connections": status["connections"],
                "attempts": self.access.counter("dl_in_flight"),
                "held_bytes": self.access.counter("dl_held_bytes"),
                "unread_bytes": status["unread_bytes"],
                "unsent_bytes": status["unsent_bytes"],
            }

        with contextlib.suppress(AssertionError):  # what is left is what is returned
            wait_until(lambda: not any(now().values()), "nothing is held", END_S)
        return now()


def main() -> None:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=CALLS, help="0: none")
    parser.add_argument("--cancels", type=int, default=CANCELS, help="0: none")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="default: results/mixed.json, for fewer calls mixed-quick.json")
    given = parser.parse_args()
    # The programs that it has started end with it, also where a time limit ends it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    found: dict[str, Any] = {
        "what": "calls of every kind while 3 of 4 endpoints fail in turn, and cancels among calls",
        **machine.describe(),
        "command": f"make mixed MIXED_CALLS={given.calls} MIXED_CANCELS={given.cancels}",
    }
    parts: dict[str, Callable[..., dict[str, Any]]] = {}
    if given.calls:
        parts["mixed"] = lambda *scene: mixed(Scene(*scene, **SETTINGS), given.calls, given.seed)
    if given.cancels:
        parts["cancels"] = lambda *scene: cancels(Scene(*scene, *SERVICE), given.cancels, given.seed)
    found |= {name: _in_a_scene(part) for name, part in parts.items()}
    wrong = [text for part in parts for text in verdict(part, found[part])]
    found["reached"] = not wrong
    is_whole = given.calls >= CALLS and given.cancels >= CANCELS
    path = given.out or RESULTS / ("mixed.json" if is_whole else "mixed-quick.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps({part: found[part] for part in parts}, indent=1))
    print("\n".join(wrong) if wrong else "reached: no wrong answer, nothing left", f"({path})")
    sys.exit(bool(wrong))


def _in_a_scene(run: Callable[[Path, Callable[..., Process]], dict[str, Any]]) -> dict[str, Any]:
    processes: list[Process] = []

    def start(command: list[str | Path], **more: Any) -> Process:
        processes.append(Process(command, **more))
        return processes[-1]

    with tempfile.TemporaryDirectory() as folder:
        try:
            return run(Path(folder), start)
        finally:
            for process in reversed(processes):
                process.kill()


def mixed(scene: Scene, calls: int, seed: int) -> dict[str, Any]:
    """Make calls of every kind while endpoints fail."""
    few = str(min(WARM_CALLS, calls))
    fresh = scene.resident()
    warm = scene.calls("--calls", few, "--seed", str(seed + 1))
    scene.held()
    memory = {"fresh": fresh, "warm": scene.resident()}
    faults = Faults(scene.endpoints)
    with faults.going_on():
        found = scene.calls("--calls", str(calls), "--seed", str(seed))
    held = scene.held()
    memory["end"] = scene.resident()
    again = scene.calls("--calls", few, "--seed", str(seed + 2))
    return {
        **found,
        "faults": dict(sorted(faults.done.items())),
        "held_at_the_end": held,
        "resident_bytes": memory,
        "without_faults": [warm, again],
        "errors": _errors(scene.access),
    }


def cancels(scene: Scene, cancels: int, seed: int) -> dict[str, Any]:
    """Cancel so many calls among others on connections that stay."""
    memory = {"fresh": scene.resident()}
    connections = [each.counts()[1] for each in scene.endpoints]
    half_way: list[int] = []
    found = scene.calls(
        *("--cancels", str(cancels), "--seed", str(seed)),
        during=lambda process: half_way.append(_resident_half_way(scene, process, cancels)),
    )
    held = scene.held()
    memory |= {"half": half_way[0], "end": scene.resident()}
    opened = [each.counts()[1] - before for each, before in zip(scene.endpoints, connections, strict=True)]
    return {
        **found,
        "held_at_the_end": held,
        "resident_bytes": memory,
        "connections_to_endpoints": opened,
        "connections_closed_by_service": {
            reason: scene.access.counter("dl_connections_closed_total", reason=reason)
            for reason in ("flood", "protocol", "io", "age")
        },
        "errors": _errors(scene.access),
    }


def _resident_half_way(scene: Scene, process: Process, cancels: int) -> int:
    """Return the memory once half of the calls have been cancelled."""
    goal = 0.9 * cancels / 2  # some had been answered before the service read that
    counted = lambda: scene.access.counter("dl_errors_total", kind="cancelled")  # noqa: E731
    wait_until(lambda: counted() >= goal or process.has_ended, "half of the cancels", LIMIT_S)
    return scene.resident()


def _errors(access: Access) -> dict[str, float]:
    kinds = ("cancelled", "deadline_exceeded", "connect_failed", "refused_stream", "connection_lost", "stream_reset")
    kinds = (*kinds, "bad_upstream_response", "no_endpoints", "shed", "internal")
    return {kind: access.counter("dl_errors_total", kind=kind) for kind in kinds}


if __name__ == "__main__":
    main()
