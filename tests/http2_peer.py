"""A caller and an endpoint that put on the wire exactly what a test tells them, and keep all that comes back."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings

Fields = list[tuple[str, str]]
WAIT_S = 15
PREFACE_BYTES = 24
FRAME_HEAD_BYTES = 9
GOAWAY = 7
WINDOW = 16 * 1024 * 1024


def message(content: bytes, compressed: bool = False) -> bytes:
    """Put gRPC's prefix in front of a message."""
    return struct.pack(">BI", compressed, len(content)) + content


def request_head(path: str, *extra: tuple[str, str]) -> Fields:
    """Return the head of a gRPC request."""
    pseudo = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "test")]
    return [*pseudo, ("content-type", "application/grpc"), ("te", "trailers"), *extra]


class Gone(Exception):
    """The stream was reset, or its connection ended; ``code`` is HTTP/2's, None where there was none."""

    def __init__(self, code: int | None, why: str) -> None:
        super().__init__(f"{why} ({code})")
        self.code = code


class Stream:
    """One stream, seen from either side. Every wait has a limit."""

    def __init__(self, peer: Peer, number: int) -> None:
        self.peer = peer
        self.number = number
        self.headers: Fields | None = None
        self.trailers: Fields | None = None
        self.informational: list[Fields] = []
        self.chunks: deque[bytes] = deque()
        self.has_ended = False
        self.gone: Gone | None = None
        self.is_unwanted = False
        """The other side has answered, and wants no more of the request."""

    def wait_headers(self, timeout_s: float = WAIT_S) -> Fields:
        """Return the other side's head."""
        self._wait(lambda: self.headers is not None, "headers", timeout_s)
        assert self.headers is not None  # just waited for
        return self.headers

    def read(self, timeout_s: float = WAIT_S) -> bytes | None:
        """Return the content of the next DATA frame; None at the body's end."""
        self._wait(lambda: bool(self.chunks) or self.has_ended, "data", timeout_s)
        with self.peer.changed:
            return self.chunks.popleft() if self.chunks else None

    def read_all(self, timeout_s: float = WAIT_S) -> bytes:
        """Return the rest of the body, up to its end."""
        body = bytearray()
        while (chunk := self.read(timeout_s)) is not None:
            body += chunk
        return bytes(body)

    def wait_gone(self, timeout_s: float = WAIT_S) -> Gone:
        """Wait until the stream is reset or its connection is over."""
        with self.peer.changed:
            if not self.peer.changed.wait_for(lambda: self.gone is not None, timeout_s):
                raise AssertionError(f"stream {self.number} lives on after {timeout_s} s")
        assert self.gone is not None  # just waited for
        return self.gone

    def status(self) -> dict[str, str]:
        """Wait for the end; return headers and trailers as one mapping, the trailers' values winning."""
        self.read_all()
        return {**dict(self.headers or []), **dict(self.trailers or [])}

    def send_headers(self, fields: Fields, end: bool = False) -> None:
        """Send a head, or trailers."""
        self.peer.act(lambda h2: h2.send_headers(self.number, fields, end_stream=end))

    def send(self, data: bytes, end: bool = False, frame: int | None = None) -> None:
        """Send DATA frames of at most ``frame`` bytes, as the windows allow; an empty one where ``data`` is empty."""
        offset = 0
        while True:
            offset += self._send_some(data, offset, end, frame)
            if offset >= len(data):
                return

    def reset(self, code: int) -> None:
        """RST_STREAM."""
        self.peer.act(lambda h2: h2.reset_stream(self.number, code))

    def _send_some(self, data: bytes, offset: int, end: bool, frame: int | None) -> int:
        peer, left = self.peer, len(data) - offset
        with peer.changed:
            peer.changed.wait_for(lambda: self._is_over() or not left or self._window() > 0, WAIT_S)
            if self.is_unwanted:
                return left  # answered already: RFC 9113#8.1 lets the server say that it needs no more
            if self.gone:
                raise self.gone
            size = min(left, self._window(), frame or left) if left else 0
            assert size or not left, f"stream {self.number}: the window stayed shut for {WAIT_S} s"
            end = end and size == left
            peer.act(lambda h2: h2.send_data(self.number, data[offset : offset + size], end_stream=end))
        return size

    def _is_over(self) -> bool:
        return self.is_unwanted or self.gone is not None

    def _window(self) -> int:
        h2 = self.peer.h2
        return min(h2.local_flow_control_window(self.number), h2.max_outbound_frame_size)

    def _wait(self, condition: Callable[[], bool], what: str, timeout_s: float) -> None:
        with self.peer.changed:
            if not self.peer.changed.wait_for(lambda: condition() or self.gone is not None, timeout_s):
                raise AssertionError(f"stream {self.number}: no {what} in {timeout_s} s")
            if not condition() and self.gone is not None:
                raise self.gone


