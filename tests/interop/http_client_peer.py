"""Calls a server over HTTP with one client library, in whichever environment has it; prints what it found as JSON.

python http_client_peer.py LIBRARY ADDRESS BODY
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

PATH = "/v2/models/digits/infer"


def pieces(body: bytes) -> Iterator[bytes]:
    """Yield a body in chunks: its length is not known beforehand."""
    yield body[:7]
    yield body[7:]


def with_requests(url: str, body: bytes) -> list[list[Any]]:
    import requests

    with requests.Session() as session:
        answers = [
            session.post(url + PATH, json=json.loads(body), timeout=30),
            session.post(url + PATH, data=pieces(body), timeout=30),
            session.get(url + "/v2/health/live", timeout=30),
            session.get(url + "/nothing", timeout=30),
        ]
        return [[each.status_code, each.headers["content-type"], each.json()] for each in answers]


def with_httpx(url: str, body: bytes) -> list[list[Any]]:
    import httpx2 as httpx

    with httpx.Client(timeout=30) as client:
        answers = [
            client.post(url + PATH, json=json.loads(body)),
            client.post(url + PATH, content=pieces(body)),
            client.get(url + "/v2/health/live"),
            client.get(url + "/nothing"),
        ]
        return [[each.status_code, each.headers["content-type"], each.json()] for each in answers]


async def with_aiohttp(url: str, body: bytes) -> list[list[Any]]:
    import aiohttp

    async def chunks() -> AsyncIterator[bytes]:
        for piece in pieces(body):
            yield piece

    found: list[list[Any]] = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30)) as session:
        for call in (
            session.post(url + PATH, json=json.loads(body)),
            session.post(url + PATH, data=chunks()),
            session.get(url + "/v2/health/live"),
            session.get(url + "/nothing"),
        ):
            async with call as answer:
                found.append([answer.status, answer.headers["content-type"], await answer.json(content_type=None)])
    return found


def main() -> None:
    library, address, body = sys.argv[1:]
    url = f"http://{address}"
    if library == "aiohttp":
        found = asyncio.run(with_aiohttp(url, body.encode()))
    else:
        found = {"requests": with_requests, "httpx": with_httpx}[library](url, body.encode())
    print(json.dumps(found))


if __name__ == "__main__":
    main()
