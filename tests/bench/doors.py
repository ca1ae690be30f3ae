"""What TLS, a key, authorisation and limits cost: this product and Envoy, each without and with them, in one run.

`make bench-doors` calls it. Each proxy has one worker and the same two endpoints, which it asks in plaintext. Callers
keep their connections. Envoy's filters are api_key_auth, rbac and local_ratelimit; it cannot allow by the model, which
is in the message, so it allows by the caller and the path. No caller is ever over its limit. Writes results/doors.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from bench import machine
from bench.contenders import OURS, Contender, envoy, ours, typed
from bench.fleet import Fleet
from bench.measure import SHAPES, Work, h2load, summaries, summary
from bench.payloads import MODEL, PATH, SIZES, framed, predict
from bench.proc import cpu_seconds

RESULTS = Path(__file__).parent / "results"
FIRST_PORT = 18740
# Two of ten: more than one of them can use.
PORTS_APART = 20
WARM_UP_CALLS = 512
CALLER = "bench"
# Above what a worker can answer, so that the limit is counted and never met.
REQUESTS_PER_S = 1_000_000
GOAL = 0.6
Rounds = dict[tuple[str, str], list[dict[str, float]]]


@dataclass(frozen=True)
class Doors:
    """What a proxy asks of its callers."""

    is_tls: bool = False
    callers: int = 0
    """In the document; 0: nobody is asked who he is."""


DOORS = {
    "none": Doors(),
    "tls": Doors(is_tls=True),
    "all": Doors(is_tls=True, callers=1),
    "all, 10,000 callers": Doors(is_tls=True, callers=10_000),
}
KEY = "dlk_" + "k" * 43


@dataclass
class Started:
    """A proxy with some doors, and how a call passes them."""

    label: str
    contender: Contender
    work: Work
    channel: Callable[[str], grpc.Channel]
    metadata: tuple[tuple[str, str], ...]


def main() -> None:
    """Measure as the command line says, write the results, print the table."""
    options = _options()
    facts = machine.describe()
    rounds: Rounds = {}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        certificates = folder / "certificates"
        subprocess.run([OURS, "make-certificates", certificates], check=True, capture_output=True, timeout=60)
        fleet = stack.enter_context(Fleet(2, 64))
        ports = iter(range(FIRST_PORT, FIRST_PORT + 1000, PORTS_APART))
        started = [
            _start(stack, f"{who}: {doors}", f"127.0.0.1:{next(ports)}", fleet, folder)
            for doors in DOORS
            for who in ("ours", "envoy")
            # It has no rules by model, so a list of callers costs it another thing: left at one, which favours it.
            if (who, doors) != ("envoy", "all, 10,000 callers")
        ]
        for _ in range(options.rounds):
            for each in started:
                _round(each, fleet, options.seconds, rounds)
        versions = {each.contender.name: each.contender.version for each in started}
        configs = {each.label: each.contender.config.replace(name, "") for each in started}
    result = {**facts, "seconds": options.seconds, "rounds": options.rounds, "versions": versions}
    result |= {"configurations": configs, "goals": _goals(rounds)}
    result["results"] = [
        {"contender": label, "shape": shape, **summaries(found), "each": found}
        for (label, shape), found in rounds.items()
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / ("doors-quick.json" if options.quick else "doors.json")
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(_table(result))
    print(f"\nwritten: {path}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2, help="of each measurement")
    parser.add_argument("--quick", action="store_true", help="one round of 1 s, into doors-quick.json")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 1.0
    return options


def _start(stack: ExitStack, label: str, address: str, fleet: Fleet, folder: Path) -> Started:
    """Start one, and see with a real client that a call passes and that one without a key does not."""
    who, name = label.split(": ")
    doors = DOORS[name]
    place = folder / label.replace(" ", "-").replace(",", "").replace(":", "")
    place.mkdir(mode=0o755)
    certificates = folder / "certificates"
    start = _ours if who == "ours" else _envoy
    contender = start(doors, address, fleet.addresses, place, certificates)
    assert contender.process is not None
    stack.callback(contender.process.kill)
    metadata = (("x-api-key", KEY),) if doors.callers else ()
    message = predict(SIZES["small"])
    work = Work(
        PATH,
        place / "message",
        place / "body",
        place / "log",
        headers=tuple(f"{key}: {value}" for key, value in metadata),
        scheme="https" if doors.is_tls else "http",
    )
    work.message.write_bytes(message)
    work.body.write_bytes(framed(message))
    if doors.is_tls:
        authority = (certificates / "ca.pem").read_bytes()
        channel = partial(grpc.secure_channel, credentials=grpc.ssl_channel_credentials(authority))
    else:
        channel = grpc.insecure_channel
    started = Started(label, contender, work, channel, metadata)
    with channel(address) as caller:
        predicts = caller.unary_unary(PATH)
        predicts(message, timeout=20, wait_for_ready=True, metadata=metadata)
        if doors.callers:
            try:
                predicts(message, timeout=20)
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAUTHENTICATED:
                    raise
            else:
                raise RuntimeError(f"{label} let a call without a key pass")
    return started


def _ours(doors: Doors, address: str, endpoints: list[str], folder: Path, certificates: Path) -> Contender:
    settings: dict[str, object] = {}
    if doors.is_tls:
        pair = {"certificate": str(certificates / "server.pem"), "key": str(certificates / "server-key.pem")}
        settings["listen"] = {
            "address": address,
            "tls": {**pair, "client_auth": "optional", "client_ca": str(certificates / "ca.pem")},
        }
    if doors.callers:
        settings["callers"] = "callers.yaml"
        document = {"callers": _callers(doors.callers)}
        (folder / "callers.yaml").write_text(json.dumps(document))  # JSON is YAML
    return ours(address, endpoints, folder, service=settings)


def _callers(number: int) -> dict[str, object]:
    """Return callers with rules and limits of their own, of which the last is the one that calls."""

    def caller(name: str, key: str) -> dict[str, object]:
        return {
            "keys": [{"id": "k1", "sha256": hashlib.sha256(key.encode()).hexdigest()}],
            "allow": [{"models": [MODEL, f"{name}-*"], "methods": ["predict"]}],
            "limits": {"requests_per_s": REQUESTS_PER_S, "in_flight": 1000},
        }

    others = {f"other-{index}": caller(f"other-{index}", f"dlk_{index:043}") for index in range(number - 1)}
    return others | {CALLER: caller(CALLER, KEY)}


def _envoy(doors: Doors, address: str, endpoints: list[str], folder: Path, certificates: Path) -> Contender:
    return envoy(
        address,
        endpoints,
        folder,
        filters=_envoy_filters() if doors.callers else (),
        tls=_envoy_tls(certificates) if doors.is_tls else None,
    )


def _envoy_tls(certificates: Path) -> dict[str, object]:
    pair = {
        "certificate_chain": {"filename": str(certificates / "server.pem")},
        "private_key": {"filename": str(certificates / "server-key.pem")},
    }
    common = {
        "alpn_protocols": ["h2"],
        "tls_certificates": [pair],
        "validation_context": {"trusted_ca": {"filename": str(certificates / "ca.pem")}},
    }
    # h2load has no certificate to show; what it would cost is paid once a connection.
    return typed("extensions.transport_sockets.tls.v3.DownstreamTlsContext", common_tls_context=common)


def _envoy_filters() -> list[dict[str, object]]:
    keys = typed(
        "extensions.filters.http.api_key_auth.v3.ApiKeyAuth",
        credentials=[{"key": KEY, "client": CALLER}],
        key_sources=[{"header": "x-api-key"}],
        forwarding={"header": "x-caller", "hide_credentials": True},
    )
    may = {
        "permissions": [{"url_path": {"path": {"exact": PATH}}}],
        "principals": [{"header": {"name": "x-caller", "string_match": {"exact": CALLER}}}],
    }
    rules = typed("extensions.filters.http.rbac.v3.RBAC", rules={"action": "ALLOW", "policies": {CALLER: may}})
    every = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    bucket = {"max_tokens": REQUESTS_PER_S, "tokens_per_fill": REQUESTS_PER_S, "fill_interval": "1s"}
    limit = typed(
        "extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
        stat_prefix="bench",
        token_bucket=bucket,
        filter_enabled=every,
        filter_enforced=every,
    )
    named = {"api_key_auth": keys, "rbac": rules, "local_ratelimit": limit}
    return [{"name": f"envoy.filters.http.{name}", "typed_config": each} for name, each in named.items()]


def _round(each: Started, fleet: Fleet, seconds: float, rounds: Rounds) -> None:
    assert each.contender.process is not None
    session = each.contender.process.pid
    for shape in SHAPES:
        h2load(each.contender.address, each.work, shape, 60, WARM_UP_CALLS)
        with fleet.counted() as count:
            before = cpu_seconds(session)
            figures = h2load(each.contender.address, each.work, shape, seconds)
            figures["cpu_us"] = (cpu_seconds(session) - before) / figures["calls"] * 1e6
        # A refusal is quick, and h2load does not read grpc-status.
        if count.calls < figures["calls"]:
            raise RuntimeError(f"{each.label} answered {figures['calls']:g}, endpoints got {count.calls}")
        rounds.setdefault((each.label, shape.name), []).append(figures)


def _goals(rounds: Rounds) -> list[dict[str, Any]]:
    """Return our CPU per request as a part of Envoy's, and with doors as a part of that without, in each round."""
    pairs = [(f"ours: {name}", f"envoy: {name}", GOAL) for name in ("none", "tls", "all")]
    pairs += [(f"ours: {name}", "ours: none", None) for name in ("tls", "all")]
    pairs += [("envoy: all", "envoy: none", None), ("ours: all, 10,000 callers", "ours: all", None)]
    found = []
    for one, other, bar in pairs:
        ratios = [
            mine["cpu_us"] / theirs["cpu_us"]
            for mine, theirs in zip(rounds[one, SHAPES[0].name], rounds[other, SHAPES[0].name], strict=True)
        ]
        found.append({"of": one, "beside": other, "ratio": summary(ratios), "bar": bar})
    return found


def _table(result: dict[str, Any]) -> str:
    lines = [f"{'doors':32}{'shape':10}{'CPU us/request':>16}{'req/s':>10}{'p50 ms':>9}{'p99 ms':>9}"]
    for row in result["results"]:
        cells = f"{row['contender']:32}{row['shape']:10}{row['cpu_us']['median']:16.1f}{row['rps']['median']:10,.0f}"
        cells += "".join(f"{row[name]['median']:9.3f}" for name in ("p50_ms", "p99_ms") if name in row)
        lines.append(cells)
    for goal in result["goals"]:
        ratio = goal["ratio"]
        text = f"{goal['of']} / {goal['beside']}: {ratio['median']:.3f} ({ratio['min']:.3f}-{ratio['max']:.3f})"
        if goal["bar"] is not None:
            text += f", goal {goal['bar']}: {'reached' if ratio['median'] <= goal['bar'] else 'NOT reached'}"
        lines.append(text)
    return "\n".join(lines)


if __name__ == "__main__":
    main()
