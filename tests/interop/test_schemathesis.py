"""schemathesis, which makes requests up from /openapi.json, good and bad ones, finds nothing to complain about."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fixtures import oip_models
from fixtures.access_process import Access

SEED = 14
# What a schema cannot say is a bad request for a good document: as many elements as the shape has, for example. And a
# model may not speak a form: 501.
CONFIG = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", 400, 404, 501]
[checks.not_a_server_error]
expected-statuses = ["2xx", "4xx", 501]
"""


@pytest.fixture(scope="module")
def address(shared_access: Callable[..., Access], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An access service in front of a model of float32 [n, 4]."""
    process = oip_models.start(oip_models.scores(tmp_path_factory.mktemp("models") / "scores"))
    try:
        access = shared_access({"models": {"scores": {"endpoints": [oip_models.wait(process)]}}})
        access.wait_live_model("scores")
        yield access.address
    finally:
        process.kill()
        print(process.log)


@pytest.mark.timeout(180)
def test_no_made_up_request_gets_an_answer_that_the_document_does_not_tell(
    address: str, peer_python: Callable[[str], Path], tmp_path: Path
) -> None:
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    program = peer_python("schemathesis").with_name("schemathesis")
    options = ["--seed", str(SEED), "--max-examples", "5", "--phases", "examples,coverage,fuzzing"]
    options += ["--continue-on-failure", "--warnings", "off", "--exclude-path-regex", "version|label|v0.1"]
    done = subprocess.run(
        [program, "--config-file", "schemathesis.toml", "run", f"http://{address}/openapi.json", *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr
    assert "No issues found" in done.stdout
