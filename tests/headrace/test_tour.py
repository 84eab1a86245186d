from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from headrace.client import Answer, Client, Refused, Signature
from headrace.demo.digits import Pictures, Trained
from headrace.demo.tour import Caller, check_chain, check_split, rejection
from headrace.failure import CommandError
from headrace.traces.spans import Span
from protos import tracing


def span(name: str, parent: str, service: str, kind: str, start: int) -> Span:
    return Span("t", name, parent, service, "rpc", kind, start, start + 1, {tracing.VERSION_SERVED: "2"})


CHAIN = (
    span("a", "", "headrace-demo", "client", 1),
    span("b", "a", "headrace-gateway", "server", 2),
    span("c", "b", "headrace-gateway", "client", 3),
    span("d", "c", "worker-2", "server", 4),
)


def test_a_call_through_all_three_is_a_chain() -> None:
    check_chain(CHAIN[::-1], "2")


@pytest.mark.parametrize(
    ("spans", "complaint"),
    [
        ((), "not one call's chain"),
        (CHAIN[:3], "not one call's chain"),
        ((*CHAIN, replace(CHAIN[3], id="e")), "not one call's chain"),
        ((*CHAIN[:3], replace(CHAIN[3], parent="")), "not each other's children"),
        ((*CHAIN[:3], replace(CHAIN[3], parent="b")), "not each other's children"),
        ((*CHAIN[:3], replace(CHAIN[3], service="headrace-gateway")), "do not come from"),
        ((*CHAIN[:3], replace(CHAIN[3], attributes={tracing.VERSION_SERVED: "1"})), "does not say that version 2"),
    ],
)
def test_anything_else_is_told(spans: tuple[Span, ...], complaint: str) -> None:
    with pytest.raises(CommandError, match=complaint):
        check_chain(spans, "2")


@pytest.mark.parametrize("canary", [20, 40, 60])
def test_a_split_near_the_configured_one_is_good(canary: int) -> None:
    check_split({"1": 400 - canary, "2": canary}, 0.1)


@pytest.mark.parametrize("reached", [{"1": 400}, {"2": 400}, {"1": 200, "2": 200}, {"1": 360, "2": 39, "3": 1}])
def test_a_split_far_from_it_is_told(reached: dict[str, int]) -> None:
    with pytest.raises(CommandError, match="far from 10% for 2"):
        check_split(reached, 0.1)


class Classifier(Client):
    """Injects what the gateway must not do: `wrong` answers, another `version`, or a refusal."""

    def __init__(self, wrong: int = 0, version: str = "1", refused: Refused | None = None) -> None:
        self.calls = 0
        self._wrong = wrong
        self._version = version
        self._refused = refused

    async def classify(self, *arguments: object, **options: object) -> Answer:
        self.calls += 1
        if self._refused:
            raise self._refused
        label = 1 if self.calls > self._wrong else 0
        return Answer(self._version, np.eye(10, dtype=np.float32)[[label]])


HELD = Pictures(np.zeros((20, 64), np.float32), np.ones(20, np.int64))
ALL_ONES = Trained("1", "always 1", b"", np.ones(20, np.int64))


def caller(classifier: Classifier) -> Caller:
    return Caller(classifier, "token", HELD, Signature("image", 8, "probabilities"))


async def test_answers_as_good_as_the_models_own_are_scored() -> None:
    advanced: list[None] = []
    score = await caller(Classifier()).score(ALL_ONES, lambda: advanced.append(None))
    assert (score.right, score.pictures, score.accuracy, score.local, len(score.latencies)) == (20, 20, 1.0, 1.0, 20)
    assert len(advanced) == 20


@pytest.mark.parametrize(
    ("classifier", "complaint"),
    [
        (Classifier(wrong=1), "version 1 reads 95.00% right through the gateway, but 100.00% here"),
        (Classifier(version="2"), "calls for version 1 were answered by version 2"),
        (Classifier(refused=Refused("UNAVAILABLE", "MODEL_NOT_READY", "none")), "was refused: UNAVAILABLE"),
    ],
)
async def test_other_answers_are_told(classifier: Classifier, complaint: str) -> None:
    with pytest.raises(CommandError, match=complaint):
        await caller(classifier).score(ALL_ONES, lambda: None)


async def answered() -> Answer:
    return Answer("1", np.zeros((1, 10), np.float32))


async def refused() -> Answer:
    raise Refused("UNAUTHENTICATED", "TOKEN_EXPIRED", "the token has expired")


async def test_a_rejection_is_checked() -> None:
    found = await rejection("expired", refused(), "UNAUTHENTICATED", "TOKEN_EXPIRED")
    assert found.refused.text == "the token has expired"
    with pytest.raises(CommandError, match="should be refused, but was answered"):
        await rejection("expired", answered(), "UNAUTHENTICATED", "TOKEN_EXPIRED")
    with pytest.raises(CommandError, match=r"should get UNAUTHENTICATED TOKEN_MISSING, but got .*TOKEN_EXPIRED"):
        await rejection("no token", refused(), "UNAUTHENTICATED", "TOKEN_MISSING")
