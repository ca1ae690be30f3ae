"""Debian's real ZooKeeper for tests: one server, or an ensemble of three on loopback."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from lacking import lacking
from processes import Process

JAR = Path("/usr/share/java/zookeeper.jar")
# What Debian's jar does not name although TLS needs it.
TLS_JARS = "/usr/share/java/netty-codec.jar:/usr/share/java/netty-resolver.jar"
START_S = 60
# Sessions may be as short as two ticks.
TICK_MS = 200


class Server:
    """One ZooKeeper server in a process of its own, with a folder of its own."""

    def __init__(
        self, start: Callable[..., Process], folder: Path, settings: Mapping[str, object], number: int
    ) -> None:
        """Start it; `await_ready` waits."""
        self._start, self._folder = start, folder
        self.address = f"127.0.0.1:{settings['clientPort']}"
        (folder / "data").mkdir(parents=True)
        (folder / "data" / "myid").write_text(f"{number}\n")
        text = "".join(f"{key}={value}\n" for key, value in {**settings, "dataDir": folder / "data"}.items())
        (folder / "zoo.cfg").write_text(text)
        self.process = self._launch()

    def freeze(self) -> None:
        """SIGSTOP: connections stay open, nothing answers."""
        self.process.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.process.signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()

    def restart(self) -> None:
        """Start it again with what it has on disk, after `kill`."""
        self.process = self._launch()

    def command(self, word: str) -> str:
        """Ask by a four-letter word; empty while it does not answer."""
        try:
            with socket.create_connection(tuple(self.address.split(":")), timeout=2) as connection:
                connection.sendall(word.encode())
                answer = b""
                while block := connection.recv(65536):
                    answer += block
                return answer.decode()
        except OSError:
            return ""

    @property
    def role(self) -> str:
        """``leader``, ``follower``, ``standalone``; empty while there is none."""
        lines = [line for line in self.command("srvr").splitlines() if line.startswith("Mode: ")]
        return lines[0].removeprefix("Mode: ") if lines else ""

    def await_ready(self, timeout_s: float = START_S) -> None:
        """Wait until it serves."""
        deadline = time.monotonic() + timeout_s
        while not self.role:
            assert time.monotonic() < deadline, f"no ZooKeeper after {timeout_s} s:\n{self.process.log}"
            time.sleep(0.05)  # nothing tells; looked for until the limit

    def _launch(self) -> Process:
        return self._start(
            [
                "java",
                "-Xmx256m",
                "-XX:+UseSerialGC",
                "-XX:TieredStopAtLevel=1",  # starts in half the time on a busy machine
                "-Dzookeeper.admin.enableServer=false",
                "-cp",
                f"/etc/zookeeper/conf_example:{JAR}:{TLS_JARS}",
                "-Dlog4j.configuration=file:/etc/zookeeper/conf_example/log4j.properties",
                "-Dzookeeper.root.logger=WARN,CONSOLE",
                "org.apache.zookeeper.server.quorum.QuorumPeerMain",
                self._folder / "zoo.cfg",
            ]
        )


class Ensemble:
    """Servers that belong together."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self.servers = list(servers)

    @property
    def hosts(self) -> str:
        """The client addresses, as a connection string."""
        return ",".join(server.address for server in self.servers)

    @property
    def leader(self) -> Server:
        """The server that leads now."""
        return next(server for server in self.servers if server.role in ("leader", "standalone"))

    def await_ready(self, timeout_s: float = START_S) -> None:
        """Wait until every server serves."""
        for server in self.servers:
            server.await_ready(timeout_s)


def start_ensemble(
    start: Callable[..., Process], folder: Path, count: int, settings: Mapping[str, object] | None = None
) -> Ensemble:
    """Start an ensemble and wait until it serves.

    Args:
        start: how to start a process (the ``run`` fixture).
        folder: an empty one.
        count: servers, 1 or 3.
        settings: lines of zoo.cfg on top of ours.
    """
    if shutil.which("java") is None or not JAR.exists():
        lacking("Debian's zookeeper and a JRE are missing: apt-get install zookeeper default-jre-headless")
    ports = _free_ports(3 * count)
    common: dict[str, object] = {
        "tickTime": TICK_MS,
        "initLimit": 50,
        "syncLimit": 25,
        "maxSessionTimeout": 60_000,
        "maxClientCnxns": 0,
        "4lw.commands.whitelist": "*",
        **(settings or {}),
    }
    if count > 1:
        for number in range(1, count + 1):
            quorum, election = ports[3 * number - 2], ports[3 * number - 1]
            common[f"server.{number}"] = f"127.0.0.1:{quorum}:{election}"
    ensemble = Ensemble(
        [
            Server(start, folder / f"zookeeper{number}", {**common, "clientPort": ports[3 * number - 3]}, number)
            for number in range(1, count + 1)
        ]
    )
    ensemble.await_ready()
    return ensemble


@contextlib.contextmanager
def one_server(folder: Path) -> Iterator[Server]:
    """Run one server for as long as several tests need it: for fixtures of a module.

    Args:
        folder: an empty one.
    """
    started: list[Process] = []

    def start(command: Sequence[str | Path]) -> Process:
        started.append(Process(command))
        return started[-1]

    try:
        yield start_ensemble(start, folder, 1).servers[0]
    finally:
        for process in started:
            process.kill()


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
