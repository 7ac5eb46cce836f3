"""The suites of the catalogue over a registry, on SQLite and PostgreSQL."""

import pytest

from catalogues import Remotes
from conftest import Installation
from pyrimage.catalogue.testing import (
    ClaimsConformance,
    FiltersConformance,
    ImagesConformance,
    MembersConformance,
    PagesConformance,
    QuotasConformance,
    Subject,
    TokensConformance,
)

pytestmark = pytest.mark.parametrize("shared_installation", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def catalogue(installation: Installation, remotes: Remotes) -> Subject:
    return remotes.catalogue_of(installation)


class TestRemoteImages(ImagesConformance):
    pass


class TestRemotePages(PagesConformance):
    pass


class TestRemoteFilters(FiltersConformance):
    pass


class TestRemoteClaims(ClaimsConformance):
    pass


class TestRemoteMembers(MembersConformance):
    pass


class TestRemoteQuotas(QuotasConformance):
    pass


class TestRemoteTokens(TokensConformance):
    pass
