"""The Rust data plane, as Python sees it."""

from collections.abc import Sequence
from os import PathLike
from typing import Any, Self, final

__all__ = [
    "ERROR_KINDS",
    "OTHER_POLICIES",
    "POLICIES",
    "Batch",
    "ErrorKind",
    "Item",
    "NativeError",
    "Proxy",
    "Worker",
    "callers_rule",
    "make_certificates",
    "simulate",
]

POLICIES: list[str]
"""Names of the balancing policies."""

OTHER_POLICIES: list[str]
"""Names of other programs' balancing policies, which the simulator has beside ours."""

ERROR_KINDS: list[ErrorKind]
"""Every kind of error that a program of ours answers: THE error table."""

def callers_rule(callers_json: str, caller: str, model: str, method: str, version: str | None = None) -> int | None:
    """Tell which rule of a caller lets it do something with a model, as the data plane finds it for a call.

    Args:
        callers_json: a ``CallersConfig`` document (dataplane/crates/core/src/callers/document.rs).
        caller: its name, or ``anonymous``.
        model: the name that a call would be routed by.
        method: predict, metadata or admin.
        version: the version or label that a call would ask for.

    Returns:
        The rule's position in the caller's ``allow``; None when no rule does.

    Raises:
        NativeError: the document cannot be used, or there is no such caller or method.
    """

def make_certificates(folder: str | PathLike[str], hosts: list[str]) -> list[str]:
    """Write certificates for trying TLS out: of an authority, a server with these names, and a client.

    Raises:
        NativeError: a file is there already, or cannot be written.
    """

def simulate(order_json: str) -> str:
    """Run a scenario in virtual time, without the GIL, on all processors.

    Args:
        order_json: an object of ``scenario`` (docs/simulate.md), ``policies`` (names of POLICIES and OTHER_POLICIES)
            and ``seeds`` (non-negative numbers).

    Returns:
        A JSON list of reports, by policy, then seed (dataplane/crates/simulate/src/report.rs).

    Raises:
        NativeError: the order cannot be read or run; names the key.
    """

@final
class ErrorKind:
    """One kind of error. The texts are lower case, without a full stop."""

    @property
    def name(self) -> str:
        """What the trailer ``access-error``, metrics and logs call it."""

    @property
    def code(self) -> str:
        """Name of the gRPC code that the caller gets."""

    @property
    def retried(self) -> str:
        """What the access service does by itself before the caller hears of it."""

    @property
    def counts(self) -> str:
        """Whether it counts against the endpoint."""

    @property
    def meaning(self) -> str:
        """What has happened."""

    @property
    def remedy(self) -> str:
        """What helps."""

class NativeError(Exception):
    """The data plane refused a control call: a bad document, an address in use, a call in the wrong state."""

