"""The access image, built by buildah on stand-ins for its bases, runs, predicts, tells its health and drains."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import buildah
import grpc
import numpy as np
import pytest
from fixtures.access_process import TFS, wait_until
from fixtures.lacking import lacking
from fixtures.processes import Process

from dl_inference.commands.status import fetch
from dl_inference.messages import SeldonMessage

# A busy machine takes its time to start buildah, which then starts Python.
START_S = 60
# A stale image is built by the first test, where make's set-up did not do it.
pytestmark = pytest.mark.timeout(600)

# As an engine does: process 1 of its own process table, alone on a network, with nothing around it but the image, which
# it cannot write to.
ALONE = """
import fcntl, os, socket, struct, subprocess, sys
root, *command = sys.argv[1:]
with socket.socket() as any_socket:
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP
subprocess.run(["mount", "--bind", root, root], check=True)
subprocess.run(["mount", "-o", "remount,bind,ro", root], check=True)
os.execvp(command[0], command)
"""


class Container:
    """A container of the access image: buildah runs commands in it, each as the image says."""

    def __init__(self, image: str) -> None:
        """Make it; the image is copied."""
        self._name = buildah.buildah("from", "--pull-never", image)
        found = json.loads(buildah.buildah("inspect", "--type", "image", image))
        self.config: dict[str, Any] = found["Docker"]["config"]
        self.root = Path(buildah.buildah("mount", self._name))

    @property
    def command(self) -> list[str]:
        """What an engine starts."""
        return [*self.config["Entrypoint"], *self.config["Cmd"]]

    @property
    def healthcheck(self) -> list[str]:
        """What an engine asks the image's health with."""
        kind, *words = self.config["Healthcheck"]["Test"]
        assert kind == "CMD"
        return list(words)

    def line(self, *words: str, config: Path | None = None, **variables: str) -> list[str]:
        """Return the command line that runs a command in it, on this machine's network.

        Args:
            words: the command.
            config: the folder of access.yaml.
            variables: set on top of the image's.
        """
        options = [f"--env={name}={value}" for name, value in variables.items()]
        if config is not None:
            options.append(f"--volume={config}:/etc/dl-inference:ro")
        return buildah.command("run", *options, self._name, "--", *words)

    def run(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; standard output and error are one."""
        return subprocess.run(
            self.line(*words, **variables),
            env=buildah.environment() | {"PATH": "/usr/bin:/usr/sbin:/bin:/sbin"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=START_S,
        )

    def remove(self) -> None:
        """Delete it."""
        buildah.buildah("rm", self._name)


@pytest.fixture(scope="module")
def container() -> Iterator[Container]:
    if reason := buildah.missing():
        lacking(reason)
    if not buildah.has(buildah.base_image("PYTHON_IMAGE")):
        lacking("no stand-ins for the base images: make peers")
    made = Container(buildah.access_image())
    yield made
    made.remove()


@pytest.fixture
def start(container, run, tmp_path, free_port) -> Callable[[dict[str, Any]], tuple[Process, str, str]]:
    """Start the image's command on a configuration: ``process, address, admin = start({...})``."""

    def start_it(config: dict[str, Any]) -> tuple[Process, str, str]:
        folder = tmp_path / "config"
        folder.mkdir()
        folder.chmod(0o755)
        (folder / "access.yaml").write_text(json.dumps({"expose_endpoints": True, **config}))
        admin = f"127.0.0.1:{free_port()}"
        variables = {"DL_INFERENCE_LISTEN": "127.0.0.1:0", "DL_INFERENCE_ADMIN": admin}
        line = container.line(*container.command, config=folder, **variables)
        process = run(line, env=buildah.environment())
        return process, process.wait_line(r"ready on (\S+), ", timeout_s=START_S)[1], admin

    return start_it


def program_of(process: Process, name: str) -> int:
    """Return the id of the innermost process of a name below another."""
    found, below = [], [process.pid]
    while below:
        pid = below.pop()
        children = Path(f"/proc/{pid}/task").glob("*/children")
        below += [int(child) for file in children for child in file.read_text().split()]
        if Path(f"/proc/{pid}/comm").read_text().strip() == name:
            found.append(pid)
    assert found, f"no {name} runs"
    return found[-1]


@pytest.fixture
def model_server() -> Iterator[str]:
    """Serve a model outside of the container that says where the largest of each row is; give its address."""

    def predict(request: SeldonMessage, context: grpc.ServicerContext) -> SeldonMessage:
        tensor = request.data.tensor
        rows = np.array(tensor.values).reshape(tensor.shape)
        largest = rows.argmax(axis=1)
        return SeldonMessage(data={"tensor": {"shape": largest.shape, "values": largest}})

    coders = {
        "request_deserializer": SeldonMessage.FromString,
        "response_serializer": SeldonMessage.SerializeToString,
    }
    methods = {"Predict": grpc.unary_unary_rpc_method_handler(predict, **coders)}
    services = [grpc.method_handlers_generic_handler(f"seldon.protos.{name}", methods) for name in ("Model", "Seldon")]
    server = grpc.server(ThreadPoolExecutor(2), handlers=services)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0).wait(10)


# --- what is in it


def test_the_image_is_for_a_user_who_is_not_root_and_says_how_it_is_asked_and_stopped(container):
    assert container.config["User"] == "10001:10001"
    assert container.config["StopSignal"] == "SIGTERM"
    assert container.config["ExposedPorts"].keys() == {"8500/tcp", "8502/tcp"}
    assert {"DL_INFERENCE_LISTEN=0.0.0.0:8500", "DL_INFERENCE_ADMIN=0.0.0.0:8502"} <= set(container.config["Env"])
    assert container.config["Labels"]["org.opencontainers.image.title"] == "dl-inference-access"


