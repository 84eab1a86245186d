"""Telemetry is read as Istio's validation reads it, and what would need a provider is refused by name."""

from __future__ import annotations

import pytest

from mesh.istio.document import RefusedError, read_documents
from mesh.istio.resource import read_resources
from mesh.istio.telemetry import Telemetry, WorkloadMode


def _read(spec: str, version: str = "v1") -> Telemetry:
    head = f"apiVersion: telemetry.istio.io/{version}\nkind: Telemetry\nmetadata: {{name: x, namespace: models}}\n"
    (resource,) = read_resources(read_documents(f"{head}spec: {spec}\n", "f.yaml"))
    assert isinstance(resource.spec, Telemetry)
    return resource.spec


@pytest.mark.parametrize("version", ["v1", "v1alpha1"])
def test_what_is_read(version: str) -> None:
    text = (
        "{selector: {matchLabels: {app: a}}, "
        "tracing: [{match: {mode: SERVER}, randomSamplingPercentage: 0, disableSpanReporting: true}, {}]}"
    )
    found = _read(text, version)
    first, second = found.tracing
    assert found.selector is not None
    assert found.selector.labels == {"app": "a"}
    assert first.match is not None
    assert (first.match.mode, first.random_sampling_percentage, first.disable_span_reporting) == (
        WorkloadMode.SERVER, 0, True,
    )  # fmt: skip
    assert (second.match, second.random_sampling_percentage, second.disable_span_reporting) == (None, None, None)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("{tracing: [{randomSamplingPercentage: 100.1}]}", "spec.tracing[0].randomSamplingPercentage: 100.1 is not in"),
        ("{tracing: [{randomSamplingPercentage: -1}]}", "spec.tracing[0].randomSamplingPercentage: -1 is not in"),
        ("{tracing: [{match: {mode: INBOUND}}]}", "spec.tracing[0].match.mode: "),
        ("{tracing: [{disableSpanReporting: 1}]}", "spec.tracing[0].disableSpanReporting: must be true or false"),
        ("{selector: {matchLabels: {app: a*}}}", "spec.selector.matchLabels: app=a*: no wildcard"),
        ("{tracing: [{unheardOf: 1}]}", "spec.tracing[0].unheardOf: unknown field"),
        ("{tracing: [{providers: [{name: a}, {name: b}]}]}", "spec.tracing[0].providers: "),
        ("{tracing: [{providers: [{name: ''}]}]}", "spec.tracing[0].providers[0].name: "),
        ("{tracing: [{customTags: {a: {literal: {value: b}}}}]}", "spec.tracing[0].customTags: not implemented"),
        ("{tracing: [{useRequestIdForTraceSampling: false}]}", "useRequestIdForTraceSampling: not implemented"),
        ("{tracing: [{enableIstioTags: 1}]}", "spec.tracing[0].enableIstioTags: must be true or false"),
        ("{tracing: [{disableContextPropagation: true}]}", "disableContextPropagation: not implemented"),
        ("{metrics: [{providers: [{name: prometheus}]}]}", "spec.metrics: not implemented"),
        ("{accessLogging: [{disabled: true}]}", "spec.accessLogging: not implemented"),
        ("{targetRefs: [{kind: Service, name: a}]}", "spec.targetRefs: not implemented"),
        ("{targetRef: {kind: Service, name: a}}", "spec.targetRef: not implemented"),
    ],
)
def test_refused(spec: str, words: str) -> None:
    assert _read("{tracing: [{match: {mode: CLIENT}, randomSamplingPercentage: 100}]}")
    with pytest.raises(RefusedError) as refused:
        _read(spec)
    (mistake,) = refused.value.mistakes
    assert mistake.startswith("f.yaml:4: Telemetry models/x: ")
    assert words in mistake


def test_its_api_has_a_group_of_its_own() -> None:
    with pytest.raises(RefusedError, match=r"apiVersion: 'telemetry\.istio\.io/v1beta1' is none of"):
        _read("{}", "v1beta1")
