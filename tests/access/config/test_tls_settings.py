"""TLS in access.yaml: what the data plane gets of it, and what is wrong with what."""

from pathlib import Path
from typing import Any

import pytest

from access import state
from access.config.load import load
from access.errors import ConfigError

MODELS = "models: {m: {endpoints: ['a:1']}}\n"


def loaded(folder: Path, text: str) -> Any:
    (folder / "access.yaml").write_text(text)
    return load(folder / "access.yaml", environment={})


def test_relative_paths_begin_at_the_configuration(tmp_path: Path) -> None:
    tls = "{certificate: s.pem, key: /k.pem, more: [{certificate: t.pem, key: t-key.pem}], client_ca: ca.pem}"
    found = loaded(tmp_path, f"listen: ['127.0.0.1:1', {{address: '0.0.0.0:2', tls: {tls}}}]\n{MODELS}")
    plain, secured = state.process(found.config, found.folder)["listen"]
    assert plain == "127.0.0.1:1"
    assert secured["address"] == "0.0.0.0:2"
    assert secured["tls"]["certificates"] == [
        {"certificate": f"{tmp_path}/s.pem", "key": "/k.pem"},
        {"certificate": f"{tmp_path}/t.pem", "key": f"{tmp_path}/t-key.pem"},
    ]
    assert secured["tls"]["client_ca"] == f"{tmp_path}/ca.pem"
    assert secured["tls"]["client_auth"] == "required", "who names an authority asks for certificates"


def test_one_port_needs_no_list_and_the_admin_port_has_the_same_form(tmp_path: Path) -> None:
    port = "{address: '127.0.0.1:%d', tls: {certificate: s.pem, key: k.pem}}"
    found = loaded(tmp_path, f"listen: {port % 1}\nadmin: {port % 2}\n{MODELS}")
    document = state.process(found.config, found.folder)
    assert [each["address"] for each in document["listen"]] == ["127.0.0.1:1"]
    assert document["admin"]["address"] == "127.0.0.1:2"
    assert document["admin"]["tls"]["client_auth"] == "none"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("true", {"ca": None, "certificate": None, "server_name": None}),
        ("false", None),
        ("null", None),
        ("{ca: ca.pem, server_name: x}", {"ca": "ca.pem", "certificate": None, "server_name": "x"}),
    ],
)
def test_a_cluster_says_how_its_endpoints_are_spoken_to(tmp_path: Path, given: str, expected: Any) -> None:
    found = loaded(
        tmp_path,
        f"cluster_defaults: {{tls: {{ca: all.pem}}}}\n"
        f"models: {{m: {{endpoints: ['a:1'], tls: {given}}}, other: {{endpoints: ['b:1']}}}}\n",
    )
    clusters = {each["name"]: each for each in state.routing(found.config, {}, found.folder).state["clusters"]}
    if expected and expected["ca"]:
        expected = {**expected, "ca": f"{tmp_path}/{expected['ca']}"}
    assert clusters["m"]["tls"] == expected
    assert clusters["other"]["tls"]["ca"] == f"{tmp_path}/all.pem", "what is not said is as in cluster_defaults"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "listen: {address: 'a:1', tls: {certificate: x}}\n" + MODELS,
            "tls: TLS needs a certificate and its key",
        ),
        ("listen: [{address: 'a:1', tls: {certifikate: x}}]\n" + MODELS, "listen[0].tls.certifikate: unknown key"),
        (
            "listen: {address: 'a:1', tls: {certificate: x, key: y, client_auth: optional}}\n" + MODELS,
            "client_auth optional needs `client_ca`",
        ),
        ("listen: {address: 'a:1', tls: {certificate: x, key: y, crl: z}}\n" + MODELS, "have no effect"),
        (
            "listen: {address: 'a:1', tls: {certificate: x, key: y}}\nadmin: 'a:1'\n" + MODELS,
            "a:1 is listened on already",
        ),
        ("models: {m: {endpoints: ['a:1'], tls: {key: y}}}", "models.m.tls: a certificate of our own needs its key"),
        ("models: {m: {endpoints: ['a:1'], tls: 5}}", "models.m.tls: 5"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        loaded(tmp_path, text)
    assert any(
        said in f"{each.place} {each.message}" or said in f"{each.place}: {each.message}"
        for each in raised.value.problems
    ), [f"{each.place}: {each.message}" for each in raised.value.problems]
