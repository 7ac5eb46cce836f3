"""What every catalogue must do: suites for pytest, run over each implementation by small subclasses.

::

    @pytest.fixture
    def catalogue() -> Subject: ...  # empty at the start of each test

    class TestMyImages(ImagesConformance): ...
"""

from .catalogue import Subject
from .claims import ClaimsConformance
from .images import ImagesConformance
from .members import MembersConformance
from .pages import FiltersConformance, PagesConformance
from .quotas import QuotasConformance
from .tokens import TokensConformance

__all__ = [
    "ClaimsConformance",
    "FiltersConformance",
    "ImagesConformance",
    "MembersConformance",
    "PagesConformance",
    "QuotasConformance",
    "Subject",
    "TokensConformance",
]
