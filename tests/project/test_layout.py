"""Who may import whom (design.md), read from the sources' syntax trees.

Each rule is a function from the sources to the offenders, so that it can be shown to fail when it is broken.
"""

import ast
import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("dl_inference", "access", "torch_predict", "tf_predict")
SERVERS = ("access", "torch_predict", "tf_predict")
BOTTOM = (
    "dl_inference.messages",
    "dl_inference._native",
    "dl_inference.address",
    "dl_inference.code",
    "dl_inference.names",
    "dl_inference.problem",
    "dl_inference.registry",
    "dl_inference.variables",
    "dl_inference.serving",
    "dl_inference.codec",
)
COMPILED = "dl_inference._native"

CLIENT = ("dl_inference.client", "dl_inference.codec")
CLIENT_USES = ("dl_inference.messages", "dl_inference.address", *CLIENT)
SHOWN_ERRORS = "dl_inference.client.errors"
"""Knows compiled code, when an error is shown; test_blocking.py checks that the import of the client does without."""

COMMAND_LINE = ("dl_inference.__main__", "dl_inference.cli", "dl_inference.commands")
KNOW_SERVERS = (
    "dl_inference.local",
    *(
        f"dl_inference.commands.{name}"
        for name in (
            "access",
            "access_settings",
            "callers",
            "callers_view",
            "check",
            "check_view",
            "predict",
            "predict_run",
            "registry",
            "serve_run",
        )
    ),
)

FRONTS = ("dl_inference.client", "access.discovery", "torch_predict.runtimes")
"""Packages whose business it is to hand on what others define."""

REGISTRY_ROOMS = tuple(f"dl_inference.registry.{name}" for name in ("announcing", "following", "releases"))

FRAMEWORKS = {"torch": "torch_predict", "safetensors": "torch_predict", "tensorflow": "tf_predict.saved_model"}

Sources = Mapping[str, str]
"""Module -> its text."""
Rule = Callable[[Sources], list[str]]


@functools.cache
def on_disk() -> Sources:
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text()
    return found


@functools.cache
def parsed(source: str) -> ast.Module:
    return ast.parse(source)


@functools.cache
def import_statements(source: str) -> tuple[ast.Import | ast.ImportFrom, ...]:
    """Return every import of a source: lazy ones, and those for the type checker, too."""
    return tuple(node for node in ast.walk(parsed(source)) if isinstance(node, ast.Import | ast.ImportFrom))


def origin_of(node: ast.ImportFrom, module: str, sources: Sources) -> str:
    """Return the absolute name of the module that is imported from."""
    if not node.level:
        return node.module or ""
    is_package = any(name.startswith(f"{module}.") for name in sources)
    base = module.split(".") if is_package else module.split(".")[:-1]
    return ".".join([*base[: len(base) - node.level + 1], *([node.module] if node.module else [])])


def imports(module: str, sources: Sources) -> Iterator[str]:
    """Yield the absolute name of every module that a module imports, anywhere in it."""
    for node in import_statements(sources[module]):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
            continue
        origin = origin_of(node, module, sources)
        for name in node.names:
            inner = f"{origin}.{name.name}"
            yield inner if inner in sources or inner == COMPILED else origin


