"""The log as JSON, in processes of its own: whatever is said there is one object a line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from dl_inference.serving import log

BEGIN = "import logging, os, sys\nfrom dl_inference.serving import log\nlog.begin()\n"


def records_of(code: str, **variables: str) -> list[dict[str, Any]]:
    """Run a program whose log is JSON; return what it says, every line of it."""
    environment = {**os.environ, log.FORMAT_VARIABLE: "json", log.VARIABLE: "info", **variables}
    command = [sys.executable, "-c", BEGIN + code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_a_record_is_one_line_with_its_traceback():
    code = """
try:
    raise ValueError("no\\nway")
except ValueError:
    logging.getLogger("program").exception("it %s", "failed")
"""
    (record,) = records_of(code)
    assert (record["level"], record["logger"], record["message"]) == ("error", "program", "it failed")
    assert record["exception"].endswith("ValueError: no\nway")
    assert record["time"].endswith("Z")


def test_what_a_library_prints_is_a_record_with_the_level_that_it_names():
    code = r"""
os.write(2, b"W1130 08:00:00.0 file.cc:1] slow\n  with more\n")
os.system("echo E1130 from a child >&2")
"""
    first, second = records_of(code)
    assert (first["level"], first["message"]) == ("warning", "W1130 08:00:00.0 file.cc:1] slow\n  with more")
    assert (second["level"], second["logger"], second["message"]) == ("error", "stderr", "E1130 from a child")


def test_the_last_words_of_a_process_that_is_killed_are_a_record():
    code = "os.write(2, b'Fatal: ' + b'x' * 200_000 + b'\\nthe end')\nos.kill(os.getpid(), 9)"
    records = records_of(code)
    assert (records[0]["level"], records[-1]["message"]) == ("error", "the end")
    assert sum(record["message"].count("x") for record in records) == 200_000


def test_what_ends_the_process_is_one_record():
    (record,) = records_of("raise KeyError('gone')")
    assert (record["level"], record["message"]) == ("critical", "KeyError: 'gone'")
    assert "Traceback" in record["exception"]


def test_a_warning_is_a_record():
    (record,) = records_of("import warnings\nwarnings.warn('old')")
    assert (record["level"], record["logger"]) == ("warning", "py.warnings")
    assert "UserWarning: old" in record["message"]


def test_a_process_that_is_started_with_the_same_log_passes_its_records_on_as_they_are():
    inner = BEGIN + "logging.getLogger('inner').error('said')"
    (record,) = records_of(f"import subprocess\nsubprocess.run([sys.executable, '-c', {inner!r}])")
    assert (record["logger"], record["message"]) == ("inner", "said")


def test_every_part_has_its_level_and_libraries_say_warnings_only():
    code = """
for part in ("access", "registry.session", "kazoo.client", "torch"):
    for level in ("debug", "info", "warning"):
        getattr(logging.getLogger(part), level)("%s", level)
"""
    records = records_of(code, DL_INFERENCE_LOG_LEVEL="info,registry=debug,torch=debug")
    seen = [(record["logger"], record["message"]) for record in records]
    assert seen == [
        *(("access", level) for level in ("info", "warning")),
        *(("registry.session", level) for level in ("debug", "info", "warning")),
        ("kazoo.client", "warning"),
        *(("torch", level) for level in ("debug", "info", "warning")),
    ]


def test_children_that_are_killed_at_the_end_do_not_take_the_last_words_along():
    code = "from dl_inference.serving import ending\nos.write(2, b'going\\n')\nending.exit_now(3)"
    (record,) = records_of(code)
    assert record["message"] == "going"


def test_the_process_that_makes_records_ends_with_its_input_only():
    code = """
from dl_inference.serving import log_json
for number in (1, 2, 15):
    os.kill(*log_json.helpers(), number)
os.write(2, b"still heard\\n")
"""
    (record,) = records_of(f"os.write(2, b'begun\\n')\n{code}")[-1:]
    assert record["message"] == "still heard"