def test_the_image_has_the_program_without_torch_and_nothing_that_its_user_may_change(container):
    program = """
import importlib.util, os, sysconfig
import dl_inference._native
found = [name for name in ("torch", "tensorflow", "maturin") if importlib.util.find_spec(name)]
places = [os.path.dirname(dl_inference.__file__), sysconfig.get_path("scripts"), "/usr/local/lib/dl-inference"]
print(os.getuid(), found, [place for place in places if os.access(place, os.W_OK)])
"""
    done = container.run("python3", "-c", program)
    assert (done.returncode, done.stdout) == (0, "10001 [] []\n")
    checked = container.run("python3", "-m", "pip", "check")
    assert checked.returncode == 0, checked.stdout


def test_the_image_has_what_dns_and_a_registry_need(container):
    done = container.run("python3", "-c", "import dns.asyncresolver, kazoo.client, puresasl")
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_keeps_nothing_of_its_build(container):
    folders = [container.root / name for name in ("src", "opt", "tmp", "root/.cache", "usr/local/cargo")]
    assert [path for folder in folders for path in folder.rglob("*") if path.is_file()] == []


def test_the_image_adds_little_to_its_base(container):
    added = [path for path in (container.root / "usr" / "local").rglob("*") if path.is_file() and not path.is_symlink()]
    # Of it 4 MB are redis-py, for limits that are shared.
    assert sum(path.stat().st_size for path in added) < 166_000_000


# --- what it does


def test_a_prediction_goes_through_the_image(container, start, model_server):
    by_name = model_server.replace("127.0.0.1", "localhost")  # containers call one another by name
    _, address, _ = start({"models": {"largest": {"endpoints": [by_name], "protocol": "seldon"}}})
    asked = container.run("dl-inference", "call", "largest", "[[0.1, 0.7, 0.2], [3, 2, 1]]", "--to", address, "--json")
    assert asked.returncode == 0, asked.stdout
    said = json.loads(asked.stdout)
    assert said["answer"]["data"]["tensor"] == {"shape": [2], "values": [1.0, 0.0]}
    assert by_name in asked.stdout


def test_the_health_check_says_ready_then_draining_and_sigterm_lets_a_call_in_flight_end(
    container, start, start_endpoint
):
    endpoint = start_endpoint("--echo", "yes")
    process, address, admin = start({"models": {"m": {"endpoints": [endpoint.address]}}})
    healthy = container.run(*container.healthcheck, DL_INFERENCE_ADMIN=admin)
    assert (healthy.returncode, healthy.stdout) == (0, "")

    endpoint.freeze()
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(TFS).future(b"\x0a\x03\x0a\x01m", timeout=100)
        wait_until(lambda: fetch(admin)["in_flight"] == 1, "the call is in flight", timeout_s=START_S)
        program = program_of(process, "dl-inference")
        subprocess.run(["kill", "-TERM", str(program)], check=True)
        process.wait_line("draining", timeout_s=START_S)
        ill = container.run(*container.healthcheck, DL_INFERENCE_ADMIN=admin)
        assert ill.returncode == 1
        assert "draining" in ill.stdout
        endpoint.thaw()
        assert call.result() == b"\x0a\x03\x0a\x01m"
    assert process.wait(timeout_s=START_S) == 0
    gone = container.run(*container.healthcheck, DL_INFERENCE_ADMIN=admin)
    assert gone.returncode == 1
    assert f"no answer from the admin port {admin}" in gone.stdout


def test_without_a_configuration_it_ends_with_the_reason(container):
    done = container.run(*container.command)
    assert done.returncode == 1
    assert "/etc/dl-inference/access.yaml" in done.stdout


def test_as_process_1_of_a_read_only_system_it_is_healthy_and_stops_on_sigterm(container, run):
    folder = container.root / "etc" / "dl-inference"
    folder.mkdir(exist_ok=True)  # buildah makes it for a volume
    (folder / "access.yaml").write_text('models: {m: {endpoints: ["127.0.0.1:1"]}}')
    variables = [each for each in container.config["Env"] if not each.startswith("PIP_")]
    user, group = container.config["User"].split(":")
    alone = ["unshare", "--net", "--mount", sys.executable, "-c", ALONE, container.root]
    alone += ["unshare", "--pid", "--fork", "--mount-proc", f"--root={container.root}"]
    alone += [f"--wd={container.config['WorkingDir']}", f"--setgid={group}", f"--setuid={user}"]
    process = run([*alone, "--", "env", "-i", *variables, *container.command])
    process.wait_line(r"ready on 0\.0\.0\.0:8500, 0\.0\.0\.0:8502", timeout_s=START_S)
    program = program_of(process, "dl-inference")
    assert re.search(r"^NSpid:\t\d+\t1$", Path(f"/proc/{program}/status").read_text(), re.MULTILINE)

    assert " / ro" in Path(f"/proc/{program}/mountinfo").read_text()
    enter = ["nsenter", f"--target={program}", "--net", "--pid", "--mount", "--root", "--wd"]
    health = [*enter, f"--setgid={group}", f"--setuid={user}", "env", "-i", *variables, *container.healthcheck]
    checked = subprocess.run(health, capture_output=True, text=True, check=False, timeout=START_S)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")

    subprocess.run(["kill", f"-{signal.SIGTERM.value}", str(program)], check=True)
    assert process.wait(timeout_s=START_S) == 0
    assert "draining" in process.log
