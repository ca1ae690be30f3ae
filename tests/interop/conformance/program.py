"""`dl-inference` with the methods of the suite's service: the first argument is the native module that has them."""

from __future__ import annotations

import importlib.util
import sys

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet, ServiceDescriptorProto

PACKAGE, SERVICE = "connectrpc.conformance.v1", "ConformanceService"
NATIVE = "dl_inference._native"


def main(native: str) -> None:
    """Run it with the arguments that are left."""
    spec = importlib.util.spec_from_file_location(NATIVE, native)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[NATIVE] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    from dl_inference import messages

    # Reflection wants to know each service, though not its methods.
    file = FileDescriptorProto(name="service.proto", package=PACKAGE, service=[ServiceDescriptorProto(name=SERVICE)])
    messages.DESCRIPTORS += FileDescriptorSet(file=[file]).SerializeToString()

    from dl_inference.__main__ import main as run

    run()


if __name__ == "__main__":
    main(sys.argv.pop(1))
