"""`kind: dns` against a DNS server of the tests' own."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from fixtures.dns_server import DnsServer, refuse, silence
from pydantic import ValidationError

from access import state
from access.config.sections import AccessConfig
from access.discovery import dns_questions
from access.discovery.base import ANY_MODEL, Entry, Snapshot
from access.discovery.dns import DnsResolver
from access.discovery.dns_config import DnsConfig
from access.errors import DiscoveryError
from access.fields import EndpointConfig
from access.following.saved_state import SavedState

WAIT_S = 20
A_TWO = {("digits.test.", "A"): ["10.0.0.2", "10.0.0.1"]}
SRV = ("_grpc._tcp.digits.test.", "SRV")


@pytest.fixture
def server() -> Iterator[DnsServer]:
    server = DnsServer(dict(A_TWO))
    yield server
    server.close()


class Changes:
    """Counts calls of `changed`, and waits for them."""

    def __init__(self) -> None:
        self.count = 0
        self._condition = threading.Condition()

    def __call__(self) -> None:
        with self._condition:
            self.count += 1
            self._condition.notify_all()

    def wait(self, count: int) -> None:
        with self._condition:
            assert self._condition.wait_for(lambda: self.count >= count, WAIT_S), self.count


@pytest.fixture
def make(server) -> Iterator[Callable[..., DnsResolver]]:
    """Make resolvers that ask the server; quick ones, and all of them are stopped."""
    made: list[DnsResolver] = []

    def resolver(**keys: object) -> DnsResolver:
        where = {} if "entries" in keys else {"name": "digits.test", "port": 5000}
        times = {"min_ttl_ms": 50, "max_ttl_ms": 200, "lookup_timeout_ms": 5_000}
        document = {"kind": "dns", "servers": [server.address], **where, **times, **keys}
        made.append(DnsResolver.create(DnsConfig.model_validate(document), Path()))
        return made[-1]

    yield resolver
    for each in made:
        each.stop()


def ask(resolver: DnsResolver) -> Snapshot:
    """Start it, and return what it has first."""
    resolver.start(lambda: None)
    return resolver.read()


def endpoints(snapshot: Snapshot, key: str = ANY_MODEL) -> list[tuple[str, int]]:
    return [(each.address, each.weight) for each in snapshot.entries[key].endpoints]


def await_read(resolver: DnsResolver, changes: Changes, wanted: Callable[[Snapshot], bool]) -> Snapshot:
    """Read at every change until it is as wanted."""
    for seen in range(100):
        snapshot = resolver.read()
        if wanted(snapshot):
            return snapshot
        changes.wait(seen + 1)
    raise AssertionError("a hundred changes, none as wanted")


def warnings(snapshot: Snapshot) -> str:
    return "\n".join(str(each) for each in snapshot.warnings)


# --- answers


def test_a_names_addresses_of_both_families_are_its_endpoints(server, make):
    server.records["digits.test.", "AAAA"] = ["fd00::1"]
    assert endpoints(ask(make())) == [("10.0.0.1:5000", 1), ("10.0.0.2:5000", 1), ("[fd00::1]:5000", 1)]
    assert endpoints(ask(make(family="ipv4"))) == [("10.0.0.1:5000", 1), ("10.0.0.2:5000", 1)]
    assert endpoints(ask(make(family="ipv6"))) == [("[fd00::1]:5000", 1)]


def test_another_order_of_the_same_addresses_is_no_change(server, make):
    changes = Changes()
    resolver = make()
    resolver.start(changes)
    before = resolver.read()
    asked = server.asked["digits.test.", "A", "udp"]
    server.records["digits.test.", "A"] = ["10.0.0.1", "10.0.0.2"]
    server.wait_asked(asked + 3)
    assert resolver.read() == before
    assert changes.count == 1


def test_a_chain_of_cnames_is_followed_and_one_that_bites_its_tail_is_no_answer(server, make):
    server.records = {
        ("digits.test.", "CNAME"): ["pool.test."],
        ("pool.test.", "CNAME"): ["blue.test."],
        ("blue.test.", "A"): ["10.0.0.9"],
    }
    assert endpoints(ask(make())) == [("10.0.0.9:5000", 1)]

    def circle(question: dns.message.Message) -> dns.message.Message:
        response = dns.message.make_response(question)
        for one, other in (("digits", "pool"), ("pool", "digits")):
            response.answer.append(dns.rrset.from_text(f"{one}.test.", 1, "IN", "CNAME", f"{other}.test."))
        return response

    server.behaviour["*"] = circle
    with pytest.raises(DiscoveryError, match=r"digits\.test A"):
        ask(make())


def test_a_thousand_addresses_come_by_tcp_where_udp_is_too_short(server, make):
    server.records["digits.test.", "A"] = [f"10.1.{number // 250}.{number % 250 + 1}" for number in range(1000)]
    found = endpoints(ask(make()))
    assert len(set(found)) == 1000
    assert server.asked["digits.test.", "A", "udp"] == 1
    assert server.asked["digits.test.", "A", "tcp"] == 1


def test_several_names_are_a_source_of_models(server, make):
    server.records["ranking.test.", "A"] = ["10.0.1.1"]
    entries = {"digits": {"name": "digits.test", "port": 5000}, "ranking": {"name": "ranking.test", "port": 8500}}
    snapshot = ask(make(entries=entries))
    assert endpoints(snapshot, "digits") == [("10.0.0.1:5000", 1), ("10.0.0.2:5000", 1)]
    assert endpoints(snapshot, "ranking") == [("10.0.1.1:8500", 1)]


# --- services


def test_services_bring_ports_and_weights_and_only_the_lowest_priority_counts(server, make):
    server.records = {
        SRV: ["10 5 5000 one.test.", "10 0 5001 two.test.", "20 9 5002 spare.test."],
        ("one.test.", "A"): ["10.0.0.1"],
        ("two.test.", "A"): ["10.0.0.2"],
        ("two.test.", "AAAA"): ["fd00::2"],
        ("spare.test.", "A"): ["10.0.0.3"],
    }
    found = endpoints(ask(make(name="_grpc._tcp.digits.test", port=None)))
    assert found == [("10.0.0.1:5000", 5), ("10.0.0.2:5001", 1), ("[fd00::2]:5001", 1)]


def test_two_targets_at_one_address_are_one_endpoint_with_both_weights(server, make):
    server.records = {
        SRV: ["0 65535 5000 one.test.", "0 3 5000 two.test.", "0 2 5000 three.test.", "0 3 5000 four.test."],
        **{(f"{name}.test.", "A"): ["10.0.0.1"] for name in ("one", "two")},
        **{(f"{name}.test.", "A"): ["10.0.0.2"] for name in ("three", "four")},
    }
    found = endpoints(ask(make(name="_grpc._tcp.digits.test", port=None)))
    assert found == [("10.0.0.1:5000", 65535), ("10.0.0.2:5000", 5)]


def test_the_target_that_says_not_here_leaves_no_endpoints(server, make):
    server.records = {SRV: ["0 0 0 ."]}
    snapshot = ask(make(name="_grpc._tcp.digits.test", port=None))
    assert endpoints(snapshot) == []
    assert "no endpoints" in warnings(snapshot)


def test_a_target_that_is_no_name_or_has_no_address_is_named_and_hurts_nobody(server, make):
    hostile = r"\000\"\;rm\032-rf.test."
    server.records = {
        SRV: ["0 1 5000 one.test.", "0 1 5000 gone.test.", f"0 1 5000 {hostile}", "0 1 0 one.test."],
        ("one.test.", "A"): ["10.0.0.1"],
    }
    snapshot = ask(make(name="_grpc._tcp.digits.test", port=None))
    assert endpoints(snapshot) == [("10.0.0.1:5000", 1)]
    assert "target 'gone.test.'" in warnings(snapshot)
    assert "rm" in warnings(snapshot)


def test_a_target_without_an_answer_is_no_answer_at_all(server, make):
    server.records = {SRV: ["0 1 5000 one.test.", "0 1 5000 two.test."], ("one.test.", "A"): ["10.0.0.1"]}

    def unsure(question: dns.message.Message) -> dns.message.Message | bytes | None:
        is_two = question.question[0].name.to_text() == "two.test."
        return refuse(dns.rcode.SERVFAIL)(question) if is_two else server.from_zone(question)

    server.behaviour["A"] = unsure
    with pytest.raises(DiscoveryError, match=r"two\.test\. A: no answer: SERVFAIL"):
        ask(make(name="_grpc._tcp.digits.test", port=None))


# --- addresses that nobody can call


def test_hostile_addresses_are_skipped_and_named(server, make):
    server.records["digits.test.", "A"] = ["10.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "240.0.0.1"]
    server.records["digits.test.", "AAAA"] = ["::", "ff02::1", "fe80::1", "::ffff:0.0.0.0", "fd00::1"]
    snapshot = ask(make())
    assert endpoints(snapshot) == [("10.0.0.1:5000", 1), ("[fd00::1]:5000", 1)]
    assert "0.0.0.0, 224.0.0.1, 240.0.0.1 and 5 more cannot be called" in warnings(snapshot)


# --- no endpoints, and no answers


def test_a_name_that_does_not_exist_and_one_without_addresses_have_no_endpoints(server, make):
    server.records = {("digits.test.", "TXT"): ["here"]}
    snapshot = ask(make(entries={"here": {"name": "digits.test", "port": 1}, "gone": {"name": "gone.test", "port": 1}}))
    assert endpoints(snapshot, "here") == endpoints(snapshot, "gone") == []
    assert "digits.test: the name has no such records" in warnings(snapshot)
    assert "gone.test: the name does not exist" in warnings(snapshot)


@pytest.mark.parametrize("code", [dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.NOTIMP, dns.rcode.FORMERR])
def test_a_server_that_cannot_say_is_no_answer(server, make, code):
    server.behaviour["*"] = refuse(code)
    with pytest.raises(DiscoveryError, match=dns.rcode.to_text(code)):
        ask(make())


def wrong_id(question: dns.message.Message) -> dns.message.Message:
    response = dns.message.make_response(question)
    response.id ^= 1
    response.answer.append(dns.rrset.from_text("digits.test.", 60, "IN", "A", "6.6.6.6"))
    return response


def other_question(question: dns.message.Message) -> dns.message.Message:
    response = dns.message.make_response(dns.message.make_query("other.test.", "A"))
    response.id = question.id
    response.answer.append(dns.rrset.from_text("other.test.", 60, "IN", "A", "6.6.6.6"))
    return response


def garbage(question: dns.message.Message) -> bytes:
    return b"\xff" * 40


def short(question: dns.message.Message) -> bytes:
    return question.id.to_bytes(2) + b"\x81\x80"


@pytest.mark.parametrize("behaviour", [silence, garbage, short, wrong_id, other_question])
def test_silence_garbage_and_what_others_could_have_sent_are_no_answer(server, make, behaviour):
    server.behaviour["*"] = behaviour
    begin = time.monotonic()
    with pytest.raises(DiscoveryError, match="no answer"):
        ask(make(lookup_timeout_ms=300))
    assert time.monotonic() - begin < WAIT_S


def test_an_answer_about_another_name_is_not_taken(server, make):
    def stranger(question: dns.message.Message) -> dns.message.Message:
        response = dns.message.make_response(question)
        response.answer.append(dns.rrset.from_text("stranger.test.", 60, "IN", "A", "6.6.6.6"))
        return response

    server.behaviour["A"] = stranger
    assert endpoints(ask(make())) == []


def test_truncation_that_tcp_cannot_mend_is_no_answer(server, make):
    def truncated(question: dns.message.Message) -> dns.message.Message:
        response = dns.message.make_response(question)
        response.flags |= dns.flags.TC
        return response

    server.behaviour["*"] = truncated
    with pytest.raises(DiscoveryError, match="cut short"):
        ask(make())
    assert server.asked["digits.test.", "A", "tcp"] == 1


def test_the_second_server_answers_where_the_first_does_not(server, make):
    deaf = DnsServer()
    deaf.behaviour["*"] = refuse(dns.rcode.SERVFAIL)
    try:
        assert len(endpoints(ask(make(servers=[deaf.address, server.address])))) == 2
    finally:
        deaf.close()


# --- following


def test_a_change_is_called_once_and_read_without_asking(server, make):
    changes = Changes()
    resolver = make()
    resolver.start(changes)
    resolver.read()
    server.records["digits.test.", "A"] = ["10.0.0.3"]
    changes.wait(2)
    asked = server.asked.total()
    for _ in range(100):
        assert endpoints(resolver.read()) == [("10.0.0.3:5000", 1)]
    assert server.asked.total() - asked < 100
    server.wait_asked(server.asked["digits.test.", "A", "udp"] + 3)
    assert changes.count == 2


@pytest.mark.parametrize(("ttl_s", "fewest", "most"), [(0, 4, 30), (3600, 2, 6)])
def test_the_time_to_live_is_kept_within_its_bounds(server, make, ttl_s, fewest, most):
    """A time to live of 0 asks every 50 ms, one of an hour every 500 ms: for a second and a half."""
    server.ttl = ttl_s
    resolver = make(max_ttl_ms=500)
    begin = time.monotonic()
    resolver.start(lambda: None)
    server.wait_asked(fewest)
    # The second question of the second case cannot come before 500 ms, the last of the first not before 150 ms.
    least_s = {0: 0.15, 3600: 0.5}[ttl_s]
    assert time.monotonic() - begin >= least_s
    assert server.asked["digits.test.", "A", "udp"] <= most


def test_a_names_own_time_to_live_counts_between_the_bounds(server, make):
    server.ttl = 1
    begin = time.monotonic()
    make(max_ttl_ms=60_000).start(lambda: None)
    server.wait_asked(2)
    assert time.monotonic() - begin >= 1.0


def test_a_negative_answer_holds_as_long_as_its_zone_says(server, make):
    server.records = {}
    server.ttl = 1
    begin = time.monotonic()
    make(max_ttl_ms=60_000).start(lambda: None)
    server.wait_asked(2)
    assert time.monotonic() - begin >= 1.0


def test_loss_is_said_once_and_ends_with_the_next_answer(server, make):
    changes = Changes()
    resolver = make()
    resolver.start(changes)
    before = resolver.read()
    asked = server.asked["digits.test.", "A", "udp"]
    server.behaviour["*"] = refuse(dns.rcode.SERVFAIL)
    changes.wait(2)
    with pytest.raises(DiscoveryError, match=r"digits\.test A.*SERVFAIL from 127\.0\.0\.1"):
        resolver.read()
    server.wait_asked(asked + 4)
    assert changes.count == 2
    server.behaviour.clear()
    changes.wait(3)
    assert resolver.read() == before


def test_one_name_without_an_answer_keeps_its_last_endpoints_and_hurts_no_other(server, make):
    server.records["ranking.test.", "A"] = ["10.0.1.1"]
    changes = Changes()
    entries = {"digits": {"name": "digits.test", "port": 5000}, "ranking": {"name": "ranking.test", "port": 8500}}
    resolver = make(entries=entries)
    resolver.start(changes)
    resolver.read()

    def unsure(question: dns.message.Message) -> dns.message.Message | bytes | None:
        is_ranking = question.question[0].name.to_text() == "ranking.test."
        return refuse(dns.rcode.SERVFAIL)(question) if is_ranking else server.from_zone(question)

    server.behaviour["*"] = unsure
    server.records["digits.test.", "A"] = ["10.0.0.7"]
    snapshot = await_read(
        resolver,
        changes,
        lambda read: "SERVFAIL" in warnings(read) and ("10.0.0.7:5000", 1) in endpoints(read, "digits"),
    )
    assert endpoints(snapshot, "ranking") == [("10.0.1.1:8500", 1)]
    assert "its last endpoints stay" in warnings(snapshot)


def test_stopping_does_not_wait_for_a_question_that_hangs(server, make):
    server.behaviour["*"] = silence
    resolver = make(lookup_timeout_ms=600_000, start_timeout_ms=100)
    resolver.start(lambda: None)
    server.wait_asked(1)
    with pytest.raises(DiscoveryError, match="no answer within start_timeout_ms 100"):
        resolver.read()
    begin = time.monotonic()
    resolver.stop()
    assert time.monotonic() - begin < WAIT_S
    assert not [each for each in threading.enumerate() if each.name == "access-dns"]


def test_stopping_at_any_moment_ends_the_thread(server, make):
    """Also at the moment when an answer comes: `asyncio.wait_for` may lose a cancellation then."""
    for number in range(60):
        resolver = make(min_ttl_ms=1, max_ttl_ms=1)
        resolver.start(lambda: None)
        server.wait_asked(2 * (number + 1))
        resolver.stop()
    assert not [each for each in threading.enumerate() if each.name == "access-dns"]


def test_only_the_first_reading_waits(server, make):
    server.behaviour["*"] = silence
    resolver = make(lookup_timeout_ms=600_000, start_timeout_ms=50)
    resolver.start(lambda: None)
    for _ in range(1000):  # 50 s if each waited
        with pytest.raises(DiscoveryError):
            resolver.read()


# --- servers and search list


def test_without_servers_the_systems_are_asked_with_its_search_list(tmp_path, monkeypatch, make):
    try:
        server = DnsServer({("digits.models.test.", "A"): ["10.0.0.1"]}, address=("127.0.0.53", 53))
    except OSError as error:  # no right to use port 53, or somebody has it
        pytest.skip(f"127.0.0.53:53: {error}")
    (tmp_path / "resolv.conf").write_text("search other.test models.test\nnameserver 127.0.0.53\noptions ndots:5\n")
    monkeypatch.setattr(dns_questions, "RESOLV_CONF", str(tmp_path / "resolv.conf"))
    try:
        assert endpoints(ask(make(name="digits", servers=[]))) == [("10.0.0.1:5000", 1)]
    finally:
        server.close()


def test_a_system_without_servers_is_no_answer(tmp_path, monkeypatch, make):
    monkeypatch.setattr(dns_questions, "RESOLV_CONF", str(tmp_path / "missing"))
    with pytest.raises(DiscoveryError, match="missing"):
        ask(make(servers=[]))


# --- configuration


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({}, "either `name` or `entries`"),
        ({"name": "a.test", "entries": {"a": {"name": "a.test"}}}, "either `name` or `entries`"),
        ({"port": 5000, "entries": {"a": {"name": "a.test"}}}, "no effect beside `entries`"),
        ({"name": "10.0.0.1"}, "that is an address"),
        ({"name": "fd00::1"}, "that is an address"),
        ({"name": "a.test:5000"}, "that is an address"),
        ({"name": "a b"}, "is not a host name"),
        ({"name": "http://a"}, "that is an address"),
        ({"name": "a.test", "port": 0}, "greater than or equal to 1"),
        ({"name": "a.test", "servers": ["ns.test"]}, "no DNS server"),
        ({"name": "a.test", "servers": ["10.0.0.10:0"]}, "no DNS server"),
        ({"name": "a.test", "min_ttl_ms": 500, "max_ttl_ms": 499}, "min_ttl_ms 500 is above max_ttl_ms 499"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(keys, reason):
    with pytest.raises(ValidationError, match=reason):
        DnsConfig.model_validate({"kind": "dns", **keys})


@pytest.mark.parametrize("server", ["10.0.0.10", "10.0.0.10:5353", "fd00::1", "[fd00::1]:5353"])
def test_a_server_is_an_address_with_or_without_a_port(server):
    DnsConfig.model_validate({"kind": "dns", "name": "_grpc._tcp.a.test", "servers": [server]})


def test_without_dnspython_it_says_what_to_install(tmp_path):
    code = (
        "import sys; sys.modules['dns'] = None\n"
        "from pathlib import Path\n"
        "from access.discovery.dns import DnsResolver\n"
        "from access.discovery.dns_config import DnsConfig\n"
        "resolver = DnsResolver(DnsConfig(kind='dns', name='a.test', port=1))\n"
        "resolver.start(lambda: None)\n"
        "resolver.read()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode
    assert "DiscoveryError: dnspython is not installed: pip install 'dl-inference[dns]'" in done.stderr


# --- routing


def test_a_name_as_a_models_own_source_routes_that_model():
    source = {"kind": "dns", "name": "digits.test", "port": 5000}
    config = AccessConfig.model_validate({"models": {"digits": {"discovery": source, "protocol": "seldon"}}})
    (key,) = state.sources(config)
    found = Snapshot({ANY_MODEL: Entry((EndpointConfig(address="10.0.0.1:5000"),))})
    routing = state.routing(config, {key: found})
    assert [each["name"] for each in routing.state["clusters"]] == ["digits"]
    assert routing.state["clusters"][0]["endpoints"] == [{"address": "10.0.0.1:5000", "weight": 1}]
    assert not routing.warnings


def test_a_name_for_no_model_routes_nothing_and_says_so():
    config = AccessConfig.model_validate({"discovery": [{"kind": "dns", "name": "digits.test", "port": 5000}]})
    (key,) = state.sources(config)
    routing = state.routing(config, {key: Snapshot({ANY_MODEL: Entry(())})})
    assert routing.state["models"] == []
    assert "does not say whose endpoints these are" in str(routing.warnings[0])


def test_the_state_of_a_models_own_name_is_kept_over_a_restart(tmp_path):
    entries = {ANY_MODEL: Entry((EndpointConfig(address="10.0.0.1:5000"),))}
    SavedState(tmp_path, "dns:digits.test:5000").save(entries)
    loaded = SavedState(tmp_path, "dns:digits.test:5000").load()
    assert loaded is not None
    assert [each.address for each in loaded[0][ANY_MODEL].endpoints] == ["10.0.0.1:5000"]


def test_sources_that_may_say_something_else_have_other_names(make):
    asked = [
        {},
        {"port": 5001},
        {"port": None},
        {"family": "ipv4"},
        {"servers": ["10.0.0.10"]},
        {"entries": {"digits": {"name": "digits.test", "port": 5000}}},
        {"entries": {"digits": {"name": "digits.test", "port": 5000}, "a": {"name": "a.test", "port": 5000}}},
        {"entries": {"digits": {"name": "digits.test", "port": 5000}, "b": {"name": "b.test", "port": 5000}}},
    ]
    names = [make(**keys).name for keys in asked]
    assert len(set(names)) == len(names)
    assert names == [make(**keys).name for keys in asked]
