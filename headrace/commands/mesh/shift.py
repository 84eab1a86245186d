"""`headrace mesh shift`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from headrace.commands.output import Output
from headrace.failure import CommandError, extra

if TYPE_CHECKING:
    from mesh.shift.plan import Plan
    from mesh.shift.wanted import Wanted

_FOLDER: Final = Path("istio")

_Weights = Annotated[list[str], typer.Argument(metavar="VERSION=WEIGHT", help="They add up to 100.")]
_Folder = Annotated[
    Path | None,
    typer.Option(
        "--dir",
        exists=True,
        file_okay=False,
        metavar="DIR",
        show_default=str(_FOLDER),
        help="The folder of Istio resources.",
    ),
]
_Host = Annotated[str | None, typer.Option(help="The host, where several could be the model's.")]
_Context = Annotated[str | None, typer.Option(help="The kubeconfig file's context.")]
_Kubeconfig = Annotated[
    Path | None,
    typer.Option(
        exists=True, dir_okay=False, metavar="FILE", help="The cluster's kubeconfig; else as kubectl finds it."
    ),
]
_Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", help="The VirtualService's namespace; else the context's.")
]
_Cluster = Annotated[
    bool, typer.Option("--cluster", metavar="", help="Change the live VirtualService of a Kubernetes cluster.")
]


def shift(  # noqa: PLR0913 - a command's options
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The model's name.")],
    weights: _Weights,
    *,
    folder: _Folder = None,
    host: _Host = None,
    context: _Context = None,
    kubeconfig: _Kubeconfig = None,
    namespace: _Namespace = None,
    output: Annotated[Output, typer.Option("--output", "-o")] = Output.TABLE,
    cluster: _Cluster = False,
) -> None:
    """Share a model's calls among its versions: headrace mesh shift digits 1=80 2=20.

    Changes the weights of every route for calls that name no version, and nothing else.

    A version that is not named gets 0. headrace mesh up has a changed file live within a second.
    """
    from mesh.shift import wanted  # noqa: PLC0415 - pydantic

    try:
        asked = wanted.read(weights)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="VERSION=WEIGHT") from None
    if cluster and folder:
        raise typer.BadParameter("--dir is for files, --cluster for a live VirtualService: choose one")
    if not cluster and (context or kubeconfig or namespace):
        raise typer.BadParameter("--context, --kubeconfig and --namespace need --cluster")
    if cluster:
        plan, where = _in_cluster(model, asked, host, (context, kubeconfig, namespace)), "the cluster"
    else:
        plan, where = _in_folder(folder or _FOLDER, model, asked, host)
    if output is Output.JSON:
        typer.echo(_as_json(model, where, plan))
    else:
        _show(model, where, plan)


def _in_folder(folder: Path, model: str, asked: Wanted, host: str | None) -> tuple[Plan, str]:
    from mesh.istio.document import RefusedError  # noqa: PLC0415 - pydantic
    from mesh.of_model import UnclearError  # noqa: PLC0415
    from mesh.shift import files  # noqa: PLC0415
    from mesh.shift.plan import ShiftError  # noqa: PLC0415

    try:
        file, plan = files.shift(folder, model, asked, host)
    except RefusedError as refused:
        raise CommandError("the resources cannot be used\n" + "\n".join(refused.mistakes)) from None
    except UnclearError as unclear:
        raise CommandError(f"in {folder}, {unclear}") from None
    except ShiftError as error:
        raise CommandError(str(error)) from None
    except OSError as error:
        raise CommandError(f"{error.filename} cannot be used: {error.strerror}") from None
    return plan, str(file)


def _in_cluster(
    model: str, asked: Wanted, host: str | None, access: tuple[str | None, Path | None, str | None]
) -> Plan:
    from mesh.of_model import UnclearError  # noqa: PLC0415 - pydantic
    from mesh.shift.plan import ShiftError  # noqa: PLC0415

    with extra("cluster", "headrace mesh shift --cluster"):
        from mesh.shift import cluster  # noqa: PLC0415 - kubernetes
    try:
        return cluster.shift(cluster.Access(*access), model, asked, host)
    except (UnclearError, ShiftError) as error:
        raise CommandError(str(error)) from None


def _as_json(model: str, where: str, plan: Plan) -> str:
    whose = plan.routes.whose
    weights = [
        {
            "route": one.route.name,
            "version": one.version,
            "subset": one.destination.subset,
            "old": one.old,
            "new": one.new,
        }
        for one in plan.weights
    ]
    said = {"model": model, "in": where, "namespace": whose.namespace, "name": whose.name, "weights": weights}
    return json.dumps(said | {"left": [{"route": route, "why": why} for route, why in plan.left]}, indent=2)


def _show(model: str, where: str, plan: Plan) -> None:
    from rich.table import Table  # noqa: PLC0415 - only for people
    from rich.text import Text  # noqa: PLC0415 - what is shown is not rich's markup

    from headrace.console import Console  # noqa: PLC0415 - the same

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("route", "version"):
        table.add_column(column, overflow="fold")
    for column in ("was", "is"):
        table.add_column(column, justify="right")
    for one in plan.weights:
        style = "bold" if one.changes else "dim"
        table.add_row(Text(one.route.name), Text(one.version), str(one.old), str(one.new), style=style)
    console = Console()
    console.print(
        Text(f"{model} in {where}, {plan.routes.whose.title}{'' if plan.changes else ': so already'}"), soft_wrap=True
    )
    console.print(table)
    for route, why in plan.left:
        console.print(Text(f"left as it is: {route}, {why}"), soft_wrap=True)
