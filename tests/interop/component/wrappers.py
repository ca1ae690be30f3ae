"""Runs in .peers/component: the program seldon-core-microservice once per folder given, in a process of its own each.

What it imports takes longer than all the rest, so it is imported before the processes part.
"""

import os
import runpy
import socket
import sys
from pathlib import Path

import seldon_core.microservice  # noqa: F401
import torch  # noqa: F401

COMPONENT = "torch_predict.seldon_component.SeldonComponent"
# No REST workers: the model would be loaded once more for them.
OPTIONS = ["--service-type", "MODEL", "--http-port", "0", "--metrics-port", "0", "--workers", "0"]


def run(folder: str, port: int) -> None:
    """Run the program as its command line does, in a folder."""
    os.chdir(folder)
    program = Path(sys.executable).with_name("seldon-core-microservice")
    sys.argv = [str(program), COMPONENT, "--grpc-port", str(port), *OPTIONS]
    runpy.run_path(str(program), run_name="__main__")


def reserve() -> socket.socket:
    """Return a socket that keeps a port for the wrapper, which binds it too, and does not listen on it."""
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    reserved.bind(("", 0))
    return reserved


if __name__ == "__main__":
    sockets = {folder: reserve() for folder in sys.argv[1:]}
    ports = {folder: reserved.getsockname()[1] for folder, reserved in sockets.items()}
    print("ports", *ports.values(), flush=True)  # before the children write into the same log
    children = []
    for each in sys.argv[1:]:
        child = os.fork()
        if child == 0:
            run(each, ports[each])
            sys.exit("the wrapper has ended by itself")
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
