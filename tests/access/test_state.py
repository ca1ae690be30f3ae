import json
import re
from pathlib import Path

from access import state
from access.config.load import load
from access.config.sections import AccessConfig, Limits
from access.discovery import RESOLVERS
from access.discovery.base import Announced, Entry, Snapshot
from access.fields import EndpointConfig
from dl_inference.registry.schema import ReleaseDocument
from dl_inference.serving.limits import ServerLimits

CONFIG_RS = Path(__file__).parents[2] / "dataplane" / "crates" / "core" / "src" / "config.rs"
NODEFILE = {"kind": "nodefile", "path": "nodefile.txt"}


def build(data: dict, entries: dict[str, Entry] | None = None) -> state.Routing:
    config = AccessConfig.model_validate(data)
    return state.routing(config, {key: Snapshot(entries or {}) for key in state.sources(config)})


def cluster(routing: state.Routing, name: str) -> dict:
    return next(each for each in routing.state["clusters"] if each["name"] == name)


def routes(routing: state.Routing) -> dict:
    return {
        model["name"]: ([(part["cluster"], part["weight"]) for part in model["split"]], list(model["versions"]))
        for model in routing.state["models"]
    }


def entry(*addresses: str, timeout_ms: int | None = None) -> Entry:
    return Entry(tuple(EndpointConfig(address=address, weight=1) for address in addresses), timeout_ms)


def rust_fields(struct: str) -> set[str]:
    body = re.search(rf"pub struct {struct} \{{(.*?)\n\}}", CONFIG_RS.read_text(), re.DOTALL)
    assert body is not None, struct
    return set(re.findall(r"^    pub (\w+):", body[1], re.MULTILINE))


def test_the_documents_have_exactly_the_fields_that_the_data_plane_requires():
    data = {
        "clusters": {"fleet": {"endpoints": ["a:1"]}},
        "models": {"m": {"cluster": "fleet", "limits": {"in_flight": 1}}},
    }
    routing, process = build(data).state, state.process(AccessConfig.model_validate(data))
    assert process.keys() == rust_fields("ProxyConfig")
    assert process["limits"].keys() == rust_fields("Limits") == ServerLimits.model_fields.keys()
    assert process["upstream"].keys() == rust_fields("UpstreamLimits")
    assert process["limits"].keys() | process["upstream"].keys() == Limits.model_fields.keys()
    assert routing.keys() == rust_fields("StateConfig")
    assert routing["clusters"][0].keys() == rust_fields("ClusterConfig")
    assert routing["clusters"][0]["failure_codes"].keys() == rust_fields("FailureCodes")
    assert routing["clusters"][0]["endpoints"][0].keys() == rust_fields("EndpointConfig")
    assert routing["models"][0].keys() == rust_fields("ModelConfig")
    assert routing["models"][0]["split"][0].keys() == rust_fields("SplitConfig")
    assert routing["models"][0]["limits"].keys() == rust_fields("CallLimits")


def test_a_model_has_its_own_limits_or_those_of_all():
    given = {
        "models": {"own": {"endpoints": ["a:1"], "limits": {"requests_per_s": 2.5}}, "other": {"endpoints": ["b:1"]}},
        "discovery": [NODEFILE],
        "model_limits": {"requests_per_s": 10, "burst": 3},
        "instances": 4,
    }
    models = {each["name"]: each["limits"] for each in build(given, {"found": entry("c:1")}).state["models"]}
    none = {"in_flight": None, "bytes_per_s": None, "instances": 4}
    assert models["own"] == {"requests_per_s": 2.5, "burst": 3, **none}, "a burst of a second"
    assert models["other"] == models["found"] == {"requests_per_s": 10, "burst": 3, **none}
    del given["model_limits"]
    assert [each["limits"] for each in build(given).state["models"] if each["name"] == "other"] == [None]


def test_clusters_written_in_place_have_stable_names():
    routing = build(
        {
            "clusters": {"fleet": {"endpoints": ["a:1"]}},
            "models": {
                "digits": {"endpoints": ["b:1"]},
                "vision": {
                    "split": [{"cluster": "fleet", "weight": 95}, {"endpoints": ["c:1"], "weight": 5}],
                    "versions": {
                        "3": {"endpoints": ["d:1"]},
                        "4": {"split": [{"endpoints": ["e:1"]}]},
                        "5": {"cluster": "fleet"},
                    },
                },
            },
        }
    )
    assert [each["name"] for each in routing.state["clusters"]] == [
        "fleet",
        "digits",
        "vision@3",
        "vision@4/split/0",
        "vision/split/1",
    ]
    assert routes(routing) == {
        "digits": ([("digits", 1)], []),
        "vision": ([("fleet", 95), ("vision/split/1", 5)], ["3", "4", "5"]),
    }


