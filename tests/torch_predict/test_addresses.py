from __future__ import annotations

import socket
from pathlib import Path

import pytest

from torch_predict import addresses


@pytest.mark.parametrize("address", ["127.0.0.1:0", "localhost:0", "0.0.0.0:0"])
def test_a_free_address_can_be_listened_on(address):
    addresses.check(address)


def test_a_port_that_was_looked_at_is_free_again(free_port):
    address = f"127.0.0.1:{free_port()}"
    addresses.check(address)
    addresses.check(address)


@pytest.mark.parametrize("address", ["foo", "", ":5000", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "::1:5000"])
def test_what_is_no_address_is_told_how_one_is_written(address):
    with pytest.raises(ValueError, match=r"write HOST:PORT, \[V6\]:PORT or unix:/PATH"):
        addresses.check(address)


def test_an_address_in_use_is_an_error():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ValueError, match=rf"^cannot listen on {address}: Address already in use$"):
            addresses.check(address)


def test_an_address_that_is_not_this_machines_is_an_error():
    with pytest.raises(ValueError, match=r"cannot listen on 192\.0\.2\.1:5000: Cannot assign"):
        addresses.check("192.0.2.1:5000")


def test_a_unix_socket_wants_an_existing_folder(tmp_path: Path):
    addresses.check(f"unix:{tmp_path}/s")
    with pytest.raises(ValueError, match=f"there is no folder {tmp_path}/no$"):
        addresses.check(f"unix:{tmp_path}/no/s")


def test_a_relative_unix_path_becomes_absolute(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert addresses.absolute("unix:s") == f"unix:{tmp_path}/s"
    assert addresses.absolute("127.0.0.1:1") == "127.0.0.1:1"
