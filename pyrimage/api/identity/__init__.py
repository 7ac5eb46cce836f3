"""The identity calls that OpenStack's tools log in with: as much of Keystone's API v3 as they need, and no more.

It is served in mode ``users`` alone. Keystone's domains, groups, trusts and everything that changes users are not here:
there is one domain, ``default``, and users and projects are called as their ids are. Source: ours, docs/tokens.md,
"What is not there".
"""

from pyramid.config import Configurator

from ...web.resources import add_root_child
from ...web.views import scan_views
from .resources import Identity, not_keystone


def includeme(config: Configurator) -> None:
    """Serve this face beside the one that makes the tree."""
    add_root_child(config, "identity", Identity)
    for version in ("v3", "v2.0"):
        add_root_child(config, version, not_keystone)
    scan_views(config, f"{__name__}.views")
