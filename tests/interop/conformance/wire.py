"""Messages of protobuf as the suite's runner exchanges them: each behind its length, of strings, bytes and numbers."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

VARINT, BYTES = 0, 2


def read_message(stream: BinaryIO) -> bytes | None:
    """Read a message behind its length; None at the end."""
    prefix = stream.read(4)
    return stream.read(*struct.unpack(">I", prefix)) if prefix else None


def write_message(stream: BinaryIO, message: bytes) -> None:
    """Write a message behind its length."""
    stream.write(struct.pack(">I", len(message)) + message)
    stream.flush()


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The number of each field, and what it holds."""
    at = 0
    while at < len(message):
        tag, at = varint(message, at)
        value, at = varint(message, at)
        if tag & 7 == BYTES:
            yield tag >> 3, message[at : at + value]
            at += value
        elif tag & 7 == VARINT:
            yield tag >> 3, value
        else:
            raise ValueError(f"field {tag >> 3} is of wire type {tag & 7}")


def varint(message: bytes, at: int) -> tuple[int, int]:
    """The number that begins there, and where it ends."""
    number = shift = 0
    while True:
        number |= (message[at] & 0x7F) << shift
        shift += 7
        at += 1
        if message[at - 1] < 0x80:
            return number, at


def field(number: int, value: int | bytes) -> bytes:
    """A field."""
    if isinstance(value, int):
        return encoded(number << 3 | VARINT) + encoded(value)
    return encoded(number << 3 | BYTES) + encoded(len(value)) + value


def encoded(number: int) -> bytes:
    """A number as varint."""
    groups = [number >> shift & 0x7F for shift in range(0, max(number.bit_length(), 1), 7)]
    return bytes([*(each | 0x80 for each in groups[:-1]), groups[-1]])
