"""Write docs/api.md from the docstrings of the client and of what hooks use; `generate.py` calls it."""

import ast
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FunctionType
from typing import Any

import dl_inference
import torch_predict
from torch_predict import steps
from torch_predict.context import Request
from torch_predict.hooks import Hooks
from torch_predict.metrics import Counter, Gauge, Histogram
from torch_predict.sources import HOOKS, LIFE_HOOKS

_HEAD = """\
# Python API

Written by `make docs` from the docstrings in the code; do not edit. [The client](client.md) and
[the PyTorch server](torch_predict.md#hooks) explain how to use these; this page lists every argument.

Three names in the signatures are short for longer types:

| name | type |
|---|---|
| `Metadata` | `Sequence[tuple[str, str \\| bytes]]` |
| `Kind` | `Literal["tftensor", "tensor", "ndarray"]` |
| `Parameter` | `bool \\| int \\| float \\| str` |

## The client

Import these names from `dl_inference`.
"""

_RESULTS = ("Prediction", "Answer", "Reply", "Signature", "ModelMetadata", "TensorSpec")
_STEPS = (
    *(("images", "decode"), ("classes", "top_k"), ("texts", "tokenizer"), ("texts", "tokenise")),
    *(("templates", "classification"), ("templates", "detection"), ("templates", "segmentation")),
)
_WIDTH = 100
_FILL = 120


def api_page() -> str:
    """Return docs/api.md. tests/project/test_docs.py says which public name it lacks."""
    return "\n".join([_HEAD, *_client(), *_results(), *_errors(), *_hooks()]).rstrip() + "\n"


def _client() -> Iterator[str]:
    client, asynchronous = dl_inference.Client, dl_inference.AsyncClient
    yield from _class("Client", client)
    yield _signature(client.__init__, "Client")
    yield from _arguments(client.__init__)
    methods = [each for name, each in vars(client).items() if isinstance(each, FunctionType) and name[0] != "_"]
    for method in methods:
        yield f"### Client.{method.__name__}\n"
        yield _signature(method, method.__name__)
        yield f"{_parts(method)['']}\n"
        yield from _arguments(method)
    yield from _class("AsyncClient", asynchronous)
    yield (
        "It has the arguments of `Client`, and these methods, with the arguments of `Client`'s, are awaited; "
        "`stream_oip` is iterated by `async for`:"
    )
    names = [name for name in vars(asynchronous) if name[0] != "_"]
    if names != [method.__name__ for method in methods]:
        raise LookupError("AsyncClient has other methods than Client")
    yield textwrap.fill(", ".join(f"`{name}`" for name in names) + ".", _FILL) + "\n"
    yield from _class("Retries", dl_inference.Retries)
    yield from _fields(dl_inference.Retries)
    yield from _class("Signer", dl_inference.Signer)
    yield from _fields(dl_inference.Signer)


def _results() -> Iterator[str]:
    yield "## What calls return\n"
    for name in _RESULTS:
        found = getattr(dl_inference, name)
        yield from _class(name, found)
        yield from _fields(found)


def _errors() -> Iterator[str]:
    yield "## Errors of the client\n"
    call_error = dl_inference.CallError
    yield from _class("CallError", call_error)
    yield "| attribute | meaning |\n|---|---|"
    for name, meaning in _listed(_parts(call_error)["Attributes"]):
        yield f"| `{name}` | {_cell(meaning)} |"
    yield from _properties(call_error)
    yield "\nEach gRPC code has a subclass:\n"
    yield "| class | when |\n|---|---|"
    for name in dl_inference.__all__:
        found = getattr(dl_inference, name)
        if issubclass(found, call_error) and found is not call_error:
            yield f"| `{name}` | {_cell(_parts(found)[''])} |"
    yield "\nThese are subclasses of ValueError, not of CallError:\n"
    yield "| class | when |\n|---|---|"
    for found in (dl_inference.InputError, dl_inference.BadTensorError):
        yield f"| `{found.__name__}` | {_cell(_parts(found)[''])} |"
    yield ""


def _hooks() -> Iterator[str]:
    yield "## Hooks of the PyTorch server\n"
    yield f"{_parts(Hooks)['']}\n"
    meanings = dict(_listed(_parts(Hooks)["Attributes"]))
    for name, usual in {**HOOKS, **LIFE_HOOKS}.items():
        yield f"### {name}\n"
        yield f"```python\ndef {usual}: ...\n```\n"
        yield f"{textwrap.fill(meanings[name], _FILL)}\n"
    yield "Import these names from `torch_predict`.\n"
    for found in (torch_predict.InvalidInput, torch_predict.Error):
        yield from _class(found.__name__, found)
        yield _signature(found.__init__, found.__name__)
        yield from _arguments(found)
    yield from _class("Code", torch_predict.Code)
    yield textwrap.fill(", ".join(f"{code.name} {code.value}" for code in torch_predict.Code) + ".", _FILL) + "\n"
    yield from _functions()
    yield "## Ready-made steps\n"
    yield "Import these modules from `torch_predict.steps`.\n"
    for module, name in _STEPS:
        yield from _step(module, name)


def _functions() -> Iterator[str]:
    """Yield what hooks call, and what that returns."""
    for function in (torch_predict.settings, torch_predict.cancelled, torch_predict.request):
        yield from _function(function)
    yield "| attribute | meaning |\n|---|---|"
    yield from _properties(Request)
    yield ""
    for function, made in (
        (torch_predict.counter, Counter),
        (torch_predict.gauge, Gauge),
        (torch_predict.histogram, Histogram),
    ):
        yield from _function(function)
        (use,) = (each for name, each in vars(made).items() if isinstance(each, FunctionType) and name[0] != "_")
        yield f"A {made.__name__} has one method:\n"
        yield _signature(use, use.__name__)
        yield f"{_parts(use)['']}\n"
        yield from _arguments(use)
    for function in (torch_predict.joined, torch_predict.batched, torch_predict.method):
        yield from _function(function)