def inside(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def is_ours(name: str) -> bool:
    return inside(name, *PACKAGES)


def offenders(sources: Sources, forbidden: Callable[[str, str], bool]) -> list[str]:
    """Return the imports that are forbidden to a module."""
    return [
        f"{module} imports {name}" for module in sources for name in imports(module, sources) if forbidden(module, name)
    ]


def servers_use_of_the_face_only_the_bottom_layer(sources: Sources) -> list[str]:
    return offenders(
        sources,
        lambda module, name: inside(module, *SERVERS) and inside(name, "dl_inference") and not inside(name, *BOTTOM),
    )


def the_bottom_layer_knows_nothing_above_it(sources: Sources) -> list[str]:
    return offenders(
        sources, lambda module, name: inside(module, *BOTTOM) and is_ours(name) and not inside(name, *BOTTOM)
    )


def servers_never_know_each_other(sources: Sources) -> list[str]:
    return offenders(
        sources,
        lambda module, name: (
            inside(module, *SERVERS) and inside(name, *SERVERS) and module.split(".")[0] != name.split(".")[0]
        ),
    )


def what_the_control_loops_share_knows_neither_of_them(sources: Sources) -> list[str]:
    allowed = ("access.errors", COMPILED)
    return offenders(sources, lambda module, name: module == "access.plane" and is_ours(name) and name not in allowed)


def servers_are_known_to_commands_and_serve_only(sources: Sources) -> list[str]:
    return offenders(
        sources,
        lambda module, name: (
            inside(module, "dl_inference") and not inside(module, *KNOW_SERVERS) and inside(name, *SERVERS)
        ),
    )


def the_command_line_is_known_to_itself_only(sources: Sources) -> list[str]:
    return offenders(sources, lambda module, name: inside(name, *COMMAND_LINE) and not inside(module, *COMMAND_LINE))


def what_is_printed_and_asked_for_is_known_to_the_command_line_only(sources: Sources) -> list[str]:
    return offenders(sources, lambda module, name: inside(name, "rich", "typer") and not inside(module, *COMMAND_LINE))


def the_door_imports_commands_and_what_registers_them(sources: Sources) -> list[str]:
    return offenders(
        sources,
        lambda module, name: (
            module == "dl_inference.cli"
            and not inside(name, "typing", "typer", "dl_inference.commands", "dl_inference.serving.ending")
        ),
    )


def the_package_itself_exports_the_client_only(sources: Sources) -> list[str]:
    return offenders(
        sources, lambda module, name: module == "dl_inference" and is_ours(name) and name != "dl_inference.client"
    )


def the_client_imports_only_messages_and_what_it_is_made_of(sources: Sources) -> list[str]:
    return offenders(
        sources,
        lambda module, name: (
            inside(module, *CLIENT)
            and is_ours(name)
            and not inside(name, *CLIENT_USES)
            and (module, name) != (SHOWN_ERRORS, COMPILED)
        ),
    )


def the_codecs_know_no_client_and_no_network(sources: Sources) -> list[str]:
    allowed = ("dl_inference.messages", "dl_inference.codec")
    return offenders(
        sources,
        lambda module, name: (
            inside(module, "dl_inference.codec")
            and (inside(name, "grpc") or (is_ours(name) and not inside(name, *allowed)))
        ),
    )


def a_source_of_endpoints_imports_of_its_package_only_what_is_listed(sources: Sources) -> list[str]:
    allowed = {f"access.{name}" for name in ("discovery.base", "document", "errors", "fields", "files")}

    def forbidden(module: str, name: str) -> bool:
        if not module.startswith("access.discovery.") or module == "access.discovery.base":
            return False
        # dns.py is made of dns_questions.py, too
        part = f"{module.partition('_')[0]}_"
        return inside(name, "access") and name not in allowed and not name.startswith(part)

    return offenders(sources, forbidden)


def the_configuration_knows_nothing_that_runs(sources: Sources) -> list[str]:
    return offenders(
        sources,
        lambda module, name: inside(module, "access.config") and inside(name, "access.following", "access.service"),
    )


def the_rooms_of_the_registry_never_know_each_other(sources: Sources) -> list[str]:
    return offenders(
        sources,
        lambda module, name: any(
            inside(module, room) and inside(name, *REGISTRY_ROOMS) and not inside(name, room) for room in REGISTRY_ROOMS
        ),
    )


def a_runtime_knows_no_other_runtime(sources: Sources) -> list[str]:
    """It imports the base, and what tells formats apart."""
    ours = {
        f"torch_predict.{name}"
        for name in ("runtimes.base", "arguments", "arrays", "errors", "outputs", "pickles", "signature")
    }
    allowed = {"dl_inference.serving.load_error", *ours}
    return offenders(
        sources,
        lambda module, name: (
            module.startswith("torch_predict.runtimes.")
            and module != "torch_predict.runtimes.base"
            and is_ours(name)
            and name not in allowed
        ),
    )


def a_framework_is_known_in_one_place(sources: Sources) -> list[str]:
    return offenders(
        sources,
        lambda module, name: any(
            inside(name, library) and not inside(module, place) for library, place in FRAMEWORKS.items()
        ),
    )


@functools.cache
def defined_in(source: str) -> frozenset[str]:
    """Return the names that a source defines itself, at its top."""
    names: set[str] = set()
    for node in parsed(source).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)}
    return frozenset(names)


def a_name_is_imported_from_where_it_is_defined(sources: Sources) -> list[str]:
    """But from a package's front, whose business it is to hand on."""
    return [
        f"{module} imports {name.name} from {origin}, which does not define it"
        for module, source in sources.items()
        for node in import_statements(source)
        if isinstance(node, ast.ImportFrom)
        and (origin := origin_of(node, module, sources)) in sources
        and origin not in FRONTS
        for name in node.names
        if f"{origin}.{name.name}" not in {*sources, COMPILED} and name.name not in defined_in(sources[origin])
    ]


def no_circles(sources: Sources) -> list[str]:
    """Return the modules that are left when those are taken away that import none of the rest: each is in a circle, or
    leads to one. A package and what lies below it are no exception."""
    left = {module: {name for name in imports(module, sources) if name in sources} for module in sources}
    while free := [module for module, targets in left.items() if not targets & left.keys()]:
        for module in free:
            del left[module]
    return sorted(left)


def no_name_says_nothing(sources: Sources) -> list[str]:
    return [name for name in sources if name.rpartition(".")[2] in ("utils", "common", "helpers", "manager")]


