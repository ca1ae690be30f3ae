"""A run of ``bench.models`` takes the contenders that it was told, and gives torch a core of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from bench import model_contenders, models
from bench.model_messages import RAW
from bench.pinned import pinned
from fixtures.processes import Process

# Two threads: the second has used more CPU when it says so.
BUSY = """
import threading, time

def burn():
    while time.thread_time() < 0.1:
        pass
    print("threads", threading.main_thread().native_id, threading.get_native_id(), flush=True)
    input()

threading.Thread(target=burn).start()
"""


@pytest.fixture
def no_peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_contenders, "PEERS", tmp_path)


def options_of(monkeypatch: pytest.MonkeyPatch, *words: str) -> object:
    monkeypatch.setattr(sys, "argv", ["bench.models", *words])
    return models._options()


@pytest.mark.usefixtures("no_peers")
def test_a_contender_that_is_not_named_is_left_out_with_a_line_where_it_cannot_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = options_of(monkeypatch)
    assert found.contenders == ["ours", "ours-batch", "torch"]  # type: ignore[attr-defined]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(model_contenders.ENVIRONMENTS)
    assert "left out: seldon: no environment .peers/seldon-torch: make model-peers" in lines


@pytest.mark.usefixtures("no_peers")
@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--contenders", "ours,mosec"), "mosec: no environment .peers/mosec: make model-peers"),
        (("--contenders", "ours,nginx"), "--contenders: nginx is not one of ours, ours-batch"),
        (("--only", "mlp,rnn"), "--only: rnn is not one of echo, mlp, cnn"),
    ],
)
def test_a_contender_that_is_named_and_cannot_start_ends_the_run(
    words: tuple[str, ...], text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        options_of(monkeypatch, *words)
    assert caught.value.code == 2
    assert text in capsys.readouterr().err


def test_a_server_that_ends_as_it_starts_is_named_with_its_log(run: Callable[..., Process], tmp_path: Path) -> None:
    (tmp_path / "known.json").write_text('[{"x": [[1.0]], "answer": [[1.0]]}]')
    process = run([sys.executable, "-c", "import sys; sys.exit('no such module')"])
    server = model_contenders.Server("made", "", model_contenders.free_address(), RAW, process)
    with pytest.raises(RuntimeError, match=r"made ended as it started:\n.*no such module"):
        server.check(tmp_path)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core only")
def test_the_busiest_thread_gets_a_core_and_all_others_the_other_one(run: Callable[..., Process]) -> None:
    process = run([sys.executable, "-c", BUSY])
    found = process.wait_line(r"^threads (\d+) (\d+)$")
    everywhere = os.sched_getaffinity(0)
    first, last = min(everywhere), max(everywhere)
    threads = (0, int(found[1]), int(found[2]))
    with pinned(process.pid, torch_core=last, others_core=first):
        assert [os.sched_getaffinity(each) for each in threads] == [{first}, {first}, {last}]
    assert [os.sched_getaffinity(each) for each in threads] == [everywhere] * 3
