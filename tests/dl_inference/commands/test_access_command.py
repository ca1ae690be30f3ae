"""`dl-inference access`, with the real data plane."""

from __future__ import annotations

import json
import signal
import sys
import urllib.request
from concurrent import futures
from pathlib import Path

import pytest
from fixtures.command_line import command


@pytest.fixture
def start_access(run, tmp_path: Path):
    """Start `dl-inference access`; give the process, its address and its admin address."""

    def begin(text: str, *options: str):
        path = tmp_path / "access.yaml"
        path.write_text("listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\n" + text)
        process = run([sys.executable, "-m", "dl_inference.cli", "access", "--config", path, *options])
        address, admin = process.wait_line(r"ready on (.*) \(admin\)")[1].split(", ")
        return process, address, admin

    return begin


def test_access_routes_reloads_and_ends(echo, start_access, tmp_path):
    nodefile = tmp_path / "nodefile.txt"
    nodefile.write_text(f"69=1000,{echo[0]}\n")
    text = f"models: {{m: {{endpoints: ['{echo[0]}']}}}}\ndiscovery: [{{kind: nodefile, path: nodefile.txt}}]\n"
    process, address, admin = start_access(text)
    for model in ("m", "69"):
        assert command("call", model, '"hello"', "--to", address).exit_code == 0
    result = command("call", "70", "1", "--to", address)
    assert "NOT_FOUND (no_route)" in result.stderr
    assert "dl-inference status" in result.stderr

    nodefile.write_text(f"70=1000,{echo[0]}\n")
    process.wait_line("routing 2 models", after=process.line_count() - 1)
    assert command("call", "70", '"hello"', "--to", address).exit_code == 0
    assert command("call", "69", '"hello"', "--to", address).exit_code == 1

    found = json.loads(command("status", "--admin", admin, "--json").output)
    assert [model["name"] for model in found["models"]] == ["70", "m"]
    assert "watchfiles" not in process.log  # one line for every event in the folder
    assert found["control"]["sources"][0]["reloads_ok"] == 1
    shown = command("status", "--admin", admin).output
    assert f"{echo[0]}" in shown
    assert "ready  up 0:00:" in shown

    process.signal(signal.SIGTERM)
    assert process.wait() == 0
    assert "every call has ended" in process.log


def test_access_may_open_as_many_files_as_the_hard_limit_allows(run, tmp_path):
    text = "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\nmodels: {m: {endpoints: ['127.0.0.1:1']}}\n"
    (tmp_path / "access.yaml").write_text(text)
    program = f"{sys.executable} -m dl_inference access --config {tmp_path}/access.yaml"
    line = f"ulimit -Sn 500; ulimit -Hn 4000; exec {program}"
    process = run(["sh", "-c", line])
    admin = process.wait_line(r"ready on .*, (\S+) \(admin\)")[1]
    with urllib.request.urlopen(f"http://{admin}/metrics", timeout=10) as page:
        assert "\nprocess_max_fds 4000\n" in page.read().decode()


def test_access_lets_a_call_in_flight_end_and_a_second_signal_does_not(echo, start_access):
    address, handler = echo
    for second in (False, True):
        handler.waiting.clear()
        handler.go_on.clear()
        process, proxy, _ = start_access(f"models: {{m: {{endpoints: ['{address}']}}}}\n")
        with futures.ThreadPoolExecutor() as pool:
            call = pool.submit(command, "call", "m", '"wait"', "--to", proxy, "--timeout-ms", "20000")
            assert handler.waiting.wait(20)
            process.signal(signal.SIGTERM)
            process.wait_line("draining")
            if second:
                process.signal(signal.SIGTERM)
                assert process.wait() == 0
                assert "second signal: stopping at once" in process.log
            handler.go_on.set()
            assert call.result().exit_code == (1 if second else 0)
        assert process.wait() == 0


def test_access_with_a_mistake_says_every_problem_and_exits_with_1(tmp_path: Path):
    path = tmp_path / "access.yaml"
    path.write_text("listn: a:1\nworkers: x\n")
    result = command("access", "--config", path)
    assert result.exit_code == 1
    assert "did you mean listen?" in result.stderr
    assert "access.yaml:2 workers" in result.stderr


def test_access_on_an_address_in_use_says_so_and_exits_with_1(tmp_path: Path, echo):
    path = tmp_path / "access.yaml"
    path.write_text("models: {m: {endpoints: [a:1]}}\n")
    result = command("access", "--config", path, "--listen", echo[0], "--admin", "")
    assert result.exit_code == 1
    assert "cannot start" in result.stderr
    assert echo[0] in result.stderr