BREAKS: dict[Rule, list[tuple[str, str]]] = {
    servers_use_of_the_face_only_the_bottom_layer: [
        ("access.service", "from dl_inference.client import Client"),
        ("tf_predict.server", "import dl_inference.local.routes"),
        ("torch_predict.server", "def late():\n    from dl_inference.client import calls"),
    ],
    the_bottom_layer_knows_nothing_above_it: [
        ("dl_inference.registry.session", "from dl_inference.local import routes"),
        ("dl_inference.serving.limits", "import access.fields"),
    ],
    servers_never_know_each_other: [
        ("torch_predict.server", "from tf_predict import answers"),
        ("access.service", "import torch_predict.oip"),
    ],
    what_the_control_loops_share_knows_neither_of_them: [("access.plane", "from access import service")],
    servers_are_known_to_commands_and_serve_only: [
        ("dl_inference.commands.call", "from access.config import load"),
        ("dl_inference.client.blocking", "import tf_predict"),
    ],
    the_command_line_is_known_to_itself_only: [
        ("dl_inference.local.service", "from dl_inference.commands import words"),
        ("access.service", "def late():\n    import dl_inference.cli"),
    ],
    what_is_printed_and_asked_for_is_known_to_the_command_line_only: [
        ("dl_inference.local.look", "from rich.table import Table"),
        ("access.check", "import typer"),
    ],
    the_door_imports_commands_and_what_registers_them: [("dl_inference.cli", "from dl_inference.local import service")],
    the_package_itself_exports_the_client_only: [("dl_inference", "from dl_inference import address")],
    the_client_imports_only_messages_and_what_it_is_made_of: [
        ("dl_inference.client.channel", "from dl_inference.registry import schema"),
        ("dl_inference.client.blocking", "import dl_inference._native"),
    ],
    the_codecs_know_no_client_and_no_network: [
        ("dl_inference.codec.tfs", "import grpc"),
        ("dl_inference.codec.tfs", "from dl_inference.client import calls"),
    ],
    a_source_of_endpoints_imports_of_its_package_only_what_is_listed: [
        ("access.discovery.dns", "from access.discovery import file_content"),
        ("access.discovery.file_values", "from access import state"),
    ],
    the_configuration_knows_nothing_that_runs: [
        ("access.config.load", "from access.following import watch"),
        (
            "access.config.sections",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from access import service",
        ),
    ],
    the_rooms_of_the_registry_never_know_each_other: [
        ("dl_inference.registry.following.tree", "from dl_inference.registry.releases import store"),
        ("dl_inference.registry.releases.store", "from ..announcing import nodes"),
    ],
    a_runtime_knows_no_other_runtime: [
        ("torch_predict.runtimes.eager", "from torch_predict.runtimes import pickled"),
        ("torch_predict.runtimes.pickled", "from torch_predict import hooks"),
    ],
    a_framework_is_known_in_one_place: [
        ("tf_predict.server", "import tensorflow"),
        ("access.service", "import torch"),
        ("tf_predict.codec", "from safetensors import torch"),
    ],
    a_name_is_imported_from_where_it_is_defined: [
        ("access.service", "from access.discovery.base import Section"),
        ("torch_predict.server", "from torch_predict.errors import Problem"),
        ("dl_inference.local.service", "from .routes import Path"),
    ],
    no_circles: [
        ("access.errors", "import access.service"),
        ("dl_inference.names", "def late():\n    from dl_inference.registry import schema"),
        (
            "torch_predict.runtimes.base",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from . import RUNTIMES",
        ),
    ],
    no_name_says_nothing: [("access.utils", "")],
}


def test_there_is_something_to_look_at():
    sources = on_disk()
    assert "access.state" in set(imports("access.service", sources))
    assert sources.keys() > {"access.config.sections", "dl_inference.cli", "torch_predict.server"}


def test_every_module_that_a_rule_speaks_of_exists():
    named = {*BOTTOM, *CLIENT, *COMMAND_LINE, *KNOW_SERVERS, *FRONTS, *REGISTRY_ROOMS, *FRAMEWORKS.values()}
    named |= {"access.plane", "access.discovery.base", "torch_predict.runtimes.base", SHOWN_ERRORS}
    assert named - on_disk().keys() == {COMPILED}
    assert COMPILED in set(imports(SHOWN_ERRORS, on_disk()))


@pytest.mark.parametrize("rule", BREAKS, ids=lambda rule: rule.__name__)
def test_the_packages_keep_the_rule(rule):
    assert rule(on_disk()) == []


@pytest.mark.parametrize(
    ("rule", "module", "lines"),
    [(rule, *broken) for rule, breaks in BREAKS.items() for broken in breaks],
    ids=lambda value: value.__name__ if callable(value) else value if "\n" not in value else "",
)
def test_a_broken_rule_is_seen(rule, module, lines):
    sources = {**on_disk(), module: f"{on_disk().get(module, '')}\n{lines}\n"}
    assert rule(sources)
