"""What TensorFlow writes while it is imported, and what of it reaches the log; in a process of its own."""

import subprocess
import sys

WRITES = """
import os, sys
from tf_predict.quiet import without_notes
print("before", file=sys.stderr)
try:
    with without_notes():
        os.write(2, b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\\n")
        os.write(2, b"I0000 00:00:1795945177.911950    2548 cudart_stub.cc:31] Could not find cuda drivers.\\n")
        os.write(2, b"W0000 00:00:1795945177.911950    2548 gpu_device.cc:2] Cannot dlopen some GPU libraries.\\n")
        os.write(2, b"E0000 00:00:1795945177.911950    2548 cuda_dnn.cc:8] no such device\\n")
        print("said by Python", file=sys.stderr)
        raise ImportError("no tensorflow")
except ImportError as error:
    print("after", error, file=sys.stderr)
"""


def test_tensorflows_notes_are_left_out_and_its_errors_and_all_else_are_not():
    done = subprocess.run([sys.executable, "-c", WRITES], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == [
        "before",
        "E0000 00:00:1795945177.911950    2548 cuda_dnn.cc:8] no such device",
        "said by Python",
        "after no tensorflow",
    ]
