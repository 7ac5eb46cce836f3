"""The tables of v1, "Validation", asked with a POST and with a PUT to an image that is there."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from factories import wire
from tables import Case, Step, Table, case, cases_of, check, check_listed, queued, tell

if TYPE_CHECKING:
    from conftest import Installation

AMAZON = ("aki", "ari", "ami")
DISK_GUIDE = ("raw", "iso", "vhd", "vdi", "qcow2", "vmdk")
DISK_QUEENS = ("vhdx", "ploop")
CONTAINER_GUIDE = ("bare", "ovf")
CONTAINER_QUEENS = ("ova", "docker")
MIXED = [
    (disk, container)
    for disk in (*AMAZON, "raw")
    for container in (*AMAZON, "bare")
    if disk != container and (disk, container) != ("raw", "bare")
]


def taken(fields: dict[str, Any], **image: str) -> list[Step]:
    """Send these fields, which are stored, as ``image`` tells or as they were sent."""
    image = image or {name: str(value) for name, value in fields.items()}
    return [
        tell("POST /images", 201, {"name": "f17", **fields}, image=image),
        tell("PUT /images/{image}", 200, fields, image=image),
    ]


def refused(says: str, status: int = 400, **fields: Any) -> list[Step]:
    """Send these fields, which are refused."""
    return [
        tell("POST /images", status, {"name": "f17", **fields}, says=says),
        tell("PUT /images/{image}", status, fields, says=says),
    ]


def properties(count: int) -> dict[str, str]:
    return {f"key_{number}": "x" for number in range(count)}


FORMATS = {
    **{
        f"disk, guide and D: {word}": case(queued(), *taken({"disk_format": word}, disk_format=word))
        for word in (*AMAZON, *DISK_GUIDE)
    },
    **{f"disk, Q: {word}": case(queued(), *taken({"disk_format": word})) for word in DISK_QUEENS},
    **{
        f"container, guide and D: {word}": case(queued(), *taken({"container_format": word}, container_format=word))
        for word in (*AMAZON, *CONTAINER_GUIDE)
    },
    **{f"container, Q: {word}": case(queued(), *taken({"container_format": word})) for word in CONTAINER_QUEENS},
    "other words: 400, message contains `Invalid disk format`": case(
        queued(),
        *(step for word in ("floppy", "RAW", "bare") for step in refused("Invalid disk format", disk_format=word)),
    ),
    "other words: 400, message contains `Invalid container format`": case(
        queued(),
        *(
            step
            for word in ("box", "BARE", "qcow2")
            for step in refused("Invalid container format", container_format=word)
        ),
    ),
    "if either is aki, ari or ami, both must be equal, else 400": case(
        queued(),
        *(
            step
            for disk, container in MIXED
            for step in refused(f"not {disk} with {container}", disk_format=disk, container_format=container)
        ),
    ),
    "Q copies the given one to the missing one": case(
        queued(),
        *(
            tell(
                "POST /images",
                201,
                {"name": "f17", field: word},
                image={"disk_format": word, "container_format": word},
            )
            for word in AMAZON
            for field in ("disk_format", "container_format")
        ),
        tell("PUT /images/{image}", 200, {"container_format": "ari"}, image={"disk_format": "ari"}),
    ),
}
FORMATS_OTHERWISE = {
    "disk, 2024 on: gpt": "400: Queens is the last release with v1, and its words are ours.",
    "container, later: compressed": "400: Queens is the last release with v1, and its words are ours.",
    "D refuses a missing one": "It is filled in, as in Queens.",
}

OTHERS = {
    "name over 255: 400": case(
        queued(), *taken({"name": "n" * 255}), *refused("x-image-meta-name: is too long", name="n" * 256)
    ),
    "checksum over 32: 400": case(
        queued(), *taken({"checksum": "a" * 32}), *refused("x-image-meta-checksum", checksum="a" * 33)
    ),
    **{
        f"min_disk/min_ram over 2^31-1 or negative: 400: {field}": case(
            queued(),
            *taken({field: 2**31 - 1}),
            *refused(header, **{field: 2**31}),
            *refused(header, **{field: -1}),
        )
        for field, header in (("min_disk", "x-image-meta-min-disk"), ("min_ram", "x-image-meta-min-ram"))
    },
    "size negative or not a number: 400": case(
        queued(),
        *taken({"size": 2**63 - 1}),
        *(step for size in ("-1", "x", "1.5", 2**63) for step in refused("x-image-meta-size", size=size)),
    ),
    "property count over 128: 413, where that is the setting": case(
        queued(),
        *taken({"properties": properties(128)}, property_key_127="x"),
        *refused("pyrimage.image_property_quota", 413, properties=properties(129)),
        settings={"image_property_quota": "128"},
    ),
    "property names and values: no length rule but 255 for the key and the header limit": case(
        queued(),
        *taken({"properties": {"k" * 255: "v" * 16_000}}, **{f"property_{'k' * 255}": "v" * 16_000}),
        *refused("pyrimage.image_property_bytes", 413, properties={"k": "v" * 60_000}),
    ),
    "property names and values: no length rule where that is the setting": case(
        queued(),
        *taken({"properties": {"k" * 255: "v" * 60_000}}, **{f"property_{'k' * 255}": "v" * 60_000}),
        *refused("1 to 255 characters", properties={"k" * 256: "x"}),
        settings={"image_property_bytes": "0"},
    ),
    "text that the database cannot hold (4-byte characters)": case(
        queued(),
        *taken({"name": wire("雲 🐧"), "properties": {"p": wire("🐧")}}, name="雲 🐧", property_p="🐧"),
    ),
}
OTHERS_OTHERWISE = {
    "name over 255: `Image name too long`": "The message names the header and what would be accepted.",
    "property names and values: no length rule": "16 KiB for all, unless pyrimage.image_property_bytes is set.",
    "property count over 128: 413": "It is unlimited unless pyrimage.image_property_quota is set.",
    "member count over 128: 413": "It is unlimited unless pyrimage.image_member_quota is set.",
    "text that the database cannot hold: 400": "Every database that is tested holds all of Unicode.",
}

TABLES = {
    "formats": Table(FORMATS, FORMATS_OTHERWISE),
    "others": Table(OTHERS, OTHERS_OTHERWISE),
}


@pytest.mark.parametrize(("each", "prefix"), cases_of(TABLES))
def test_a_row(
    each: Case, prefix: str, installation: "Installation", install_with: Callable[..., "Installation"]
) -> None:
    check(each, prefix, installation, install_with)


@pytest.mark.parametrize("title", TABLES)
def test_every_other_row_has_its_reason_or_its_test(title: str) -> None:
    check_listed(TABLES[title])
