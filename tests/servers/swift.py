"""A real Swift, for version 1 of its authentication, for S3 and for Keystone.

::

    with swift.serving(tmp_path) as cluster:
        swiftclient.Connection(cluster.auth_url, swift.USER, swift.KEY)
        boto3.client("s3", endpoint_url=cluster.s3_url, aws_access_key_id=swift.USER, aws_secret_access_key=swift.KEY)

An object has at most MAX_FILE_SIZE bytes. The directory's file system must have extended attributes.
"""

import configparser
import os
import pwd
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from servers.keystone import Identity
from servers.keystone_accounts import SWIFT
from servers.machine import TESTS, environment, keeps_attributes, unavailable
from servers.processes import OWNED, RUN_SECONDS, clean_environment, free_port, spawned, wait_for_port

# Of version 1: the administrator of an account, a user without rights there, and the administrator of another account.
USER, OTHER, STRANGER = "test:tester", "test:other", "test2:tester2"
KEY = "testing"

# Images of a few MiB then have segments. It cannot be less than 5 MiB: boto3 makes no smaller parts.
MAX_FILE_SIZE = 6 << 20

STORAGE = ("account", "container", "object")

# What differs in the pipelines of the proxies: who asks, and whether there are static large objects beside the dynamic.
PROXIES = {
    "proxy": ("s3api tempauth", "slo dlo"),
    "proxy-keystone": ("authtoken keystoneauth", "slo dlo"),
    "proxy-dynamic": ("tempauth", "dlo"),
}
PIPELINE = (
    "catch_errors gatekeeper healthcheck cache listing_formats bulk tempurl {} copy container_quotas account_quotas"
    " {} versioned_writes symlink"
)

PROGRAM = "servers.swift_server"
OPTIONS: dict[str, dict[str, Any]] = {
    "cache": {"use": f"call:{PROGRAM}:cache_filter"},
    "keystoneauth": {"operator_roles": "admin, member", "project_reader_roles": "reader"},
    "s3api": {"min_segment_size": 1, "max_upload_part_num": 10000},
    "slo": {"max_manifest_segments": 10000},
    "tempauth": {
        "token_life": 86400,
        "user_test_tester": f"{KEY} .admin",
        "user_test_other": KEY,
        "user_test2_tester2": f"{KEY} .admin",
    },
    "versioned_writes": {"allow_object_versioning": "true"},
}


@dataclass(frozen=True)
class Cluster:
    """Where a Swift is.

    auth_url: where version 1 gives tokens. dynamic_auth_url: of a proxy that knows no static large objects. s3_url:
    S3's endpoint, path addressing. keystone_proxy: the URL of the proxy that takes Keystone's tokens, which Keystone's
    catalogue has too; empty without Keystone. All lead to the same objects. directory: the servers' logs are there,
    ``proxy.log`` and others.
    """

    auth_url: str
    dynamic_auth_url: str
    s3_url: str
    keystone_proxy: str
    directory: Path


@contextmanager
def serving(directory: Path, identity: Identity | None = None, max_file_size: int = MAX_FILE_SIZE) -> Iterator[Cluster]:
    """Run a Swift below a directory, on three devices without replicas; with Keystone if there is one."""
    python = str(environment("swift") / "bin/python")
    if not keeps_attributes(directory):
        unavailable(f"no extended attributes below {directory}")
    ports = {name: free_port() for name in (*STORAGE, "proxy", "proxy-dynamic")}
    if identity is not None:
        ports["proxy-keystone"] = identity.object_store_port
    _configure(directory, ports, identity, max_file_size)
    _build_rings(python, directory, ports)
    with ExitStack() as stack:
        started = []
        for name, port in ports.items():
            kind, log = name.partition("-")[0], directory / f"{name}.log"
            command = (python, "-m", PROGRAM, "serve", kind, str(directory / f"{name}.conf"))
            process = stack.enter_context(spawned(*command, log=log, environment={"PYTHONPATH": str(TESTS)}))
            started.append((process, port, log))
        for process, port, log in started:
            wait_for_port(process, port, log)
        urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        auth_url, dynamic_auth_url = f"{urls['proxy']}/auth/v1.0", f"{urls['proxy-dynamic']}/auth/v1.0"
        yield Cluster(auth_url, dynamic_auth_url, urls["proxy"], urls.get("proxy-keystone", ""), directory)


def _build_rings(python: str, directory: Path, ports: Mapping[str, int]) -> None:
    pairs = [f"{kind}={ports[kind]}" for kind in STORAGE]
    command = [*OWNED, python, "-m", PROGRAM, "rings", str(directory), *pairs]
    variables = clean_environment(directory, {"PYTHONPATH": str(TESTS)})
    subprocess.run(command, cwd=directory, env=variables, timeout=RUN_SECONDS, check=True)


def _configure(directory: Path, ports: Mapping[str, int], identity: Identity | None, max_file_size: int) -> None:
    limits = {"max_file_size": max_file_size}
    _write(directory / "swift.conf", {"swift-hash": {"swift_hash_path_suffix": "test"}, "swift-constraints": limits})
    common = {
        "bind_ip": "127.0.0.1",
        "user": pwd.getpwuid(os.getuid()).pw_name,
        "swift_dir": directory,
        "workers": 0,  # one process, so that SIGTERM ends it and the cache is everywhere the same
    }
    disks = {
        "devices": directory / "devices",
        "mount_check": "false",
        "disable_fallocate": "true",
        "fallocate_reserve": 0,  # else a disk that is over 99 % full is refused
    }
    for kind in STORAGE:
        app = {"pipeline:main": {"pipeline": f"{kind}-server"}, f"app:{kind}-server": {"use": f"egg:swift#{kind}"}}
        _write(directory / f"{kind}.conf", {"DEFAULT": {**common, **disks, "bind_port": ports[kind]}, **app})
    for name in PROXIES.keys() & ports:
        listen = {"DEFAULT": {**common, "bind_port": ports[name]}}
        _write(directory / f"{name}.conf", listen | _pipeline(name, identity))


def _pipeline(proxy: str, identity: Identity | None) -> dict[str, dict[str, Any]]:
    filters = PIPELINE.format(*PROXIES[proxy]).split()
    options = OPTIONS | {"authtoken": _authtoken(identity)} if identity else OPTIONS
    return {
        "pipeline:main": {"pipeline": " ".join([*filters, "proxy-server"])},
        **{f"filter:{name}": {"use": f"egg:swift#{name}", **options.get(name, {})} for name in filters},
        "app:proxy-server": {
            "use": "egg:swift#proxy",
            "account_autocreate": "true",
            "error_suppression_interval": 0,  # else it avoids a disk for a minute after an error
        },
    }


def _authtoken(identity: Identity) -> dict[str, Any]:
    return {
        "use": "egg:keystonemiddleware#auth_token",
        "auth_url": identity.url,
        "www_authenticate_uri": identity.url,
        "auth_type": "password",
        "username": SWIFT.name,
        "password": SWIFT.password,
        "user_domain_id": "default",
        "project_name": SWIFT.project,
        "project_domain_id": "default",
        "delay_auth_decision": "true",
        "token_cache_time": -1,  # a token that was revoked is refused at once
        "service_token_roles_required": "true",
    }


def _write(path: Path, sections: Mapping[str, Mapping[str, Any]]) -> None:
    ini = configparser.RawConfigParser()
    ini.read_dict(sections)
    with path.open("w", encoding="utf-8") as file:
        ini.write(file)
