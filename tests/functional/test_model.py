"""Random requests of several callers, answered by the application and by a model side by side."""

import os
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from factories import ADMIN, ALICE, AUDITOR, BOB, NOBODY, READER, image_headers, md5, send_chunked
from model import BLANK, FACTS, Image, Model, Query, Sent, facts, may_change, refusal
from paging import BOSS, SORT_KEYS, parameters
from pyrimage.catalogue.records import Identity, utcnow
from pyrimage.models import ClaimRow

if TYPE_CHECKING:
    from conftest import Installation

Strategies = dict[Any, st.SearchStrategy[Any]]
Sharing = dict[str, bool | None]
Part = tuple[int | None, int | None, str, bytes | None]

STEPS_AT_ONCE = 100  # from one empty installation to the next
STEPS_AT_ALL = int(os.environ.get("PYRIMAGE_TEST_STEPS", "1000"))

# Few of each, so that they meet.
CAROL = Identity(user="carol", project="tenant-c", roles=frozenset({"member"}))
CALLERS = st.sampled_from([ALICE, ADMIN, ALICE, BOB, ALICE, BOSS, CAROL, BOB, NOBODY, READER, AUDITOR])
COLLECTIONS = st.sampled_from(["/v1/images", "/v1/images", "/images"])
IDS = st.sampled_from([*"0123456789abcdefgABCDEFG", "a.", "a-b", "b_", "Z"])
PICKS = st.sampled_from(range(128))
PROJECTS = ("tenant-a", "tenant-b", "tenant-c")
SHARING: st.SearchStrategy[Sharing] = st.dictionaries(
    st.sampled_from(PROJECTS), st.sampled_from([None, True, False, True]), min_size=1
)
DATA = [b"xy", b"0123456789", b"9876543210"]
MOMENTS = st.sampled_from([datetime.fromisoformat(f"2001-01-0{day}T00:00:00") for day in (1, 2, 3)])
PROPERTIES = st.dictionaries(st.sampled_from(["os", "arch"]), st.sampled_from(["x", "X", "", "\N{EURO SIGN}"]))
FORMATS: Strategies = {
    "disk_format": st.sampled_from(["raw", "ami", None]),
    "container_format": st.sampled_from(["bare", "ami", None]),
}
SIMPLE: Strategies = {
    "name": st.sampled_from(["a", "b", "B", "\N{LATIN SMALL LETTER A WITH GRAVE}"]),
    "is_public": st.sampled_from([False, False, True]),
    "protected": st.sampled_from([False, False, True]),
    "min_disk": st.integers(0, 2),
    "min_ram": st.integers(0, 2),
    "created_at": MOMENTS,
    "updated_at": MOMENTS,
}
FIELDS: Strategies = FORMATS | SIMPLE | {"owner": st.sampled_from([*PROJECTS[:2], None])}
FIXED: Strategies = {"id": IDS, "status": st.sampled_from(["queued", "active", "deleted"])}
FILTERS: Strategies = {name: FIELDS[name] for name in (*FORMATS, "name", "protected", "min_disk", "min_ram")} | {
    "status": st.sampled_from(["queued", "active", "deleted"]),
    "size_min": st.integers(0, 3),
    "size_max": st.integers(0, 3),
    "properties": PROPERTIES,
}
ORDERS: Strategies = {
    "sort_key": st.sampled_from(SORT_KEYS),
    "sort_dir": st.sampled_from(["asc", "desc"]),
    "limit": st.integers(0, 5),
    "is_public": st.none() | st.booleans(),
}
ENDS = st.sampled_from([None, *range(12)])
PARTS = st.tuples(
    ENDS, ENDS, st.sampled_from(["If-Range", "If-None-Match"]), st.sampled_from([None, None, None, *DATA])
)
TIMES = ("created_at", "updated_at", "deleted_at")
SHOWN = (set(BLANK) | {"id"}) - {"members", "data", "has_failed", "stood", "properties", *TIMES}


@st.composite
def simple(draw: st.DrawFn) -> tuple[Identity, str, Sent, Sharing]:
    """Make a POST that succeeds, mostly: who sends what, and with whom it is shared."""
    data = draw(st.sampled_from([None, None, *DATA]))
    expected: dict[str, Any] = (
        {} if data else draw(st.sampled_from([{}, {}, {"checksum": md5(DATA[0])}, {"size": len(DATA[1])}]))
    )
    request = Sent(draw(st.fixed_dictionaries({}, optional=SIMPLE)) | expected, draw(PROPERTIES), data)
    return draw(st.sampled_from([ALICE, BOB, ADMIN, ALICE])), draw(IDS), request, draw(SHARING)


