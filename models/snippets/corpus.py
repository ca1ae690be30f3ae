"""The texts that make_model.py trains and tests on: files that any Python with torch has, read where they lie.

Python is code of the running Python's standard library, English its docstrings, C++ the headers that come with torch.
The files to test on are others than those to train on.
"""

from __future__ import annotations

import ast
import re
import sysconfig
import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from windows import NAMES

LEAST_LETTERS = 8
"""A shorter line, such as a brace or `else:`, belongs to no language."""

TRAIN_MODULES = """
    argparse ast bdb calendar cmd codecs collections/__init__ configparser contextlib copy csv dataclasses difflib dis
    doctest email/message enum fractions functools gettext glob gzip heapq http/client inspect json/decoder
    logging/__init__ mailbox multiprocessing/pool optparse os pdb pickle platform plistlib pprint pydoc queue random
    selectors shutil smtplib socket ssl string subprocess tarfile tempfile textwrap threading timeit tokenize trace
    traceback typing unittest/case urllib/parse urllib/request uuid warnings weakref
"""
TEST_MODULES = """
    asyncio/base_events asyncio/queues asyncio/streams asyncio/tasks concurrent/futures/_base concurrent/futures/thread
    fileinput ftplib hmac html/parser http/cookies imaplib ipaddress locale netrc operator poplib sched socketserver
    statistics unittest/mock xml/etree/ElementTree zipapp
"""
TRAIN_HEADERS = ["c10/util", "ATen/core"]
TEST_HEADERS = ["c10/core"]

Block = list[str]
"""Lines of one language that follow each other in a file."""


def python_and_english(file: Path) -> tuple[list[Block], list[Block]]:
    """Return the code of a Python file without docstrings and comments, and its docstrings without examples."""
    source = file.read_text(encoding="utf-8")
    lines = source.splitlines()
    code, english = [*lines], []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        text = ast.get_docstring(node)
        if text is not None:
            string = node.body[0]
            code[string.lineno - 1 : string.end_lineno] = [""] * (string.end_lineno - string.lineno + 1)
            english += blocks(text.splitlines(), is_prose)
    return blocks(code, lambda line: not line.lstrip().startswith("#")), english


def is_prose(line: str) -> bool:
    """Say whether a line of a docstring is words: no example, table or heading's underline."""
    words = re.findall(r"[A-Za-z]+[,.:;]?(?= |$)", line)
    return len(words) >= 4 and not line.lstrip().startswith((">>>", "..."))


def cpp(file: Path) -> list[Block]:
    """Return the code of a C++ header without comments."""
    text = re.sub(r"/\*.*?\*/", "", file.read_text(encoding="utf-8"), flags=re.DOTALL)
    return blocks(text.splitlines(), lambda line: not line.lstrip().startswith("//"))


def blocks(lines: list[str], is_wanted: Callable[[str], bool]) -> list[Block]:
    """Return the runs of lines that are not empty and wanted."""
    found: list[Block] = [[]]
    for line in lines:
        if line.strip() and is_wanted(line):
            found[-1].append(line.rstrip())
        elif found[-1]:
            found.append([])
    return [block for block in found if block]


def corpus(modules: str, headers: list[str]) -> dict[str, list[Block]]:
    """Return each language's blocks, in a fixed order."""
    library = Path(sysconfig.get_path("stdlib"))
    include = Path(torch.__file__).parent / "include"
    found: dict[str, list[Block]] = {name: [] for name in NAMES}
    for module in modules.split():
        code, english = python_and_english(library / f"{module}.py")
        found["python"] += code
        found["english"] += english
    for folder in headers:
        for file in sorted((include / folder).glob("*.h")):
            found["cpp"] += cpp(file)
    return found


def pieces(block: Block, sizes: Iterable[int]) -> Iterator[str]:
    """Cut a block into pieces of so many lines, each without the indentation that its lines share."""
    start = 0
    for size in sizes:
        if start >= len(block):
            return
        text = textwrap.dedent("\n".join(block[start : start + size])).strip()
        if sum(map(str.isalpha, text)) >= LEAST_LETTERS:
            yield text
        start += size
