"""The model's run of one batch beside the hooks of the next: the order of what happens, whoever fails."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch
from fixtures.torch_fakes import FakeBatch, FakeItem

from dl_inference.code import Code
from torch_predict import InvalidInput, context
from torch_predict.hooks import Hooks
from torch_predict.joining import Joining
from torch_predict.overlap import LEAST_MODEL_S, LEAST_PREPARE_S, Overlap, runs_apart
from torch_predict.predictor import Predictor

CPU = torch.device("cpu")
LIMIT_S = 20


class Front:
    """Has batches, and notes what it is told."""

    def __init__(self, *batches):
        self.batches = list(batches)
        self.turns, self.measures = [], []

    def next_beside(self):
        return self.batches.pop(0) if self.batches else None

    def turn(self, prepared_s):
        self.turns.append(prepared_s)

    def measured(self, calls, rows, *stages):
        self.measures.append((calls, rows, stages))

    def left_out(self, calls):
        raise AssertionError(calls)


class Log:
    """What happened, in its order, and in which thread."""

    def __init__(self):
        self.events, self.threads = [], {}
        self.grew = threading.Condition()

    def note(self, event):
        with self.grew:
            self.events.append(event)
            self.threads[event] = threading.get_ident()
            self.grew.notify_all()

    def wait(self, event):
        with self.grew:
            assert self.grew.wait_for(lambda: event in self.events, LIMIT_S), f"{event} not among {self.events}"


def number(x):
    return int(x[0, 0])


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def make(log):
    """Return a predictor that overlaps, with hooks and a model that note what they do; the model as it is given."""

    def make(model=lambda x: x * 2, preprocess=lambda x: x):
        def pre(x, meta):
            log.note(f"pre {number(x)}")
            return preprocess(x)

        def run(x):
            log.note(f"model {number(x)}")
            try:
                return model(x)
            finally:
                log.note(f"model {number(x)} ended")

        def post(x, meta):
            log.note(f"post {number(x) // 2}")
            return x.numpy()

        predictor = Predictor(run, Hooks(preprocess=pre, postprocess=post), CPU)
        predictor.joining = Joining(is_on=True)
        predictor.overlap = Overlap(may_run=True)
        for _ in range(5):
            predictor.overlap.learn(1, LEAST_PREPARE_S, LEAST_MODEL_S)
        return predictor

    return make


def batch(*numbers):
    return FakeBatch(*(FakeItem("tensor", np.full((1, 1), float(each)), {}) for each in numbers))


def answer_all(predictor, first, front):
    predictor.answer(first, front)
    while predictor.is_ahead:
        predictor.go_on(front)


def answers(given):
    return {index: answer[1].item() for index, answer in given.answers.items()}


def test_the_next_batch_is_prepared_while_the_model_works_and_hooks_stay_in_their_thread(log, make):
    def model(x):
        if number(x) == 1:
            log.wait("pre 3")  # fails where nothing is prepared before the model has ended
        return x * 2

    batches = [batch(1, 2), batch(3, 4)]
    answer_all(make(model), batches[0], Front(batches[1]))
    assert [answers(each) for each in batches] == [{0: 2, 1: 4}, {0: 6, 1: 8}]
    order = log.events
    assert order.index("pre 4") < order.index("post 1") < order.index("model 3")
    assert {log.threads[event] for event in order if event.startswith("p")} == {threading.get_ident()}
    assert threading.get_ident() not in {log.threads[event] for event in order if event.startswith("model")}


def test_the_next_batch_is_asked_for_so_late_that_requests_can_still_come(log, make):
    it = make(lambda x: log.wait("asked") or x * 2)
    it.overlap.learn(1, LEAST_PREPARE_S, 0.2)  # the model's last time

    class Late(Front):
        def next_beside(self):
            log.note("asked")
            return super().next_beside()

    began = time.monotonic()
    answer_all(it, batch(1), Late())
    assert time.monotonic() - began > 0.1


def test_where_no_request_has_come_the_batch_is_answered_all_the_same(make):
    front, given = Front(), batch(1)
    answer_all(make(lambda x: time.sleep(0.01) or x * 2), given, front)
    assert (answers(given), front.turns) == ({0: 2}, [])


def test_an_error_of_the_model_fails_its_request_and_none_of_the_batch_beside(log, make):
    def model(x):
        if number(x) == 1 and x.shape[0] == 4:
            log.wait("pre 5")
        if (x == 3).any():
            raise ValueError("three")
        return x * 2

    batches = [batch(1, 2, 3, 4), batch(5, 6)]
    answer_all(make(model), batches[0], Front(batches[1]))
    assert answers(batches[0]) == {0: 2, 1: 4, 3: 8}
    assert [failure[0] for failure in batches[0].failures.values()] == [Code.INTERNAL]
    assert answers(batches[1]) == {0: 10, 1: 12}


def test_an_error_of_preprocess_fails_its_request_and_none_of_the_batch_whose_model_runs(log, make):
    def preprocess(x):
        if number(x) == 4:
            raise InvalidInput("four")
        return x

    batches = [batch(1, 2), batch(3, 4)]
    model = lambda x: (log.wait("pre 4") if number(x) == 1 else None, x * 2)[1]  # noqa: E731
    answer_all(make(model, preprocess), batches[0], Front(batches[1]))
    assert [answers(each) for each in batches] == [{0: 2, 1: 4}, {0: 6}]
    assert batches[1].failures[1][:2] == (Code.INVALID_ARGUMENT, "four")


def test_what_escapes_while_the_next_batch_is_taken_leaves_no_second_thread_in_the_model(log, make):
    class Broken(Front):
        def next_beside(self):
            raise KeyboardInterrupt

    inside = []

    def model(x):
        inside.append(x)
        assert len(inside) == 1
        time.sleep(0.05)
        inside.pop()
        return x * 2

    given = batch(1, 2)
    make(model).answer(given, Broken())  # as an error of the call, which is then tried by halves
    assert answers(given) == {0: 2, 1: 4}


def test_each_batch_counts_the_seconds_of_its_own_stages(log, make):
    def preprocess(x):
        if number(x) == 2:
            log.wait("model 1 ended")
            time.sleep(0.2)
        return x

    model = lambda x: (log.wait("pre 2") if number(x) == 1 else None, x * 2)[1]  # noqa: E731
    front = Front(batch(2))
    answer_all(make(model, preprocess), batch(1), front)
    (_, _, first), (_, _, second) = front.measures
    assert first[1] < 0.15  # the model had ended
    assert second[0] >= 0.2
    assert 0.2 <= front.turns[0] <= second[0]


def test_hooks_ask_for_their_own_request_beside_another_batch(log, make):
    seen = []
    it = make(lambda x: (log.wait("pre 2") if number(x) == 1 else None, x * 2)[1])
    hooks = it.hooks
    asking = lambda hook: lambda x, meta: (seen.append(context.request().id), hook(x, meta))[1]  # noqa: E731
    modes = {"postprocess": "joined"}
    it.hooks = Hooks(preprocess=asking(hooks.preprocess), postprocess=asking(hooks.postprocess), modes=modes)
    batches = [batch(1), batch(2)]
    batches[0].items[0].request_id, batches[1].items[0].request_id = "one", "two"
    answer_all(it, batches[0], Front(batches[1]))
    assert seen == ["one", "two", "one", "two"]


@pytest.mark.parametrize(
    ("prepare_s", "model_s", "was_waiting"),
    [(LEAST_PREPARE_S / 2, 1, True), (1, LEAST_MODEL_S / 2, True), (1, 1, False)],
    ids=["short hooks", "short model", "a request that finds the model idle"],
)
def test_where_it_does_not_pay_the_model_runs_in_the_thread_of_the_hooks(log, make, prepare_s, model_s, was_waiting):
    it = make()
    for _ in range(5):
        it.overlap.learn(1, prepare_s, model_s)
    given = batch(1)
    given.was_waiting = was_waiting
    answer_all(it, given, Front(batch(2)))
    assert log.threads["model 1"] == threading.get_ident()


class Own(torch.nn.Module):
    def forward(self, x):
        return torch.relu(x)


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning")
def test_a_program_may_run_beside_hooks_and_code_of_the_users_may_not():
    program = torch.export.export(Own(), (torch.zeros(2),)).module()
    assert runs_apart(program)
    assert runs_apart(torch.jit.trace(Own(), (torch.zeros(2),)))
    assert not runs_apart(Own())
    assert not runs_apart(lambda x: x)


def test_a_program_with_an_operator_of_the_users_may_not_run_beside_hooks():
    @torch.library.custom_op("overlap_test::own", mutates_args=())
    def own(x: torch.Tensor) -> torch.Tensor:
        return x + 1

    own.register_fake(torch.empty_like)

    class Using(torch.nn.Module):
        def forward(self, x):
            return own(x)

    assert not runs_apart(torch.export.export(Using(), (torch.zeros(2),)).module())


def test_a_thread_with_settings_of_its_own_keeps_the_model(log, make):
    it = make()
    with torch.autocast("cpu", torch.bfloat16):
        answer_all(it, batch(1), Front(batch(2)))
    assert log.threads["model 1"] == threading.get_ident()
