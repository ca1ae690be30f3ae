"""The model formats, in the order in which a file is tried on them. A new one is a file here and a line below."""

from torch_predict.runtimes.aotinductor import AotInductor
from torch_predict.runtimes.base import Runtime
from torch_predict.runtimes.eager import Eager
from torch_predict.runtimes.exported import Exported
from torch_predict.runtimes.pickled import Pickled
from torch_predict.runtimes.safetensors import SafeTensors
from torch_predict.runtimes.torchscript import TorchScript

RUNTIMES: tuple[Runtime, ...] = (AotInductor(), Exported(), TorchScript(), SafeTensors(), Eager(), Pickled())

__all__ = ["RUNTIMES", "Runtime"]
