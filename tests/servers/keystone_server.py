"""What runs in Keystone's own environment, ``.venv-keystone``.

::

    python -m servers.keystone_server prepare DIRECTORY
    python -m servers.keystone_server serve DIRECTORY PORT

The one fills a database, which takes half a minute: runs of the tests serve copies of it.
"""

import configparser
import importlib
import os
import subprocess
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import waitress

from servers.keystone_accounts import ADMIN, KEYSTONE_HOST, SWIFT_HOST, USERS, log_in
from servers.processes import free_port, spawned, wait_for_port

# Names of files are relative, so that a copy works anywhere.
SETTINGS = {
    "database": {"connection": "sqlite:///keystone.db"},
    "token": {"provider": "fernet", "expiration": "3600"},
    "fernet_tokens": {"key_repository": "fernet"},
    "credential": {"key_repository": "credential"},
    "identity": {"password_hash_rounds": "4"},
    # It takes 350 statements to validate a token, and none where it is cached.
    "cache": {"enabled": "true", "backend": "dogpile.cache.memory"},
}
INI = "keystone.conf"
REGION, INTERFACES = "RegionOne", ("public", "internal", "admin")
TESTS = Path(__file__).parents[1]


def prepare(directory: Path) -> None:
    """Make a Keystone with the users of ``keystone_accounts``, and Swift in its catalogue."""
    for name in ("fernet", "credential"):
        (directory / name).mkdir(parents=True, mode=0o700)
    ini = configparser.RawConfigParser()
    ini.read_dict(SETTINGS)
    with (directory / INI).open("w", encoding="utf-8") as file:
        ini.write(file)
    owner = ("--keystone-user", str(os.getuid()), "--keystone-group", str(os.getgid()))
    urls = [
        word for kind in ("public", "internal", "admin") for word in (f"--bootstrap-{kind}-url", _url(KEYSTONE_HOST))
    ]
    _manage(directory, "db_sync")
    _manage(directory, "fernet_setup", *owner)
    _manage(directory, "credential_setup", *owner)
    _manage(directory, "bootstrap", "--bootstrap-password", ADMIN.password, "--bootstrap-region-id", "RegionOne", *urls)
    log, port = directory / "serve.log", free_port()
    command = (sys.executable, "-m", "servers.keystone_server", "serve", str(directory), str(port))
    with spawned(*command, log=log, environment={"PYTHONPATH": str(TESTS)}) as process:
        wait_for_port(process, port, log)
        _fill(_url(f"127.0.0.1:{port}"))


def serve(directory: Path, port: int) -> None:
    """Serve Keystone in the foreground."""
    os.chdir(directory)
    warnings.simplefilter("ignore")
    sys.argv[1:] = []  # Keystone parses them
    os.environ["OS_KEYSTONE_CONFIG_FILES"] = INI
    # Nobody asks for SAML here, and it takes more than a second to compile its schemas.
    schemas: Any = types.ModuleType("saml2.xml.schema")
    schemas.XMLSchemaError, schemas.validate = ValueError, None
    sys.modules["saml2.xml.schema"] = schemas
    application = importlib.import_module("keystone.wsgi.api").application
    # A log-in reads and then writes: of two at once, SQLite refuses one. The cache is for one process.
    waitress.serve(application, host="127.0.0.1", port=port, threads=1)


def _url(host: str) -> str:
    return f"http://{host}/v3"


def _manage(directory: Path, *words: str) -> None:
    command = [str(Path(sys.executable).with_name("keystone-manage")), "--config-file", INI, *words]
    with (directory / "manage.log").open("ab") as log:
        subprocess.run(command, cwd=directory, stdout=log, stderr=log, check=True)


def _fill(url: str) -> None:
    """Add projects, users with their roles, and the object store."""
    admin = log_in(url, ADMIN)

    def add(kind: str, **fields: str) -> str:
        return str(admin.post(f"{url}/{kind}s", json={kind: fields}).json()[kind]["id"])

    roles = {role["name"]: role["id"] for role in admin.get(f"{url}/roles").json()["roles"]}
    names = dict.fromkeys(user.project for user in USERS)
    projects = {name: add("project", name=name, domain_id="default") for name in names}
    for each in USERS:
        user = add("user", name=each.name, password=each.password, domain_id="default")
        admin.put(f"{url}/projects/{projects[each.project]}/users/{user}/roles/{roles[each.role]}")
    service = add("service", type="object-store", name="swift")
    place = f"http://{SWIFT_HOST}/v1/AUTH_$(project_id)s"
    for interface in INTERFACES:
        add("endpoint", interface=interface, service_id=service, region_id=REGION, url=place)


if __name__ == "__main__":
    match sys.argv[1:]:
        case "prepare", place:
            prepare(Path(place).absolute())
        case "serve", place, at:
            serve(Path(place), int(at))
        case _:
            sys.exit(__doc__)