def test_a_model_with_versions_alone_has_an_empty_split():
    routing = build({"models": {"m": {"versions": {"1": {"endpoints": ["a:1"]}}}}})
    assert routing.state["models"][0]["split"] == []


def test_a_source_brings_a_model_for_every_entry():
    routing = build({"discovery": [NODEFILE]}, {"69": entry("a:1", timeout_ms=800), "70": entry("b:1")})
    assert routes(routing) == {"69": ([("69", 1)], []), "70": ([("70", 1)], [])}
    assert cluster(routing, "69")["timeout_ms"] == 800
    assert cluster(routing, "70")["timeout_ms"] == 60_000
    assert routing.warnings == ()


def test_what_the_file_says_about_a_model_wins_over_a_source_of_many():
    routing = build({"models": {"69": {"endpoints": ["own:1"]}}, "discovery": [NODEFILE]}, {"69": entry("a:1")})
    assert cluster(routing, "69")["endpoints"] == [{"address": "own:1", "weight": 1}]
    assert routing.warnings == ()


def test_an_entry_with_the_name_of_a_cluster_is_skipped_and_named():
    data = {"clusters": {"69": {"endpoints": ["own:1"]}}, "discovery": [NODEFILE]}
    routing = build(data, {"69": entry("a:1"), "70": entry("b:1")})
    assert routes(routing) == {"70": ([("70", 1)], [])}
    assert [str(each) for each in routing.warnings] == [
        "nodefile 69: the entry is skipped: a cluster has that name; give one of them another name"
    ]


def test_of_two_sources_with_one_key_the_first_counts_and_both_are_named():
    other = {"kind": "nodefile", "path": "other.txt"}
    routing = build({"discovery": [NODEFILE, other]}, {"69": entry("a:1")})
    assert len(routing.state["models"]) == 1
    assert "another source has it already" in str(routing.warnings[0])


def test_a_models_own_source_gives_its_own_entry_only():
    routing = build({"models": {"69": {"discovery": NODEFILE}}}, {"69": entry("a:1"), "70": entry("b:1")})
    assert routes(routing) == {"69": ([("69", 1)], [])}


def test_a_model_whose_entry_is_gone_stays_routed_to_no_endpoint():
    routing = build({"models": {"69": {"discovery": NODEFILE}}}, {"70": entry("b:1")})
    assert cluster(routing, "69")["endpoints"] == []
    assert "no such entry" in str(routing.warnings[0])


def test_the_timeout_comes_from_the_model_then_the_source_then_the_defaults():
    defaults = {"cluster_defaults": {"timeout_ms": 7}}
    with_timeout, without = {"69": entry("a:1", timeout_ms=800)}, {"69": entry("a:1")}
    own = {"models": {"69": {"discovery": NODEFILE, "timeout_ms": 5}}, **defaults}
    unset = {"models": {"69": {"discovery": NODEFILE}}, **defaults}
    assert cluster(build(own, with_timeout), "69")["timeout_ms"] == 5
    assert cluster(build(unset, with_timeout), "69")["timeout_ms"] == 800
    assert cluster(build(unset, without), "69")["timeout_ms"] == 7


def test_cluster_defaults_hold_where_a_cluster_says_nothing():
    routing = build(
        {
            "cluster_defaults": {"attempt_timeout_ms": 300, "max_attempts": 3},
            "clusters": {"a": {"endpoints": ["a:1"], "max_attempts": 1}},
            "models": {"b": {"endpoints": ["b:1"]}},
        }
    )
    assert [(each["attempt_timeout_ms"], each["max_attempts"]) for each in routing.state["clusters"]] == [
        (300, 1),
        (300, 3),
    ]


def test_failure_codes_follow_the_protocol_called_unless_protocol_or_codes_are_given():
    seldon, wide = ["UNAVAILABLE", "DATA_LOSS"], ["UNAVAILABLE", "INTERNAL", "UNKNOWN", "DATA_LOSS"]
    models = {
        "plain": {"endpoints": ["a:1"]},
        "seldon": {"endpoints": ["a:1"], "protocol": "seldon"},
        "own": {"endpoints": ["a:1"], "protocol": "seldon", "failure_codes": ["ABORTED"]},
    }
    routing = build({"models": models})
    assert cluster(routing, "plain")["failure_codes"] == {"tfs": wide, "seldon": seldon, "oip": wide}
    assert cluster(routing, "seldon")["failure_codes"] == {"tfs": seldon, "seldon": seldon, "oip": seldon}
    assert cluster(routing, "own")["failure_codes"] == {key: ["ABORTED"] for key in ("tfs", "seldon", "oip")}


