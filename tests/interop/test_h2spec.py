"""h2spec, a client that breaks the rules of RFC 9113 and RFC 7541 one by one, finds a server that follows them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from fixtures.access_process import Access
from fixtures.certificates import make_authority
from fixtures.lacking import lacking
from fixtures.processes import ROOT

H2SPEC = ROOT / ".peers" / "go" / "bin" / "h2spec"
RUN_S = 100
# With its strict ones, of version 2.2.1.
CASES = 146
# What does not begin as HTTP/2 is answered as HTTP/1.1, by 400 and an end; h2spec takes the text for a frame.
SPOKEN_AS_HTTP1 = ("http2/3.5", "Sends invalid connection preface")


@pytest.mark.timeout(180)
@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "tls"])
def test_every_case_of_h2spec_passes(
    shared_access: Callable[..., Access], tmp_path_factory: pytest.TempPathFactory, is_tls: bool
) -> None:
    if not H2SPEC.exists():
        lacking("no h2spec: make peers, with Go installed")
    folder = tmp_path_factory.mktemp("h2spec")
    listen: Any = "127.0.0.1:0"
    if is_tls:
        make_authority(folder)
        tls = {"certificate": f"{folder}/server.pem", "key": f"{folder}/server-key.pem"}
        listen = {"address": listen, "tls": tls}
    # One case sends a frame of 17 KB, for which it expects the protocol's own limit.
    limits = {"max_frame_bytes": 16384}
    access = shared_access({"listen": listen, "limits": limits, "models": {"m": {"endpoints": ["127.0.0.1:9"]}}})
    found = run(access.address, folder / "report.xml", "--tls" if is_tls else "", "--insecure" if is_tls else "")
    assert len(found) == CASES
    failed = {name: what for name, what in found.items() if what}
    assert list(failed) == [SPOKEN_AS_HTTP1], failed


def run(address: str, report: Path, *options: str) -> dict[tuple[str, str], str]:
    """Run all cases; return what is wrong with each by section and name, empty where nothing is."""
    host, port = address.rsplit(":", 1)
    words = [str(H2SPEC), "--host", host, "--port", port, "--strict", "--timeout", "5", "--junit-report", str(report)]
    done = subprocess.run([*words, *filter(None, options)], capture_output=True, text=True, check=False, timeout=RUN_S)
    assert report.exists(), done.stdout[-3000:] + done.stderr[-3000:]
    # What it read is in it as it came.
    text = report.read_bytes().translate(None, bytes(set(range(32)) - set(b"\t\n\r")))
    cases = ElementTree.fromstring(text).iter("testcase")
    return {(case.get("package", ""), case.get("classname", "")): wrong(case) for case in cases}


def wrong(case: ElementTree.Element) -> str:
    """What a case failed by, or why it was skipped."""
    marks = [each for kind in ("failure", "error", "skipped") for each in case.iter(kind)]
    return " ".join(text for each in marks for text in each.itertext())
