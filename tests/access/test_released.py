"""A route key's releases and versions -> clusters and routes."""

import json

from hypothesis import given
from hypothesis import strategies as st

from access.config.sections import ClusterSettings
from access.discovery.base import Announced, Entry
from access.fields import EndpointConfig
from access.released import Released, released
from dl_inference.registry.schema import ReleaseDocument


def endpoint(host: int, version: str | None = None, *versions: str, weight: int = 1) -> Announced:
    return Announced(address=f"10.0.0.{host}:5000", version=version, versions=versions, weight=weight)


def document(releases: dict, **more: object) -> ReleaseDocument:
    return ReleaseDocument.parse(
        json.dumps({"schema": 1, "model": "m", "revision": 2, "releases": releases, **more}).encode()
    )


def routes(endpoints, release=None, given_settings=None, **entry) -> Released:
    return released("m", Entry(tuple(endpoints), release=release, **entry), given_settings or ClusterSettings())


def hosts(found: Released, cluster: str) -> list[str]:
    part = next(part for part in found.parts if part.name == cluster)
    return [each.address.split(":")[0].rpartition(".")[2] for each in part.endpoints]


def settings(found: Released, cluster: str) -> ClusterSettings:
    return next(part.settings for part in found.parts if part.name == cluster)


def test_without_versions_there_is_one_cluster():
    found = routes([EndpointConfig(address="10.0.0.1:5000"), endpoint(2)])
    assert (found.split, found.versions, found.passes_through) == ({"m": 1}, {}, True)
    assert hosts(found, "m") == ["1", "2"]


def test_without_releases_every_endpoint_has_its_share_and_a_version_asked_for_is_found():
    found = routes([endpoint(1, "3"), endpoint(2, "4"), endpoint(3, "4", "3")])
    assert found.split == {"m": 1}
    assert hosts(found, "m") == ["1", "2", "3"]
    assert found.versions == {"3": "m@3", "4": "m@4"}
    assert (hosts(found, "m@3"), hosts(found, "m@4")) == (["1", "3"], ["2", "3"])


def test_one_version_everywhere_needs_no_route_of_its_own():
    assert routes([endpoint(1, "3"), endpoint(2, "3")]).versions == {}


def labelled(host: int, version: str, *labels: str) -> Announced:
    return endpoint(host, version).model_copy(update={"labels": labels})


def test_a_label_goes_to_the_endpoints_that_announce_it():
    found = routes([labelled(1, "3", "stable"), labelled(2, "4", "next"), labelled(3, "4")])
    assert found.versions == {"3": "m@3", "4": "m@4", "stable": "m@stable", "next": "m@next"}
    assert (hosts(found, "m@stable"), hosts(found, "m@next")) == (["1"], ["2"])
    # It passes as it is: they know it themselves.
    assert found.labels == {}
    assert routes([labelled(1, "3", "stable"), labelled(2, "3", "stable")]).versions == {}


def test_a_label_of_the_release_document_wins_over_an_announced_one():
    release = document({"3": {"phase": "production"}, "4": {"phase": "staging"}}, labels={"stable": "3"})
    found = routes([labelled(1, "3"), labelled(2, "4", "stable", "next")], release)
    assert found.labels == {"stable": "3"}
    assert found.versions == {"3": "m@3", "4": "m@4", "next": "m@next"}
    assert hosts(found, "m@next") == ["2"]


def test_phases_and_weights_decide_the_shares():
    found = routes(
        [endpoint(1, "3"), endpoint(2, "4"), endpoint(3, "5")],
        document(
            {
                "3": {"phase": "production", "weight": 95},
                "4": {"phase": "canary", "weight": 5},
                "5": {"phase": "staging"},
            },
            labels={"stable": "3", "latest": "5"},
        ),
    )
    assert found.split == {"m@3": 95, "m@4": 5}
    assert found.versions == {"3": "m@3", "4": "m@4", "5": "m@5"}
    assert found.labels == {"stable": "3", "latest": "5"}
    assert not found.passes_through
    assert not found.warnings


