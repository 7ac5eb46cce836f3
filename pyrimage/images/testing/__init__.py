"""What every catalogue must do: suites for pytest, run over each implementation by small subclasses.

::

    @pytest.fixture
    def catalogue() -> Catalogue: ...  # empty at the start of each test

    class TestMyImages(ImagesConformance): ...
"""

from .catalogue import Catalogue
from .claims import ClaimsConformance
from .images import ImagesConformance
from .pages import PagesConformance

__all__ = ["Catalogue", "ClaimsConformance", "ImagesConformance", "PagesConformance"]
