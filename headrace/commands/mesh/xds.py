"""`headrace mesh xds`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from headrace.failure import CommandError


def xds(
    istio: Annotated[
        list[Path],
        typer.Option(exists=True, dir_okay=False, metavar="FILE", help="Istio resources; may be given several times."),
    ],
    proxies: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, metavar="FILE", help="The proxies: name, namespace, labels ...")
    ],
    proxy: Annotated[str, typer.Option(metavar="NAME", help="Whose configuration to print.")],
    mesh: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, metavar="FILE", help="Istio's MeshConfig: trustDomain and the like."),
    ] = None,
) -> None:
    """Print what Istio's control plane would send to a sidecar: clusters, routes, listeners, endpoints.

    Proto JSON with proto field names. A resource, field or value that is not implemented is refused by name.
    """
    from mesh.envoy.generate import generate  # noqa: PLC0415 - pydantic
    from mesh.istio.document import RefusedError  # noqa: PLC0415
    from mesh.istio.load import load_mesh_config, load_proxies, load_world  # noqa: PLC0415
    from mesh.istio.mesh_config import MeshConfig  # noqa: PLC0415

    try:
        world = load_world(istio, load_mesh_config(mesh) if mesh else MeshConfig())
        known = {each.name: each for each in load_proxies(proxies)}
        if proxy not in known:
            raise CommandError(f"there is no proxy {proxy} in {proxies}; it has {', '.join(known) or 'none'}")
        typer.echo(json.dumps(generate(world, known[proxy]), indent=2))
    except RefusedError as refused:
        raise CommandError("the resources cannot be used\n" + "\n".join(refused.mistakes)) from None
