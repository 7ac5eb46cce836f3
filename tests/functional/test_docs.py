"""The documentation says what the service does: its exchanges are sent, its tables are compared with the code."""

import dataclasses
import re
import runpy
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from pyramid.interfaces import IContextFound

from conftest import Installation, install
from default_store import file_store_only
from exchanges import Ids, Message, ask, differences, read_page
from factories import reserve
from pyrimage.api.v1.resources import V1, ImageResource, Root, VersionChoice
from pyrimage.api.v1.schemas.headers import COPY_FROM, header_name
from pyrimage.api.v1.schemas.image import KNOWN
from pyrimage.catalogue.records import CONTAINER_FORMATS, DISK_FORMATS, Status
from pyrimage.registry.resources import ClaimContainer, StoreContainer, TokenContainer
from pyrimage.scripts import manage
from pyrimage.server.options import Options
from pyrimage.settings import Settings
from pyrimage.signatures import PURGE_PROPERTIES, SIGNATURE, SIGNED
from pyrimage.stores import make_configurator, store_kinds
from pyrimage.web import resources
from pyrimage.web.errors import STATUS
from pyrimage.web.listing import ListSchema, RegistryListSchema

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in DOCS.glob("*.md")}
TOLD = sorted(name for name, text in PAGES.items() if "\n```http\n" in text)
REFERENCE = "rest-api"

DESCRIBED: list[Any] = [Settings, *store_kinds(make_configurator({})).values()]
SETTINGS = {field.name: field for each in DESCRIBED for field in dataclasses.fields(each)}

pytestmark = pytest.mark.filterwarnings("ignore:Unknown REQUEST_METHOD")

Place = tuple[type, str]  # of a view: its context and its name


class Places(list[Place]):
    """The places of the views that an application was asked for, in order."""

    def __init__(self, installation: Installation) -> None:
        installation.registry.registerHandler(self.note, (IContextFound,))

    def note(self, event: Any) -> None:
        self.append((type(event.request.context), event.request.view_name))


class Story:
    """A page whose exchanges were sent: what differed, and which places did their work in which spelling."""

    def __init__(self, page: str, directory: Path) -> None:
        self.requests: list[Message] = []
        self.answers: list[Message] = []
        self.differences: list[str] = []
        self.shown: set[tuple[Place, str, bool]] = set()  # place, method, and whether below a version
        for chapter in read_page(PAGES[page]):
            installation = install(directory / str(chapter.line), **chapter.settings)
            places, ids = Places(installation), Ids()
            for request, printed in chapter.exchanges:
                answer = ask(installation.client(), request, ids)
                method, target, _ = request.start.split(" ")
                if answer.status_int < 400:
                    self.shown |= {(place, method, target.startswith("/v1")) for place in places}
                places.clear()
                self.requests.append(request)
                self.answers.append(printed)
                self.differences += [
                    f"{page}.md:{printed.line}: {each}"
                    for each in differences(printed, answer.status, answer.headerlist, answer.body, ids)
                ]
            installation.engine.dispose()


@pytest.fixture(scope="module")
def stories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Story]:
    return {page: Story(page, tmp_path_factory.mktemp(page)) for page in TOLD}


def views(installation: Installation) -> dict[Place, set[str]]:
    """Return the methods that each place answers other than by a refusal."""
    found: dict[Place, set[str]] = {}
    for view in installation.registry.introspector.get_category("views"):
        about = view["introspectable"]
        context = Root if about["context"] is resources.Root else about["context"]
        if context.__module__ in (Root.__module__, resources.__name__) and not about["path_info"]:
            found.setdefault((context, about["name"]), set()).add(about["request_methods"] or "GET")
    return found


