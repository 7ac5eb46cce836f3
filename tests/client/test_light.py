"""The client is light: who imports it gets nothing of the server."""

import json
import subprocess
import sys

import pytest

HEAVY = {
    "alembic",
    "boto3",
    "colander",
    "keystoneauth1",
    "paste.deploy",
    "plaster",
    "psutil",
    "pyramid",
    "requests",
} | {*("sqlalchemy", "swiftclient", "transaction", "waitress", "webob", "yaml", "zope")}
SHOW = "import json, sys; before = set(sys.modules); import pyrimage.client; print(json.dumps([*sys.modules]))"


@pytest.fixture(scope="module")
def modules() -> set[str]:
    """What a fresh interpreter has loaded after the import."""
    done = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_an_import_loads_nothing_of_the_server(modules: set[str]) -> None:
    ours = {name for name in modules if name.split(".")[0] == "pyrimage"}
    assert {name for name in ours if not name.startswith("pyrimage.client")} == {"pyrimage"}
    assert modules & HEAVY == set()


def test_an_import_loads_few_modules(modules: set[str]) -> None:
    print(f"{len(modules)} modules")
    assert len(modules) < 300
