"""The console examples of the page about control, run as they are printed, but for ports, places and pids."""

import itertools
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from servers.controlled import WAITING, Controlled
from servers.processes import OWNED, PROGRAMS, RUN_SECONDS, free_port
from servers.pyrimage import ROOT

pytestmark = pytest.mark.system

PAGE = ROOT / "docs/control.md"
CONF, LOGS, HOME = "/path/to/conf", "/path/to/logs", "/home/joe"
STATUS = "echo $?"
CTRL_C = "^C"
LOOK = "grep "  # into a log, where a line may come a moment later
TRIALS = 100

# What is another each time; a pid must be the same wherever the page has the same number.
CHANGING = (
    r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d[,.]\d{3}",
    r"(?<=up )\d:\d\d:\d\d",
    r"\d+(?=ms)",
    r"req-[0-9a-f-]{36}",
)
PID = r"(?<=pid: )\d+|(?<=pid )\d+|(?<=worker )\d+|(?<=supervisor )\d+|(?<=process\": )\d+|(?<=,\d{3} )\d+"
VARIABLE = re.compile("|".join((*CHANGING, f"(?P<pid>{PID})")))


@dataclass
class Command:
    """A line that somebody types, and what the page prints after it."""

    line: int
    text: str
    printed: list[str] = field(default_factory=list)


def commands() -> Iterator[Command]:
    found: Command | None = None
    is_console = False
    for number, line in enumerate(PAGE.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("```"):
            is_console = line == "```console"
            if found is not None:
                yield found
            found = None
        elif is_console and line.startswith("$ "):
            if found is not None:
                yield found
            found = Command(number, line.removeprefix("$ "))
        elif is_console:
            assert found is not None, f"{PAGE.name}:{number}: output of nothing"
            found.printed.append(line)


class Session:
    """Somebody at a terminal, whose home is the directory of the examples."""

    def __init__(self, place: Controlled) -> None:
        self.place = place
        self.pids: dict[str, str] = {}
        self.status = 0
        self.logs = place.directory / "logs"
        self.logs.mkdir()
        self.translation = {
            CONF: str(place.ini),
            LOGS: str(self.logs),
            HOME: str(place.directory),
            "9292": str(place.port),
            "9191": str(place.registry_port),
            "9393": str(free_port()),
        }

    def translate(self, text: str) -> str:
        return re.sub("|".join(self.translation), lambda found: self.translation[found[0]], text)

    def start(self, command: Command) -> "subprocess.Popen[str]":
        environment = self.place.clean_environment()
        return subprocess.Popen(
            [*OWNED, "bash", "-c", f"(exit {self.status}); {self.translate(command.text)}"],
            cwd=self.place.directory,
            env={**environment, "PATH": f"{PROGRAMS}:{environment['PATH']}"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, command: Command) -> str | None:
        """Run a command; return what is not as printed."""
        process = self.start(command)
        lines: list[str] = []
        if CTRL_C in command.printed:
            assert process.stdout is not None
            before = command.printed.index(CTRL_C)
            lines = [process.stdout.readline().rstrip("\n") for _ in range(before)] + [CTRL_C]
            process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=RUN_SECONDS)
        self.status = process.returncode
        lines += WAITING.sub("", rest).splitlines()
        return None if self.is_as_printed(command.printed, lines) else "\n".join(lines)

    def run_again(self, command: Command) -> str | None:
        """Run a command until its output is as printed, some times at most; return what is not."""
        said: str | None = None
        for _ in range(TRIALS):
            said = self.run(command)
            if said is None:
                break
            time.sleep(0.1)
        return said

    def is_as_printed(self, printed: list[str], lines: list[str]) -> bool:
        return len(printed) == len(lines) and all(map(self.is_same_line, printed, lines))

    def is_same_line(self, printed: str, line: str) -> bool:
        pattern, end, numbers = "", 0, []
        for found in VARIABLE.finditer(printed):
            pattern += re.escape(self.translate(printed[end : found.start()]))
            if found["pid"]:
                numbers.append(found["pid"])
                pattern += r"(\d+)"
            else:
                pattern += f"(?:{'|'.join(CHANGING)})"
            end = found.end()
        same = re.fullmatch(pattern + re.escape(self.translate(printed[end:])), line)
        if same is None:
            return False
        known = all(self.pids.setdefault(*pair) == pair[1] for pair in zip(numbers, same.groups(), strict=True))
        return known and len({*self.pids.values()}) == len(self.pids)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with Controlled(tmp_path) as place:
        place.run("pyrimage-manage", "-c", place.ini, "db", "upgrade")
        place.ini = place.ini.rename(tmp_path / "conf.ini")  # which the search does not find
        yield Session(place)


def test_every_example_prints_what_the_page_says(session: Session) -> None:
    wrong = []
    examples = list(commands())
    for command, following in itertools.zip_longest(examples, examples[1:]):
        said = session.run(command)
        if said is not None and command.text.startswith(LOOK):
            said = session.run_again(command)
        if said is not None:
            wrong.append(f"{PAGE.name}:{command.line}: $ {command.text}\n{said}")
        is_told = following is not None and following.text == STATUS
        if session.status and not is_told:
            wrong.append(f"{PAGE.name}:{command.line}: $ {command.text}\nexit status {session.status}")
    assert not wrong, "\n".join(wrong)
    assert len(examples) > 20
