"""Who may import whom (design.md), read from the sources' syntax trees."""

import ast
from collections.abc import Iterator
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
)
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    """Yield the absolute name of every module that a file imports, anywhere in it."""
    package = module_of(path) if path.name == "__init__.py" else module_of(path).rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            for name in node.names:
                inner = f"{origin}.{name.name}"
                yield inner if is_module(inner) else origin


def is_module(name: str) -> bool:
    place = ROOT.joinpath(*name.split("."))
    return any(each.exists() for each in (place.with_suffix(".py"), place.with_suffix(".pyi"), place / "__init__.py"))


def inside(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def offenders(files: list[Path], is_forbidden) -> list[str]:
    return [f"{module_of(path)} imports {name}" for path in files for name in imports(path) if is_forbidden(path, name)]


def of(package: str) -> list[Path]:
    return [path for path in FILES if inside(module_of(path), package)]


def test_there_is_something_to_look_at():
    assert "access.state" in set(imports(ROOT / "access" / "service.py"))
    assert {module_of(path) for path in FILES} > {"access.config.sections", "dl_inference.cli", "torch_predict.server"}


@pytest.mark.parametrize("server", SERVERS)
def test_a_server_imports_of_the_face_only_the_bottom_layer(server):
    forbidden = lambda name: inside(name, "dl_inference") and not any(inside(name, each) for each in BOTTOM)  # noqa: E731
    assert not offenders(of(server), lambda path, name: forbidden(name))


def test_the_bottom_layer_imports_nothing_above_it():
    files = [path for path in of("dl_inference") if any(inside(module_of(path), each) for each in BOTTOM)]
    assert {".".join(module_of(path).split(".")[:2]) for path in files} == set(BOTTOM) - {"dl_inference._native"}
    ours = lambda name: any(inside(name, package) for package in PACKAGES)  # noqa: E731
    assert not offenders(files, lambda path, name: ours(name) and not any(inside(name, each) for each in BOTTOM))


def test_what_the_control_loops_share_knows_neither_of_them():
    allowed = ("access.errors", "dl_inference._native")
    ours = lambda name: any(inside(name, package) for package in PACKAGES)  # noqa: E731
    assert not offenders([ROOT / "access" / "plane.py"], lambda path, name: ours(name) and name not in allowed)


@pytest.mark.parametrize("server", SERVERS)
def test_the_servers_never_import_each_other(server):
    others = [other for other in SERVERS if other != server]
    assert not offenders(of(server), lambda path, name: any(inside(name, other) for other in others))


def test_of_the_face_only_the_command_line_and_serve_import_servers():
    files = [path for path in of("dl_inference") if not module_of(path).startswith("dl_inference.local.")]
    for command in ("access", "access_settings", "check", "check_view", "predict", "registry", "serve_run"):
        files.remove(ROOT / "dl_inference" / "commands" / f"{command}.py")
    assert not offenders(files, lambda path, name: any(inside(name, server) for server in SERVERS))


@pytest.mark.parametrize("library", ["rich", "typer"])
def test_what_is_printed_and_asked_for_is_known_to_the_commands_only(library):
    files = [path for path in FILES if module_of(path) != "dl_inference.cli"]
    files = [path for path in files if not inside(module_of(path), "dl_inference.commands")]
    assert not offenders(files, lambda path, name: inside(name, library))


def test_the_door_imports_commands_and_what_registers_them():
    files = [ROOT / "dl_inference" / "cli.py"]
    assert not offenders(files, lambda path, name: name != "typer" and not inside(name, "dl_inference.commands"))


def test_the_package_itself_exports_the_client_only():
    allowed = ("dl_inference", "dl_inference.client")
    files = [ROOT / "dl_inference" / "__init__.py"]
    ours = lambda path, name: any(inside(name, package) for package in PACKAGES)  # noqa: E731
    assert not offenders(files, lambda path, name: ours(path, name) and name not in allowed)


CLIENT = ("client", "codec")


def test_the_client_imports_only_messages_and_what_it_is_made_of():
    files = [path for path in of("dl_inference") if module_of(path).split(".")[1:2] in [[name] for name in CLIENT]]
    assert {module_of(path).split(".")[1] for path in files} == set(CLIENT)
    allowed = ("dl_inference.messages", *(f"dl_inference.{name}" for name in CLIENT))
    ours = lambda name: any(inside(name, package) for package in PACKAGES)  # noqa: E731
    found = offenders(files, lambda path, name: ours(name) and not any(inside(name, each) for each in allowed))
    # When an error is shown; test_blocking.py checks that the import of the client does without.
    assert found == ["dl_inference.client.errors imports dl_inference._native"]


def test_the_codecs_know_no_network():
    files = of("dl_inference.codec")
    assert files
    allowed = ("dl_inference.messages", "dl_inference.codec")
    ours = lambda name: any(inside(name, package) for package in PACKAGES)  # noqa: E731
    assert not offenders(files, lambda path, name: ours(name) and not any(inside(name, each) for each in allowed))
    assert not offenders(files, lambda path, name: inside(name, "grpc"))


def test_a_source_imports_of_its_package_only_what_is_listed():
    files = [path for path in of("access.discovery") if path.name not in ("__init__.py", "base.py")]
    assert files
    allowed = {f"access.{name}" for name in ("discovery.base", "document", "errors", "fields", "files")}
    # dns.py is made of dns_questions.py, too
    is_part = lambda path, name: name.startswith(f"access.discovery.{path.stem.partition('_')[0]}_")  # noqa: E731
    forbidden = lambda path, name: inside(name, "access") and name not in allowed and not is_part(path, name)  # noqa: E731
    assert not offenders(files, forbidden)


def test_a_runtime_imports_the_base_and_what_tells_formats_apart_but_no_other_runtime():
    files = [path for path in of("torch_predict.runtimes") if path.name not in ("__init__.py", "base.py")]
    assert files
    allowed = {f"torch_predict.{name}" for name in ("runtimes.base", "errors", "pickles", "signature")}
    ours = lambda name: any(inside(name, package) for package in PACKAGES)  # noqa: E731
    assert not offenders(files, lambda path, name: ours(name) and name not in allowed)


def defined_in(path: Path) -> set[str]:
    """Return the names that a file defines itself, at its top."""
    names: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)}
    return names


