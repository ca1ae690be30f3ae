"""What can be told of a model folder's own Python files without running any of them.

`dl-inference check` says it before a server is started; what only running tells, loading says.
"""

from __future__ import annotations

import _compat_pickle
import ast
import difflib
import importlib.util
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

from dl_inference.problem import Problem
from torch_predict.pickles import names_in_pickle

HOOKS = {
    "preprocess": "preprocess(x, **kwargs)",
    "run_model": "run_model(model, x, **kwargs)",
    "postprocess": "postprocess(x, **kwargs)",
}
"""Each hook of a request, and how it is usually written."""

LIFE_HOOKS = {"initialise": "initialise(model, **kwargs)", "finish": "finish()"}
"""Each hook of a process, likewise. They came later: a function of that name that cannot be one is let alone."""

_ALIKE = 0.85
"""As difflib counts: ``postproces`` and ``preprocessing`` are like a hook's name, ``preprocess_image`` is not."""

_OURS = ("dl_inference", "access", "torch_predict", "tf_predict")

_NOWHERE = ModuleSpec("", None)

_Function = ast.FunctionDef | ast.AsyncFunctionDef


def misnamed(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return the names that look like a hook's which is not among them, with that hook."""
    names = list(names)
    plain = {hook.replace("_", ""): hook for hook in HOOKS if hook not in names}
    found = []
    for name in names:
        if not name.startswith("_") and name not in HOOKS:
            near = difflib.get_close_matches(name.lower().replace("_", ""), plain, 1, _ALIKE)
            found += [(name, plain[hook]) for hook in near]
    return found


def misnaming(name: str, hook: str) -> tuple[str, str]:
    """Return what is wrong with such a name, and what to do."""
    remedy = f"name it {hook}, or with a leading underscore if it is not meant to be one"
    return f"{name} is not a hook's name, so it would not be called", remedy


def hooks_in(folder: Path) -> list[str]:
    """Return the hooks that processor.py of a folder seems to have; `*` for whatever a star import brings."""
    tree = _parsed(folder / "processor.py", [])
    if tree is None:
        return []
    names = {node.name for node in tree.body if isinstance(node, _Function)} | set(_bound(tree))
    return [name for name in (*HOOKS, *LIFE_HOOKS, "*") if name in names]


def methods_in(folder: Path) -> list[str]:
    """Return the methods that processor.py of a folder seems to mark, as callers name them."""
    tree = _parsed(folder / "processor.py", [])
    marks = [
        (node.name, mark)
        for node in (tree.body if tree is not None else ())
        if isinstance(node, _Function)
        for mark in node.decorator_list
    ]
    return [name for function, mark in marks if (name := _method_of(function, mark))]


def _method_of(function: str, mark: ast.expr) -> str:
    """Return the name that a decorator gives a function as a method; "" where it is another decorator."""
    given = mark.args[0] if isinstance(mark, ast.Call) and mark.args else None
    target = mark.func if isinstance(mark, ast.Call) else mark
    called = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")
    if called != "method":
        return ""
    return str(given.value) if isinstance(given, ast.Constant) else function


def problems(folder: Path, *, needs_model_py: bool, model_file: str, has_own_packages: bool = False) -> list[Problem]:
    """Return what is wrong with processor.py and model.py of a folder, as far as their text tells.

    Args:
        folder: of one version.
        needs_model_py: the model's file holds weights only.
        model_file: its name.
        has_own_packages: it runs in another interpreter than this one.
    """
    found: list[Problem] = []
    processor = _parsed(folder / "processor.py", found)
    if processor is not None:
        found += _processor_problems(folder / "processor.py", processor)
    model = _parsed(folder / "model.py", found)
    if model is not None:
        names = {node.name for node in model.body if isinstance(node, ast.ClassDef | ast.FunctionDef)} | set(
            _bound(model)
        )
        if needs_model_py and "Model" not in names and "*" not in names:
            remedy = "define 'class Model(torch.nn.Module)' that takes no arguments"
            found.append(Problem(str(folder / "model.py"), "has no Model", remedy))
    elif needs_model_py and not (folder / "model.py").exists():
        text = f"is missing: {model_file} holds weights only"
        found.append(Problem(str(folder / "model.py"), text, "write a class Model there"))
    for file, tree in ((folder / "processor.py", processor), (folder / "model.py", model)):
        found += _import_problems(folder, file, tree) if tree is not None and not has_own_packages else []
    return found


def hidden_modules(folder: Path) -> list[Problem]:
    """Return the folder's own modules that have the name of another one: one of the two hides the other.

    The folder comes first where Python looks for modules, but what the server has imported before stays.
    """
    found = []
    for place in sorted(folder.iterdir()):
        is_module = place.suffix == ".py" or (place / "__init__.py").is_file()
        name = place.stem if place.suffix == ".py" else place.name
        if not is_module or name in ("processor", "model"):
            continue
        if name in _OURS:
            whose = "dl-inference"
        elif name in sys.stdlib_module_names:
            whose = "Python's standard library"
        elif _is_in_site_packages(name):
            whose = "an installed package"
        else:
            continue
        text = f"has the name of a module of {whose}: one of the two hides the other"
        found.append(Problem(str(place), text, f"rename it, for example to my_{name}"))
    return found


def pickled_problems(file: Path) -> list[Problem]:
    """Return the classes that a pickled model needs, and that no server could find, without unpickling it."""
    found = []
    for name in sorted(names_in_pickle(file) or ()):
        top = name.partition(".")[0]
        top = _compat_pickle.IMPORT_MAPPING.get(top, top)  # a pickle has some modules by their names in Python 2
        if top == "__main__":
            text = f"needs {name}, which only the script that saved it has"
            remedy = "move the class to a module of its own beside the model, import it in the script, and save again"
        elif not _is_beside(file.parent, top) and not _is_installed(top):
            text = f"needs {name}, and {top} is not installed"
            remedy = f"put {top}.py beside it, or {install(top)}"
        else:
            continue
        found.append(Problem(str(file), text, remedy))
    return found


def _parsed(file: Path, found: list[Problem]) -> ast.Module | None:
    try:
        return ast.parse(file.read_bytes(), str(file))
    except FileNotFoundError:
        return None
    except OSError as error:
        found.append(Problem(str(file), f"cannot be read: {error.strerror}", "let the server's user read it"))
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)  # none where the file holds a zero byte
        place = f"{file}:{line}" if line else str(file)
        found.append(Problem(place, f"is not Python: {error}", "correct this line"))
    return None


