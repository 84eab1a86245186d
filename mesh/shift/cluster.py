"""Weights of a live VirtualService, by the Kubernetes API. Law: what was planned on is what is changed, or nothing is.

The patch names the resource version that the plan was made from: the API server refuses it (409) once anyone has
changed the object. Needs the package `kubernetes`. Who we are to which cluster is found as kubectl finds it: the
kubeconfig file's context, or, in a pod without such a file, the pod's service account.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from kubernetes import config
from kubernetes.client import ApiClient, ApiException, Configuration, CustomObjectsApi
from urllib3.exceptions import HTTPError, MaxRetryError, SSLError

from mesh.of_model import UnclearError, choose
from mesh.shift.plan import Plan, ShiftError, json_patch, plan
from mesh.shift.routes import read
from mesh.shift.wanted import Wanted

_MANAGER: Final = "headrace"
_GROUP: Final = "networking.istio.io"
_KIND: Final = (_GROUP, "v1")
_PLURAL: Final = "virtualservices"
_TIMEOUT: Final = (5.0, 30.0)  # seconds to connect, and to read
_POD: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True)
class Access:
    """What kubectl calls --context, --kubeconfig and --namespace; None: its own way of finding it."""

    context: str | None = None
    kubeconfig: Path | None = None
    namespace: str | None = None


def shift(access: Access, model: str, wanted: Wanted, host: str | None = None) -> Plan:
    """Make a model's live weights the wanted ones: what was planned and done. Raises ShiftError, UnclearError."""
    configuration, namespace = reach(access)
    with ApiClient(configuration) as client, _in_words(configuration.host, namespace):
        api = CustomObjectsApi(client)
        listed: Any = api.list_namespaced_custom_object(*_KIND, namespace, _PLURAL, _request_timeout=_TIMEOUT)
        items: Mapping[str, Mapping[str, Any]] = {one["metadata"]["name"]: one for one in listed["items"]}
        found = {name: read(one) for name, one in items.items()}
        try:
            whose = choose([one.whose for one in found.values()], model, host)
        except UnclearError as unclear:
            raise UnclearError(f"in the namespace {namespace}, {unclear}; --namespace names another") from None
        planned = plan(found[whose.name], model, wanted)
        if planned.changes:
            api.patch_namespaced_custom_object(
                *_KIND,
                namespace,
                _PLURAL,
                whose.name,
                json_patch(planned, items[whose.name]["metadata"]["resourceVersion"]),
                field_manager=_MANAGER,
                field_validation="Strict",
                _content_type="application/json-patch+json",
                _request_timeout=_TIMEOUT,
            )
        return planned


def reach(access: Access) -> tuple[Configuration, str]:
    """How to reach the cluster, and the namespace. Raises ShiftError."""
    configuration = Configuration(retries=0)  # whoever shifts traffic sees at once that it did not work
    files = str(access.kubeconfig or config.KUBE_CONFIG_DEFAULT_LOCATION)
    named = access.kubeconfig is not None or access.context is not None
    try:
        if named or any(Path(file).expanduser().exists() for file in files.split(os.pathsep)):
            own = _by_kubeconfig(configuration, files, access.context)
        else:
            own = _in_pod(configuration)
    except (config.ConfigException, OSError) as error:
        what = str(error).rstrip(".")
        raise ShiftError(f"no cluster is known: {what}; name one with --kubeconfig or --context") from None
    except (yaml.YAMLError, TypeError, AttributeError):  # the package trusts what it reads
        raise ShiftError(f"no cluster is known: {files} is no kubeconfig file; name one with --kubeconfig") from None
    return configuration, access.namespace or own or "default"


def _by_kubeconfig(configuration: Configuration, files: str, context: str | None) -> str:
    """Sets who and where; the context's namespace, if it has one."""
    config.load_kube_config(files, context, configuration)  # type: ignore[no-untyped-call] # it has no types
    contexts, active = config.list_kube_config_contexts(files)  # type: ignore[no-untyped-call] # it has no types
    chosen = next((one for one in contexts if one["name"] == context), active)
    return str(chosen["context"].get("namespace") or "")


def _in_pod(configuration: Configuration) -> str:
    """Sets who and where; the pod's namespace."""
    config.load_incluster_config(configuration)  # type: ignore[no-untyped-call] # it has no types
    return (_POD / "namespace").read_text().strip()


@contextmanager
def _in_words(host: str, namespace: str) -> Iterator[None]:
    """Turns what the API and its client raise into sentences."""
    try:
        yield
    except ApiException as error:
        raise ShiftError(_sentence(error, host, namespace)) from None
    except HTTPError as error:
        untrusted = isinstance(error, MaxRetryError) and isinstance(error.reason, SSLError)
        what = "shows a certificate that the context does not trust" if untrusted else "does not answer"
        raise ShiftError(f"the cluster at {host} {what}: check that it is the one you mean") from None


def _sentence(error: ApiException, host: str, namespace: str) -> str:
    said = _message(error)
    match error.status:
        case 401:
            return f"the cluster at {host} does not know you: log in again, or choose another --context"
        case 403:
            return f"{said}: ask for list and patch of {_PLURAL}.{_GROUP} in the namespace {namespace}"
        case 404 if said is None:
            return f"the cluster at {host} has no {_PLURAL}.{_GROUP}/v1: it needs Istio 1.22 or later"
        case 409:
            return "the VirtualService has been changed meanwhile: look at it, and run the command again"
        case _:
            return f"the cluster at {host} does not take the weights: {said or f'{error.status} {error.reason}'}"


def _message(error: ApiException) -> str | None:
    """What the API server says in a Status of its own; None for answers without one."""
    try:
        return str(json.loads(error.body or "")["message"])
    except (ValueError, KeyError, TypeError):
        return None