def test_a_default_cluster_that_no_source_names_now_is_left_out_and_named():
    data = {"discovery": [NODEFILE], "default_cluster": "69"}
    assert build(data, {"69": entry("a:1")}).state["default_cluster"] == "69"
    missing = build(data, {"70": entry("a:1")})
    assert missing.state["default_cluster"] is None
    assert "no source names '69' now" in str(missing.warnings[0])


def test_one_source_named_twice_is_one_source():
    config = AccessConfig.model_validate({"models": {"69": {"discovery": NODEFILE}}, "discovery": [NODEFILE]})
    assert [source.kind for source in state.sources(config).values()] == ["nodefile"]


def test_the_windows_let_the_route_key_be_found():
    limits = {"max_message_bytes": 40_000_000, "stream_window_bytes": 65_535, "connection_window_bytes": 65_535}
    process = state.process(AccessConfig.model_validate({"limits": limits}))
    limits = process["limits"]
    assert process["upstream"]["route_scan_limit_bytes"] == 40_000_000
    assert limits["connection_window_bytes"] >= limits["stream_window_bytes"] >= 40_000_005
    assert limits["stream_window_bytes"] < 2**31


def test_limits_are_handed_over_in_two_parts_whatever_one_list_the_file_has():
    process = state.process(AccessConfig.model_validate({"limits": {"max_streams": 7, "keepalive_ms": 8}}))
    assert process["limits"]["max_streams"] == 7
    assert process["upstream"]["keepalive_ms"] == 8
    # A window of its own for each side: a route key may have to fit into a caller's.
    assert process["limits"].keys() & process["upstream"].keys() == {"stream_window_bytes"}


def test_the_same_input_gives_the_same_document(tmp_path):
    (tmp_path / "access.yaml").write_text("models: {m: {endpoints: [a:1]}}\ndiscovery: [{kind: nodefile, path: n}]\n")
    (tmp_path / "n").write_text("69=1,a:1\n70=2,b:1\n")
    documents = set()
    for _ in range(2):
        loaded = load(tmp_path / "access.yaml", environment={})
        snapshots = {
            key: RESOLVERS[source.kind].resolver.create(source, loaded.folder).read()
            for key, source in state.sources(loaded.config).items()
        }
        documents.add(json.dumps(state.routing(loaded.config, snapshots).state))
    assert len(documents) == 1


def announced(host: int, version: str) -> Announced:
    return Announced(address=f"10.0.0.{host}:5000", version=version)


RELEASE = ReleaseDocument.parse(
    b'{"schema":1,"model":"digits","revision":1,"releases":{"3":{"phase":"production","weight":9},'
    b'"4":{"phase":"canary","weight":1}},"labels":{"stable":"3"}}'
)


def test_a_release_document_wins_over_what_the_file_says_about_its_model():
    data = {
        "models": {
            "digits": {
                "split": [{"endpoints": ["a:1"], "weight": 95}, {"endpoints": ["b:1"], "weight": 5}],
                "versions": {"3": {"endpoints": ["a:1"]}},
            }
        },
        "discovery": [NODEFILE],
    }
    endpoints = (announced(1, "3"), announced(2, "4"))
    fallback = build(data, {"digits": Entry(endpoints)})
    assert routes(fallback) == {"digits": ([("digits/split/0", 95), ("digits/split/1", 5)], ["3"])}
    ruled = build(data, {"digits": Entry(endpoints, release=RELEASE)})
    assert routes(ruled) == {"digits": ([("digits@3", 9), ("digits@4", 1)], ["3", "4"])}
    assert ruled.state["models"][0].keys() == rust_fields("ModelConfig")
    assert ruled.state["models"][0]["labels"] == {"stable": "3"}
    assert not ruled.state["models"][0]["pass_through"]
    assert set(each["name"] for each in ruled.state["clusters"]) == {"digits@3", "digits@4"}


