"""Listening sockets that another process hands over, as the environment tells them."""

from __future__ import annotations

import os
import socket

import pytest

from access.errors import StartError
from access.sockets import DESCRIPTORS, Inherited, given_to_next


def test_what_a_predecessor_says_is_taken_out_of_the_environment_and_it_hears_once_that_calls_are_served():
    listener = socket.create_server(("127.0.0.1", 0))
    read, write = os.pipe()
    environment = {"PATH": "/bin", **given_to_next([listener.fileno()], write)}
    inherited = Inherited(environment)
    assert inherited.descriptors == [listener.fileno()]
    assert environment == {"PATH": "/bin"}
    inherited.tell_ready()
    inherited.tell_ready()
    assert os.read(read, 10) == b"1"
    assert os.read(read, 10) == b"", "the pipe is closed"
    os.close(read)
    listener.close()


def test_sockets_that_are_meant_for_another_process_are_left_alone():
    environment = {"LISTEN_FDS": "1", "LISTEN_PID": "1"}
    assert Inherited(environment).descriptors == []
    assert environment == {}, "and no process below believes that they are its own"


@pytest.mark.parametrize("text", ["x", "1000000", "-1"])
def test_what_is_no_descriptor_is_refused_with_its_value(text: str):
    with pytest.raises(StartError, match=text):
        Inherited({DESCRIPTORS: text})