def _processor_problems(file: Path, tree: ast.Module) -> list[Problem]:
    functions = {node.name: node for node in tree.body if isinstance(node, _Function)}
    found = [
        Problem(f"{file}:{functions[name].lineno}", *misnaming(name, hook))
        for name, hook in misnamed([*functions, *_bound(tree)])
        if name in functions
    ]
    for hook, usual in HOOKS.items():
        node = functions.get(hook)
        if node is None:
            continue
        fault = _signature_fault(node, 2 if hook == "run_model" else 1)
        if fault:
            found.append(Problem(f"{file}:{node.lineno}", f"{hook} {fault}", f"define {usual}"))
    return found


def _signature_fault(node: _Function, positional: int) -> str | None:
    """Say why a hook cannot be called with so many positional arguments, with or without ``meta``."""
    if isinstance(node, ast.AsyncFunctionDef):
        return "is async"
    if node.decorator_list:  # which may change what it takes
        return None
    arguments = node.args
    by_place = [*arguments.posonlyargs, *arguments.args]
    required = [each.arg for each in by_place[: len(by_place) - len(arguments.defaults)]]
    missing = [name for name in required[positional:] if name != "meta"]
    pairs = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    missing += [each.arg for each, default in pairs if default is None and each.arg != "meta"]
    if missing:
        return f"needs {', '.join(missing)}, which hooks do not get"
    if len(by_place) < positional and arguments.vararg is None:
        return f"takes {len(by_place)} arguments, and is given {positional}"
    return None


def _import_problems(folder: Path, file: Path, tree: ast.Module) -> Iterator[Problem]:
    for node in tree.body:  # not those in try, if or a function: there it may be meant to fail
        names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        for top in dict.fromkeys(name.partition(".")[0] for name in names):
            if not _is_beside(folder, top) and not _is_installed(top):
                place = f"{file}:{node.lineno}"
                yield Problem(place, f"imports {top}, which is not installed", install(top))


def _is_beside(folder: Path, name: str) -> bool:
    return (folder / f"{name}.py").exists() or (folder / name).is_dir() or bool(list(folder.glob(f"{name}.*.so")))


def _is_in_site_packages(name: str) -> bool:
    try:
        origin = (importlib.util.find_spec(name) or _NOWHERE).origin
    except (ImportError, ValueError):
        return False
    places = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    return origin is not None and any(Path(origin).is_relative_to(place) for place in places)


def install(name: str) -> str:
    """Return what to do where a module is not there."""
    pip = "pip" if sys.prefix == sys.base_prefix else f"{sys.executable} -m pip"  # whose environment is meant
    return f"install the package that brings it ({pip} install {name}, if it has the same name)"


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):  # ValueError: a module without a spec, which is there
        return True


def _bound(tree: ast.Module) -> Iterator[str]:
    """Yield the names that a module's top level assigns or imports; ``*`` for a star import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (each.asname or each.name for each in node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
