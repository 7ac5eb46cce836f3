"""A module imports only from modules above it: this file holds the order, and parses the imports to prove it."""

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent

# From the bottom of the house to its roof; a package's __init__ stands after what it gathers.
ORDER = [
    "pyrimage",  # the version, nothing else
    "pyrimage.server.logtext",  # the rest of the server stands far below; what is logged is masked in one place
    "pyrimage.errors",
    "pyrimage.records",
    "pyrimage.readers",
    "pyrimage.settings",
    "pyrimage.security",
    "pyrimage.logs",
    "pyrimage.schemas.fields",
    "pyrimage.schemas.headers",
    "pyrimage.signing",
    "pyrimage.schemas.dialect",
    "pyrimage.schemas.conditions",
    "pyrimage.schemas.digests",
    "pyrimage.schemas.image",
    "pyrimage.schemas.listing",
    "pyrimage.schemas.member",
    "pyrimage.schemas.record",
    "pyrimage.schemas.claim",
    "pyrimage.schemas",
    "pyrimage.stores.interfaces",
    "pyrimage.stores.transfer",
    "pyrimage.stores.directory",
    "pyrimage.stores.file",
    "pyrimage.stores.testing",
    "pyrimage.stores",
    "pyrimage.models.meta",
    "pyrimage.models.image",
    "pyrimage.models.location",
    "pyrimage.models.claim",
    "pyrimage.models.member",
    "pyrimage.models.owner",
    "pyrimage.models.store",
    "pyrimage.models.migrations",
    "pyrimage.models",
    "pyrimage.images.interfaces",
    "pyrimage.images.rows",
    "pyrimage.images.pages",
    "pyrimage.images.quotas",
    "pyrimage.images.local",
    "pyrimage.images.members",
    "pyrimage.images.claims",
    "pyrimage.images.identities",
    "pyrimage.images.testing.catalogue",
    "pyrimage.images.testing.images",
    "pyrimage.images.testing.pages",
    "pyrimage.images.testing.members",
    "pyrimage.images.testing.claims",
    "pyrimage.images.testing.quotas",
    "pyrimage.catalogue.testing",
    "pyrimage.images",
    "pyrimage.blobs",
    "pyrimage.web.errors",
    "pyrimage.api.resources",
    "pyrimage.api.responses",
    "pyrimage.api.views.versions",
    "pyrimage.api.views.images",
    "pyrimage.api.views.members",
    "pyrimage.api.views",
    "pyrimage.api",
    "pyrimage.registry.resources",
    "pyrimage.registry.responses",
    "pyrimage.registry.views.images",
    "pyrimage.registry.views.claims",
    "pyrimage.registry.views",
    "pyrimage.registry",
    "pyrimage.app",
    "pyrimage.server.parser",
    "pyrimage.server.body",
    "pyrimage.server.forwarding",
    "pyrimage.server.tasks",
    "pyrimage.server.options",
    "pyrimage.server.connections",
    "pyrimage.server.channel",
    "pyrimage.server.pidfile",
    "pyrimage.server.state",
    "pyrimage.server.serving",
    "pyrimage.server.watchdog",
    "pyrimage.server.supervisor",
    "pyrimage.server.factory",
    "pyrimage.server",
    "pyrimage.scripts",  # what its modules share
    "pyrimage.scripts.ini",
    "pyrimage.scripts.serve",
    "pyrimage.scripts.background",
    "pyrimage.scripts.daemons",
    "pyrimage.scripts.control",
    "pyrimage.scripts.verify",
    "pyrimage.scripts.manage",
    "pyrimage.alembic",  # with its migrations
    "pyrimage.pshell",
]

# What is below one of these serves without the rest of the house: not even the version comes from there.
ALONE = ["pyrimage.server."]


class Import(NamedTuple):
    """One import of ``target``, a dotted name that may end in something other than a module."""

    line: int
    target: str
    in_function: bool


def module_name(path: str) -> str:
    """Name the module of ``path``: ``pyrimage/api/__init__.py`` is ``pyrimage.api``."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imports(path: str, source: str) -> Iterator[Import]:
    """Give what a file imports, relative names made absolute."""
    package = path.rpartition("/")[0].split("/")
    tree = ast.parse(source, path)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    inner = {id(node) for function in functions for node in ast.walk(function)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) - node.level + 1] if node.level else []
            names = [".".join([*parents, *filter(None, [node.module]), alias.name]) for alias in node.names]
        else:
            continue
        yield from (Import(node.lineno, name, id(node) in inner) for name in names)


def rank(module: str) -> int | None:
    """Find a module's place in ORDER; migrations have that of their folder."""
    name = "pyrimage.alembic" if module.startswith("pyrimage.alembic.") else module
    return ORDER.index(name) if name in ORDER else None


