"""`headrace mesh render`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headrace import configured
from headrace.commands.mesh.up import PROXY
from headrace.commands.output import Output
from headrace.failure import CommandError
from headrace.printable import printable

if TYPE_CHECKING:
    from gateway.settings import Settings
    from mesh.render.folder import Changes


def render(
    config: Annotated[Path, typer.Option(exists=True, dir_okay=False, metavar="FILE", help="headrace.yaml")],
    to: Annotated[Path, typer.Option(file_okay=False, metavar="DIR", help="Where to write them.")],
    output: Annotated[Output, typer.Option("--output", "-o")] = Output.TABLE,
    *,
    reset_weights: Annotated[
        bool, typer.Option("--reset-weights", metavar="", help="Start over with the weights of the models' traffic.")
    ] = False,
    express: Annotated[
        bool, typer.Option("--express", metavar="", help="Also for the express lane at Istio's ingress gateway.")
    ] = False,
    mesh_config: Annotated[
        Path | None,
        typer.Option(dir_okay=False, metavar="FILE", help="Where to write what Istio's MeshConfig must say."),
    ] = None,
) -> None:
    """Write the Istio resources of a configuration's models: a file for each host, one for the gateway.

    With upstream.endpoints also the services and copies of a mesh on this machine.
    Weights that were shifted stay. Files that are no longer needed go; files from elsewhere are left alone.
    """
    from gateway import settings  # noqa: PLC0415 - gRPC
    from headrace.rendering import source_of  # noqa: PLC0415 - the same
    from mesh.istio.document import RefusedError  # noqa: PLC0415 - pydantic
    from mesh.render import folder, weights  # noqa: PLC0415
    from mesh.render.files import mesh_config as config_of  # noqa: PLC0415
    from mesh.render.files import render as rendered  # noqa: PLC0415
    from mesh.render.services import services  # noqa: PLC0415
    from mesh.render.source import RenderError  # noqa: PLC0415

    with configured.usable():
        loaded = settings.load(config, os.environ)
    try:
        source = source_of(loaded, express=express)
        present = folder.read(to)
        live = {} if reset_weights else weights.live(folder.ours(present))
        changes = folder.changes(rendered(source, live), present)
        folder.apply(to, changes)
        if mesh_config is not None:
            mesh_config.write_text(config_of(source))
        shifted = weights.shifted(services(source.catalog, source.mesh.gateway), live)
    except RefusedError as error:
        raise CommandError(f"the weights in {to} cannot be read; --reset-weights starts over\n{error}") from None
    except RenderError as error:
        raise CommandError(f"the resources cannot be written\n{error}") from None
    except OSError as error:
        raise CommandError(f"{error.filename} cannot be used: {error.strerror}") from None
    typer.echo(printable((_as_json if output is Output.JSON else _as_lines)(to, changes, shifted)))
    told = mesh_config is not None
    hints = _hints(source.mesh.trust_domain, loaded.upstream.proxy, traced=source.collector is not None and not told)
    for hint in (*hints, *(_of_lane(loaded) if express else ())):
        typer.echo(hint, err=True)


def _of_lane(loaded: Settings) -> Iterator[str]:
    """What is to be looked at where the ingress gateway runs the lane."""
    if loaded.listen.express != "external":
        yield "the gateway teaches that lane only with listen.express: external"
    if loaded.mesh.ingress.credential is None:
        yield "callers come in by plain text: mesh.ingress.credential names the secret of a certificate"


def _hints(domain: str, proxy: str | None, *, traced: bool) -> Iterator[str]:
    """What mesh up must be told besides; `traced`: of whose spans the mesh does not know yet."""
    from mesh.istio.mesh_config import MeshConfig  # noqa: PLC0415 - pydantic

    if domain != MeshConfig().trust_domain:
        yield f"the mesh's trustDomain must be {domain!r}, too: mesh up takes it with --mesh FILE"
    if traced:
        yield "sidecars have spans once the mesh knows their collector: --mesh-config FILE, and mesh up --mesh FILE"
    if proxy not in (None, PROXY):
        yield f"the gateway's sidecar must be at {proxy}: mesh up takes it with --proxy {proxy}"


def _as_json(to: Path, changes: Changes, shifted: Mapping[str, Mapping[str, int]]) -> str:
    said = {"folder": str(to), "written": list(changes.write), "unchanged": changes.keep, "removed": changes.remove}
    return json.dumps(said | {"shifted": shifted})


def _as_lines(to: Path, changes: Changes, shifted: Mapping[str, Mapping[str, int]]) -> str:
    files = (("written", changes.write), ("unchanged", changes.keep), ("removed", changes.remove))
    lines = [f"{what:<9}  {to / name}" for what, names in files for name in names]
    lines += [f"{model} keeps its live weights {_words(weights)}" for model, weights in shifted.items()]
    return "\n".join(lines)


def _words(weights: Mapping[str, int]) -> str:
    return " ".join(f"{version}={weight}" for version, weight in weights.items())
