"""Load the user's processor.py once and check once how its hooks want to be called.

What counts as a hook follows ``from processor import *`` of the original server: names that such an import
brings over, `run_model` only as a plain function. New: a hook that takes no ``**kwargs`` is called without them.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from dl_inference.serving.load_error import LoadError
from torch_predict import methods
from torch_predict.context import settings
from torch_predict.errors import BadAnswer
from torch_predict.marks import Mode, mode_of
from torch_predict.modules import import_from, place_of
from torch_predict.sources import HOOKS, LIFE_HOOKS, misnamed, misnaming

_LOGGER = logging.getLogger(__name__)

Meta = dict[str, Any]


@dataclass(frozen=True)
class Hooks:
    """Functions that processor.py may define; each is optional.

    Every hook may take the keyword argument ``meta``: the request's meta as a dict, with ``tags`` and ``puid`` where
    the request has them, and ``{}`` where it has no meta. A hook without ``**kwargs`` and without ``meta`` is called
    without it.

    Attributes:
        preprocess: Turns the request's payload into the model's input. ``x`` is a float64 array for a Seldon tensor,
            an array of the sent type for ``tftensor`` and for the Open Inference Protocol, bytes, str, or the value
            of ``jsonData``. Return an array, a tensor, a tuple or dict of them, or whatever ``run_model`` takes.
            Without it, arrays become tensors on the model's device, and floats are cast to the model's dtype.
        run_model: Runs the model. ``model`` is the loaded model and ``x`` is the result of ``preprocess``, with arrays
            converted to tensors. It runs without gradients. Return what ``postprocess`` takes. Without it,
            ``model(x)`` is called.
        postprocess: Turns the model's result into the answer. Return an array, a list, a dict that JSON can hold,
            str or bytes. Without it, tensors become numpy arrays.
        initialise: Is called once with the loaded model, on its device, before the warm-up. It may take the keyword
            argument ``settings``: those of model.yaml. Return a model to use in place of this one, or None.
        finish: Is called once at the end, after the last answer, in the thread that ran the hooks. It has 5 seconds.
        methods: By name, the functions that ``torch_predict.method`` marks.
    """

    preprocess: Callable[[Any, Meta], Any] | None = None
    run_model: Callable[[Any, Any, Meta], Any] | None = None
    postprocess: Callable[[Any, Meta], Any] | None = None
    modes: Mapping[str, Mode] = field(default_factory=dict)
    """How each of them wants to be called, by its name."""
    batched: Mapping[str, Callable[..., list[Any]]] = field(default_factory=dict)
    """Those that take lists, by name: of payloads and of metas, `run_model` of a model before."""
    initialise: Callable[[Callable[..., Any]], Any] | None = None
    finish: Callable[[], Any] | None = None
    methods: Mapping[str, Callable[[Any, Any, Meta], Any]] = field(default_factory=dict)

    def method_of(self, meta: Meta) -> Callable[[Any, Any, Meta], Any] | None:
        """Return the method that a request names; None where it names none.

        Raises:
            InvalidInput: the model has methods, but not this one.
        """
        return methods.chosen(self.methods, meta.get("tags", {})) if self.methods else None


def load(folder: Path) -> Hooks:
    """Import the folder's processor.py and return its hooks; none at all where there is no such file.

    Raises:
        LoadError: the file fails, or a hook cannot be called as hooks are.
    """
    if not (folder / "processor.py").is_file():
        return Hooks()
    module = import_from(folder, "processor")
    own = [name for name, value in vars(module).items() if inspect.isfunction(value)]
    for name, hook in misnamed(own):
        raise LoadError(module.__file__, *misnaming(name, hook))
    if "initialize" in own and "initialise" not in own:
        _LOGGER.warning("%s: initialize is not a hook's name: the hook is initialise", module.__file__)
    modes: dict[str, Mode] = {}
    batched: dict[str, Callable[..., list[Any]]] = {}
    return Hooks(
        preprocess=_hook(module, "preprocess", 0, modes, batched),
        run_model=_hook(module, "run_model", 1, modes, batched),
        postprocess=_hook(module, "postprocess", 0, modes, batched),
        modes=modes,
        batched=batched,
        initialise=_initialise(module),
        finish=_finish(module),
        methods={name: _with_model(module, name, each) for name, each in methods.marked(module).items()},
    )


def _hook(
    module: ModuleType,
    name: str,
    before: int,
    modes: dict[str, Mode],
    batched: dict[str, Callable[..., list[Any]]],
) -> Callable[..., Any] | None:
    """Return a hook that takes one request: `before` other arguments, what it brought, its meta."""
    function = _exported(module, name)
    if function is None:
        return None
    if name == "run_model" and not inspect.isfunction(function):
        _LOGGER.warning(
            "%s: run_model is a %s, not a plain function, so it is not used", module.__file__, type(function).__name__
        )
        return None
    mode = modes[name] = mode_of(function)
    keyword = "metas" if mode == "batched" else "meta"
    takes_meta = _takes(module, name, function, before + 1, keyword)
    if mode != "batched":
        if before:
            return (
                (lambda model, x, meta: function(model, x, meta=meta))
                if takes_meta
                else (lambda model, x, meta: function(model, x))
            )
        return (lambda x, meta: function(x, meta=meta)) if takes_meta else (lambda x, meta: function(x))

    def of_many(*arguments: Any) -> list[Any]:
        return function(*arguments[:-1], **({"metas": arguments[-1]} if takes_meta else {}))  # type: ignore[no-any-return]

    def of_one(*arguments: Any) -> Any:
        *others, x, meta = arguments
        results = of_many(*others, [x], [meta])
        if not isinstance(results, list | tuple) or len(results) != 1:
            raise BadAnswer(f"{name} is batched, and returned no list with one result for one request")
        if isinstance(results[0], BaseException):
            raise results[0]
        return results[0]

    batched[name] = of_many
    return of_one


def _with_model(module: ModuleType, name: str, function: Callable[..., Any]) -> Callable[[Any, Any, Meta], Any]:
    """Return run_model, or a method, as the predictor calls it."""
    if _takes(module, name, function, 2, "meta"):
        return lambda model, x, meta: function(model, x, meta=meta)
    return lambda model, x, meta: function(model, x)


def _initialise(module: ModuleType) -> Callable[[Callable[..., Any]], Any] | None:
    function = _life_hook(module, "initialise", lambda each: _binds(each, None) or _takes_settings(each))
    if function is None:
        return None
    given = {"settings": settings()} if _takes_settings(function) else {}

    def initialise(model: Callable[..., Any]) -> Any:
        try:
            return function(model, **given)
        except BaseException as error:  # sys.exit() in it must not end the server without a word
            place = place_of(Path(str(module.__file__)), error)
            text = f"initialise failed: {type(error).__name__}: {error}"
            raise LoadError(place, text, "correct this line of the file") from error

    return initialise


def _finish(module: ModuleType) -> Callable[[], Any] | None:
    return _life_hook(module, "finish", _binds)


def _takes_settings(function: Callable[..., Any]) -> bool:
    return _binds(function, None, settings=None)


def _life_hook(module: ModuleType, name: str, fits: Callable[[Callable[..., Any]], bool]) -> Callable[..., Any] | None:
    """Return a hook of the process; None where there is none, or one of older days that happens to be called so."""
    function = _exported(module, name)
    if function is None:
        return None
    if not inspect.isfunction(function) or inspect.iscoroutinefunction(function) or not fits(function):
        _LOGGER.warning("%s: %s is not used as a hook: define %s", module.__file__, name, LIFE_HOOKS[name])
        return None
    return function


def _binds(function: Callable[..., Any], *arguments: object, **named: object) -> bool:
    try:
        inspect.signature(function).bind(*arguments, **named)
    except (TypeError, ValueError):
        return False
    return True


def _exported(module: ModuleType, name: str) -> Any:
    public = getattr(module, "__all__", None)
    if public is not None and name not in public:
        return None
    function = getattr(module, name, None)
    if function is not None and not callable(function) and name in HOOKS:
        raise LoadError(
            module.__file__, f"{name} is a {type(function).__name__}, not a function", f"define {HOOKS[name]}"
        )
    return function


def _takes(module: ModuleType, name: str, function: Callable[..., Any], positional: int, keyword: str) -> bool:
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise LoadError(module.__file__, f"{name} is async", f"define {_usual(name)} without async")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a builtin tells nothing about its arguments, and takes no meta
        return False
    arguments = [None] * positional
    try:
        signature.bind(*arguments, **{keyword: {}})
    except TypeError:
        pass
    else:
        return True
    try:
        signature.bind(*arguments)
    except TypeError as error:
        raise LoadError(
            module.__file__, f"{name}{signature} cannot be called as a hook: {error}", f"define {_usual(name)}"
        ) from None
    return False


def _usual(name: str) -> str:
    return HOOKS.get(name, f"{name}(model, x, **kwargs)")
