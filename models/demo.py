"""The whole system on this machine: two PyTorch servers, the access service in front, real calls, one server killed.

    make demo

Everything listens on 127.0.0.1, on free ports. `demo_processes.py` keeps the programs; this file tells the story.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
from demo_processes import DemoError, Program, Programs
from google.protobuf.json_format import MessageToDict
from PIL import Image
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dl_inference import status
from dl_inference.messages import SeldonMessage

DIGITS = Path(__file__).resolve().parent / "digits"
SAMPLES = sorted(DIGITS.glob("samples/*.png"))
SERVERS = 2
CALLERS = 4
CALLS = 400
"""Answers to wait for before one server is killed, and again after."""

LOAD_S = 180.0
"""How long a model server may load: the first import of torch reads gigabytes."""

START_S = 20.0
CALL_S = 10.0

ACCESS_YAML = """\
listen: 127.0.0.1:0        # 0: a free port
admin: 127.0.0.1:0
expose_endpoints: true     # answers say who served them
models:
  digits: {{endpoints: [{endpoints}], protocol: seldon}}
"""

BEGIN = time.monotonic()


@dataclass(frozen=True, slots=True)
class Answer:
    """One answered call.

    Attributes:
        name: the class that the model named.
        score: its score, 0..1.
        endpoint: who served, by the trailer `access-endpoint`.
        attempts: how many endpoints were tried.
        begun: time.monotonic() when it was sent.
        took_ms: from sending to the answer.
    """

    name: str
    score: float
    endpoint: str
    attempts: int
    begun: float
    took_ms: float


class Caller:
    """An ordinary grpcio client of the address where the access service listens."""

    def __init__(self, address: str) -> None:
        # A proxy for the web has no business between two programs of this machine.
        self._channel = grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)])
        self._predict = self._channel.unary_unary(
            "/seldon.protos.Model/Predict",
            request_serializer=SeldonMessage.SerializeToString,
            response_deserializer=SeldonMessage.FromString,
        )

    def predict(self, png: bytes) -> Answer:
        """Send a picture to the model `digits`.

        Raises:
            grpc.RpcError: it was not answered.
        """
        request = SeldonMessage(binData=png)
        request.meta.tags["model"].string_value = "digits"
        begun = time.monotonic()
        message, call = self._predict.with_call(request, timeout=CALL_S)
        took_ms = (time.monotonic() - begun) * 1000
        best = MessageToDict(message.jsonData)["predictions"][0]
        trailers = dict(call.trailing_metadata())
        endpoint, attempts = trailers["access-endpoint"], int(trailers["access-attempts"])
        return Answer(best["class"], best["score"], endpoint, attempts, begun, took_ms)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()


class Traffic:
    """Calls without a pause from several threads, each with a connection of its own, while it is entered."""

    def __init__(self, address: str) -> None:
        self.answers: list[Answer] = []
        self.failures: list[str] = []
        self._address = address
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(first,)) for first in range(CALLERS)]

    def __enter__(self) -> Traffic:
        """Begin to call."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop calling; those in flight are answered."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, calls: int) -> None:
        """Wait until so many more calls have ended, well or badly."""
        with self._changed:
            wanted = len(self.answers) + len(self.failures) + calls
            enough = self._changed.wait_for(lambda: len(self.answers) + len(self.failures) >= wanted, LOAD_S)
        if not enough:
            raise DemoError(f"{calls} calls took more than {LOAD_S:.0f} s")

    def _call(self, first: int) -> None:
        pictures = [(path.stem, path.read_bytes()) for path in SAMPLES]
        caller = Caller(self._address)
        number = first
        while not self._stopped.is_set():
            name, png = pictures[number % len(pictures)]
            number += 1
            try:
                answer = caller.predict(png)
                failure = "" if answer.name == name else f"a {name} was taken for a {answer.name}"
            except grpc.RpcError as error:
                failure = f"{error.code().name}: {error.details()}"
            with self._changed:
                if failure:
                    self.failures.append(failure)
                else:
                    self.answers.append(answer)
                self._changed.notify_all()
        caller.close()


def make_model(say: Callable[[str], None]) -> None:
    """Train and export the example model if it is not there."""
    if (DIGITS / "model.pt2").exists():
        say("the example model is there: models/digits/model.pt2")
        return
    say("making the example model once: models/digits/make_model.py (under a minute)")
    done = subprocess.run([sys.executable, DIGITS / "make_model.py"], check=False)
    if done.returncode != 0:
        raise DemoError(f"models/digits/make_model.py ended with exit status {done.returncode}; its output is above")


def command(*arguments: str) -> list[str]:
    """Return the command line of `dl-inference` in this environment."""
    return [str(Path(sys.executable).with_name("dl-inference")), *arguments]


def start_servers(programs: Programs, environment: dict[str, str], say: Callable[[str], None]) -> dict[str, Program]:
    """Start the model servers side by side; return them by address when all are ready."""
    predict = command("predict", str(DIGITS), "--listen", "127.0.0.1:0")
    servers = [programs.start(f"model server {n + 1}", predict, environment) for n in range(SERVERS)]
    say(f"{SERVERS} PyTorch servers are starting: dl-inference predict models/digits")
    return {server.wait_line(r"serving digits version \d+ on (\S+)", LOAD_S)[1]: server for server in servers}


