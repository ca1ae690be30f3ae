"""The tables of `dl-inference status` and of `serve`'s screen, a function for each; they read /status alone."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.text import Text

from dl_inference.commands.fitted_table import Column, FittedTable, Row

_STATE_STYLES = {"serving": "green", "loading": "yellow", "replacing": "yellow", "unloaded": "bright_black"}
_SOCKET_FOLDER = "/dl-inference-serve-"


def models(status: Mapping[str, Any], before: Mapping[str, Any], seconds: float) -> FittedTable:
    """Return the models of an access service: where their calls go, and how those went.

    Args:
        status: the document of /status.
        before: an earlier one, for rates; empty for none.
        seconds: how much earlier.
    """
    columns = (Column("model"), Column("goes to"), *_traffic_columns(), Column("versions", 9))
    rows = []
    for model in status.get("models", ()):
        versions = [f"{version}: {_split(parts)}" for version, parts in sorted((model.get("versions") or {}).items())]
        versions += [f"{label} = {version}" for label, version in sorted((model.get("labels") or {}).items())]
        goes_to = _split(model.get("split") or ())
        traffic = _traffic(model, before, seconds)
        rows.append(Row((Text(model["name"]), Text(goes_to), *traffic, Text("; ".join(versions))), model["errors"] > 0))
    return FittedTable(columns, rows)


def folders(status: Mapping[str, Any], before: Mapping[str, Any], seconds: float) -> FittedTable:
    """Return the models of a `serve`: its folders with their processes, then the names that are aliases.

    Args:
        status: the document of /status, or its `control` alone while the port is not open.
        before: an earlier one, for rates; empty for none.
        seconds: how much earlier.
    """
    columns = (
        *(Column("model"), Column("state"), Column("ready", 1), Column("version", 4)),
        *_traffic_columns(),
        *(Column("restarts", 6, is_number=True), Column("kind", 8), Column("labels", 9), Column("processes", 10)),
    )
    routed = {model["name"]: model for model in status.get("models", ())}
    rows = []
    for folder in status["control"]["folders"]:
        model = routed.pop(folder["name"], None)
        each = folder["versions"]
        ready, replicas, restarts = (sum(version[key] for version in each) for key in ("ready", "replicas", "restarts"))
        cells = (
            Text(folder["name"]),
            Text(folder["state"], _STATE_STYLES.get(folder["state"], "red")),
            Text(f"{ready}/{replicas}" if replicas else "", "" if ready == replicas else "red"),
            Text(", ".join(f"{version['version']}{_standing(version)}" for version in each)),
            *_traffic(model, before, seconds),
            _alarming(restarts),
            Text(folder["kind"] or ""),
            Text("; ".join(_labels(model)) if model else ""),
            Text(", ".join(str(pid) for version in each for pid in version["pids"])),
        )
        rows.append(Row(cells, bool(folder["reason"]) or folder["state"] not in ("serving", "unloaded")))
    for name, model in routed.items():
        state = Text(f"alias of {_split(model.get('split') or ())}")
        rows.append(Row((Text(name), state, Text(), Text(), *_traffic(model, before, seconds), *[Text()] * 4)))
    return FittedTable(columns, rows)


def endpoints(status: Mapping[str, Any]) -> FittedTable:
    """Return the endpoints of each cluster; those of a `serve` by their sockets' names, which say the cluster."""
    has_folders = "folders" in (status.get("control") or {})
    columns = (
        *(Column("cluster", 10 if has_folders else 0), Column("endpoint"), Column("state")),
        *(Column("effective", 1, is_number=True), Column("picked by", 1, is_number=True)),
        Column("weight", 7, is_number=True),
        *(Column("in flight", 2, is_number=True), Column("requests", 3, is_number=True)),
        *(
            Column("errors", 1, is_number=True),
            Column("p50 ms", 5, is_number=True),
            Column("p99 ms", 4, is_number=True),
        ),
        *(Column("recent ms", 8, is_number=True), Column("last ejected", 9)),
    )
    rows = []
    for cluster in status.get("clusters", ()):
        name = Text(cluster["name"])
        if not cluster["endpoints"] and not has_folders:  # else the folder's state says why
            rows.append(Row((name, Text("none"), Text("down", "red"), *[Text()] * 10), is_urgent=True))
        for endpoint in cluster["endpoints"]:
            cells = (
                name,
                Text(_short(endpoint["address"])),
                _state(endpoint),
                Text(f"{endpoint['effective_weight']:.2f}"),
                _pick_weight(endpoint),
                Text(str(endpoint["weight"])),
                Text(str(endpoint["in_flight"])),
                Text(str(endpoint["requests"])),
                _alarming(endpoint["errors"]),
                _number(endpoint["p50_ms"]),
                _number(endpoint["p99_ms"]),
                _number(endpoint.get("latency_ms")),
                _last_ejection(endpoint),
            )
            rows.append(Row(cells, not endpoint["live"] or is_out(endpoint) or endpoint["errors"] > 0))
    return FittedTable(columns, rows)


