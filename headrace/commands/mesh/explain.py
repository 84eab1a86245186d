"""`headrace mesh explain`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.commands.output import Output
from headrace.failure import CommandError

if TYPE_CHECKING:
    from mesh.explain.destinations import Destination
    from mesh.explain.explain import Explanation, Winner
    from mesh.explain.words import Fact


_Version = Annotated[str | None, typer.Option(help="The version that the call names.")]
_Header = Annotated[
    list[str] | None, typer.Option(metavar="NAME=VALUE", help="One more header; may be given several times.")
]
_Method = Annotated[str, typer.Option(help="A method of GRPCInferenceService, or SERVICE/METHOD.")]
_Folder = Annotated[
    Path, typer.Option("--dir", exists=True, file_okay=False, metavar="DIR", help="The folder of Istio resources.")
]
_Proxies = Annotated[
    Path | None,
    typer.Option(
        exists=True, dir_okay=False, metavar="FILE", help="The sidecars of the mesh, where no WorkloadEntry calls."
    ),
]
_Caller = Annotated[
    str | None,
    typer.Option(
        "--from", metavar="NAMESPACE/NAME", help="The calling workload; by default the only one that serves nothing."
    ),
]
_Host = Annotated[str | None, typer.Option(metavar="HOST[:PORT]", help="The model's host, where it has several.")]
_Mesh = Annotated[
    Path | None, typer.Option(exists=True, dir_okay=False, metavar="FILE", help="Istio's MeshConfig, as for mesh up.")
]


def explain(  # noqa: PLR0913 - a command's options
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The model's name.")],
    *,
    version: _Version = None,
    header: _Header = None,
    method: _Method = "ModelInfer",
    folder: _Folder = Path("istio"),
    proxies: _Proxies = None,
    caller: _Caller = None,
    host: _Host = None,
    mesh: _Mesh = None,
    output: Annotated[Output, typer.Option("--output", "-o")] = Output.TABLE,
) -> None:
    """Say which route a call of a model gets, why not another, and what that means.

    Read from the resources as Envoy would be configured by them. What a worker lets in (AuthorizationPolicy) is not
    looked at.
    """
    from mesh.explain.explain import explain as explained  # noqa: PLC0415 - pydantic
    from mesh.explain.places import authority, call, workloads  # noqa: PLC0415
    from mesh.explain.places import caller as chosen  # noqa: PLC0415
    from mesh.istio.document import RefusedError  # noqa: PLC0415
    from mesh.istio.load import (  # noqa: PLC0415
        load_mesh_config,
        load_proxies,
        load_world,
        resources,
    )
    from mesh.istio.mesh_config import MeshConfig  # noqa: PLC0415
    from mesh.of_model import UnclearError  # noqa: PLC0415

    more = _headers(header or ())
    try:
        world = load_world(resources(folder), load_mesh_config(mesh) if mesh else MeshConfig())
        who = chosen(world, load_proxies(proxies) if proxies else workloads(world), caller)
        where = authority(world, who, model, host)
        explanation = explained(world, who, call(model, where, method, version, more))
    except RefusedError as refused:
        raise CommandError("the resources cannot be used\n" + "\n".join(refused.mistakes)) from None
    except UnclearError as unclear:
        raise CommandError(f"in {folder}, {unclear}") from None
    except OSError as error:
        raise CommandError(f"{error.filename} cannot be used: {error.strerror}") from None
    if output is Output.JSON:
        typer.echo(_as_json(explanation))
    else:
        _show(explanation)


def _headers(words: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """`["a=1", "A=2"]` -> {"a": ("1", "2")}."""
    found: dict[str, tuple[str, ...]] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"{word!r} is not NAME=VALUE, as in x-tier=gold", param_hint="--header")
        found[name.lower()] = (*found.get(name.lower(), ()), value)
    return found


def _as_json(explanation: Explanation) -> str:
    winner = explanation.winner
    said: dict[str, Any] = {
        "caller": f"{explanation.caller.namespace}/{explanation.caller.name}",
        "call": explanation.call,
        "unknown": explanation.unknown,
        "passed_over": [{"route": one.name, "unmet": one.unmet} for one in explanation.tried],
        "route": None if winner is None else _winner_as_json(winner),
    }
    return json.dumps(said, indent=2)


def _winner_as_json(winner: Winner) -> dict[str, Any]:
    destinations = [
        {
            "host": one.host,
            "subset": one.subset,
            "share": one.share,
            "copies": [{"address": copy.address, "labels": dict(copy.labels)} for copy in one.copies],
            "instead": one.instead or None,
            "means": _as_pairs(one.facts),
            "envoy": one.cluster,
        }
        for one in winner.destinations
    ]
    said = {"name": winner.name, "source": winner.source or None, "means": _as_pairs(winner.facts)}
    return said | {"destinations": destinations, "envoy": winner.route}


def _as_pairs(facts: Iterable[Fact]) -> list[dict[str, str]]:
    return [{"about": fact.about, "says": fact.says} for fact in facts]


def _show(explanation: Explanation) -> None:
    from rich.table import Table  # noqa: PLC0415 - only for people
    from rich.text import Text  # noqa: PLC0415 - what is shown is not rich's markup

    from headrace.console import Console  # noqa: PLC0415 - the same
    from mesh.explain.destinations import UNKNOWN  # noqa: PLC0415 - the same

    console = Console()
    call, who, winner = explanation.call, explanation.caller, explanation.winner
    first = f"{call[':path'][0]} to {call[':authority'][0]}, from {who.namespace}/{who.name}"
    console.print(Text(first), soft_wrap=True)
    tried = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("route", "why not"):
        tried.add_column(column, overflow="fold")
    for one in explanation.tried:
        tried.add_row(Text(one.name), Text("; ".join(one.unmet)), style="dim")
    if explanation.unknown:
        console.print(UNKNOWN)
        return
    if winner is None:
        console.print(tried)
        console.print("no route takes it: the sidecar answers 404, which gRPC reads as UNIMPLEMENTED")
        return
    source = winner.source or "as no VirtualService routes for the host"
    tried.add_row(Text(winner.name), Text(f"it is this one, {source}"), style="bold")
    means = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    means.add_column(style="dim", no_wrap=True)
    means.add_column(overflow="fold")
    for about, says in _lines(winner):
        means.add_row(about, Text(says))
    console.print(tried, "", means, sep="\n")


def _lines(winner: Winner) -> Iterable[tuple[str, str]]:
    """What to say of a route. What differs between its destinations is said of each, what does not, once."""
    for one in winner.destinations:
        reached = "; ".join(f"{copy.address} ({_labels(copy.labels)})" for copy in one.copies)
        yield f"{one.share * 100:.3g} %", f"{_name(one)}: {reached or one.instead}"
    said: dict[str, list[str]] = {}
    for fact in winner.facts:
        said.setdefault(fact.about, []).append(fact.says)
    for one in winner.destinations:
        for fact in one.facts:
            everywhere = all(fact in other.facts for other in winner.destinations)
            words = fact.says if everywhere else f"{_name(one)}: {fact.says}"
            if words not in said.setdefault(fact.about, []):
                said[fact.about].append(words)
    for about, sentences in said.items():
        yield about, "\n".join(sentences)


def _name(destination: Destination) -> str:
    return destination.subset or destination.host


def _labels(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in labels.items())
