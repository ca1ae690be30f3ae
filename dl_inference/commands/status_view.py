"""What `dl-inference status` prints: /status of an access service, or of one model server, as tables."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text


def render(status: Mapping[str, Any], before: Mapping[str, Any] | None = None, seconds: float = 0.0) -> RenderableType:
    """Return the tables.

    Args:
        status: the document of /status.
        before: an earlier one, for rates.
        seconds: how much earlier; without it no rates are shown.
    """
    if "models" not in status:
        return Group(_head(status), _calls(status, before or {}, seconds))
    parts: list[RenderableType] = [_head(status), _models(status, before or {}, seconds), _endpoints(status)]
    return Group(*parts, *control_parts(status.get("control") or {}))


def _head(status: Mapping[str, Any]) -> Text:
    state = "draining" if status.get("draining") else "ready" if status.get("ready") else "not ready"
    text = Text(state, style="bold green" if state == "ready" else "bold red")
    if "uptime_s" in status:
        text.append(f"  up {_duration(status['uptime_s'])}", style="default")
    for key in ("version", "model", "model_version", "connections", "in_flight", "queued", "held_bytes"):
        if key in status:
            text.append(f"  {key.replace('_', ' ')} {status[key]}", style="default")
    for kind, count in sorted((status.get("errors") or {}).items()):
        text.append(f"  {kind} {count}", style="red")
    return text


def _calls(status: Mapping[str, Any], before: Mapping[str, Any], seconds: float) -> Table:
    """Return the table of a model server, which has calls by method and no endpoints."""
    table = _table("Calls", ("method",), ("requests", "per s", "errors", "p50 ms", "p99 ms"))
    earlier = before.get("calls") or {}
    for method, calls in sorted((status.get("calls") or {}).items()):
        requests = sum(calls["codes"].values())
        rate = ""
        if seconds > 0:
            rate = f"{max(0, requests - sum(earlier.get(method, {'codes': {}})['codes'].values())) / seconds:.1f}"
        times = (None if calls[key] is None else calls[key] * 1000 for key in ("p50_s", "p99_s"))
        errors = _alarming(requests - calls["codes"].get("OK", 0))
        table.add_row(Text(method or "(unknown)"), str(requests), rate, errors, *map(_number, times))
    return table


def _models(status: Mapping[str, Any], before: Mapping[str, Any], seconds: float) -> Table:
    table = _table("Models", ("model", "goes to", "versions"), ("requests", "per s", "errors", "p50 ms", "p99 ms"))
    earlier = {model["name"]: model["requests"] for model in before.get("models", ())}
    for model in status.get("models", ()):
        rate = ""
        if seconds > 0 and model["name"] in earlier:
            rate = f"{max(0, model['requests'] - earlier[model['name']]) / seconds:.1f}"
        versions = [f"{version}: {_split(parts)}" for version, parts in sorted((model.get("versions") or {}).items())]
        versions += [f"{label} = {version}" for label, version in sorted((model.get("labels") or {}).items())]
        table.add_row(
            Text(model["name"]),
            Text(_split(model.get("split") or ())),
            Text("; ".join(versions)),
            str(model["requests"]),
            rate,
            _alarming(model["errors"]),
            _number(model["p50_ms"]),
            _number(model["p99_ms"]),
        )
    return table


def _endpoints(status: Mapping[str, Any]) -> Table:
    numbers = ("weight", "effective", "in flight", "requests", "errors", "p50 ms", "p99 ms")
    table = _table("Endpoints", ("cluster", "endpoint", "state"), numbers)
    for cluster in status.get("clusters", ()):
        name = Text(cluster["name"])
        if not cluster["endpoints"]:
            table.add_row(name, "none", Text("down", style="red"))
        for endpoint in cluster["endpoints"]:
            table.add_row(
                name,
                Text(endpoint["address"]),
                Text("live", style="green") if endpoint["live"] else Text("down", style="red"),
                str(endpoint["weight"]),
                f"{endpoint['effective_weight']:.2f}",
                str(endpoint["in_flight"]),
                str(endpoint["requests"]),
                _alarming(endpoint["errors"]),
                _number(endpoint["p50_ms"]),
                _number(endpoint["p99_ms"]),
            )
            name = Text("")
    return table


def control_parts(control: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Yield what /status says about where the routes come from: files, sources, model folders and their processes."""
    if control.get("folders") is not None:
        yield _folders(control["folders"])
    config = control.get("config")
    for source in [*([config] if config else []), *control.get("sources", ())]:
        yield from _source(source)
    if control.get("refused"):
        yield Text(f"the data plane refused the newest state: {control['refused']}", style="red")
    if control.get("needs_restart"):
        yield Text(f"changed, but needs a restart: {', '.join(control['needs_restart'])}", style="yellow")
    for warning in control.get("warnings", ()):
        yield Text(warning, style="yellow")


def _source(source: Mapping[str, Any]) -> Iterator[Text]:
    """Yield what is known of the configuration file or a source, and how old that is where it cannot be read."""
    counts = f"reloads {source['reloads_ok']}, failed {source['reloads_failed']}"
    yield Text(f"{source['name']}  last good {source['last_good'] or 'never'}  {counts}")
    if source["error"]:
        yield Text(f"  {source['error']}", style="red")
        origin = {"saved": "saved state", "fallback": "fallback"}.get(source.get("origin", ""), "last good state")
        age = f", {time.time() - source['last_good_unix_s']:.0f} s old" if source["last_good"] else ""
        yield Text(f"  in force: its {origin}{age}", style="yellow")
    if source.get("save_error"):
        yield Text(f"  {source['save_error']}", style="yellow")


def _folders(folders: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Return the table of `serve`: model folders, their versions with the processes, and what is wrong."""
    table = _table("Model folders", ("folder", "kind", "state", "version"), ("ready", "restarts"))
    table.add_column("processes", overflow="fold")
    reasons = []
    for folder in folders:
        colour = {"serving": "green", "loading": "yellow", "replacing": "yellow"}.get(folder["state"], "red")
        start = (Text(folder["name"]), Text(folder["kind"] or ""), Text(folder["state"], style=colour))
        for each in folder["versions"] or [None]:
            if each is None:
                table.add_row(*start)
                continue
            ready = Text(f"{each['ready']} of {each['replicas']}", style="" if each["ready"] else "red")
            version = f"{each['version']}" if each["serves"] else f"{each['version']} (new)"
            pids = ", ".join(map(str, each["pids"]))
            table.add_row(*start, version, ready, _alarming(each["restarts"]), pids)
            start = (Text(""), Text(""), Text(""))
        if folder["reason"]:
            reasons.append(Text(f"{folder['name']}: {folder['reason']}", style="red"))
    return Group(table, *reasons)


def _table(title: str, texts: tuple[str, ...], numbers: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in texts:
        table.add_column(column, overflow="fold")
    for column in numbers:
        table.add_column(column, justify="right")
    return table


def _split(parts: Any) -> str:
    whole = sum(part["weight"] for part in parts)
    if len(parts) == 1:
        return str(parts[0]["cluster"])
    return ", ".join(f"{part['cluster']} {part['weight'] / whole:.0%}" for part in parts) if whole else ""


def _alarming(count: int) -> Text:
    return Text(str(count), style="red" if count else "")


def _number(milliseconds: float | None) -> str:
    return "" if milliseconds is None else f"{milliseconds:.1f}"


def _duration(seconds: float) -> str:
    minutes, whole_seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{whole_seconds:02}"
