"""`dl-inference serve` as a test runs it: the real program, with stand-ins for the model servers where asked for."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import time
import urllib.request
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import grpc
from access_process import wait_until
from processes import ROOT, Process

from dl_inference.messages import PredictRequest, SeldonMessage

STAND_IN = ROOT / "tests" / "serve_stand_in.py"
# The command line with another `predict`; everything else is what `dl-inference serve` does.
WITH_STAND_INS = f"""
import functools, sys
from dl_inference import cli, local_command
local_command.run = functools.partial(local_command.run, predict=(sys.executable, {str(STAND_IN)!r}))
cli.app(["serve", *sys.argv[1:]])
"""
START_S = 60


def write_model(folder: Path, answer: str, **settings: Any) -> Path:
    """Write a model folder, or a version of one, for the stand-in."""
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / "model.pt2", "w") as archive:
        archive.writestr("archive_format", "pt2")
        archive.writestr("answer", answer)
    if settings:
        (folder / "model.yaml").write_text(json.dumps(settings))
    return folder


def replace(folder: Path, write: Callable[[Path], object]) -> None:
    """Replace a folder by a new one, by two renames."""
    new, old = folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")
    write(new)
    folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old)


class Serve:
    """A running `serve`."""

    def __init__(
        self,
        run: Callable[..., Process],
        models: Path,
        *options: str,
        real: bool = False,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Start it on free ports and wait until its port is open.

        Args:
            run: starts a program.
            models: MODELS_DIR.
            options: further options.
            real: with real model servers in place of stand-ins.
            env: variables.
        """
        program = ["-m", "dl_inference.cli", "serve"] if real else ["-c", WITH_STAND_INS]
        command = [sys.executable, *program, models, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", *options]
        self.process = run(command, env={"DL_INFERENCE_TORCH_THREADS": "1", **(env or {})})
        ready = self.process.wait_line(r"serve: ready on (\S+), (\S+)", timeout_s=2 * START_S if real else START_S)
        self.address, self.admin = ready[1], ready[2]

    def status(self) -> dict[str, Any]:
        """Return /status."""
        with urllib.request.urlopen(f"http://{self.admin}/status", timeout=10) as answer:
            page: dict[str, Any] = json.loads(answer.read())
        return page

    def folder(self, name: str) -> dict[str, Any] | None:
        """Return what /status says about a model folder."""
        return next((each for each in self.status()["control"]["folders"] if each["name"] == name), None)

    def wait_state(self, name: str, state: str | None, timeout_s: float = START_S) -> dict[str, Any] | None:
        """Wait until a folder is in a state; None: until it is gone."""

        def is_there() -> Any:
            found = self.folder(name)
            return [found] if (found["state"] if found else None) == state else None

        found = wait_until(is_there, f"{name} is {state}; {self.folder(name)}\n{self.process.log}", timeout_s)
        return found[0]  # type: ignore[no-any-return]

    def pids(self, name: str) -> list[int]:
        """Return the processes of a folder."""
        found = self.folder(name)
        return [pid for version in (found["versions"] if found else []) for pid in version["pids"]]

    def all_pids(self) -> list[int]:
        """Return every model process."""
        return [pid for each in self.status()["control"]["folders"] for pid in self.pids(each["name"])]


class Caller:
    """A grpcio client of Seldon's protocol."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
        self._predict = self.channel.unary_unary(
            "/seldon.protos.Model/Predict",
            request_serializer=SeldonMessage.SerializeToString,
            response_deserializer=SeldonMessage.FromString,
        )

    def future(self, model: str | None, text: str = "hello", timeout_s: float = 20) -> Any:
        """Start a call."""
        metadata = [("x-model", model)] if model else []
        return self._predict.future(SeldonMessage(strData=text), timeout=timeout_s, metadata=metadata)

    def ask(self, model: str | None, text: str = "hello") -> str:
        """Return the text that a model answers, without the process; of an error its code."""
        return outcome(self.future(model, text))

    def version_that_serves(self, model: str, *, version: int | None = None, label: str = "") -> str:
        """Return the number of the version whose process gets a call of TF Serving's, by the name of its socket."""
        request = PredictRequest()
        request.model_spec.name = model
        if version is not None:
            request.model_spec.version.value = version
        elif label:
            request.model_spec.version_label = label
        call = self.channel.unary_unary("/tensorflow.serving.PredictionService/Predict").future(
            request.SerializeToString(), timeout=20
        )
        call.exception()  # the stand-in does not know the method; where it went is what counts
        endpoint: str = dict(call.trailing_metadata())["access-endpoint"]
        return endpoint.rpartition("/")[2].split("-")[1]


def outcome(call: Any) -> str:
    """Return the text of an answer without the process that gave it, or the code of an error."""
    try:
        text: str = call.result().strData
    except grpc.RpcError as error:
        return f"{error.code().name}: {error.details()}"
    return text.partition(" by ")[0]


class Traffic:
    """Calls to one model, one every 10 ms, while it is entered; `answers` and `failures` count what came back."""

    def __init__(self, address: str, model: str) -> None:
        self.model = model
        self.answers: dict[str, int] = {}
        self.failures: dict[str, int] = {}
        self._caller = Caller(address)
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._in_flight = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        wait_until(lambda: self._in_flight == 0, f"calls to {self.model} end", 30)
        self._caller.channel.close()

    @property
    def calls(self) -> int:
        """How many have ended."""
        with self._lock:
            return sum(self.answers.values()) + sum(self.failures.values())

    def wait_for(self, answer: str, timeout_s: float = 60) -> None:
        """Wait for more answers of this text."""
        before = self.answers.get(answer, 0)
        wait_until(
            lambda: self.answers.get(answer, 0) > before + 5,
            f"{self.model} answers {answer}, got {self.answers} {self.failures}",
            timeout_s,
        )

    def _run(self) -> None:
        at = time.monotonic()
        while not self._stopped.is_set():
            with self._lock:
                self._in_flight += 1
            self._caller.future(self.model).add_done_callback(self._done)
            at = max(at + 0.01, time.monotonic() - 1)  # a machine that was away does not catch up on all of it
            self._stopped.wait(max(0.0, at - time.monotonic()))

    def _done(self, call: Any) -> None:
        text = outcome(call)
        counts = self.answers if call.code() is grpc.StatusCode.OK else self.failures
        with self._lock:
            counts[text] = counts.get(text, 0) + 1
            self._in_flight -= 1


def kill(pid: int) -> None:
    """SIGKILL a process, whoever started it."""
    os.kill(pid, signal.SIGKILL)


def is_running(pid: int) -> bool:
    """Tell whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
