"""The few rules of the house that no other tool checks."""

import ast
import os
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
MODULES = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in ROOT.glob("pyrimage/**/*.py")}

# pytest rewrites the assert statements of these, so that they hold under "python -O" too.
CONFORMANCE_SUITES = ("pyrimage/stores/testing.py", "pyrimage/catalogue/testing/")

# A migration is one list of steps, and not edited again.
MIGRATIONS = "pyrimage/alembic/versions/"

# Nothing that came with a request reaches these: the one runs its own command anew, the other what an operator types.
STARTERS = ("pyrimage/server/supervisor.py", "pyrimage/scripts/background.py")

OS_PROGRAMS = {name for name in dir(os) if name.startswith(("exec", "popen", "posix_spawn", "spawn", "system"))}

# Modules that can open connections, and who may have them: the opener, stores with a host of the settings, the server.
# The others ask for the machine's name, talk to processes that they started, or are the client, which no server runs.
NETWORK = re.compile(
    r"(aiohttp|boto3|botocore|ftplib|http\.client|httpx|requests|socket|swiftclient|telnetlib|urllib\.request|urllib3)\b"
)
OPENERS = ("pyrimage/opener.py", "pyrimage/stores/s3/", "pyrimage/stores/swift/", "pyrimage/server/")
NO_OPENERS = (
    "pyrimage/catalogue/remote/transport.py",
    "pyrimage/catalogue/sql/claims.py",
    "pyrimage/client/connections.py",
    "pyrimage/client/transport.py",
    "pyrimage/scripts/background.py",
    "pyrimage/scripts/control.py",
)

LONGEST_FILE = 400
LONGEST_FUNCTION = 40


def places(wanted: Callable[[ast.stmt | ast.expr], bool]) -> list[str]:
    """Find the nodes of the package that are ``wanted``: ``["pyrimage/app.py:12"]``."""
    return [f"{path}:{node.lineno}" for path, node in nodes() if wanted(node)]


@cache
def nodes() -> list[tuple[str, ast.stmt | ast.expr]]:
    """Return every node of the package."""
    trees = [(path, ast.parse(source, path)) for path, source in sorted(MODULES.items())]
    return [(path, node) for path, tree in trees for node in ast.walk(tree) if isinstance(node, ast.stmt | ast.expr)]


def starts_a_program(node: ast.stmt | ast.expr) -> bool:
    match node:
        case ast.Import(names):
            return any(alias.name == "subprocess" for alias in names)
        case ast.ImportFrom(module, names):
            return module == "subprocess" or (module == "os" and any(alias.name in OS_PROGRAMS for alias in names))
        case ast.Attribute(ast.Name("os"), name):
            return name in OS_PROGRAMS
    return False


def can_connect(node: ast.stmt | ast.expr) -> bool:
    match node:
        case ast.Import(names):
            return any(NETWORK.match(alias.name) for alias in names)
        case ast.ImportFrom(module, names, 0):
            return any(NETWORK.match(module or "") or NETWORK.match(f"{module}.{alias.name}") for alias in names)
    return False


def is_too_long(node: ast.stmt | ast.expr) -> bool:
    is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    return is_function and (node.end_lineno or 0) - node.lineno >= LONGEST_FUNCTION


def test_the_package_is_found() -> None:
    assert "pyrimage/errors.py" in MODULES  # else the tests below would pass over nothing


def test_only_the_conformance_suites_use_assert() -> None:
    """S9: ``python -O`` drops assert statements, and no check of the service may go with them."""
    found = places(lambda node: isinstance(node, ast.Assert))
    assert [place for place in found if not place.startswith(CONFORMANCE_SUITES)] == []


def test_no_file_is_longer_than_the_limit() -> None:
    tests = {str(path): path.read_text(encoding="utf-8") for path in ROOT.glob("tests/**/*.py")}
    assert [path for path, source in (MODULES | tests).items() if len(source.splitlines()) > LONGEST_FILE] == []


def test_no_function_is_longer_than_the_limit() -> None:
    found = places(is_too_long)
    assert [place for place in found if not place.startswith(MIGRATIONS)] == []


def test_no_other_program_is_started_s25() -> None:
    assert [place for place in places(starts_a_program) if not place.startswith(STARTERS)] == []


def test_one_module_opens_urls_that_others_name() -> None:
    """S23: a second way to fetch them would need its own checks of every address."""
    found = {place.rpartition(":")[0] for place in places(can_connect)}
    assert {place for place in found if not place.startswith(OPENERS)} == set(NO_OPENERS)


def test_system_tests_carry_their_mark_and_lie_together() -> None:
    mark = re.compile(r"^(pytestmark = \[?|@)pytest\.mark\.system\b", re.MULTILINE)
    marked = {path for path in ROOT.glob("tests/**/test_*.py") if mark.search(path.read_text(encoding="utf-8"))}
    lying = {*ROOT.glob("tests/system/**/test_*.py"), ROOT / "tests/server/test_waitress_suite.py"}
    assert marked == lying