def _function(function: Any) -> Iterator[str]:
    yield f"### {function.__name__}\n"
    if function not in (torch_predict.joined, torch_predict.batched, torch_predict.method):  # their signatures say less
        yield _signature(function, function.__name__)
    yield f"{_parts(function)['']}\n"
    yield from _arguments(function)


def _step(module: str, name: str) -> Iterator[str]:
    """Describe a function by its source: the package that its module needs may be missing here."""
    source = (Path(steps.__path__[0]) / f"{module}.py").read_text()
    node = next(each for each in ast.parse(source).body if isinstance(each, ast.FunctionDef) and each.name == name)
    parts = _sections(ast.get_docstring(node) or "")
    yield f"### {module}.{name}\n"
    yield _written(node, name)
    yield f"{parts['']}\n"
    yield from _described(parts)


def _class(name: str, found: type) -> Iterator[str]:
    yield f"### {name}\n"
    yield f"{_parts(found)['']}\n"


def _parts(found: Any) -> dict[str, str]:
    """Return a docstring's text under "", and its sections (Args, Attributes, Raises) by name."""
    return _sections(inspect.getdoc(found) or "")


def _sections(text: str) -> dict[str, str]:
    pieces = re.split(r"^(Args|Attributes|Raises|Returns):\n", text, flags=re.MULTILINE)
    sections = dict(zip(pieces[1::2], map(textwrap.dedent, pieces[2::2]), strict=True))
    return {"": _markdown(pieces[0].strip()), **{name: section.strip() for name, section in sections.items()}}


def _listed(section: str) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each entry of a section."""
    for entry in re.split(r"\n(?=\S)", section):
        name, _, meaning = entry.partition(": ")
        yield name, _markdown(re.sub(r"\s+", " ", meaning))


def _markdown(text: str) -> str:
    return text.replace("``", "`")


def _cell(text: str) -> str:
    """Return a text as one cell of a table, with a capital letter."""
    text = re.sub(r"\s+", " ", text).replace("|", "\\|")
    return text[:1].upper() + text[1:]


def _type(annotation: str) -> str:
    return "`{}`".format(annotation.replace("T_co", "Any").replace("|", "\\|"))


def _signature(function: Any, name: str) -> str:
    """Return the signature as it is written in the source; a long one with a line for each argument."""
    node = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    assert isinstance(node, ast.FunctionDef)
    node.args.args = [each for each in node.args.args if each.arg != "self"]
    return _written(node, name)


def _written(node: ast.FunctionDef, name: str) -> str:
    arguments = re.split(r", (?![^\[]*\])", ast.unparse(node.args))
    arguments = [re.sub(r"^(\w+: .+?)=", r"\1 = ", each) for each in arguments]
    result = f" -> {name}" if node.name == "__init__" else f" -> {ast.unparse(node.returns)}" if node.returns else ""
    line = f"def {name}({', '.join(arguments)}){result}: ..."
    if len(line) > _WIDTH:
        line = f"def {name}(\n" + "".join(f"    {each},\n" for each in arguments) + f"){result}: ..."
    return f"```python\n{line}\n```\n"


def _arguments(found: Any) -> Iterator[str]:
    yield from _described(_parts(found))


def _described(parts: Mapping[str, str]) -> Iterator[str]:
    if "Args" in parts:
        yield "| argument | meaning |\n|---|---|"
        yield from (f"| `{name}` | {_cell(meaning)} |" for name, meaning in _listed(parts["Args"]))
        yield ""
    if "Raises" in parts:
        yield "\n".join(f"Raises `{name}`: {meaning}" for name, meaning in _listed(parts["Raises"])) + "\n"


def _fields(found: type) -> Iterator[str]:
    """Yield the fields of a data class, inherited ones last, and its properties."""
    meanings: dict[str, str] = {}
    types: dict[str, str] = {}
    for each in reversed(found.__mro__[:-1]):
        if dataclasses.is_dataclass(each):
            meanings |= dict(_listed(_parts(each).get("Attributes", "")))
            body = ast.parse(textwrap.dedent(inspect.getsource(each))).body[0].body
            types |= {node.target.id: ast.unparse(node.annotation) for node in body if isinstance(node, ast.AnnAssign)}
    own = list(inspect.get_annotations(found))
    fields = sorted(dataclasses.fields(found), key=lambda field: field.name not in own)
    yield "| attribute | type | meaning |\n|---|---|---|"
    for field in fields:
        default = "" if field.default is dataclasses.MISSING else f" Default: `{field.default!r}`."
        yield f"| `{field.name}` | {_type(types[field.name])} | {_cell(meanings[field.name])}{default} |"
    for name, value in inspect.getmembers(found, lambda member: isinstance(member, property)):
        kind = ast.parse(textwrap.dedent(inspect.getsource(value.fget))).body[0].returns
        yield f"| `{name}` | {_type(ast.unparse(kind))} | {_cell(_parts(value)[''])} |"
    yield ""


def _properties(found: type) -> Iterator[str]:
    for name, value in inspect.getmembers(found, lambda member: isinstance(member, property)):
        yield f"| `{name}` | {_cell(_parts(value)[''])} |"
