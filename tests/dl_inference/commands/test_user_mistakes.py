"""What a user gets wrong, in every command: a text that names it and what to do, exit status 1 or 2, no traceback."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fixtures.command_line import command
from fixtures.serve_process import START_S, WITH_STAND_INS, write_model

# {taken}: an address that somebody listens on and never answers at; {free}: one where nobody does.
MISTAKES: list[tuple[str, int, tuple[str, ...]]] = [
    # no such command, option or argument
    ("serv models", 2, ("'serv'", "Did you mean 'serve'")),
    ("serve", 2, ("Missing argument 'MODELS_DIR'",)),
    ("serve models --listn x", 2, ("--listn", "--listen")),
    ("access --confg x", 2, ("--confg", "--config")),
    ("access", 2, ("Missing option '--config'",)),
    ("predict models/m --listn x", 2, ("--listn", "--listen")),
    ("predict models/m other", 2, ("unexpected extra argument", "other")),
    ("call", 2, ("Missing argument 'MODEL'",)),
    ("call m [1] --protcol tfs", 2, ("--protcol", "--protocol")),
    ("check", 2, ("Missing argument 'PATH'",)),
    ("status --wach", 2, ("--wach", "--watch")),
    ("status here", 2, ("unexpected extra argument", "here")),
    ("version now", 2, ("unexpected extra argument", "now")),
    ("release m 1 --registry folder --phse canary", 2, ("--phse", "--phase")),
    ("registry lst", 2, ("'lst'", "Did you mean 'ls'")),
    ("registry ls --regstry x", 2, ("--regstry", "--registry")),
    # a value of the wrong type, or out of range
    ("serve models --replicas x", 2, ("--replicas", "'x' is not a whole number from 1 to 64")),
    ("serve models --replicas 0", 2, ("--replicas", "'0' is not a whole number from 1 to 64")),
    ("serve models --weight 0.5", 2, ("--weight", "'0.5' is not a whole number of 1 or more")),
    ("predict models/m --model-version one", 2, ("--model-version", "'one' is not a whole number")),
    ("predict models/m --limit max_streams", 2, ("max_streams is not NAME=VALUE",)),
    ("predict models/m --limit max_strems=1", 1, ("max_strems=1", "did you mean 'max_streams'")),
    ("call m [1] --timeout-ms 0", 2, ("--timeout-ms", "'0' is not a whole number of 1 or more")),
    ("call m [1] --model-version -1", 2, ("--model-version", "'-1' is not a whole number of 0 or more")),
    ("call m [1] --protocol grpc", 2, ("'grpc' is not a protocol: seldon, tfs or oip",)),
    ("call m [1] --tag user", 2, ("--tag 'user': write KEY=VALUE",)),
    ("release m 1 --registry folder --weight many", 2, ("--weight", "'many' is not a whole number from 0 to")),
    ("release m 1 --registry folder --phase prod", 2, ("'prod' is not a phase: staging, canary or production",)),
    ("release m new --registry folder", 2, ("'new' is not a version: a version is a number",)),
    ("release set m --registry folder --label stable", 2, ("'stable': write NAME=VERSION",)),
    ("release rollback m --registry folder --to last", 2, ("--to", "'last' is not a whole number of 1 or more")),
    ("registry ls --registry zk://{free}/x --registry-timeout-ms 0", 2, ("'0' is not a whole number from 1 to",)),
    # an address that is none, is in use, or where nobody is
    ("serve models --listen 8500", 1, ("'8500'", "write host:port")),
    ("serve models --listen {taken}", 1, ("{taken}: Address already in use", "stop the program that listens there")),
    ("serve models --admin {taken}", 1, ("{taken}: Address already in use", "choose another address")),
    ("serve models --listen 192.0.2.1:1", 1, ("192.0.2.1:1: Cannot assign", "choose an address of this machine")),
    ("serve models --listen unix:/no/s", 1, ("unix:/no/s", "there is no folder /no")),
    ("access --config good.yaml --listen 127.0.0.1:80000", 1, ("'80000' is not in 0..65535",)),
    ("access --config good.yaml --listen {taken}", 1, ("{taken}: Address already in use", "choose another address")),
    (
        "access --config good.yaml --listen 127.0.0.1:0 --admin {taken}",
        1,
        ("{taken}: Address already in use", "choose"),
    ),
    ("predict models/m --listen {taken}", 1, ("{taken}: Address already in use", "choose another address")),
    ("predict models/m --listen 5000", 1, ("'5000'", "the port is missing")),
    ("call m [1] --to {free}", 1, ("UNAVAILABLE from {free}", "is the server running at this address?")),
    ("call m [1] --to {taken} --timeout-ms 100", 1, ("no answer within 100 ms", "raise timeout_ms")),
    ("call m [1] --to http://localhost:1", 2, ("an address has no http://",)),
    ("call m [1] --to unix:/no/s", 1, ("unix:/no/s", "is the server running at this address?")),
    ("status --admin {free}", 1, ("{free}: Connection refused", "--admin")),
    ("status --admin unix:/no/s", 1, ("unix:/no/s: No such file or directory", "--admin")),
    ("status --admin localhost", 2, ("'localhost'", "the port is missing")),
    ("release show m --registry zk://{free}/x --registry-timeout-ms 500", 1, ("{free}", "is ZooKeeper running there?")),
    ("registry ls --registry zk://{taken}/x --registry-timeout-ms 500", 1, ("{taken}", "is ZooKeeper running there?")),
    ("registry rm m --registry zk://{free}/x --registry-timeout-ms 500", 1, ("{free}", "is ZooKeeper running there?")),
    ("registry ls", 2, ("say where it is: --registry zk://",)),
    ("registry ls --registry folder", 1, ("'folder' is not a registry: write zk://",)),
    # a file or folder that is missing, empty, broken, or the other one of the two
    ("serve missing", 1, ("missing is not a folder", "name the one that holds the model folders")),
    ("serve good.yaml", 1, ("good.yaml is not a folder", "name the one that holds the model folders")),
    ("access --config missing.yaml", 1, ("missing.yaml: cannot be read: No such file", "such as access.yaml")),
    ("access --config folder", 1, ("folder: cannot be read: Is a directory", "such as access.yaml")),
    ("access --config broken.yaml", 1, ("broken.yaml:2: not YAML", "want quotes")),
    ("access --config empty.yaml", 1, ("empty.yaml: nothing to route", "give `models`")),
    ("access --config bytes.yaml", 1, ("bytes.yaml: not UTF-8 at byte 0", "such as access.yaml")),
    ("predict missing", 1, ("missing: is not a folder", "name a folder that holds model.pt2")),
    ("predict good.yaml", 1, ("good.yaml: is not a folder", "name a folder that holds model.pt2")),
    ("predict folder", 1, ("folder: holds no model", "put exactly one of model.pt2")),
    ("predict models", 1, ("models: holds no model, but model folders", "name one of them: m")),
    ("predict models/m", 1, ("model.pt2: is damaged", "save or copy it again")),
    ("call m folder", 2, ("folder is a folder: name a file in it",)),
    ("call m missing.json", 2, ("'missing.json' is neither a file nor JSON", "there is no such file")),
    ("call m empty.json", 2, ("empty.json is empty",)),
    ("call m -", 2, ("standard input is empty",)),
    ("call m broken.json", 2, ("broken.json: not JSON",)),
    ("call m [1", 2, ("'[1' is neither a file nor JSON",)),
    ("call m [1] --protocol tfs", 2, ("named inputs", '{"x": [[1, 2]]}')),
    ("call '' [1]", 2, ("the name of the model is empty",)),
    ("check missing", 1, ("missing: cannot be read: No such file", "such as access.yaml")),
    ("check broken.yaml", 1, ("broken.yaml:2: not YAML", "want quotes")),
    ("check empty.yaml", 1, ("empty.yaml: nothing to route",)),
    ("check folder", 1, ("folder: holds no model", "put exactly one of model.pt2")),
    ("check models/m/model.pt2", 1, ("model.pt2: a model file", "name its folder: models/m")),
    ("release show m --registry missing", 1, ("missing is not a folder of release documents", "make it")),
    ("release history m --registry folder", 1, ("m has no history in folder",)),
    ("release show '' --registry folder", 2, ("''", "use letters, digits")),
    ("registry import missing.txt --registry zk://{free}/x", 1, ("missing.txt: cannot be read: No such file",)),
    ("registry import folder --registry zk://{free}/x", 1, ("folder: cannot be read: Is a directory",)),
    ("registry import empty.yaml --registry zk://{free}/x", 1, ("empty.yaml: no line `key=timeout_ms",)),
]


@pytest.fixture
def addresses() -> Iterator[dict[str, str]]:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as free:
        names = {"taken": taken, "free": free}
        found = {name: f"127.0.0.1:{each.getsockname()[1]}" for name, each in names.items()}
        free.close()
        yield found


@pytest.fixture
def _files(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("models/m").mkdir(parents=True)
    Path("models/m/model.pt2").touch()
    Path("good.yaml").write_text('models: {m: {endpoints: ["127.0.0.1:1"]}}')
    Path("broken.yaml").write_text("models: [\n")
    Path("bytes.yaml").write_bytes(b"\xff\xfe\x00")
    Path("broken.json").write_text("no JSON")
    for name in ("empty.yaml", "empty.json"):
        Path(name).touch()


@pytest.mark.usefixtures("_files")
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake[0])
def test_a_mistake_is_named_with_its_remedy(addresses, monkeypatch, caplog, mistake):
    line, status, words = mistake
    monkeypatch.setattr("dl_inference.commands.status.TIMEOUT_S", 1.0)
    result = command(*(word.strip("'") for word in line.format(**addresses).split()))
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == status
    said = " ".join(f"{result.output} {caplog.text}".split())
    assert "Traceback" not in said
    for each in words:
        assert each.replace("{taken}", addresses["taken"]).replace("{free}", addresses["free"]) in said


@pytest.mark.usefixtures("_files")
@pytest.mark.parametrize("line", ["access --config good.yaml", "check good.yaml", "call m good.yaml", "serve models"])
def test_what_a_user_may_not_read_is_named(line):
    command(*line.split(), "--help")  # what the command imports may not be readable for the other user
    call = [*line.split(), *(["--listen", "127.0.0.1:0"] if line.startswith("serve") else [])]
    Path("good.yaml").chmod(0)
    Path("models").chmod(0)
    os.chmod(".", 0o755)
    former = os.geteuid()
    if former == 0:
        os.seteuid(65534)  # root may read everything
    try:
        result = command(*call)
    finally:
        os.seteuid(former)
    assert result.exit_code in (1, 2), result.output
    assert isinstance(result.exception, SystemExit), result.exception
    assert "ermission denied" in result.output
    assert line.split()[-1] in result.output


# --- Ctrl-C, wherever a command waits


class Silent(contextlib.ExitStack):
    """A server that accepts and never answers; `accepted` waits for somebody."""

    def __init__(self) -> None:
        super().__init__()
        self.server = self.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.address = f"127.0.0.1:{self.server.getsockname()[1]}"

    def accepted(self) -> None:
        self.server.settimeout(START_S)
        self.enter_context(self.server.accept()[0])


class Status(http.server.BaseHTTPRequestHandler):
    """Answers with the status of a model server that has had no call."""

    def do_GET(self) -> None:
        body = json.dumps({"ready": True, "calls": {}}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


def interrupted(arguments: str, waits, program: tuple[str, ...] = ("-m", "dl_inference")) -> tuple[int, str]:
    """Run a command until `waits` returns, send SIGINT; return exit status and what it said on standard error."""
    command_line = [sys.executable, *program, *arguments.split()]
    process = subprocess.Popen(command_line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        waits(process)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=START_S)
    finally:
        process.kill()
    return process.returncode, said


@pytest.mark.parametrize(
    "line",
    [
        "call m [1] --timeout-ms 60000 --to {}",
        "status --admin {}",
        "release show m --registry zk://{}/x --registry-timeout-ms 60000",
        "registry ls --registry zk://{}/x --registry-timeout-ms 60000",
    ],
)
def test_ctrl_c_ends_a_command_that_waits_for_an_answer(line):
    with Silent() as silent:
        status, said = interrupted(line.format(silent.address), lambda process: silent.accepted())
    assert (status, said) == (130, "")


def test_ctrl_c_ends_a_watched_status():
    with http.server.HTTPServer(("127.0.0.1", 0), Status) as server:
        arguments = f"status --watch --admin 127.0.0.1:{server.server_port}"

        def two_answers(process: object) -> None:  # the second is asked for in the loop
            server.timeout = START_S
            server.handle_request()
            server.handle_request()

        assert interrupted(arguments, two_answers) == (0, "")


@pytest.mark.usefixtures("_files")
def test_ctrl_c_while_a_service_starts_or_serves_ends_it_without_a_traceback(tmp_path):
    write_model(tmp_path / "slow" / "m", "deaf")

    def says(word: str):
        def wait(process: subprocess.Popen[str]) -> None:
            assert process.stderr is not None
            assert any(word in line for line in process.stderr)

        return wait

    free = "--listen 127.0.0.1:0 --admin 127.0.0.1:0"
    status, said = interrupted(f"{tmp_path / 'slow'} --plain {free}", says("deaf from now on"), ("-c", WITH_STAND_INS))
    assert status == 0  # no call was cut off
    assert "Traceback" not in said
    status, said = interrupted(f"access --config good.yaml {free}", says("ready on"))
    assert status == 0
    assert "Traceback" not in said


# --- an output that takes nothing


@pytest.mark.usefixtures("_files")
@pytest.mark.parametrize("line", ["version", "check good.yaml"])
def test_a_full_disk_at_the_output_is_said(line):
    with open("/dev/full", "w") as full:
        command_line = [sys.executable, "-m", "dl_inference", *line.split()]
        done = subprocess.run(command_line, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert re.fullmatch(r"cannot print the output: No space left on device; .+\n", done.stderr)
