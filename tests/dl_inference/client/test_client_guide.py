"""docs/client.md does what it says: its blocks run, one after the other, and print what the comments behind say."""

from __future__ import annotations

import re

import numpy as np
import pytest
from echo_server import Echo, start
from fixtures.processes import ROOT

GUIDE = (ROOT / "docs" / "client.md").read_text()


def test_the_guides_code_prints_what_its_comments_say(capsys: pytest.CaptureFixture[str]):
    blocks = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 5
    expected = re.findall(r"^ *print\(.*\)  # (.*)$", "\n".join(blocks), re.MULTILINE)
    server, address = start(Echo())
    names: dict[str, object] = {}
    try:
        with np.printoptions(precision=3):
            for block in blocks:
                exec(compile(block.replace("127.0.0.1:8500", address), "docs/client.md", "exec"), names)
    finally:
        server.stop(0).wait()
    assert capsys.readouterr().out.splitlines() == expected
    assert len(expected) >= 8


def test_the_guide_names_every_public_method():
    from dl_inference import Client

    public = [name for name in vars(Client) if not name.startswith("_")]
    assert [name for name in public if f"`{name}`" not in GUIDE and f".{name}(" not in GUIDE] == []
