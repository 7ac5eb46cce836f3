"""The application over each database: what the fixtures of ``tests/conftest.py`` give is here given three times."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from sqlalchemy import insert, update
from transaction import TransactionManager

from conftest import Installation, install
from pyrimage.images.claims import LocalClaims
from pyrimage.images.interfaces import Images
from pyrimage.images.local import LocalImages
from pyrimage.images.testing import Catalogue
from pyrimage.models import ClaimRow, MemberRow
from pyrimage.records import utcnow
from servers import databases


@pytest.fixture(scope="session", params=databases.KINDS)
def shared_installation(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    directory = tmp_path_factory.mktemp(request.param)
    with databases.fresh_database(request.param, directory) as url:
        made = install(directory, **{"sqlalchemy.url": url})
        yield made
        made.engine.dispose()


@pytest.fixture
def catalogue(installation: Installation) -> Catalogue:
    """The SQL catalogue of an installation."""

    @contextmanager
    def transaction() -> Iterator[Images]:
        manager = TransactionManager(explicit=True)
        with manager:
            yield LocalImages(installation.registry["pyrimage.sessions"](info={"tm": manager}))

    def share(image_id: str, project: str) -> None:
        with installation.engine.begin() as connection:
            connection.execute(insert(MemberRow).values(image_id=image_id, member=project, can_share=False))

    def expire(key: str) -> None:
        with installation.engine.begin() as connection:
            lease = utcnow() - timedelta(hours=1)
            connection.execute(update(ClaimRow).where(ClaimRow.key == key).values(lease=lease))

    return Catalogue(transaction, LocalClaims(installation.engine), share, expire)
