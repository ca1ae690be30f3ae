"""sslyze, which scans a port with TLS, finds no old version, no weak cipher and none of the known holes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixtures.access_process import Access
from fixtures.certificates import make_authority

SCAN_S = 150
VERSIONS = ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1", "tls_1_2", "tls_1_3")
WHAT = ("sslv2", "sslv3", "tlsv1", "tlsv1_1", "tlsv1_2", "tlsv1_3")
HOLES = ("compression", "heartbleed", "robot", "reneg", "openssl_ccs", "fallback", "early_data")


@pytest.fixture(scope="module")
def found(
    shared_access: Callable[..., Access], peer_python: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What sslyze finds at a port of an access service, by the name of the check."""
    program = peer_python("sslyze").with_name("sslyze")
    folder = tmp_path_factory.mktemp("pki")
    make_authority(folder)
    tls = {"certificate": f"{folder}/server.pem", "key": f"{folder}/server-key.pem"}
    listen = {"address": "127.0.0.1:0", "tls": tls}
    access = shared_access({"listen": listen, "models": {"m": {"endpoints": ["127.0.0.1:9"]}}})
    options = [f"--{each}" for each in (*WHAT, *HOLES)]
    report = folder / "found.json"
    words = [program, f"--json_out={report}", "--mozilla_config=disable", *options, access.address]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=SCAN_S)
    assert report.exists(), done.stdout[-3000:] + done.stderr[-3000:]
    checks = json.loads(report.read_text())["server_scan_results"][0]["scan_result"]
    assert {name: each["error_reason"] for name, each in checks.items() if each["status"] == "ERROR"} == {}
    return {name: each["result"] for name, each in checks.items() if each["status"] == "COMPLETED"}


@pytest.mark.timeout(180)
def test_only_the_two_newest_versions_are_spoken_with_ciphers_that_keep_old_calls_secret(found: dict[str, Any]) -> None:
    spoken = {name for name in VERSIONS if found[f"{name}_cipher_suites"]["is_tls_version_supported"]}
    assert spoken == {"tls_1_2", "tls_1_3"}
    for name in spoken:
        suites = [each["cipher_suite"] for each in found[f"{name}_cipher_suites"]["accepted_cipher_suites"]]
        assert len(suites) == 3
        for suite in suites:
            assert not suite["is_anonymous"]
            assert suite["key_size"] >= 128
            assert "GCM" in suite["name"] or "CHACHA20_POLY1305" in suite["name"]
            assert name == "tls_1_3" or "ECDHE" in suite["name"]


@pytest.mark.timeout(180)
def test_none_of_the_known_holes_is_there(found: dict[str, Any]) -> None:
    assert not found["tls_compression"]["supports_compression"]
    assert not found["heartbleed"]["is_vulnerable_to_heartbleed"]
    assert not found["openssl_ccs_injection"]["is_vulnerable_to_ccs_injection"]
    assert found["robot"]["robot_result"].startswith("NOT_VULNERABLE")
    assert found["tls_fallback_scsv"]["supports_fallback_scsv"]
    assert found["session_renegotiation"]["client_renegotiations_success_count"] == 0
    assert not found["session_renegotiation"]["is_vulnerable_to_client_renegotiation_dos"]
    assert not found["tls_1_3_early_data"]["supports_early_data"], "early data can be replayed"