def test_a_version_without_a_release_gets_only_the_calls_that_ask_for_it():
    found = routes([endpoint(1, "3"), endpoint(2, "9")], document({"3": {"phase": "production"}}))
    assert found.split == {"m@3": 100}
    assert found.versions["9"] == "m@9"


def test_a_share_without_an_endpoint_goes_to_the_others_and_is_said():
    found = routes([endpoint(1, "3")], document({"3": {"phase": "production"}, "4": {"phase": "canary", "weight": 5}}))
    assert found.split == {"m@3": 100}
    assert "version 4 has a share, but no endpoint announces it" in found.warnings[0].message


def test_an_endpoint_that_has_a_version_only_for_those_who_ask_gets_no_share_of_it():
    found = routes(
        [endpoint(1, "3", "4")], document({"3": {"phase": "production"}, "4": {"phase": "canary", "weight": 5}})
    )
    assert found.split == {"m@3": 100}
    assert hosts(found, found.versions["4"]) == ["1"]
    assert "answer with another version unless asked" in found.warnings[0].message


def test_without_any_endpoint_calls_still_have_a_cluster_to_wait_for():
    found = routes([], document({"3": {"phase": "production"}}))
    assert found.split == {"m@3": 100}
    assert hosts(found, "m@3") == []


def test_a_release_wins_over_its_model_and_that_over_the_configuration():
    given_settings = ClusterSettings.model_validate({"timeout_ms": 1000, "attempt_timeout_ms": 900})
    release = document(
        {"3": {"phase": "production"}, "4": {"phase": "canary", "weight": 1, "timeout_ms": 50, "priority": "low"}},
        timeout_ms=500,
        priority="high",
    )
    found = routes([endpoint(1, "3"), endpoint(2, "4")], release, given_settings, timeout_ms=700)
    assert settings(found, "m@3").timeout_ms == 500
    assert settings(found, "m@4").timeout_ms == 50
    assert settings(found, "m@3").attempt_timeout_ms == 900
    assert [settings(found, name).priority for name in ("m@3", "m@4")] == ["high", "low"]
    assert settings(routes([endpoint(1)], None, given_settings), "m").priority is None
    assert settings(routes([endpoint(1)], None, given_settings, timeout_ms=700), "m").timeout_ms == 1000
    assert settings(routes([endpoint(1)], timeout_ms=700, protocol="oip"), "m").timeout_ms == 700
    assert settings(routes([endpoint(1)], timeout_ms=700, protocol="oip"), "m").protocol == "oip"


VERSIONS = st.sampled_from(["1", "2", "3", "4"])
ENDPOINTS = st.lists(
    st.builds(
        lambda host, version, versions: endpoint(host, version, *sorted(versions)),
        st.integers(1, 250),
        st.none() | VERSIONS,
        st.sets(VERSIONS),
    ),
    unique_by=lambda each: each.address,
    max_size=8,
)
RELEASES = st.dictionaries(
    VERSIONS,
    st.fixed_dictionaries(
        {"phase": st.sampled_from(["staging", "canary", "production"])}, optional={"weight": st.integers(0, 100)}
    ),
    min_size=1,
)


@given(ENDPOINTS, st.none() | RELEASES)
def test_every_route_leads_to_a_cluster_and_only_to_endpoints_that_answer_for_it(endpoints, releases):
    release = None if releases is None else document(releases)
    found = routes(endpoints, release)
    parts = {part.name: part for part in found.parts}
    assert len(parts) == len(found.parts)
    assert found.split
    assert {*found.split, *found.versions.values()} <= parts.keys()
    assert set(parts) == {*found.split, *found.versions.values()} or not endpoints or release is not None
    for version, cluster in found.versions.items():
        if cluster == "m":
            continue
        for each in parts[cluster].endpoints:
            assert version == each.version or version in each.versions
    if release is not None:
        live = {each.version for each in endpoints}
        shares = {f"m@{version}": weight for version, weight in release.shares().items() if version in live}
        if shares:
            assert found.split == shares
