"""What `dl-inference status` prints of /status, and `serve` shows: what is wrong first, then the tables."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from dl_inference.commands import status_tables
from dl_inference.commands.fitted_table import FittedTable
from dl_inference.commands.words import plain

_LEAST_TABLE_LINES = 3
_PROBLEM_LINES = 3
"""Of each thing that is wrong, where there is little room."""


def render(
    status: Mapping[str, Any],
    before: Mapping[str, Any] | None = None,
    seconds: float = 0.0,
    *,
    screen: Console | None = None,
    last: Sequence[Text] = (),
) -> RenderableType:
    """Return what is known.

    Args:
        status: the document of /status, of an access service or a model server; or of a `serve` whose port is not open
            yet its `control` alone.
        before: an earlier one, for rates.
        seconds: how much earlier; without it no rates are shown.
        screen: the terminal that all of it has to fit; without it, it is as long as need be.
        last: lines for the end.
    """
    control = status.get("control") or {}
    head, problems = [*_head(status)], [*_problems(status)]
    tables = [*_tables(status, before or {}, seconds)]
    last = [*_sources(control), *last]
    if screen is not None:
        head, last = (_cut(lines, screen.width) for lines in (head, last))
        # A line stays free for the cursor; empty ones stand between the parts.
        room = screen.height - 1 - len(head) - (len(last) + 1 if last else 0)
        problems = [*_limited(problems, screen, room // 3)]
        tables = [*_fitted(tables, room - len(problems))]
    parts: list[RenderableType] = [*head, *problems]
    for table in tables:
        parts += [Text(), table]
    return Group(*parts, *([Text(), *last] if last else []))


def _head(status: Mapping[str, Any]) -> Iterator[Text]:
    if not status.keys() - {"control"}:
        yield Text("starting: waits at most a minute for the models to load", style="bold yellow")
        return
    state = "stopped" if status.get("stopped") else "draining" if status.get("draining") else "not ready"
    state = "ready" if status.get("ready") else state
    text = Text.assemble((state, "bold green" if state == "ready" else "bold red"))
    if "uptime_s" in status:
        text.append(f"  up {_duration(status['uptime_s'])}")
    counts = ("connections", "in_flight", "queued", "held_bytes", "unread_bytes", "unsent_bytes")
    for key in ("version", "model", "model_version", *counts):
        if key in status:
            text.append(f"  {key.replace('_', ' ')} {status[key]}")
    yield text
    if bound := (status.get("control") or {}).get("listen"):
        admin = status["control"].get("admin")
        yield Text(f"listening on {', '.join(bound)}{f', admin port {admin}' if admin else ''}")


def _problems(status: Mapping[str, Any]) -> Iterator[Text]:
    """Yield what is wrong, the worst first."""
    control = status.get("control") or {}
    if control.get("refused"):
        yield Text(f"the data plane refused the newest state: {plain(control['refused'])}", style="red")
    for folder in control.get("folders") or ():
        yield from _folder_problems(folder)
        yield from _suspects(folder)
    for cluster in status.get("clusters", ()):
        count = len(cluster["endpoints"])
        if count and not any(endpoint["live"] for endpoint in cluster["endpoints"]):
            yield Text(f"{cluster['name']}: none of {count} endpoints can be reached", style="red")
        for endpoint in filter(status_tables.is_out, cluster["endpoints"]):
            reason = (endpoint.get("last_ejection") or {}).get("reason", "reason unknown")
            yield Text(f"{cluster['name']}: {endpoint['address']} {endpoint['state']}: {plain(reason)}", style="red")
    for source in _followed(control):
        if source["error"]:
            origin = {"saved": "saved state", "fallback": "fallback"}.get(source.get("origin", ""), "last good state")
            age = f", {time.time() - source['last_good_unix_s']:.0f} s old" if source["last_good"] else ""
            yield Text(f"{source['name']}: {plain(source['error'])}; in use: its {origin}{age}", style="red")
        if source.get("save_error"):
            yield Text(f"{source['name']}: {plain(source['save_error'])}", style="yellow")
    if control.get("needs_restart"):
        yield Text(f"changed, but needs a restart: {', '.join(control['needs_restart'])}", style="yellow")
    for warning in control.get("warnings", ()):
        yield Text(plain(warning), style="yellow")
    if errors := status.get("errors"):
        counts = ", ".join(f"{kind} {count}" for kind, count in sorted(errors.items()))
        yield Text(f"errors since the start: {counts}", style="yellow")


def _suspects(folder: Mapping[str, Any]) -> Iterator[Text]:
    """Yield the requests that processes died with."""
    for version in folder["versions"]:
        found = version.get("suspects") or ()
        label = f"{folder['name']}@{version['version']}"
        for each in found:
            if each["is_refused"]:
                text = f"{label}: request {each['fingerprint']} killed two processes: refused for {each['for_s']} s"
                yield Text(text, style="red")
        suspects = [each["fingerprint"] for each in found if not each["is_refused"]]
        if suspects:
            yield Text(f"{label}: runs alone, as a process died with it: {', '.join(suspects)}", style="yellow")


def _folder_problems(folder: Mapping[str, Any]) -> Iterator[Text]:
    for each in folder.get("quarantined", ()):
        yield _quarantine(folder["name"], each)
    if folder["reason"] and not folder.get("quarantined"):  # of a process that had served
        yield Text(f"{folder['name']}: {'; '.join(map(plain, folder['reason'].splitlines()))}", style="red")


def _quarantine(name: str, each: Mapping[str, Any]) -> Text:
    """Return a version that is kept from calls; on lines of their own why, and what to do."""
    what = "the folder" if each["version"] is None else f"version {each['version']}"
    since = time.strftime("%H:%M:%S", time.localtime(each["since_unix_s"]))
    remedy = each["remedy"] if each["remedy"] not in each["reason"] else ""
    head = f"{name}: {what} quarantined since {since}, step {each['step']}; tried again {each['next_try']}"
    lines = [*each["reason"].splitlines(), *([f"remedy: {remedy}"] if remedy else [])]
    return Text.assemble((head, "red"), *(f"\n    {plain(line)}" for line in lines))


def _tables(status: Mapping[str, Any], before: Mapping[str, Any], seconds: float) -> Iterator[FittedTable]:
    if (status.get("control") or {}).get("folders") is not None:
        yield status_tables.folders(status, before, seconds)
    elif "models" in status:
        yield status_tables.models(status, before, seconds)
    else:
        yield status_tables.calls(status, before, seconds)
    yield status_tables.endpoints(status)


def _sources(control: Mapping[str, Any]) -> Iterator[Text]:
    """Yield where the routes come from: a line for the configuration file and for each source."""
    for source in _followed(control):
        counts = f"reloads {source['reloads_ok']}, failed {source['reloads_failed']}"
        yield Text(f"{source['name']}  last good {source['last_good'] or 'never'}  {counts}")


def _followed(control: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    followed = [each for each in (control.get("config"), control.get("callers")) if each]
    return [*followed, *control.get("sources", ())]


def _cut(lines: Sequence[Text], width: int) -> list[Text]:
    """Return lines that take no more than one line each."""
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return [*lines]


def _limited(problems: Sequence[Text], screen: Console, room: int) -> Iterator[Text]:
    """Yield what has room of the problems, wrapped, and how many others there are."""
    for index, problem in enumerate(problems):
        left = len(problems) - index
        lines = problem.wrap(screen, screen.width)
        shown = lines[: max(1, min(_PROBLEM_LINES, room - (left > 1)))]
        if room < 1 + (left > 1) and index:
            yield Text(f"and {left} more problems: dl-inference status shows them", style="red")
            return
        if len(lines) > len(shown):
            shown[-1].truncate(screen.width - 1)
            shown[-1].append("…")
        yield from shown
        room -= len(shown)


def _fitted(tables: Sequence[FittedTable], room: int) -> Iterator[FittedTable]:
    """Yield the tables that have room, each after an empty line; the first before the others."""
    for table in tables:
        lines = room - 1
        if table.length and lines >= min(table.length, _LEAST_TABLE_LINES):
            yield FittedTable(table.columns, table.rows, lines)
            room -= 1 + min(table.length, lines)


def _duration(seconds: float) -> str:
    minutes, whole_seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{whole_seconds:02}"
