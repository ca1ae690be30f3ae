"""An access service knows its own address under every name that it can tell without asking anybody."""

import socket

import pytest

from access.own_addresses import OwnAddresses

EVERYWHERE = OwnAddresses(["0.0.0.0:8500", "unix:/run/access"])


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:8500", "127.9.9.9:8500", "localhost:8500", f"{socket.gethostname()}:8500", "unix:/run/access"],
)
def test_an_address_that_leads_here_is_its_own(address):
    assert EVERYWHERE.contains(address)


@pytest.mark.parametrize("address", ["127.0.0.1:8501", "192.0.2.7:8500", "models.example:8500", "unix:/run/other"])
def test_an_address_that_leads_elsewhere_is_not(address):
    assert not EVERYWHERE.contains(address)


def test_one_interface_is_not_all_of_them():
    loopback = OwnAddresses(["127.0.0.1:8500"])
    assert loopback.contains("127.0.0.1:8500")
    assert loopback.contains("localhost:8500")
    assert not loopback.contains("127.0.0.2:8500")
    assert not loopback.contains("192.0.2.7:8500")


def test_ipv6_is_known_in_any_spelling():
    assert OwnAddresses(["[::1]:8500"]).contains("[0:0:0:0:0:0:0:1]:8500")


@pytest.mark.parametrize(
    "spelling", ["LOCALHOST:8500", "127.0.0.1:08500", "[::ffff:127.0.0.1]:8500", "localhost.:8500", "127.0.0.1:8500"]
)
def test_an_own_address_is_known_in_every_spelling(spelling):
    assert OwnAddresses(["127.0.0.1:8500"]).contains(spelling)
    assert not OwnAddresses(["127.0.0.1:8501"]).contains(spelling)