def test_a_models_own_source_may_bring_releases_and_keeps_the_files_settings():
    data = {"models": {"digits": {"discovery": NODEFILE, "timeout_ms": 77}}}
    ruled = build(data, {"digits": Entry((announced(1, "3"), announced(2, "4")), release=RELEASE)})
    assert routes(ruled) == {"digits": ([("digits@3", 9), ("digits@4", 1)], ["3", "4"])}
    assert cluster(ruled, "digits@3")["timeout_ms"] == 77


def test_a_default_cluster_stays_when_its_model_gets_a_release_document():
    data = {"discovery": [NODEFILE], "default_cluster": "digits"}
    ruled = build(data, {"digits": Entry((announced(1, "3"), announced(2, "4")), release=RELEASE)})
    assert ruled.state["default_cluster"] == "digits"
    assert len(cluster(ruled, "digits")["endpoints"]) == 2
    assert not ruled.warnings


def test_the_access_services_own_address_is_left_out_and_named():
    config = AccessConfig.model_validate({"discovery": [NODEFILE]})
    snapshots = {key: Snapshot({"digits": entry("me:1", "a:1")}) for key in state.sources(config)}
    routing = state.routing(config, snapshots, is_own=lambda address: address == "me:1")
    assert [each["address"] for each in cluster(routing, "digits")["endpoints"]] == ["a:1"]
    assert "me:1 is this access service itself" in str(routing.warnings[0])


def test_an_endpoint_in_several_spellings_is_one_and_the_others_are_named():
    spellings = ("127.0.0.1:80", "127.0.0.1:080", "[::ffff:127.0.0.1]:80", "[0:0::1]:80", "[::1]:80", "M:80", "m.:80")
    routing = build({"discovery": [{"kind": "nodefile", "path": "n"}]}, {"digits": entry(*spellings)})
    found = [each["address"] for each in cluster(routing, "digits")["endpoints"]]
    assert found == ["127.0.0.1:80", "[0:0::1]:80", "M:80"]
    told = [each.message for each in routing.warnings]
    assert told == [
        "127.0.0.1:080 is 127.0.0.1:80, written in another way; it is left out",
        "[::ffff:127.0.0.1]:80 is 127.0.0.1:80, written in another way; it is left out",
        "[::1]:80 is [0:0::1]:80, written in another way; it is left out",
        "m.:80 is M:80, written in another way; it is left out",
    ]


def test_of_two_sources_with_one_key_the_first_counts_under_a_release_document_too():
    other = {"kind": "nodefile", "path": "other.txt"}
    config = AccessConfig.model_validate({"discovery": [NODEFILE, other]})
    first, second = state.sources(config)
    ours = Entry((announced(1, "3"), announced(2, "4")), release=RELEASE)
    snapshots = {first: Snapshot({"digits": ours}), second: Snapshot({"digits": Entry((announced(9, "3"),))})}
    routing = state.routing(config, snapshots)
    assert routes(routing) == {"digits": ([("digits@3", 9), ("digits@4", 1)], ["3", "4"])}
    assert [each["address"] for each in cluster(routing, "digits@3")["endpoints"]] == ["10.0.0.1:5000"]
    assert "another source has it already" in str(routing.warnings[0])


def warned(data: dict) -> list[str]:
    return [str(each) for each in build(data).warnings]


def test_maglev_without_a_key_and_a_key_without_maglev_are_warned_of():
    one = {"endpoints": ["a:1"]}
    assert warned({"clusters": {"c": {**one, "policy": "maglev"}}}) == [
        "cluster c: policy maglev without a key: calls go anywhere; set hash_key or hash_field"
    ]
    assert warned({"models": {"m": {**one, "hash_key": "x-user", "hash_field": "id"}}}) == [
        "cluster m: hash_key and hash_field does nothing with policy dwrr; set policy: maglev, or remove it"
    ]
    assert warned({"models": {"m": {**one, "policy": "maglev", "hash_field": "meta.tags.user"}}}) == []
    assert warned({"models": {"m": {**one, "policy": "maglev", "hash_key": "x-user"}}}) == []


def test_a_default_is_warned_of_once_and_not_where_only_some_clusters_use_it():
    clusters = {name: {"endpoints": [f"{name}:1"]} for name in "abc"}
    assert warned({"cluster_defaults": {"policy": "maglev"}, "clusters": clusters}) == [
        "cluster_defaults: policy maglev without a key: calls go anywhere; set hash_key or hash_field"
    ]
    clusters["a"]["policy"] = "maglev"
    assert warned({"cluster_defaults": {"hash_key": "x-user"}, "clusters": clusters}) == []