class Peer:
    """One connection. A thread reads it; any thread may write."""

    def __init__(self, sock: socket.socket, is_client: bool, on_stream: Callable[[Stream], None] | None = None) -> None:
        """Exchange prefaces; ``on_stream`` runs in a thread of its own for each stream that the other side opens."""
        config = h2.config.H2Configuration(
            client_side=is_client,
            header_encoding="latin-1",
            validate_inbound_headers=False,
            validate_outbound_headers=False,
            normalize_inbound_headers=False,
            normalize_outbound_headers=False,
        )
        self.h2 = h2.connection.H2Connection(config)
        codes = h2.settings.SettingCodes
        self.h2.local_settings = h2.settings.Settings(
            client=is_client, initial_values={codes.INITIAL_WINDOW_SIZE: WINDOW, codes.MAX_CONCURRENT_STREAMS: 1000}
        )
        self.changed = threading.Condition(threading.RLock())
        self.streams: dict[int, Stream] = {}
        self.goaway: tuple[int, int] | None = None
        """(last stream, code) of the other side's GOAWAY."""
        self.has_ended = False
        self.is_taking = True
        """Whether windows reopen as data comes; see :meth:`take`."""
        self._taken: list[tuple[int, int]] = []
        self._socket = sock
        self._on_stream = on_stream
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.act(lambda h2: (h2.initiate_connection(), h2.increment_flow_control_window(WINDOW)))
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def act(self, do: Callable[[h2.connection.H2Connection], object]) -> None:
        """Do something with the connection and send what it makes of it."""
        with self.changed:
            do(self.h2)
            # Under the lock: frames must leave in the order in which they were made.
            with contextlib.suppress(OSError):  # the other side is gone; its streams are told by the reader
                self._socket.sendall(self.h2.data_to_send())

    def open(self, fields: Fields, end: bool = False) -> Stream:
        """Open a stream."""
        with self.changed:
            stream = Stream(self, self.h2.get_next_available_stream_id())
            self.streams[stream.number] = stream
            stream.send_headers(fields, end)
        return stream

    def take(self) -> None:
        """Reopen the windows by all that has come, and from now on as data comes."""
        self.is_taking = True
        self.act(lambda h2: self._give_back())

    def _give_back(self) -> None:
        for length, number in self._taken:
            self.h2.acknowledge_received_data(length, number)
        self._taken.clear()

    def close(self) -> None:
        """Close the socket in good order."""
        with contextlib.suppress(OSError):  # it may be closed already
            self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join(WAIT_S)
        self._socket.close()

    def abort(self) -> None:
        """Close the socket with a TCP reset."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RD)
        self._reader.join(WAIT_S)
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _read(self) -> None:
        why = "the connection ended"
        buffer = bytearray()
        # What a client says first is no frame.
        passed = PREFACE_BYTES if self._on_stream else 0
        while True:
            try:
                data = self._socket.recv(1 << 16)
                if not data:
                    break
                buffer += data
                with self.changed:
                    while (size := _frame_size(buffer, passed)) and len(buffer) >= size:
                        self._take_frame(bytes(buffer[:size]), passed)
                        del buffer[:size]
                        passed = 0
                    with contextlib.suppress(OSError):
                        self._socket.sendall(self.h2.data_to_send())
                    self.changed.notify_all()
            except (OSError, h2.exceptions.ProtocolError) as error:
                why = str(error)
                break
        with self.changed:
            self.has_ended = True
            for stream in self.streams.values():
                if not stream.has_ended and stream.gone is None:
                    stream.gone = Gone(None, why)
            self.changed.notify_all()

    def _take_frame(self, frame: bytes, passed: int) -> None:
        head = frame[passed : passed + FRAME_HEAD_BYTES]
        if len(head) == FRAME_HEAD_BYTES and head[3] == GOAWAY:
            # The package takes GOAWAY for the end of everything; open streams and PINGs go on after it.
            last, code = struct.unpack_from(">II", frame, passed + FRAME_HEAD_BYTES)
            self.goaway = (last & 0x7FFFFFFF, code)
            return
        for event in self.h2.receive_data(frame):
            self._on_event(event)

    def _on_event(self, event: h2.events.Event) -> None:
        number = getattr(event, "stream_id", None)
        stream = self.streams.get(number) if number else None
        match event:
            case h2.events.RequestReceived():
                stream = self.streams[number] = Stream(self, number)
                stream.headers = list(event.headers)
                assert self._on_stream is not None  # only a client sends requests
                threading.Thread(target=self._serve, args=(stream,), daemon=True).start()
            case h2.events.ResponseReceived() if stream:
                stream.headers = list(event.headers)
            case h2.events.TrailersReceived() if stream:
                stream.trailers = list(event.headers)
            case h2.events.DataReceived() if stream:
                stream.chunks.append(event.data)
                if event.flow_controlled_length:
                    self._taken.append((event.flow_controlled_length, event.stream_id))
                    if self.is_taking:
                        self._give_back()
            case h2.events.StreamEnded() if stream:
                stream.has_ended = True
            case h2.events.StreamReset() if stream and stream.has_ended and event.error_code == 0:
                stream.is_unwanted = True
            case h2.events.StreamReset() if stream:
                stream.gone = Gone(event.error_code, "reset")

    def _serve(self, stream: Stream) -> None:
        assert self._on_stream is not None  # checked by who starts this thread
        # The other side may go at any time: then nothing is left to answer.
        with contextlib.suppress(Gone, h2.exceptions.ProtocolError):
            self._on_stream(stream)


def _frame_size(buffer: bytearray, passed: int) -> int:
    """Return the size of the first frame, with what goes before it; 0 while its head is not there."""
    if len(buffer) < passed + FRAME_HEAD_BYTES:
        return 0
    return passed + FRAME_HEAD_BYTES + int.from_bytes(buffer[passed : passed + 3])


class Endpoint:
    """A listening endpoint whose every call is served by a function."""

    def __init__(self, serve: Callable[[Stream], None]) -> None:
        """Listen on a free port of 127.0.0.1."""
        self.serve = serve
        self.calls: list[Stream] = []
        self.peers: list[Peer] = []
        self._is_silent = False
        self._silent: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it and its connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(WAIT_S)
        for sock in self._silent:
            sock.close()
        for peer in self.peers:
            peer.close()

    def fall_silent(self) -> None:
        """Close all connections; from now on new ones are accepted and nothing is said on them."""
        self._is_silent = True
        for peer in self.peers:
            peer.close()

    def last_call(self) -> Stream:
        """Return the call that came last."""
        return self.calls[-1]

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            if self._is_silent:
                self._silent.append(sock)
                continue
            peer = Peer(sock, is_client=False, on_stream=self._take)
            self.peers.append(peer)
            if self._is_silent:  # since it was accepted: `fall_silent` may not have seen it
                peer.close()

    def _take(self, stream: Stream) -> None:
        self.calls.append(stream)
        self.serve(stream)


def dial(address: str) -> Peer:
    """Connect to ``host:port`` as a client."""
    host, _, port = address.rpartition(":")
    return Peer(socket.create_connection((host, int(port)), timeout=None), is_client=True)


def echo(stream: Stream) -> None:
    """Answer with the request's body."""
    body = stream.read_all()
    stream.send_headers([(":status", "200"), ("content-type", "application/grpc")])
    stream.send(body)
    stream.send_headers([("grpc-status", "0")], end=True)


def unary(peer: Peer, fields: Fields, body: bytes) -> Stream:
    """Send a whole request."""
    stream = peer.open(fields)
    stream.send(body, end=True)
    return stream
