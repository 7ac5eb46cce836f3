from sqlalchemy import update

from conftest import Installation
from pyrimage.catalogue.testing import (
    ClaimsConformance,
    FiltersConformance,
    ImagesConformance,
    PagesConformance,
    Subject,
)
from pyrimage.models import LocationRow


class TestLocalImages(ImagesConformance):
    def test_a_location_that_is_not_ours_is_dropped_with_its_image(
        self, catalogue: Subject, installation: Installation
    ) -> None:
        image = catalogue.upload()
        with installation.engine.begin() as connection:
            connection.execute(update(LocationRow).values(owned=False))
        assert catalogue.remove(image) == []
        assert installation.rows(LocationRow) == 0


class TestLocalPages(PagesConformance):
    pass


class TestLocalFilters(FiltersConformance):
    pass


class TestLocalClaims(ClaimsConformance):
    pass
