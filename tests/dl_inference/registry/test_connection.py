"""A command's connection to a ZooKeeper that accepts and says nothing."""

from __future__ import annotations

import signal
import socket
import sys
import threading

import pytest
from fixtures.access_process import wait_until

from dl_inference.registry.connection import Connection
from dl_inference.registry.zookeeper import Zookeeper


def test_a_ctrl_c_that_comes_as_the_wait_begins_is_heard():
    main = threading.get_ident()

    def press() -> None:
        with silent.accept()[0]:
            wait_until(lambda: sys._current_frames()[main].f_code.co_name == "wait", "a wait")
            # This thread takes the signal, which does not wake the main one: as if it had come just before the wait.
            signal.raise_signal(signal.SIGINT)
            has_ended.wait()

    has_ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        thread = threading.Thread(target=press)
        thread.start()
        with (
            pytest.raises(KeyboardInterrupt),
            Connection(Zookeeper(f"127.0.0.1:{silent.getsockname()[1]}", "/x"), 20_000),
        ):
            pass
        has_ended.set()
        thread.join()