def start_access(
    programs: Programs, environment: dict[str, str], folder: Path, endpoints: Sequence[str]
) -> tuple[str, str]:
    """Start the access service; return its address and its admin address when it is ready."""
    config = folder / "access.yaml"
    config.write_text(ACCESS_YAML.format(endpoints=", ".join(endpoints)))
    access = programs.start("the access service", command("access", "--config", str(config)), environment)
    ready = access.wait_line(r"ready on (\S+), (\S+)", START_S)
    return ready[1], ready[2]


def picture(path: Path) -> Text:
    """Return a picture of 8 x 8 as text, two rows of it in each line."""
    bright = np.asarray(Image.open(path).convert("L")) > 96
    blocks = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}
    pairs = zip(bright[::2].tolist(), bright[1::2].tolist(), strict=True)
    return Text("\n".join("".join(blocks[pair] for pair in zip(*rows, strict=True)) for rows in pairs))


def show_predictions(out: Console, address: str) -> None:
    """Send each sample once and print input, answer, who served it and how long it took."""
    table = Table(box=box.SIMPLE_HEAD, show_lines=True, pad_edge=False)
    for title in ("input", "file", "answer", "endpoint that served"):
        table.add_column(title, vertical="middle")
    for title in ("score", "took ms"):
        table.add_column(title, justify="right", vertical="middle")
    caller = Caller(address)
    for path in SAMPLES:
        answer = caller.predict(path.read_bytes())
        row = (path.name, answer.name, answer.endpoint, f"{answer.score:.3f}", f"{answer.took_ms:.1f}")
        table.add_row(picture(path), *row)
    caller.close()
    out.print(table)


def kill_one(out: Console, say: Callable[[str], None], address: str, servers: dict[str, Program]) -> None:
    """Kill a model server while calls go on; print who served before and after.

    Raises:
        DemoError: a call failed.
    """
    victim = next(iter(servers))
    with Traffic(address) as traffic:
        traffic.wait_for(CALLS)
        servers[victim].kill()
        killed = time.monotonic()
        say(f"killed {servers[victim].name} ({victim}) with calls in flight")
        traffic.wait_for(CALLS)
    before = [answer for answer in traffic.answers if answer.begun < killed]
    after = [answer for answer in traffic.answers if answer.begun >= killed]
    served, later = (Counter(answer.endpoint for answer in answers) for answers in (before, after))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("calls answered by")
    for title in ("before the kill", "after it"):
        table.add_column(title, justify="right")
    for endpoint in servers:
        name = f"{endpoint} (killed)" if endpoint == victim else endpoint
        table.add_row(name, str(served[endpoint]), str(later[endpoint]))
    slowest = (f"{max(answer.took_ms for answer in answers):.1f}" for answers in (before, after))
    table.add_row("slowest call, ms", *slowest)
    retried = (str(sum(answer.attempts > 1 for answer in answers)) for answers in (before, after))
    table.add_row("tried again elsewhere", *retried)
    out.print(table)
    if traffic.failures:
        raise DemoError(f"{len(traffic.failures)} calls failed; the first: {traffic.failures[0]}")
    say(f"{len(traffic.answers)} calls, 0 failed")


def tell(out: Console, programs: Programs, folder: Path) -> None:
    """Run the demo."""

    def say(text: str) -> None:
        out.print(Text.assemble((f"[{time.monotonic() - BEGIN:5.1f} s] ", "dim"), (text, "bold")), soft_wrap=True)

    make_model(say)
    # Variables for the user's own servers are not for these; 2 servers share the cores with the calls.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("DL_INFERENCE_")}
    environment |= {"DL_INFERENCE_TORCH_THREADS": "1", "DL_INFERENCE_TORCH_DEVICE": "cpu"}
    environment["TMPDIR"] = str(folder)  # torch leaves caches there
    servers = start_servers(programs, environment, say)
    say(f"ready: {', '.join(servers)}; starting the access service: dl-inference access --config access.yaml")
    address, admin = start_access(programs, environment, folder, list(servers))
    say(f"ready: {address}; sending the samples as an ordinary gRPC client")
    show_predictions(out, address)
    say(f"calling without a pause from {CALLERS} connections")
    kill_one(out, say, address, servers)
    say(f"what the access service sees: dl-inference status --admin {admin}")
    out.print(status.render(status.fetch(admin)))
    programs.end()
    say("every program has ended")


def main() -> int:
    """Run the demo; return the exit status."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    out = Console(width=None if sys.stdout.isatty() else 160)
    try:
        with tempfile.TemporaryDirectory(prefix="dl-inference-demo-") as folder, Programs() as programs:
            tell(out, programs, Path(folder))
    except (DemoError, status.StatusError) as error:
        failure = str(error)
    except grpc.RpcError as error:
        failure = f"a call failed: {error.code().name}: {error.details()}"
    except KeyboardInterrupt:
        out.print("interrupted; every program has been ended")
        return 128 + signal.SIGINT
    else:
        return 0
    Console(stderr=True).print(Text(f"the demo failed: {failure}", style="red"), soft_wrap=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