@st.composite
def sent(draw: st.DrawFn, fields: Strategies, *, with_data: bool) -> Sent:
    """Make a POST or PUT; what is announced of its data is true as often as not."""
    chunked = with_data and draw(st.booleans())
    data = draw(st.sampled_from([b"", *DATA] if chunked else DATA)) if with_data else None
    announced: dict[str, Any] = {}
    match draw(st.sampled_from(["nothing", "nothing", "facts", "facts", "facts", "none", "fixed"])):
        case "facts":
            truth = facts(draw(st.sampled_from([data or b"", data or b"", *DATA])))
            announced = {name: truth[name] for name in draw(st.sets(st.sampled_from(FACTS), min_size=1))}
        case "none":
            announced = {draw(st.sampled_from(FACTS)): None}
        case "fixed":
            name = draw(st.sampled_from(sorted(FIXED)))
            announced = {name: draw(FIXED[name])}
    plain = draw(st.fixed_dictionaries({}, optional=fields))
    purge = draw(st.none() | st.booleans())
    return Sent(plain | announced, draw(PROPERTIES), data, chunked, purge, draw(COLLECTIONS))


ANY = sent(FIELDS, with_data=True) | sent(SIMPLE, with_data=True) | sent(FIELDS, with_data=False)


@st.composite
def queries(draw: st.DrawFn) -> Query:
    """Make a query of two filters at most."""
    names = sorted(draw(st.sets(st.sampled_from(sorted(FILTERS)), max_size=2)))
    return {name: draw(FILTERS[name]) for name in names} | draw(st.fixed_dictionaries({}, optional=ORDERS))