def resolve(target: str, modules: set[str]) -> str:
    """Find the module that ``target`` is or lies in."""
    while target not in modules and "." in target:
        target = target.rpartition(".")[0]
    return target


def problems_of(path: str, found: list[Import], modules: set[str]) -> Iterator[str]:
    """Say what is wrong with the imports of one file."""
    module = module_name(path)
    own_rank = rank(module)
    if own_rank is None:
        yield f"{path} has no place yet: add {module} to ORDER in tests/test_layering.py, above all that imports it"
        return
    for line, target, in_function in found:
        if module.startswith("pyrimage.api") and "sqlalchemy" in target.split("."):
            yield f"{path}:{line} imports {target}; the API never speaks SQL"
        if target.split(".")[0] != "pyrimage":
            continue
        imported = resolve(target, modules)
        imported_rank = rank(imported)
        if in_function:
            yield f"{path}:{line} imports {imported} inside a function; move it to the top of the file"
        if any(module.startswith(room) and not imported.startswith(room) for room in ALONE):
            yield f"{path}:{line} imports {imported}; {module} imports nothing of ours"
        elif imported_rank is not None and imported_rank >= own_rank:
            yield f"{path}:{line} imports {imported}, which does not stand above {module} in ORDER"


def cycles(graph: Mapping[str, set[str]]) -> Iterator[str]:
    """Name the modules of a cycle, if there is one."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield "a cycle of imports: " + " -> ".join(reversed(error.args[1]))


def problems(files: Mapping[str, str]) -> list[str]:
    """Check the layering of ``files``, source texts by path: ``{"pyrimage/web.py": "import json"}``."""
    modules = {module_name(path) for path in files}
    found = {path: list(imports(path, source)) for path, source in files.items()}
    graph = {module_name(path): {resolve(each.target, modules) for each in found[path]} & modules for path in found}
    return [*(text for path in found for text in problems_of(path, found[path], modules)), *cycles(graph)]


def test_every_module_imports_only_from_those_above_it() -> None:
    files = {str(path.relative_to(ROOT)): path.read_text() for path in sorted(ROOT.glob("pyrimage/**/*.py"))}
    assert "pyrimage/errors.py" in files
    assert problems(files) == []


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"pyrimage/errors.py": "import pyrimage.web", "pyrimage/web.py": ""}, "does not stand above"),
        ({"pyrimage/errors.py": "from pyrimage import web", "pyrimage/web.py": ""}, "does not stand above"),
        ({"pyrimage/errors.py": "from .web import view", "pyrimage/web.py": ""}, "does not stand above"),
        ({"pyrimage/stores/file.py": "from .. import blobs", "pyrimage/blobs.py": ""}, "does not stand above"),
        ({"pyrimage/stores/file.py": "from . import Store", "pyrimage/stores/__init__.py": ""}, "does not stand above"),
        ({"pyrimage/web.py": "def f():\n from pyrimage import errors", "pyrimage/errors.py": ""}, "inside a function"),
        ({"pyrimage/server/body.py": "from .. import __version__", "pyrimage/__init__.py": ""}, "nothing of ours"),
        ({"pyrimage/api/views/images.py": "from sqlalchemy import select"}, "never speaks SQL"),
        ({"pyrimage/api/resources.py": "import zope.sqlalchemy"}, "never speaks SQL"),
        ({"pyrimage/utils.py": ""}, "has no place yet"),
        ({"pyrimage/blobs.py": "from . import web", "pyrimage/web.py": "from . import blobs"}, "a cycle of imports"),
    ],
)
def test_a_breach_is_found(files: dict[str, str], problem: str) -> None:
    assert problem in "\n".join(problems(files))


def test_what_is_allowed_passes() -> None:
    files = {
        "pyrimage/__init__.py": "",
        "pyrimage/errors.py": "import logging",
        "pyrimage/stores/__init__.py": "from .file import FileStore\nfrom .. import __version__",
        "pyrimage/stores/file.py": "from ..errors import BlobDamaged\nfrom pyrimage.stores import interfaces",
        "pyrimage/stores/interfaces.py": "from typing import Protocol",
        "pyrimage/server/body.py": "from .parser import Parser",
        "pyrimage/server/parser.py": "import waitress",
        "pyrimage/alembic/versions/0001_images.py": "import sqlalchemy",
    }
    assert problems(files) == []
