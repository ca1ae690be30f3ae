import pytest

from dl_inference.address import fault, normal, split


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1:8500",
        "localhost:1",
        "a-b.example.com:65535",
        "a_b:80",
        "a.b.:80",
        "[::1]:8500",
        "[fe80::1]:1",
        "unix:/x",
        "unix:///x",
    ],
)
def test_a_well_formed_address_has_no_fault(address):
    assert fault(address) is None


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("10.0.0.1", "the port is missing"),
        ("", "the port is missing"),
        (":8500", "the host is missing"),
        ("10.0.0.1:", "port '' is not in 1..65535"),
        ("10.0.0.1:0", "port '0' is not in 1..65535"),
        ("10.0.0.1:65536", "port '65536' is not in"),
        ("10.0.0.1:8500 ", "port '8500 '"),
        ("10.0.0.1:٣", "port"),
        ("10.0.0.256:1", "'10.0.0.256' is no IPv4 address"),
        ("::1:8500", "an IPv6 address is written"),
        ("[::1]", "an IPv6 address is written"),
        ("[::1:8500", "an IPv6 address is written"),
        ("[::g]:1", "'::g' is no IPv6 address"),
        ("[fe80::1%lo]:1", "'fe80::1%lo' names a network interface"),
        ("unix:/a\nb", "cannot be printed"),
        ("-a:1", "'-a' is not a host name"),
        ("a b:1", "'a b' is not a host name"),
        ("http://a:1", "an address has no http://"),
        ("unix:x", "unix:/absolute/path"),
        ("unix:/" + "x" * 108, "at most 107 bytes"),
    ],
)
def test_what_is_wrong_with_an_address_is_said(address, reason):
    assert reason in (fault(address) or "")


def test_port_0_is_for_listening_only():
    assert fault("127.0.0.1:0", port_zero=True) is None
    assert fault("127.0.0.1:0") is not None


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [("10.0.0.1:8500", "10.0.0.1", "8500"), ("[::1]:0", "::1", "0"), ("models.example:80", "models.example", "80")],
)
def test_an_address_is_split_into_host_and_port(address, host, port):
    assert split(address) == (host, port)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("LOCALHOST:0080", "localhost:80"),
        ("a.Example.:1", "a.example:1"),
        ("[0:0::1]:1", "[::1]:1"),
        ("[FE80::A]:1", "[fe80::a]:1"),
        ("[::ffff:10.0.0.1]:1", "10.0.0.1:1"),
        ("10.0.0.1:01", "10.0.0.1:1"),
        ("unix:///a//b", "unix:/a/b"),
    ],
)
def test_an_address_has_one_normal_form(address, expected):
    assert normal(address) == expected
    assert normal(normal(address)) == expected
