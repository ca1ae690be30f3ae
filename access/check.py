"""Check access.yaml without serving: every problem, then the effective values and where each comes from."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from access import state
from access.config.load import Loaded, load
from access.discovery import RESOLVERS
from access.discovery.base import Snapshot
from access.errors import AccessError, ConfigError
from dl_inference.problem import Problem


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What `check` found in an access configuration.

    Attributes:
        problems: what keeps it from being used.
        warnings: what would be skipped.
        loaded: the configuration; None when there are problems in it.
        routing: the routing state that it leads to now; None when there are any problems.
    """

    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...] = ()
    loaded: Loaded | None = None
    routing: state.Routing | None = None


def check(path: Path, read: Callable[[Path], Loaded] = load) -> CheckResult:
    """Check an access configuration and the sources that it names; nothing goes on when it returns.

    Args:
        path: access.yaml.
        read: reads it.
    """
    try:
        loaded = read(path)
    except ConfigError as error:
        return CheckResult(error.problems)
    snapshots: dict[str, Snapshot] = {}
    problems: list[Problem] = []
    for key, source in state.sources(loaded.config).items():
        resolver = RESOLVERS[source.kind].resolver.create(source, loaded.folder)
        resolver.start(lambda: None)
        try:
            snapshots[key] = resolver.read()
        except AccessError as error:
            problems.append(Problem(resolver.name, str(error), "the access service would have nothing from it"))
        finally:
            resolver.stop()
    if problems:
        return CheckResult(tuple(problems), loaded=loaded)
    routing = state.routing(loaded.config, snapshots, loaded.folder)
    warnings = [warning for snapshot in snapshots.values() for warning in snapshot.warnings]
    return CheckResult((), tuple([*warnings, *routing.warnings]), loaded, routing)
