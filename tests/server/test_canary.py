"""Where our server meets waitress: the internals that it leans on, each as it is in the release it was written for."""

import hashlib
import importlib
import importlib.metadata
import inspect
import re
from typing import Any

import pytest

# What is subclassed, called or counted on: the digest of its source, and the modules of pyrimage/server/ to read again.
LEANED_ON = {
    "adjustments._int_marker": ("efa5d62a2278", "options"),
    "adjustments._str_marker": ("b405692b633e", "options"),
    "adjustments.aslist": ("e0c7003a6bf2", "options"),
    "adjustments.Adjustments.__init__": ("1d51c4d0c7c4", "options"),
    "buffers.FileBasedBuffer": ("43e566b09e1b", "downloads"),
    "buffers.ReadOnlyFileBasedBuffer": ("71e686cf378d", "downloads, relays"),
    "channel.ClientDisconnected": ("958ea4041555", "body, tasks"),
    "channel.HTTPChannel": ("92341b469af1", "channel, body, tasks, serving, relays"),
    "parser.HTTPRequestParser": ("18eb742c3923", "parser, body"),
    "parser.ParsingError": ("a9a6970af1ec", "parser, body"),
    "parser.crack_first_line": ("638bc3521580", "parser"),
    "parser.split_uri": ("25fbb0c21bfa", "parser"),
    "proxy_headers.clear_untrusted_headers": ("26ba7153e6bf", "forwarding"),
    "proxy_headers.parse_proxy_headers": ("f7852ba87561", "forwarding"),
    "proxy_headers.proxy_headers_middleware": ("52940cbb11ba", "forwarding"),
    "receiver.ChunkedReceiver": ("1fe3ee0cf79c", "body"),
    "server.BaseWSGIServer": ("47f993b1dfd9", "serving, channel"),
    "server.TcpWSGIServer": ("daa9b775ebc6", "serving"),
    "server.UnixWSGIServer": ("51ea07f16445", "serving"),
    "task.ThreadedTaskDispatcher": ("14419b0aca6d", "channel"),
    "task.Task": ("403ac94b3f06", "tasks"),
    "task.ErrorTask": ("f940981416c0", "tasks"),
    "task.WSGITask": ("fb2096d96612", "tasks"),
    "trigger.trigger": ("7112ef460bb7", "channel, serving, relays"),
    "trigger._triggerbase": ("fea450c43548", "channel, serving"),
    "utilities.BadRequest": ("30451485661f", "parser, body"),
    "utilities.Error": ("c386c0643d04", "parser, tasks"),
    "utilities.RequestEntityTooLarge": ("e9e936f0a9ad", "body, tasks"),
    "utilities.RequestHeaderFieldsTooLarge": ("254f11177053", "parser, tasks"),
    "wasyncore.close_all": ("bd9d4d53433e", "serving"),
    "wasyncore.dispatcher": ("2fea7b0ffe84", "channel, watchdog"),
    "wasyncore.loop": ("c80869aea000", "serving"),
    "wasyncore.poll2": ("94273abf3d9d", "serving"),
}


def source_of(name: str) -> str:
    """Return the source of ``module.name`` or ``module.name.name`` in waitress; "" if it is gone, too."""
    module, _, names = name.partition(".")
    found: Any = importlib.import_module(f"waitress.{module}")
    for each in names.split("."):
        found = getattr(found, each, None)
    return inspect.getsource(found) if found is not None else ""


def digest(source: str) -> str:
    """Return what changes with the code; blank lines and the ends of lines do not matter."""
    lines = [line.rstrip() for line in source.splitlines() if line.strip()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


@pytest.mark.parametrize("name", LEANED_ON)
def test_waitress_has_the_internals_that_our_server_leans_on(name: str) -> None:
    expected, modules = LEANED_ON[name]
    if (now := digest(source_of(name))) != expected:
        version = importlib.metadata.version("waitress")
        pytest.fail(
            f"waitress {version} changed {name} ({now}): compare it, and read pyrimage/server/ again: {modules}"
        )


def test_waitress_is_a_version_that_our_server_was_written_for() -> None:
    version = importlib.metadata.version("waitress")
    numbers = [int(number) for number in re.findall(r"\d+", version)[:3]]
    assert [3, 0, 2] <= numbers < [3, 1], f"waitress {version}: pyrimage/server/ leans on 3.0.2 and its kind"
