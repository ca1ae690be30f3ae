"""TorchScript archives (model.pt of `torch.jit.save`): still loaded, called deprecated by torch."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dl_inference.serving.load_error import LoadError
from torch_predict.arguments import Argument, Form
from torch_predict.runtimes.base import Runtime, zip_names
from torch_predict.signature import Signature

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch


class TorchScript(Runtime):
    """A module saved by `torch.jit.save`."""

    name = "torchscript"
    suffixes = (".pt", ".pth")

    def recognises(self, file: Path) -> bool:
        """Say whether it is a zip archive with compiled code in it, which torch.save never writes."""
        names = zip_names(file)
        return any(n.endswith("constants.pkl") for n in names) and any("/code/" in n for n in names)

    def load(self, file: Path, device: torch.device) -> Callable[..., Any]:
        """Return the module in eval mode on the device.

        Raises:
            LoadError: the archive is damaged, or uses operators that this torch does not have.
        """
        import torch  # noqa: PLC0415  (base.py, module head)

        try:
            with warnings.catch_warnings():
                # torch >= 2.9 says so at every load; whoever serves an old file cannot do anything about it here.
                warnings.filterwarnings("ignore", "`torch.jit.load` is")
                module = torch.jit.load(str(file), map_location=device)  # type: ignore[no-untyped-call]
        except (RuntimeError, ValueError) as error:
            raise LoadError(
                file,
                f"torch {torch.__version__} cannot load it: {error}",
                "save it again with torch.jit.save, or export it",
            ) from error
        module.eval()
        return module  # type: ignore[no-any-return]

    def signature(self, model: Callable[..., Any]) -> Signature:
        """Return the arguments that the script declares, without the module itself, whatever that is called."""
        _, *arguments = model.forward.schema.arguments  # type: ignore[attr-defined]
        return Signature(tuple(map(_argument, arguments)))


_FORMS = {
    "TensorType": Form.TENSOR,
    "BoolType": Form.BOOL,
    "IntType": Form.INT,
    "FloatType": Form.FLOAT,
    "NumberType": Form.FLOAT,
}


def _argument(declared: Any) -> Argument:
    kind = declared.type
    may_be_none = kind.kind() == "OptionalType"
    form, parts = _form(kind.getElementType() if may_be_none else kind)
    has_default = declared.has_default_value()
    is_required = not has_default and not may_be_none
    is_nullable = may_be_none and not has_default
    return Argument(declared.name, is_required, declared.kwarg_only, form, parts, is_nullable, kind.annotation_str)


def _form(kind: Any) -> tuple[Form, tuple[Form, ...]]:
    name = kind.kind()
    if name == "TupleType":
        parts = tuple(_FORMS.get(each.kind(), Form.OTHER) for each in kind.elements())
        return (Form.OTHER, ()) if Form.OTHER in parts else (Form.TUPLE, parts)
    if name == "ListType":
        element = _FORMS.get(kind.getElementType().kind(), Form.OTHER)
        return (Form.LIST if element is Form.TENSOR else Form.NUMBERS if element.is_plain else Form.OTHER), ()
    if name == "DictType":
        is_named = kind.getKeyType().kind() == "StringType" and kind.getValueType().kind() == "TensorType"
        return (Form.DICT if is_named else Form.OTHER), ()
    return _FORMS.get(name, Form.OTHER), ()
