"""Every example of this folder on this machine: `dl-inference serve models`, real calls, one model process killed.

    make demo

Everything listens on 127.0.0.1, on free ports. `demo_processes.py` keeps the program, `demo_samples.py` makes calls of
the examples' samples; this file tells the story.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from demo_processes import DemoError, Program, Programs
from demo_samples import Answer, Caller, Sample, read
from PIL import Image
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dl_inference.commands.status import StatusError, fetch
from dl_inference.commands.status_view import render

MODELS = Path(__file__).resolve().parent
REPLICAS = 2
CALLERS = 4
CALLS = 400
"""Answers to wait for before a process is killed, and again after."""
SHOWN = 5
"""Samples of each example that are shown; all are sent."""

READY_S = 240.0
"""How long the models may load: the first import of a framework reads gigabytes."""

LOOK_S = 0.2
BEGIN = time.monotonic()

Say = Callable[[str], None]


class Traffic:
    """Calls without a pause from several threads, each with a connection of its own, while it is entered."""

    def __init__(self, address: str, samples: Sequence[Sample]) -> None:
        self.answers: list[Answer] = []
        self.failures: list[str] = []
        self._address = address
        self._samples = samples
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        # Daemons: an interrupt while they are started must not leave one that nobody stops.
        self._threads = [threading.Thread(target=self._call, args=(first,), daemon=True) for first in range(CALLERS)]

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
            enough = self._changed.wait_for(lambda: len(self.answers) + len(self.failures) >= wanted, READY_S)
        if not enough:
            raise DemoError(f"{calls} calls took more than {READY_S:.0f} s")

    def _call(self, first: int) -> None:
        caller = Caller(self._address)
        number = first
        while not self._stopped.is_set():
            sample = self._samples[number % len(self._samples)]
            number += 1
            try:
                answer = caller.predict(sample)
                failure = "" if answer.is_right else f"{sample.model} answers {sample.shown} with {answer.shown}"
            except grpc.RpcError as error:
                failure = f"{sample.model}: {error.code().name}: {error.details()}"
            with self._changed:
                if failure:
                    self.failures.append(failure)
                else:
                    self.answers.append(answer)
                self._changed.notify_all()
        caller.close()


def make_models(say: Say) -> list[Path]:
    """Make the models of the examples that have none; return the examples.

    Raises:
        DemoError: a script failed.
    """
    examples = sorted(script.parent for script in MODELS.glob("*/make_model.py"))
    for example in examples:
        if has_model(example):
            continue
        say(f"training the example {example.name}, once: models/{example.name}/make_model.py")
        done = subprocess.run([sys.executable, example / "make_model.py"], check=False)
        if done.returncode != 0:
            raise DemoError(f"{example / 'make_model.py'} ended with exit status {done.returncode}; see above")
    return examples


def has_model(example: Path) -> bool:
    """Tell whether an example's model has been made."""
    patterns = ("model.pt*", "model.safetensors", "saved_model.pb")
    return any(file for pattern in patterns for file in (*example.glob(pattern), *example.glob(f"[0-9]*/{pattern}")))


def start(programs: Programs, environment: dict[str, str], say: Say) -> tuple[Program, str, str]:
    """Start `serve`; return it, its address and its admin address when the port is open."""
    executable = shutil.which("dl-inference", path=str(Path(sys.executable).parent))
    command = [executable] if executable else [sys.executable, "-m", "dl_inference.cli"]
    options = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--replicas", str(REPLICAS), "--plain"]
    say(f"starting: dl-inference serve models --replicas {REPLICAS} ({REPLICAS} processes for each model version)")

    def heard(line: str) -> None:
        if loaded := re.search(r"serve: (\S+)@(\d+)/\d+: ready after (\S+ s)", line):
            say(f"a process of {loaded[1]} version {loaded[2]} is ready, {loaded[3]} after its start")

    serve = programs.start("dl-inference serve", [*command, "serve", str(MODELS), *options], environment, heard)
    ready = serve.wait_line(r"serve: ready on (\S+), (\S+)", READY_S)
    return serve, ready[1], ready[2]


def wait_served(serve: Program, admin: str, names: Sequence[str]) -> dict[str, Any]:
    """Wait until every process of every example is ready; return /status.

    Raises:
        DemoError: one cannot be served, or the time is up.
    """
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and serve.is_running():
        found = fetch(admin)
        folders = {folder["name"]: folder for folder in found["control"]["folders"]}
        for name in names:
            if folders[name]["reason"]:
                raise DemoError(f"models/{name} cannot be served: {folders[name]['reason']}")
        versions = [version for name in names for version in folders[name]["versions"]]
        if all(version["ready"] == version["replicas"] for version in versions):
            return found
        time.sleep(LOOK_S)
    raise serve.failed(f"has not made every model ready within {READY_S:.0f} s")


def picture(path: Path) -> Text:
    """Return a picture of 8 x 8 as text, two rows of it in each line."""
    bright = np.asarray(Image.open(path).convert("L")) > 96
    blocks = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}
    pairs = zip(bright[::2].tolist(), bright[1::2].tolist(), strict=True)
    return Text("\n".join("".join(blocks[pair] for pair in zip(*rows, strict=True)) for rows in pairs))