def is_out(endpoint: Mapping[str, Any]) -> bool:
    """Return whether the endpoint is connected and the balancer has taken it out."""
    return bool(endpoint["live"]) and endpoint.get("state", "warm") != "warm"


def calls(status: Mapping[str, Any], before: Mapping[str, Any], seconds: float) -> FittedTable:
    """Return the calls of a model server by method; it has no endpoints.

    Args:
        status: the document of /status.
        before: an earlier one, for rates; empty for none.
        seconds: how much earlier.
    """
    earlier = before.get("calls") or {}
    rows = []
    for method, each in sorted((status.get("calls") or {}).items()):
        requests = sum(each["codes"].values())
        former = sum(earlier.get(method, {"codes": {}})["codes"].values())
        milliseconds = [None if each[key] is None else each[key] * 1000 for key in ("p50_s", "p99_s")]
        errors = _alarming(requests - each["codes"].get("OK", 0))
        rate = _rate(requests - former, seconds)
        times = map(_number, milliseconds)
        rows.append(Row((Text(method or "(unknown)"), Text(str(requests)), rate, errors, *times)))
    return FittedTable((Column("method"), *_traffic_columns()), rows)


def _traffic_columns() -> Iterator[Column]:
    for title, rank in (("requests", 2), ("per s", 3), ("errors", 2), ("p50 ms", 7), ("p99 ms", 5)):
        yield Column(title, rank, is_number=True)


def _traffic(model: Mapping[str, Any] | None, before: Mapping[str, Any], seconds: float) -> tuple[Text, ...]:
    """Return the cells of `_traffic_columns`; empty ones for a model that no call can reach."""
    if model is None:
        return (Text(),) * 5
    earlier = {former["name"]: former["requests"] for former in before.get("models", ())}
    rate = _rate(model["requests"] - earlier[model["name"]], seconds) if model["name"] in earlier else Text()
    times = _number(model["p50_ms"]), _number(model["p99_ms"])
    return Text(str(model["requests"])), rate, _alarming(model["errors"]), *times


def _state(endpoint: Mapping[str, Any]) -> Text:
    if not endpoint["live"]:
        return Text("down", "red")
    if is_out(endpoint):
        return Text(endpoint["state"], "red")
    health = endpoint.get("health", "unknown")
    return Text(health.replace("_", " "), "yellow") if health in ("not_serving", "loading") else Text("live", "green")


def _pick_weight(endpoint: Mapping[str, Any]) -> Text:
    """Return the weight by which it is picked where that is not the effective one; one that is down has none."""
    weight = endpoint.get("pick_weight", endpoint["effective_weight"])
    differs = endpoint["live"] and f"{weight:.2f}" != f"{endpoint['effective_weight']:.2f}"
    return Text(f"{weight:.2f}", "yellow") if differs else Text()


def _last_ejection(endpoint: Mapping[str, Any]) -> Text:
    last = endpoint.get("last_ejection")
    return Text(f"{last['seconds_ago']:.0f} s ago: {last['reason']}") if last else Text()


def _standing(version: Mapping[str, Any]) -> str:
    if version["serves"]:
        return ""
    return " (quarantined)" if version.get("state") == "quarantined" else " (new)"


def _labels(model: Mapping[str, Any]) -> Iterator[str]:
    for label, version in sorted((model.get("labels") or {}).items()):
        yield f"{label} = {version}"
    for label, parts in sorted((model.get("versions") or {}).items()):
        if not label.isdecimal():
            yield f"{label} = {_split(parts).rpartition('@')[2]}"


def _short(address: str) -> str:
    """Return the name of the socket of a process of `serve`, whose folder is nobody's business; else the address."""
    return address.rpartition("/")[2] if _SOCKET_FOLDER in address else address


def _split(parts: Sequence[Mapping[str, Any]]) -> str:
    whole = sum(part["weight"] for part in parts)
    if len(parts) == 1:
        return str(parts[0]["cluster"])
    return ", ".join(f"{part['cluster']} {part['weight'] / whole:.0%}" for part in parts) if whole else ""


def _rate(requests: int, seconds: float) -> Text:
    return Text(f"{max(0, requests) / seconds:.1f}" if seconds > 0 else "")


def _alarming(count: int) -> Text:
    return Text(str(count), "red" if count else "")


def _number(milliseconds: float | None) -> Text:
    return Text("" if milliseconds is None else f"{milliseconds:.1f}")