@final
class Proxy:
    """The access service's data plane: worker threads, sockets, balancing. Constructing starts nothing."""

    def __new__(cls, config_json: str, descriptors: bytes) -> Self:
        """Take the process configuration.

        Args:
            config_json: a ``ProxyConfig`` document (dataplane/crates/core/src/config.rs).
            descriptors: serialized google.protobuf.FileDescriptorSet that reflection answers from.

        Raises:
            NativeError: the document does not parse.
        """

    def start(self, inherited: Sequence[int] | None = None) -> list[str]:
        """Bind; return the bound addresses (port 0 resolved), then the admin address if there is one.

        Callers may connect from now on; they are served once the first state is applied.

        Args:
            inherited: descriptors of listening sockets, which are given away: an address that one of them has is not
                bound again, those of no address are closed.

        Raises:
            NativeError: an address cannot be bound; nothing runs then.
        """

    def descriptors(self) -> list[int]:
        """Return the descriptors of the listening sockets, for a process that is to inherit them."""

    def hand_over(self) -> None:
        """Accept no more, here and at the admin port: another process goes on with the sockets. A drain follows."""

    def next_order(self, limit_ms: int) -> tuple[int, str, str] | None:
        """Wait for the next order of a caller's to load or unload a model.

        Returns:
            Its number (0: nobody waits for an answer), load, unload, reload or call (a call waits for the model), and
            the model; None when there was none in that time, or everything ends.
        """

    def answer_order(self, id: int, code: str = "", text: str = "") -> None:
        """Tell whoever gave an order that it is done, or, with a gRPC code by name, why it was not.

        Raises:
            NativeError: there is no such code.
        """

    def usage(self) -> list[tuple[str, float | None, int, bool]]:
        """Return how each cluster is used.

        Its name, the seconds since a call came that needs the model (None: none ever did), the calls in flight, and
        whether an endpoint is live.
        """

    def apply(self, state_json: str) -> None:
        """Swap in a whole routing state (``StateConfig``), or refuse it whole and keep the old one. The first opens.

        Raises:
            NativeError: the document is wrong; names the place.
        """

    def set_callers(self, callers_json: str) -> None:
        """Let the callers of a ``CallersConfig`` document in, and nobody else; what each has counted so far stays.

        Without one everybody may call everything. To have it hold from the first call, say it before the first `apply`.

        Raises:
            NativeError: the document is wrong; names the place. Those before stay.
        """

    def set_control_status(self, status_json: str) -> None:
        """Set the JSON object shown under ``control`` in /status (discovery sources, their ages, reloads).

        Its ``sources`` are in /metrics, and those that are not ok in /ready, too: objects with ``name`` (str), ``ok``
        (bool), ``last_good_unix_s`` (seconds since 1970; 0 or none: never) and ``skipped`` (entries that cannot be
        used; 0 when absent).
        """

    def show_document(self, path: str, document: str | None = None) -> None:
        """Show a JSON document at a path of the admin port, in place of the one before; None takes it away.

        Args:
            path: ``/config``, ``/samples/wine``; as it is meant, without escapes.
            document: JSON.
        """

    def show_metrics(self, text: str) -> None:
        """As Worker.show_metrics, of all models that are served behind this."""

    def wanted_limits(self, over_s: float, least: float) -> list[tuple[str, str, str, float]]:
        """Return the limits of which at least the part ``least`` was wanted since the last question, ``over_s`` ago.

        Each is (caller, model, limit, part): ``""`` for a name that it has not, ``requests_per_s``, ``in_flight`` or
        ``bytes_per_s``, and the part, 1 at most. What was refused counts, too.
        """

    def share_limits(self, rest: float | None, parts: Sequence[tuple[str, str, str, float]]) -> None:
        """Allow these parts of limits, rows as `wanted_limits` returns, and ``rest`` of every other one.

        None: as their ``instances`` say. Nobody gets a new burst by it; a part that hardly differs changes nothing.
        """

    def count_reload(self, source: str, ok: bool) -> None:
        """Count one reload of a configuration or discovery source, for ``dl_reloads_total{source,result}``."""

    def notices(self) -> list[tuple[str, str]]:
        """Return what is new for the log: (INFO or WARNING, text).

        Endpoints that went down or came back, at most a line each in 10 s and 20 in all; callers of another protocol,
        at most a line for each in a minute.
        """

    def status(self) -> str:
        """Return what the proxy sees, as the JSON of /status."""

    def drain(self, timeout_ms: int) -> bool:
        """Stop accepting, answer NOT_SERVING, send GOAWAY, wait for calls in flight; True when all finished in time."""

    def stop(self) -> None:
        """Close everything and join the threads."""

@final
class Item:
    """One request of a batch."""

    kind: str
    """Of Seldon's methods: tensor, ndarray, tftensor, binData, strData, jsonData, customData, or none (no data_oneof
    was set); of OIP's: infer."""
    value: Any
    """tensor: float64 array; ndarray: list; tftensor: array of its dtype; binData: bytes; strData: str;
    jsonData: dict, list, float, str, bool or None; customData: bytes of the Any; none: None; infer: dict of arrays by
    input name, in the request's order.
    Arrays are aligned, writable and numpy's own; bfloat16 becomes a float32 array, strings and BYTES an object array
    of bytes; ``data {}`` with nothing in it is an ndarray, the empty list."""
    meta: dict[str, Any]
    """google.protobuf.json_format.MessageToDict(meta): camelCase keys, numbers in tags are floats; {} when empty.
    Of infer: ``puid``, the request's id, and ``tags``, its parameters (bool, int, float, str), where it has them."""
    method: str
    """Path of the gRPC method."""
    request_id: str
    inputs: dict[str, dict[str, Any]] | None
    """Of infer: parameters of single inputs by the input's name; None where no input has any."""

    def remaining_s(self) -> float:
        """Return the seconds until nobody waits for the answer any more; not below 0."""

    def is_gone(self) -> bool:
        """As `Batch.is_gone`; True as well when its batch is."""

