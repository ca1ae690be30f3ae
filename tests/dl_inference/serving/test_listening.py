from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from dl_inference.serving import listening


@pytest.mark.parametrize("address", ["127.0.0.1:0", "localhost:0", "0.0.0.0:0"])
def test_a_free_address_can_be_listened_on(address):
    listening.check(address)


def test_a_port_that_was_looked_at_is_free_again(free_port):
    address = f"127.0.0.1:{free_port()}"
    listening.check(address)
    listening.check(address)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("foo", "the port is missing: host:port, [v6]:port or unix:/path"),
        (":5000", "the host is missing: host:port, [v6]:port or unix:/path"),
        ("127.0.0.1:x", "port 'x' is not in 0..65535"),
        ("127.0.0.1:65536", "port '65536' is not in 0..65535"),
        ("::1:5000", "an IPv6 address is written [address]:port"),
    ],
)
def test_what_is_no_address_is_told_how_one_is_written(address, reason):
    with pytest.raises(ValueError, match=f"^{re.escape(f'cannot listen on {address!r}: {reason}')}$"):
        listening.check(address)


def test_an_address_in_use_is_an_error():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(
            ValueError,
            match=rf"^cannot listen on {address}: Address already in use; stop the program that listens there, "
            "or choose another address$",
        ):
            listening.check(address)


def test_an_address_that_is_not_this_machines_is_an_error():
    with pytest.raises(ValueError, match=r"cannot listen on 192\.0\.2\.1:5000: Cannot assign"):
        listening.check("192.0.2.1:5000")


def test_a_unix_socket_wants_an_existing_folder(tmp_path: Path):
    listening.check(f"unix:{tmp_path}/s")
    with pytest.raises(ValueError, match=f"there is no folder {tmp_path}/no$"):
        listening.check(f"unix:{tmp_path}/no/s")


def test_a_unix_socket_that_somebody_listens_on_is_in_use_and_one_that_is_left_over_is_not(tmp_path: Path):
    address = f"unix:{tmp_path}/s"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{tmp_path}/s")
        server.listen()
        with pytest.raises(ValueError, match=f"cannot listen on {address}: Address already in use"):
            listening.check(address)
    listening.check(address)


def test_a_relative_unix_path_becomes_absolute(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert listening.absolute("unix:s") == f"unix:{tmp_path}/s"
    assert listening.absolute("127.0.0.1:1") == "127.0.0.1:1"
