"""Who is compared by ``bench.balance``: proxies and policies, each configured as its users would for such endpoints.

All may try a call once more, on another endpoint; where a contender knows a limit for one attempt it is half of the
callers' deadline, and where it can put an endpoint aside it does.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.contenders import PEERS, Contender, envoy, installed, nginx, ours, said
from fixtures.processes import Process

GRPC_GO = PEERS / "grpc-go" / "bin" / "grpc_go"


@dataclass(frozen=True)
class Fleet:
    """The endpoints before which a contender stands."""

    addresses: list[str]
    weights: list[int]
    deadline_ms: float


Start = Callable[[str, Fleet, Path], Contender]


def _ours(**settings: object) -> Start:
    def start(address: str, fleet: Fleet, folder: Path) -> Contender:
        endpoints = [
            {"address": place, "weight": weight} for place, weight in zip(fleet.addresses, fleet.weights, strict=True)
        ]
        limit = {"attempt_timeout_ms": round(fleet.deadline_ms / 2)}
        return ours(address, endpoints, folder, settings=limit | settings)

    return start


def _nginx(method: str) -> Start:
    def start(address: str, fleet: Fleet, folder: Path) -> Contender:
        servers = [
            f"{place} weight={weight} max_fails=3 fail_timeout=2s"
            for place, weight in zip(fleet.addresses, fleet.weights, strict=True)
        ]
        rules = (
            f"grpc_connect_timeout 200ms; grpc_read_timeout {fleet.deadline_ms / 2:.0f}ms; "
            "grpc_next_upstream error timeout invalid_header http_502 http_503 http_504 non_idempotent; "
            "grpc_next_upstream_tries 2;"
        )
        return nginx(address, servers, folder, settings=(method, rules))

    return start


def _envoy(policy: str) -> Start:
    def start(address: str, fleet: Fleet, folder: Path) -> Contender:
        route = {
            "timeout": "0s",
            "max_stream_duration": {"grpc_timeout_header_max": "0s"},
            "retry_policy": {
                "retry_on": "connect-failure,refused-stream,reset,unavailable,resource-exhausted",
                "num_retries": 1,
                "per_try_timeout": f"{fleet.deadline_ms / 2000:.3f}s",
                "retry_host_predicate": [
                    {
                        "name": "envoy.retry_host_predicates.previous_hosts",
                        "typed_config": {
                            "@type": "type.googleapis.com/"
                            "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                        },
                    }
                ],
                "host_selection_retry_max_attempts": 3,
            },
        }
        cluster = {
            "lb_policy": policy,
            "connect_timeout": "0.2s",
            "outlier_detection": {
                "consecutive_5xx": 5,
                "interval": "1s",
                "base_ejection_time": "2s",
                "max_ejection_percent": 50,
            },
            "circuit_breakers": {"thresholds": [{"max_retries": 1000, "max_requests": 10_000}]},
        }
        return envoy(address, fleet.addresses, folder, settings=(route, cluster))

    return start


def _haproxy(address: str, fleet: Fleet, folder: Path) -> Contender:
    """HAProxy with leastconn, a TCP check a second, and servers put aside after five bad answers."""
    servers = "\n".join(
        f"  server e{number} {place} proto h2 weight {weight}"
        for number, (place, weight) in enumerate(zip(fleet.addresses, fleet.weights, strict=True))
    )
    config = f"""global
  nbthread 1
  maxconn 4000
defaults
  mode http
  timeout connect 200ms
  timeout client 60s
  timeout server {fleet.deadline_ms / 2:.0f}ms
  option redispatch 1
  retries 1
  retry-on conn-failure empty-response junk-response response-timeout 502 503 504
frontend all
  bind {address} proto h2
  default_backend fleet
backend fleet
  balance leastconn
  default-server check inter 1s fall 2 rise 1 observe layer7 error-limit 5 on-error mark-down
{servers}
"""
    path = folder / "haproxy.cfg"
    path.write_text(config)
    program = installed("haproxy", "haproxy")
    version = said(program, "-v").split()[2]
    process = Process([program, "-db", "-f", path])
    return Contender("haproxy", version, address, process, config)


def _grpc_go(address: str, fleet: Fleet, folder: Path) -> Contender:
    """A client of gRPC's with its policy round_robin, behind a server of gRPC's (grpc_go/main.go)."""
    return Contender("grpc-go", said(GRPC_GO, "--version"), address, Process([GRPC_GO, address, *fleet.addresses]))


BALANCERS: dict[str, Start] = {
    "ours": _ours(),
    "ours:hedge=true": _ours(hedge=True),
    "nginx": _nginx("least_conn;"),
    "nginx-wrr": _nginx(""),
    "envoy": _envoy("LEAST_REQUEST"),
    "envoy-rr": _envoy("ROUND_ROBIN"),
    "haproxy": _haproxy,
    "grpc-go": _grpc_go,
}


def find(name: str) -> Start:
    """Return how to start a contender: one of BALANCERS, or this product with settings of its cluster.

    Args:
        name: ``nginx``, or ``ours:policy=p2c+max_attempts=3``: values in JSON, or words.

    Raises:
        ValueError: there is none of this name.
    """
    if name.startswith("ours:"):
        pairs = (pair.partition("=") for pair in name.removeprefix("ours:").split("+"))
        return _ours(**{key: _value(text) for key, _, text in pairs})
    if name not in BALANCERS:
        raise ValueError(f"no contender {name}; there are {', '.join(BALANCERS)} and ours:KEY=VALUE+KEY=VALUE")
    return BALANCERS[name]


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def missing() -> dict[str, str]:
    """Return who cannot be started here, and what to do about it."""
    return {} if GRPC_GO.exists() else {"grpc-go": "install Go (go.dev), then make bench-peers"}