def test_a_name_is_imported_from_where_it_is_defined():
    """But from a package's front, whose business it is to hand on."""
    folders = ("torch_predict", "tf_predict", "dl_inference.serving", "dl_inference.local")
    handed_on = [
        f"{module_of(path)} imports {node.module}.{name.name}"
        for folder in folders
        for path in of(folder)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module
        if (origin := ROOT.joinpath(*node.module.split(".")).with_suffix(".py")).exists()
        for name in node.names
        if name.name not in defined_in(origin)
    ]
    assert handed_on == []


def test_the_contract_of_a_source_exports_only_its_own():
    names = {
        alias.asname or alias.name
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "access.discovery.base"
        for alias in node.names
    }
    tree = ast.parse((ROOT / "access" / "discovery" / "base.py").read_text())
    own = {node.name for node in tree.body if isinstance(node, ast.ClassDef)} | {
        node.targets[0].id for node in tree.body if isinstance(node, ast.Assign)
    }
    assert names
    assert names <= own


@pytest.mark.parametrize(
    ("library", "package"), [("torch", "torch_predict"), ("safetensors", "torch_predict"), ("tensorflow", "tf_predict")]
)
def test_a_framework_is_imported_in_its_own_package_only(library, package):
    files = [path for path in FILES if not inside(module_of(path), package)]
    assert not offenders(files, lambda path, name: inside(name, library))


def test_tensorflow_is_imported_by_one_file():
    files = [path for path in FILES if any(inside(name, "tensorflow") for name in imports(path))]
    assert [module_of(path) for path in files] == ["tf_predict.saved_model"]


def test_no_name_of_ours_says_nothing():
    assert not [path for path in FILES if path.stem in ("utils", "common", "helpers", "manager")]
