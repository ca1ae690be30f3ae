"""Endpoints by DNS: the addresses of a name (A and AAAA), or its services (SRV) with their ports and weights.

A name is asked again when its answer's time to live is over. "There is no such name" is an answer, an empty one;
SERVFAIL, a refusal and silence are none, and what was known stays. One thread follows all names of a source.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from access.discovery.base import ANY_MODEL, Entry, Resolver, Snapshot, SourceConfig
from access.discovery.dns_config import DnsConfig, DnsEntry, server_address
from access.discovery.dns_questions import MAX_EXAMPLES, Answer, Questions, Unanswered
from access.errors import DiscoveryError
from dl_inference.problem import Problem

log = logging.getLogger("access")

STOP_STEP_S = 0.05


class DnsResolver(Resolver):
    """Follows the names of one source."""

    def __init__(self, config: DnsConfig) -> None:
        self._config = config
        entries: Mapping[str, DnsEntry] = config.entries
        if config.name is not None:
            entries = {ANY_MODEL: DnsEntry(name=config.name, port=config.port, family=config.family)}
        self._entries = entries
        self.name = _source_name(config, list(entries.values()))
        self._lock = threading.Lock()
        self._answers: dict[str, Answer] = {}
        self._errors: dict[str, str] = {}
        self._asked_all = threading.Event()
        self._has_waited = False
        self._runner: asyncio.Runner | None = None
        self._thread: threading.Thread | None = None
        self._stopping = asyncio.Event()
        self._changed: Callable[[], None] = lambda: None

    @classmethod
    def create(cls, config: SourceConfig, folder: Path) -> Self:
        """Make the resolver; there are no paths in the configuration."""
        return cls(DnsConfig.model_validate(config))

    def start(self, changed: Callable[[], None]) -> None:
        """Begin to ask."""
        self._changed = changed
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._runner.get_loop()  # so that `stop` has it from now on
        self._thread = threading.Thread(target=self._run, args=(self._runner,), name="access-dns", daemon=True)
        self._thread.start()

    def read(self) -> Snapshot:
        """Return the entry of every name that was ever answered.

        Raises:
            DiscoveryError: no name is answered now; or dnspython is not installed.
        """
        if self._thread is None:
            raise DiscoveryError("it has not been started")
        if not self._has_waited:
            self._has_waited = True
            self._asked_all.wait(self._config.start_timeout_ms / 1000)
        with self._lock:
            return self._snapshot()

    def stop(self) -> None:
        """End the questions that are on their way, and the thread."""
        if self._thread is None or self._runner is None:
            return
        self._runner.get_loop().call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._thread = self._runner = None

    def _snapshot(self) -> Snapshot:
        unasked = f"no answer within start_timeout_ms {self._config.start_timeout_ms}"
        errors = {
            key: self._errors.get(key, unasked)
            for key in self._entries
            if key in self._errors or key not in self._answers
        }
        if len(errors) == len(self._entries):
            raise DiscoveryError("; ".join(sorted(set(errors.values()))[:MAX_EXAMPLES]))
        stays = {True: "its last endpoints stay", False: "it has no endpoints until then"}
        warnings = [Problem(f"dns {key}", error, stays[key in self._answers]) for key, error in errors.items()]
        warnings += [each for key in self._entries if key in self._answers for each in self._answers[key].warnings]
        return Snapshot(
            {key: Entry(self._answers[key].endpoints) for key in self._entries if key in self._answers}, tuple(warnings)
        )

    # --- in the thread

    def _run(self, runner: asyncio.Runner) -> None:
        with runner:
            runner.run(self._follow())

    async def _follow(self) -> None:
        servers = [server_address(each) for each in self._config.servers]
        questions = Questions(servers, self._config.lookup_timeout_ms / 1000)
        pending = {asyncio.create_task(self._follow_name(questions, *each)) for each in self._entries.items()}
        await self._stopping.wait()
        while pending:
            # Again and again: before Python 3.12 `asyncio.wait_for` loses one that comes with its answer.
            for task in pending:
                task.cancel()
            _, pending = await asyncio.wait(pending, timeout=STOP_STEP_S)

    async def _follow_name(self, questions: Questions, key: str, entry: DnsEntry) -> None:
        failures = 0
        shortest, longest = self._config.min_ttl_ms / 1000, self._config.max_ttl_ms / 1000
        while True:
            answer = await self._ask(questions, key, entry)
            if answer is not None:
                failures = 0
                # Not earlier: a caching server would give the rest of the old answer's time.
                delay_s = min(max(answer.ttl_s, shortest), longest) * random.uniform(1.0, 1.1)
            else:
                failures += 1
                delay_s = min(shortest * 2 ** min(failures - 1, 16), longest) * random.uniform(0.5, 1.0)
            await asyncio.sleep(delay_s)

    async def _ask(self, questions: Questions, key: str, entry: DnsEntry) -> Answer | None:
        """Ask for a name, keep what comes, and say so where it is new; None where there is no answer."""
        answer, error = None, None
        try:
            answer = await questions.endpoints(entry)
        except Unanswered as unanswered:
            error = str(unanswered)
        except Exception as unexpected:
            # Whatever it is, the other names and the next question stand.
            log.exception("%s: %s: unexpected", self.name, entry.name)
            error = f"{entry.name}: {type(unexpected).__name__}: {unexpected}"
        with self._lock:
            before = self._answers.get(key), self._errors.get(key)
            if answer is not None:
                self._answers[key] = answer
                self._errors.pop(key, None)
            elif error is not None:
                self._errors[key] = error
            is_new = before != (self._answers.get(key), self._errors.get(key))
            if all(each in self._answers or each in self._errors for each in self._entries):
                self._asked_all.set()
        if is_new:
            self._changed()
        return answer


def _source_name(config: DnsConfig, entries: Sequence[DnsEntry]) -> str:
    """Return a name that no other source has which may say something else: state is kept under it."""
    first = entries[0]
    name = f"dns:{first.name}" + (f":{first.port}" if first.port else "")
    if not config.entries and not config.servers and first.family == "any":
        return name
    more = f"+{len(entries) - 1}" if len(entries) > 1 else ""
    question = config.model_dump_json(include={"name", "port", "family", "entries", "servers"})
    return f"{name}{more}#{hashlib.blake2b(question.encode(), digest_size=4).hexdigest()}"