def section(page: str, title: str) -> str:
    """Return the part of a page below a title, up to the next of that rank or higher."""
    rank = title.index(" ")
    _, _, rest = PAGES[page].partition(f"\n{title}\n")
    assert rest, f"{page}.md has no title {title!r}"
    return re.split(f"^#{{1,{rank}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    """Return the cells of the tables in a text, without head and rule."""
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    lines = [line for table in tables for line in table.splitlines()[2:]]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def words(text: str) -> list[str]:
    """Return what stands between backticks."""
    return re.findall("`([^`]+)`", text)


def first_words(text: str) -> list[str]:
    """Return the words in the first cells of the tables in a text."""
    return [word for first, *_ in rows(text) for word in words(first)]


@file_store_only  # the pages show locations of files
@pytest.mark.parametrize("page", TOLD)
def test_every_exchange_is_answered_as_printed(page: str, stories: dict[str, Story]) -> None:
    assert not stories[page].differences, "\n".join(stories[page].differences)


def test_the_reference_shows_every_view_in_every_spelling(
    stories: dict[str, Story], installation: Installation
) -> None:
    one_spelling = {Root: [False], VersionChoice: [False], V1: [True]}
    wanted = {
        (place, method, versioned)
        for place, methods in views(installation).items()
        for method in methods | ({"HEAD"} if place == (ImageResource, "") else set())
        for versioned in one_spelling.get(place[0], [False, True])
    }
    assert wanted - stories[REFERENCE].shown == set()


def test_the_reference_shows_an_answer_of_every_class(stories: dict[str, Story]) -> None:
    assert {answer.start.split()[1][0] for answer in stories[REFERENCE].answers} == set("2345")


WITHOUT_VERSION = ["/", "/versions", "/v1", "/healthcheck"]


def test_the_reference_lists_every_path_with_its_methods(own_installation: Installation) -> None:
    app, places = own_installation.client(), Places(own_installation)
    reserve(app, id="taken")
    places.clear()
    for first, methods, *_ in rows(section(REFERENCE, "## Paths")):
        for path in words(first):
            for prefix in [""] if path in WITHOUT_VERSION else ["", "/v1"]:
                asked = prefix + path.replace("<id>", "taken").replace("<member>", "tenant-b").replace(
                    "<name>", "x.iso"
                )
                assert app.request(asked, method="PATCH", status=405).headers["Allow"] == methods
    assert set(places) == views(own_installation).keys() - {(VersionChoice, "")}


def test_the_reference_lists_every_header() -> None:
    known = {header_name(name) for name in KNOWN} | {"x-image-meta-property-<key>"}
    others = {"Content-Type", "Content-Range", "Content-Encoding", "Accept", COPY_FROM, PURGE_PROPERTIES.lower()}
    others |= {"Content-MD5", "Content-Digest", "Repr-Digest", "Range", "If-Range"}
    others |= {"If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"}
    assert set(first_words(section(REFERENCE, "## Fields"))) == known | others


def test_the_reference_lists_every_parameter() -> None:
    known = {node.name for node in ListSchema().children} | {"property-<key>"}
    assert set(first_words(section(REFERENCE, "## Lists"))) == known


def test_the_reference_shows_every_parameter_at_work(stories: dict[str, Story]) -> None:
    queries = [urlsplit(request.start.split()[1]).query for request in stories[REFERENCE].requests]
    used = {name for query in queries for name, _ in parse_qsl(query)}
    assert {node.name for node in ListSchema().children} - used == set()
    assert any(name.startswith("property-") for name in used)


def test_the_reference_lists_every_status_of_an_error() -> None:
    listed = {first for first, *_ in rows(section(REFERENCE, "## Errors"))}
    assert {str(code) for code, _ in STATUS.values()} - listed == set()


def test_the_registrys_page_lists_every_header_that_is_signed_in_order() -> None:
    listed = [name.lower() for name in first_words(section("registry-api", "## Who is asking"))]
    assert listed == [name.lower() for name in (*SIGNED, SIGNATURE)]


@pytest.mark.parametrize(
    ("title", "path", "context"),
    [("Claims", "claims", ClaimContainer), ("Tokens", "tokens", TokenContainer), ("Stores", "stores", StoreContainer)],
)
def test_the_registrys_page_lists_every_operation(title: str, path: str, context: type, tmp_path: Path) -> None:
    registry = install(tmp_path, application="registry").registry
    described = [view["introspectable"] for view in registry.introspector.get_category("views")]
    names = [view["name"] for view in described if view["context"] is context]
    listed = [word for word in first_words(section("registry-api", f"## {title}")) if word.startswith(f"/{path}/")]
    assert sorted(listed) == sorted(f"/{path}/{name}" for name in names)


def test_the_registrys_page_lists_its_filter() -> None:
    added = {node.name for node in RegistryListSchema()} - {node.name for node in ListSchema()}
    assert set(first_words(section("registry-api", "## Lists"))) == added


@pytest.mark.parametrize(
    ("title", "formats"), [("## Disk formats", DISK_FORMATS), ("## Container formats", CONTAINER_FORMATS)]
)
def test_the_page_of_formats_explains_each(title: str, formats: tuple[str, ...]) -> None:
    assert sorted(first_words(section("formats", title))) == sorted(formats)


def test_the_page_of_statuses_explains_each() -> None:
    known = {value for name, value in vars(Status).items() if name.isupper()}
    assert set(first_words(PAGES["statuses"].partition("\n## ")[0])) == known


def test_the_reference_of_settings_explains_each() -> None:
    sphinx = runpy.run_path(str(DOCS / "conf.py"))
    made = sphinx["settings_reference"]()
    assert re.findall(r"^### pyrimage\.(\w+)$", made, re.MULTILINE) == list(SETTINGS)
    assert [name for name, field in SETTINGS.items() if f"\n\n{field.metadata['doc']}\n\n" not in made] == []
    assert made.count("- Default: ") == made.count("- Accepted: ") == len(SETTINGS)
    assert sphinx["SETTINGS_MARK"] in PAGES[sphinx["SETTINGS_PAGE"]]


def test_the_defaults_of_our_server_are_listed() -> None:
    listed = {words(name)[0]: words(value)[0] for name, value, _ in rows(section("configuration", "## The server"))}
    ours = {name: vars(Options)[name] for name in Options._param_map if name in vars(Options)}
    (listen,) = ours.pop("listen")
    assert f"{ours.pop('host')}:{ours.pop('port')}" == listen
    assert listed == {name: str(value).lower() for name, value in {**ours, "listen": listen}.items()}


def test_the_settings_that_the_table_for_glance_users_names_are_there() -> None:
    named = {word for word in words(PAGES["glance"]) if word.startswith("pyrimage.") and not word.endswith(".ini")}
    assert {name.removeprefix("pyrimage.") for name in named} - SETTINGS.keys() == set()


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_that_a_page_names_are_there(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    for _, *arguments in (word.split() for word in words(PAGES[page]) if word.startswith("pyrimage-manage ")):
        with pytest.raises(SystemExit) as ended:
            manage.main([*arguments, "--help"])
        assert ended.value.code == 0, capsys.readouterr().err
