"""A DNS server of the tests' own, by UDP and TCP on one port: answers what a test says, also nonsense or nothing."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Callable, Sequence

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

MAX_UDP_BYTES = 512
SOA = "ns.test. admin.test. 1 3600 600 86400 {ttl}"

Answer = dns.message.Message | bytes | None
"""A message, bytes that are none, or silence."""

Records = dict[tuple[str, str], Sequence[str]]
"""(name, type) -> the records' data as in a zone file."""


class DnsServer:
    """Answers for a zone until it is closed.

    Attributes:
        records: the zone. A name that it does not hold does not exist.
        ttl: of every record, and how long a negative answer holds, s.
        behaviour: in place of the zone, by type ("A") or "*": gets the question and returns the answer.
        asked: (name, type, "udp" or "tcp") -> times.
    """

    def __init__(self, records: Records | None = None, *, address: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self.records: Records = records or {}
        self.ttl = 1
        self.behaviour: dict[str, Callable[[dns.message.Message], Answer]] = {}
        self.asked: Counter[tuple[str, str, str]] = Counter()
        self._changed = threading.Condition()
        self._udp, self._tcp = _sockets(address)
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._serve_udp, self._serve_tcp)]
        for thread in self._threads:
            thread.start()

    @property
    def address(self) -> str:
        """``host:port``."""
        return "{}:{}".format(*self._udp.getsockname())

    def wait_asked(self, count: int, kind: str = "A", *, way: str = "udp", timeout_s: float = 20) -> None:
        """Wait until questions for a type have been asked so many times in all.

        Raises:
            AssertionError: time is up.
        """

        def asked() -> int:
            return sum(times for (_, each, by), times in self.asked.items() if each == kind and by == way)

        with self._changed:
            assert self._changed.wait_for(lambda: asked() >= count, timeout_s), self.asked

    def close(self) -> None:
        """End it; a question that is on its way gets no answer."""
        for each in (self._udp, self._tcp):
            each.shutdown(socket.SHUT_RDWR) if each is self._tcp else None
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", self._udp.getsockname())
        for thread in self._threads:
            thread.join(20)
        self._udp.close()
        self._tcp.close()

    def answer(self, question: dns.message.Message, way: str) -> Answer:
        """Return what the zone, or the behaviour, says."""
        asked = question.question[0]
        kind = dns.rdatatype.to_text(asked.rdtype)
        with self._changed:
            self.asked[asked.name.to_text(), kind, way] += 1
            self._changed.notify_all()
        behaviour = self.behaviour.get(kind, self.behaviour.get("*"))
        return behaviour(question) if behaviour else self.from_zone(question)

    def from_zone(self, question: dns.message.Message) -> dns.message.Message:
        """Return the zone's answer: with the whole chain of CNAMEs, or with a SOA where there is none."""
        response = dns.message.make_response(question, recursion_available=True)
        name, kind = question.question[0].name.to_text().lower(), dns.rdatatype.to_text(question.question[0].rdtype)
        while alias := self.records.get((name, "CNAME")):
            response.answer.append(dns.rrset.from_text(name, self.ttl, "IN", "CNAME", *alias))
            name = alias[0]
        if data := self.records.get((name, kind)):
            response.answer.append(dns.rrset.from_text_list(name, self.ttl, "IN", kind, list(data)))
            return response
        if not any(each == name for each, _ in self.records):
            response.set_rcode(dns.rcode.NXDOMAIN)
        response.authority.append(dns.rrset.from_text("test.", self.ttl, "IN", "SOA", SOA.format(ttl=self.ttl)))
        return response

    def _serve_udp(self) -> None:
        while True:
            data, client = self._udp.recvfrom(65535)
            if not data:
                return
            answer = self.answer(dns.message.from_wire(data), "udp")
            wire = answer.to_wire(max_size=65535) if isinstance(answer, dns.message.Message) else answer
            if isinstance(answer, dns.message.Message) and len(wire) > MAX_UDP_BYTES:
                short = dns.message.make_response(dns.message.from_wire(data))
                short.flags |= dns.flags.TC
                wire = short.to_wire()
            if wire is not None:
                self._udp.sendto(wire, client)

    def _serve_tcp(self) -> None:
        while True:
            try:
                connection, _ = self._tcp.accept()
            except OSError:  # shut down
                return
            with connection, connection.makefile("rb") as stream:
                connection.settimeout(20)
                length = int.from_bytes(stream.read(2))
                answer = self.answer(dns.message.from_wire(stream.read(length)), "tcp")
                wire = answer.to_wire(max_size=65535) if isinstance(answer, dns.message.Message) else answer
                if wire is not None:
                    connection.sendall(len(wire).to_bytes(2) + wire)


def _sockets(address: tuple[str, int]) -> tuple[socket.socket, socket.socket]:
    """Return a UDP and a listening TCP socket on one port; a free one for port 0."""
    for _ in range(100):
        udp, tcp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket()
        try:
            udp.bind(address)
            tcp.bind(udp.getsockname())
            tcp.listen(64)
            return udp, tcp
        except OSError:
            udp.close()
            tcp.close()
            if address[1]:
                raise
    raise AssertionError("no port is free for both UDP and TCP")


def refuse(rcode: int) -> Callable[[dns.message.Message], Answer]:
    """Return a behaviour: every question gets this code (``dns.rcode.SERVFAIL``) and nothing else."""

    def answer(question: dns.message.Message) -> Answer:
        response = dns.message.make_response(question)
        response.set_rcode(rcode)
        return response

    return answer


def silence(question: dns.message.Message) -> Answer:
    """Answer nothing."""
    return None
