"""A caller without a sidecar: gRPC's own xDS client. Law: it is told by a control plane, and proves who it is by files.

gRPC reads its bootstrap once, so the caller stays the node that it was at first, whatever becomes of its entry.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Final

from mesh.ads.server import Ads
from mesh.istio.proxies import Proxy
from mesh.local.authority import Certificate
from mesh.local.files import put
from mesh.local.place import bootstrap_of
from mesh.local.plan import Proxyless
from mesh.proxyless.bootstrap import Certificates, bootstrap, node_id

_REFRESH: Final = (timedelta(seconds=1), timedelta(seconds=5))  # a mesh that is started anew has other roots


def refresh(lifetime: timedelta) -> timedelta:
    """How often gRPC shall look for a new certificate, which is there when half of the old one's time is over."""
    least, most = _REFRESH
    return min(max(lifetime / 10, least), most)


class Caller:
    """The caller's control plane, and its files in a place. `issue` makes a certificate for a workload."""

    def __init__(
        self, place: Path, ads: Ads, roots: str, issue: Callable[[Proxy], Certificate], every: timedelta
    ) -> None:
        self._place = place
        self._ads = ads
        self._roots = roots
        self._issue = issue
        self._files = Certificates(place / "certificate.pem", place / "key.pem", place / "roots.pem", every)
        self._node: str | None = None
        self._proxy: Proxy | None = None

    def tell(self, what: Proxyless) -> None:
        """From now on the caller is this workload, and calls as it is told. Raises OSError."""
        before, self._proxy = self._proxy, what.proxy
        if before is None or before.service_account != what.proxy.service_account:
            self.certify()
        if self._node is None:
            self._node = node_id(what.proxy)
            put(self._files.roots, self._roots)
            put(bootstrap_of(self._place), json.dumps(bootstrap(self._ads.address, what.proxy, self._files)))
        self._ads.publish(self._node, what.told)

    def certify(self) -> None:
        """Let new connections have a new certificate. Raises OSError."""
        if self._proxy is not None:
            issued = self._issue(self._proxy)
            put(self._files.key, issued.key)  # gRPC takes the two if they fit together, and else looks again
            put(self._files.certificate, issued.chain)