@final
class Batch:
    """Requests handed to Python together. Dropped without a reply, each unanswered item gets INTERNAL."""

    items: list[Item]
    """A new list of all of them."""
    was_waiting: bool
    """Whether some request was there already when the batch was asked for."""
    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Item: ...
    def is_gone(self, index: int) -> bool:
        """Say whether nobody waits for an answer to an item: it is answered, its caller has gone, or it is too late."""

    def reply(self, index: int, kind: str, value: Any, names: list[str]) -> None:
        """Answer one item.

        Args:
            index: position in the batch.
            kind: tensor (value: float64 array, any rank), ndarray (value: list as numpy's tolist gives),
                tftensor (value: array of numbers, bool, bytes or str),
                binData (bytes), strData (str), jsonData (JSON-like), customData (bytes of an Any); for an item of
                kind infer, and for no other, infer (value: dict of arrays by output name, of which the request's
                outputs are chosen here).
            value: see kind.
            names: data.names of the answer; ignored outside data. Nobody may change the list: it is read once.

        Raises:
            ValueError: the value does not fit the kind, and the item is still unanswered; or there is no such
                item, or it is answered already.
        """

    def keep(self, index: int, kind: str, value: Any, names: list[str]) -> None:
        """As `reply`; it goes out with the others that are kept, at `send` or when the batch is dropped."""

    def spent(self, preprocess_s: float, model_s: float, postprocess_s: float) -> None:
        """Say how long the kept answers of which it is not told were in each stage; if there are none, the next one."""

    def send(self) -> None:
        """Let the answers go out that are kept."""

    def fail(self, index: int, code: int, message: str, kind: str, number: int | None = None) -> None:
        """Answer one item with a gRPC status.

        Args:
            index: position in the batch.
            code: of the status, 1 to 16.
            message: what the caller reads.
            kind: for the trailer ``access-error``.
            number: an int32, for the trailer ``access-error-number``.

        Raises:
            ValueError: there is no such item, it is answered already, or code is not 1 to 16.
        """

@final
class Worker:
    """The native front of a model server: HTTP/2, decoding, queue, batches."""

    def __new__(cls, config_json: str, descriptors: bytes) -> Self:
        """Take a ``WorkerConfig`` document and the descriptors that reflection answers from.

        Raises:
            NativeError: a document does not parse; names the place.
        """

    def start(self) -> list[str]:
        """Bind and serve; return the bound addresses, the admin address last. NOT_SERVING until set_ready(True).

        Raises:
            NativeError: an address cannot be bound, or this was started before; nothing new runs then.
        """

    def set_ready(self, ready: bool) -> None:
        """Say whether the model may be called."""

    def next_batch(self, timeout_ms: int) -> Batch | None:
        """Wait, without the GIL, for requests; None on time-out or when drained and empty."""

    def next_beside(self) -> Batch | None:
        """Return requests that are there, to be prepared while the model works on the batch before."""

    def turn(self, prepared_s: float) -> None:
        """Say that the batch before is done with, and that the one of `next_beside` has its turn.

        Args:
            prepared_s: seconds for which it has been worked on already.
        """

    def measured(self, calls: int, rows: int, preprocess_s: float, model_s: float, postprocess_s: float) -> None:
        """Count one call of the model.

        Args:
            calls: how many requests it was for, each of which counts in ``dl_stage_seconds``.
            rows: what it got for them.
            preprocess_s: seconds that each of them was in this stage.
            model_s: the same.
            postprocess_s: the same.
        """

    def left_out(self, calls: int) -> None:
        """Count items that were not given to the model, as nobody waited for their answers any more."""

    def show_metrics(self, text: str) -> None:
        """Show metrics of the model's own code, in Prometheus' text format, after ours in /metrics."""

    def notices(self) -> list[tuple[str, str]]:
        """As Proxy.notices: callers of another protocol."""

    def drain(self, timeout_ms: int) -> bool:
        """As Proxy.drain; next_batch goes on giving what is queued."""

    def stop(self) -> None:
        """Close everything and join the threads."""
