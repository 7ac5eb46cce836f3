"""What code, tests and pages name is there: a section of a page, a row of the security cases, a file."""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
GUIDES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in [*ROOT.glob("docs/*.md"), *ROOT.glob("*.md")]
}
MODULES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for folder in ("pyrimage", "tests")
    for path in ROOT.glob(f"{folder}/**/*.py")
    if path != Path(__file__)
}

SECTION = re.compile(r'(docs/[\w-]+\.md), ((?:(?:, | and )?"[^"]+")+)')
NO_PAGE = re.compile(r'Source: (?!docs/|RFC |ours\b).{0,40}|\bv1, "[A-Z].{0,40}')
FILE = re.compile(r"`((?:docs|pyrimage|tests)/[\w./-]+)`")
ROW = re.compile(r"^\| S([0-9]+) \|(.+)$", re.MULTILINE)
CASE = re.compile(r"\bS([0-9]{1,2})\b|_s([0-9]{1,2})(?![0-9a-z])")  # S12 in a docstring, _s12 in a test's name


def wrong_sources(text: str) -> Iterator[str]:
    """Find sources that are not a section of a page."""
    flat = re.sub(r"\s+(?:# )?", " ", text)
    yield from NO_PAGE.findall(flat)
    for page, titles in SECTION.findall(flat):
        headings = set(re.findall("^#+ (.+)$", GUIDES.get(page, ""), re.MULTILINE))
        yield from (
            f"{page} has no section {title!r}" for title in re.findall('"([^"]+)"', titles) if title not in headings
        )


def cases() -> dict[str, set[str]]:
    """Return which modules name each security case, by its number."""
    found: dict[str, set[str]] = defaultdict(set)
    for name, text in MODULES.items():
        for pair in CASE.findall(text):
            found["".join(pair)].add(name)
    return found


def test_a_source_that_is_no_section_is_found() -> None:
    assert list(wrong_sources('Source: docs/v1.md, "Values" and\n    # "Listing".')) == []
    assert list(wrong_sources('Source: docs/v1.md, "Values" and "Nothing".')) != []
    assert list(wrong_sources("Source: a guide.")) != []


def test_every_source_in_the_package_is_a_section_of_a_page_or_an_rfc() -> None:
    package = {name: text for name, text in MODULES.items() if name.startswith("pyrimage/")}
    assert [f"{name}: {each}" for name, text in package.items() for each in wrong_sources(text)] == []


def test_every_security_case_that_is_named_has_a_row() -> None:
    rows = [number for number, _ in ROW.findall(GUIDES["docs/security.md"])]
    assert rows == [str(number) for number in range(1, len(rows) + 1)]
    assert cases().keys() - set(rows) == set()


def test_a_row_names_a_test_that_names_its_case() -> None:
    named = cases()
    wrong = []
    for number, row in ROW.findall(GUIDES["docs/security.md"]):
        tests = {name for name in named[number] if name.startswith("tests/") or "/testing" in name}
        if tests and not tests & set(FILE.findall(row)):
            wrong.append(f"S{number} is named by {', '.join(sorted(tests))}")
    assert wrong == []


def test_every_file_that_a_page_names_is_there() -> None:
    named = {(page, name) for page, text in GUIDES.items() for name in FILE.findall(text)}
    assert {(page, name) for page, name in named if not (ROOT / name).exists()} == set()
