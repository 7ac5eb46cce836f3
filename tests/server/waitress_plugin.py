"""A pytest plugin for waitress' own tests: it puts our classes where they look for waitress'.

Loaded into the process that runs them, before they are: ``pytest -p server.waitress_plugin``.
"""

import os
from typing import Any

import pytest
from waitress import adjustments, channel, parser, server, task

from pyrimage.server.channel import Channel, Dispatcher
from pyrimage.server.connections import Connections
from pyrimage.server.options import Options
from pyrimage.server.parser import Parser
from pyrimage.server.tasks import ErrorTask, LoggedTask, Task

THRESHOLD = "PYRIMAGE_TEST_THRESHOLD"  # in the environment: bodies of more bytes are streamed
OURS = {name: getattr(Options, name) for name in Options._param_map.keys() - adjustments.Adjustments._param_map.keys()}

CONNECTIONS = Connections(Options())


class ThreadedTaskDispatcher(Dispatcher):
    """Ours, made as waitress' is."""

    def __init__(self) -> None:
        super().__init__(0, 4, 4)


def in_waitress_shape(self: ErrorTask, ident: str) -> Any:
    """Our unit tests look at the shape of errors; here only their statuses and texts are of interest."""
    return self.error.to_response(ident)


def pytest_configure() -> None:
    """Put ours in place."""
    server.ThreadedTaskDispatcher = ThreadedTaskDispatcher
    task.Task, task.WSGITask, task.ErrorTask = LoggedTask, Task, ErrorTask
    parser.HTTPRequestParser = channel.HTTPRequestParser = Parser
    channel.HTTPChannel = server.HTTPChannel = server.BaseWSGIServer.channel_class = Channel
    server.BaseWSGIServer.connections = CONNECTIONS
    ErrorTask.to_response = in_waitress_shape  # type: ignore[assignment, method-assign]
    for name, value in OURS.items():
        setattr(adjustments.Adjustments, name, value)
    adjustments.Adjustments.inbuf_overflow = int(os.environ[THRESHOLD])


def is_gone(*_: Any) -> None:
    raise OSError("this socket cannot be shut down")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the dummies of these tests what our classes ask of a request, its server, its channel and its socket."""
    for module in {item.module for item in items if isinstance(item, pytest.Function)}:
        dummies: dict[str, Any] = {name: getattr(module, f"Dummy{name}", None) for name in WANTED}
        for name, attributes in WANTED.items():
            for attribute, value in attributes.items():
                if dummies[name]:
                    setattr(dummies[name], attribute, value)
        if dummies["Parser"] and dummies["Channel"]:
            dummies["Channel"].requests = [dummies["Parser"]()]


WANTED: dict[str, dict[str, Any]] = {
    "Parser": {"streaming": False, "chunked": False, "forwarded": False, "began": 0.0, "environ": {}, "error": None},
    "Server": {"accepting": True, "connections": CONNECTIONS},
    "Adjustments": OURS,
    "Adj": OURS,
    "Sock": {"shutdown": is_gone},
    "Channel": {},
}
