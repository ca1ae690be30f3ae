"""A rolling restart of access services as Kubernetes does it, with the rules of deploy/kubernetes and no cluster.

A Service is played by a forwarder of TCP: a new connection goes to one of its pods, and stays there. What takes a
cluster longer than a test may is shortened alike: the pause before SIGTERM, and how late the Service hears of it.
"""

from __future__ import annotations

import contextlib
import itertools
import signal
import socket
import socketserver
import threading
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from e2e.calls import tfs_request
from fixtures.access_process import TFS, Access, cluster, wait_until
from fixtures.processes import ROOT, Endpoint, Load

# A second of the manifest.
SECOND_S = 0.2
END_S = 40


class Service(socketserver.ThreadingTCPServer):
    """Connections to one address, given to pods in turn."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        self._pods: tuple[str, ...] = ()
        self._turn = itertools.count()
        super().__init__(("127.0.0.1", 0), _Forward)
        self.address = f"127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def point_at(self, pods: list[Access]) -> None:
        """Give new connections to these; those that there are stay."""
        self._pods = tuple(pod.address for pod in pods)

    def next(self) -> tuple[str, int]:
        """Return the pod of the next connection."""
        host, port = self._pods[next(self._turn) % len(self._pods)].rsplit(":", 1)
        return host, int(port)


class _Forward(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        # A pod that is gone refuses here: the caller is cut off.
        with contextlib.suppress(OSError), socket.create_connection(self.server.next(), 10) as pod:  # type: ignore[attr-defined]  # a Service
            pod.settimeout(None)
            back = threading.Thread(target=_copy, args=(pod, self.request), daemon=True)
            back.start()
            _copy(self.request, pod)
            back.join()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as made:
        yield made
        made.shutdown()


@pytest.fixture
def deployment() -> dict[str, Any]:
    documents = yaml.safe_load_all((ROOT / "deploy" / "kubernetes" / "access.yaml").read_text())
    found: dict[str, Any] = next(each["spec"] for each in documents if each["kind"] == "Deployment")
    return found


def is_ready(pod: Access, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{pod.admin}{path}", timeout=10) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_no_call_fails_while_every_pod_of_a_deployment_is_replaced(
    service: Service,
    deployment: dict[str, Any],
    start_access: Callable[..., Access],
    start_endpoint: Callable[..., Endpoint],
    start_load: Callable[..., Load],
) -> None:
    (container,) = deployment["template"]["spec"]["containers"]
    probe = container["readinessProbe"]
    (program, pause) = container["lifecycle"]["preStop"]["exec"]["command"]
    assert (program, deployment["strategy"]["rollingUpdate"]) == ("sleep", {"maxUnavailable": 0, "maxSurge": 1})
    endpoint = start_endpoint("--echo", "yes").address
    config = cluster([endpoint])
    pods = [start_access(config) for _ in range(deployment["replicas"])]
    for pod in pods:
        pod.wait_live(endpoint)
    service.point_at(pods)
    options = ("--rate", "200", "--seconds", "600", "--deadline-ms", "5000", "--echo", "yes")
    load = start_load(service.address, TFS, tfs_request("m", 1024), *options)
    for old in list(pods):
        new = start_access(config)
        wait_until(lambda new=new: is_ready(new, probe["httpGet"]["path"]), "the new pod is ready", END_S)
        pods.append(new)
        service.point_at(pods)
        # The pause begins at once; the Service hears of the end only in its second half.
        threading.Event().wait(float(pause) * SECOND_S / 2)
        pods.remove(old)
        service.point_at(pods)
        threading.Event().wait(float(pause) * SECOND_S / 2)
        old.process.signal(signal.SIGTERM)
        assert old.process.wait(END_S) == 0, "it drained within its time"
    served = [pod.counter("dl_requests_total") for pod in pods]
    wait_until(lambda: sum(pod.counter("dl_requests_total") for pod in pods) > sum(served) + 50, "calls go on", END_S)
    report = load.stop()
    assert report["failed"] == 0, report["failures"]