def step(name: str, **arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    return st.tuples(st.just(name), st.fixed_dictionaries(arguments))


STEPS = st.one_of(
    step("show_sharing", caller=CALLERS, pick=PICKS),
    step("post", caller=CALLERS, image_id=IDS, requests=st.lists(ANY, min_size=1, max_size=3)),
    step("change", caller=CALLERS, pick=PICKS, request=sent(FIELDS, with_data=False)),
    step("upload", caller=CALLERS, pick=PICKS, requests=st.lists(sent(SIMPLE, with_data=True), min_size=1, max_size=4)),
    step("send_back_what_head_returned", caller=CALLERS, pick=PICKS, collection=COLLECTIONS),
    step("delete", caller=CALLERS, pick=PICKS),
    step("show", caller=CALLERS, pick=PICKS, collection=COLLECTIONS, parts=st.lists(PARTS, min_size=3, max_size=6)),
    step("share", caller=CALLERS, pick=PICKS, members=SHARING, replace=st.booleans()),
    step("unshare", caller=CALLERS, pick=PICKS, member=st.sampled_from([None, *PROJECTS])),
    step(
        "show_list",
        caller=CALLERS,
        query=queries(),
        marker=st.none() | PICKS,
        since=st.none() | PICKS,
        collection=COLLECTIONS,
    ),
)


class Comparison(RuleBasedStateMachine):
    """The application and the model, asked the same; after each change, everything is compared."""

    installation: ClassVar["Installation"]
    steps: ClassVar[int]

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.times: dict[Any, str] = {}  # as they were first shown
        self.moments: list[datetime] = []  # between the changes

    def teardown(self) -> None:
        self.installation.empty()

    def choose(self, caller: Identity, pick: int, status: str | None = None) -> str:
        """Choose an image of those the caller may change, or those it sees, or of all; or none."""
        live = [image for image in self.model.images.values() if not image["deleted"]]
        groups = [
            [image["id"] for image in live if may_change(caller, image) and status in (None, image["status"])],
            [image["id"] for image in live if self.model.find(caller, image["id"])],
            [*self.model.images, "none"],
        ]
        known = next(group for group in groups[(pick % 16 > 8) + (pick % 16 > 14) :] if group)
        return known[pick // 16 % len(known)]

    def send(self, caller: Identity, method: str, path: str, request: Sent, status: int) -> None:
        client = self.installation.client(caller)
        if request.chunked and request.data is not None:
            answer = send_chunked(client, method, path, request.data, request.headers, status=status)
        else:
            answer = client.request(path, method=method, body=request.data, headers=request.headers, status=status)
        if status < 300:
            self.compare(answer.json["image"], request.collection)

    def add(self, caller: Identity, image_id: str, request: Sent) -> None:
        request.fields["id"] = image_id
        status = self.model.post(caller, request, utcnow())
        self.send(caller, "POST", request.collection, request, status)

    def put(self, caller: Identity, image_id: str, request: Sent) -> None:
        status = self.model.put(caller, image_id, request, utcnow())
        self.send(caller, "PUT", f"{request.collection}/{image_id}", request, status)

    @initialize(made=st.lists(st.none() | simple() | simple() | simple(), min_size=8, max_size=8))
    def fill(self, made: list[tuple[Identity, str, Sent, Sharing] | None]) -> None:
        for caller, image_id, request, members in filter(None, made):
            self.add(caller, image_id, request)
            self.replace_members(ADMIN, image_id, members)
        self.check()

    @rule(step=STEPS)
    def act(self, step: tuple[str, dict[str, Any]]) -> None:
        # One rule for all: hypothesis switches rules off at random, and most runs would be of one or two kinds.
        name, arguments = step
        Comparison.steps += 1
        getattr(self, name)(**arguments)

    def post(self, caller: Identity, image_id: str, requests: list[Sent]) -> None:
        for request in requests:
            self.add(caller, image_id, request)
        self.check()

    def change(self, caller: Identity, pick: int, request: Sent) -> None:
        self.put(caller, self.choose(caller, pick), request)
        self.check()

    def upload(self, caller: Identity, pick: int, requests: list[Sent]) -> None:
        image_id = self.choose(caller, pick, "queued")
        for request in requests:
            self.put(caller, image_id, request)
        self.check()

    def send_back_what_head_returned(self, caller: Identity, pick: int, collection: str) -> None:
        image_id = self.choose(caller, pick)
        image = self.model.find(caller, image_id)
        if image is not None:
            client, path = self.installation.client(caller), f"{collection}/{image_id}"
            returned = client.head(path).headers.items()
            headers = {name: value for name, value in returned if name.startswith("x-image-meta-")}
            status = self.model.put(caller, image_id, Sent(properties=image["properties"]), utcnow())
            client.put(path, headers=headers, status=status)
            self.check()

    def delete(self, caller: Identity, pick: int) -> None:
        image_id = self.choose(caller, pick)
        status = self.model.delete(caller, image_id, utcnow())
        self.installation.client(caller).delete(f"/v1/images/{image_id}", status=status)
        self.check()

    def show(self, caller: Identity, pick: int, collection: str, parts: list[Part]) -> None:
        image_id = self.choose(caller, pick, "active")
        image = self.model.find(caller, image_id)
        client, path = self.installation.client(caller), f"{collection}/{image_id}"
        answer = client.head(path, status=404 if image is None else 200)
        if image is not None:
            headers = {name.replace("-", "_"): value for name, value in image_headers(answer).items()}
            shown = {name: str(image[name]) for name in SHOWN if image[name] is not None}
            shown |= {f"property_{key}": value for key, value in image["properties"].items()}
            hidden = {"location"} if caller.is_admin else set()
            assert {name: value for name, value in headers.items() if name not in {*TIMES, "uri"} | hidden} == shown
            self.check_times(image, headers)
        for part in parts:
            self.read(caller, path, part)

    def read(self, caller: Identity, path: str, part: Part) -> None:
        first, last, condition, known = part
        image_id = path.rpartition("/")[2]
        bounds = "-".join("" if end is None else str(end) for end in (first, last))
        headers = {"Range": f"bytes={bounds}"} | ({condition: f'"{md5(known)}"'} if known else {})
        is_same = known == self.model.images.get(image_id, BLANK)["data"]
        if condition == "If-Range" and known and not is_same:
            first = last = None  # the whole of what the client does not know
        status, start, data = self.model.read(caller, image_id, first, last)
        if condition == "If-None-Match" and is_same and status != 404:
            status = 304
        answer = self.installation.client(caller).get(path, headers=headers, status=status)
        assert status not in (200, 206) or answer.body == data
        if status == 206:
            size = len(self.model.images[image_id]["data"])
            assert answer.headers["Content-Range"] == f"bytes {start}-{start + len(data) - 1}/{size}"

    def replace_members(self, caller: Identity, image_id: str, members: Sharing) -> None:
        status = self.model.share(caller, image_id, members, replace=True)
        items = [{"member_id": member} | ({} if may is None else {"can_share": may}) for member, may in members.items()]
        client, path = self.installation.client(caller), f"/images/{image_id}/members"
        client.put_json(path, {"memberships": items}, status=status)

    def share(self, caller: Identity, pick: int, members: Sharing, replace: bool) -> None:
        image_id, client = self.choose(caller, pick), self.installation.client(caller)
        if replace:
            self.replace_members(caller, image_id, members)
        for member, may in () if replace else members.items():
            status, path = self.model.share(caller, image_id, {member: may}), f"/v1/images/{image_id}/members/{member}"
            if may is None:
                client.put(path, status=status)
            else:
                client.put_json(path, {"member": {"can_share": may}}, status=status)
        self.check()

    def unshare(self, caller: Identity, pick: int, member: str | None) -> None:
        image_id, member = self.choose(caller, pick), member or caller.project or "tenant-a"
        status = self.model.unshare(caller, image_id, member)
        self.installation.client(caller).delete(f"/v1/images/{image_id}/members/{member}", status=status)
        self.check()

    def show_sharing(self, caller: Identity, pick: int) -> None:
        client, image_id = self.installation.client(caller), self.choose(caller, pick)
        members = self.model.members(caller, image_id)
        answer = client.get(f"/v1/images/{image_id}/members", status=404 if members is None else 200)
        if members is not None:
            assert {each["member_id"]: each["can_share"] for each in answer.json["members"]} == members
        for member in PROJECTS:
            shared = self.model.shared_with(caller, member)
            answer = client.get(f"/v1/shared-images/{member}", status=refusal(caller) if shared is None else 200)
            if shared is not None:
                assert {each["image_id"]: each["can_share"] for each in answer.json["shared_images"]} == shared

    def show_list(self, caller: Identity, query: Query, marker: int | None, since: int | None, collection: str) -> None:
        query |= {} if marker is None else {"marker": self.choose(caller, marker)}
        query |= {} if since is None else {"changes-since": self.moments[since % len(self.moments)]}
        expected, client = self.model.page(caller, query), self.installation.client(caller)
        answer = client.get(collection, parameters(query), status=400 if expected is None else 200)
        assert expected is None or [image["id"] for image in answer.json["images"]] == expected

    def check(self) -> None:
        """Compare all images, deleted ones too, and what lies in the store; no claim may be left."""
        query = {"is_public": None, "limit": 1000, "changes-since": datetime.fromisoformat("2000-01-01")}
        listed = self.installation.client(ADMIN).get("/images/detail", parameters(query)).json["images"]
        assert [image["id"] for image in listed] == self.model.page(ADMIN, query)
        for image in listed:
            self.compare(image, "/images")
        stored = {key.rpartition(".")[0]: key for key in self.installation.stored_keys()}
        data = {image_id: image["data"] for image_id, image in self.model.images.items() if image["data"]}
        assert stored.keys() == data.keys()
        for image_id, key in stored.items():
            with self.installation.store.open_reader(key, len(data[image_id])) as reader:
                assert reader.read() == data[image_id]
        assert self.installation.rows(ClaimRow) == 0
        self.moments.append(utcnow())

    def compare(self, shown: dict[str, Any], collection: str) -> None:
        """Compare an image's JSON with the model's."""
        image = self.model.images[shown["id"]]
        names = set(SHOWN) - (set() if collection == "/images" else {"sha256"})  # which Glance's v1 does not know
        assert {name: shown[name] for name in names} == {name: image[name] for name in names}
        assert shown["properties"] == image["properties"]
        assert collection != "/images" or (shown["last_error"] is not None) == image["has_failed"]
        assert shown["uri"] == f"http://localhost:80{collection}/{image['id']}"
        self.check_times(image, shown)

    def check_times(self, image: Image, shown: dict[str, Any]) -> None:
        """Compare times: such as the server set lie between the request and now, and stay as they were first shown."""
        for name in TIMES:
            text, moment = (shown.get(name) or "").replace(" ", "T"), image[name]
            if moment is None or moment.year < 2002:
                assert text == (moment.isoformat() if moment else "")
            else:
                assert moment.replace(microsecond=0) <= datetime.fromisoformat(text) <= utcnow()
                assert self.times.setdefault((image["id"], name, moment), text) == text


def test_the_application_answers_as_the_model(installation: "Installation") -> None:
    """S1, S10: in status and effect; PYRIMAGE_TEST_STEPS says for how many steps, 5,000 in CI."""
    Comparison.installation, Comparison.steps = installation, 0
    phases = [phase for phase in Phase if phase != Phase.explain]  # which would take minutes
    while Comparison.steps < STEPS_AT_ALL:  # some sequences end early
        sequences = (STEPS_AT_ALL - Comparison.steps) // STEPS_AT_ONCE + 1
        enough = settings(max_examples=sequences, stateful_step_count=STEPS_AT_ONCE, phases=phases)
        run_state_machine_as_test(Comparison, settings=enough)
    print(f"\n{Comparison.steps} steps")