def show_predictions(out: Console, address: str, name: str, samples: Sequence[Sample]) -> None:
    """Send each sample of an example once; print input, answer, who served it and how long it took.

    Raises:
        DemoError: an answer is not as the sample expects.
    """
    table = Table(title=name, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("input", "", "answer", "endpoint that served"):
        table.add_column(title, vertical="middle", overflow="ellipsis", no_wrap=title == "answer")
    table.add_column("took ms", justify="right", vertical="middle")
    caller = Caller(address)
    for index, sample in enumerate(samples):
        answer = caller.predict(sample)
        if not answer.is_right:
            raise DemoError(f"{name} answers {sample.shown} with {answer.shown}")
        if index < SHOWN:
            drawn = picture(sample.picture) if sample.picture is not None else ""
            socket = answer.endpoint.rpartition("/")[2]
            table.add_row(Text(sample.shown), drawn, Text(answer.shown[:70]), socket, f"{answer.took_ms:.1f}")
    caller.close()
    out.print(table)
    more = f" ({SHOWN} of them are shown)" if len(samples) > SHOWN else ""
    out.print(f"{len(samples)} samples of {name}, each answered as expected{more}")


def kill_one(out: Console, say: Say, address: str, samples: Sequence[Sample], victim: tuple[str, int]) -> None:
    """Kill a model process while calls go on; print who served before and after.

    Raises:
        DemoError: a call failed.
    """
    name, pid = victim
    with Traffic(address, samples) as traffic:
        traffic.wait_for(CALLS)
        os.kill(pid, signal.SIGKILL)
        killed = time.monotonic()
        say(f"killed process {pid} of {name} with calls in flight (kill -9)")
        traffic.wait_for(CALLS)
    before = [answer for answer in traffic.answers if answer.begun < killed]
    after = [answer for answer in traffic.answers if answer.begun >= killed]
    served, later = (Counter(answer.endpoint for answer in answers) for answers in (before, after))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("calls answered by")
    for title in ("before the kill", "after it"):
        table.add_column(title, justify="right")
    for endpoint in sorted(served | later):
        table.add_row(endpoint.rpartition("/")[2], str(served[endpoint]), str(later[endpoint]))
    slowest = (f"{max(answer.took_ms for answer in answers):.1f}" for answers in (before, after))
    table.add_row("slowest call, ms", *slowest)
    retried = (str(sum(answer.attempts > 1 for answer in answers)) for answers in (before, after))
    table.add_row("tried again elsewhere", *retried)
    out.print(table)
    if traffic.failures:
        raise DemoError(f"{len(traffic.failures)} calls failed; the first: {traffic.failures[0]}")
    say(f"{len(traffic.answers)} calls, 0 failed: the other process of {name} answered those that the killed one lost")


def tell(out: Console, programs: Programs, folder: Path) -> None:
    """Run the demo."""

    def say(text: str) -> None:
        out.print(Text.assemble((f"[{time.monotonic() - BEGIN:5.1f} s] ", "dim"), (text, "bold")), soft_wrap=True)

    say("this takes about a minute; it listens on free ports of 127.0.0.1, and ends everything that it starts")
    say(f"temporary files are in {folder}, until the end")
    examples = make_models(say)
    # Variables for the user's own servers are not for these; the processes share the cores with the calls.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("DL_INFERENCE_")}
    environment |= {"DL_INFERENCE_TORCH_THREADS": "1", "DL_INFERENCE_TORCH_DEVICE": "cpu"}
    environment["DL_INFERENCE_TENSORFLOW_THREADS"] = "1"
    environment["TMPDIR"] = str(folder)  # torch leaves caches there
    serve, address, admin = start(programs, environment, say)
    found = wait_served(serve, admin, [example.name for example in examples])
    say(f"every model is ready behind one address, {address}; sending it the samples as an ordinary gRPC client")
    samples = {example.name: read(example) for example in examples}
    for name, cases in samples.items():
        if cases:
            show_predictions(out, address, name, cases)
    say(f"calling all models without a pause from {CALLERS} connections")
    first = found["control"]["folders"][0]
    every = [sample for cases in samples.values() for sample in cases]
    kill_one(out, say, address, every, (first["name"], first["versions"][0]["pids"][0]))
    serve.wait_line(rf"serve: {first['name']}@\d+/0: .*killed by SIGKILL; starts again in 0 s", LOOK_S * 10)
    say("serve has started another process in its place")
    say(f"what `dl-inference status --admin {admin}` shows now:")
    out.print(render(fetch(admin)))
    programs.end()
    say("every program has ended; to go on by yourself: .venv/bin/dl-inference serve models")


def main() -> int:
    """Run the demo; return the exit status."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    out = Console(width=None if sys.stdout.isatty() else 160)
    try:
        with tempfile.TemporaryDirectory(prefix="dl-inference-demo-") as folder, Programs() as programs:
            tell(out, programs, Path(folder))
    except (DemoError, StatusError) as error:
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
