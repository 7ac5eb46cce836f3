"""The client."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar, Unpack
from urllib.parse import quote, unquote, urlencode, urlsplit

from . import environment, files
from .auth import Anonymous, Auth
from .downloads import ImageData, Reader
from .errors import BadAnswer, HashMismatch
from .fields import (
    Filters,
    ImageFields,
    image_of_answer,
    image_of_headers,
    read_list,
    read_members,
    read_record,
    read_shared_images,
    render_headers,
    render_members,
    render_query,
)
from .names import file_name, is_plain
from .records import Image, ImageSummary, Member, SharedImage
from .transport import Answer, Transport
from .uploads import Progress, Source, Upload, send

PAGE = 100  # images that are asked for at once

Record = TypeVar("Record", bound=ImageSummary)


class Client:
    """A client of one image service. Several threads may use one.

    url: of the service. Below ``/images`` it is asked as the guide of 2011 has it; a Glance is asked below
    ``/v1/images``, and its URL ends with ``/v1``. auth: who asks; ``Basic``, ``ApiToken``, ``KeystoneToken`` or
    ``pyrimage.client.keystone.Keystone``. timeout: seconds without a byte, either way, after which a connection counts
    as broken. patience: seconds without a byte after which a download that was begun is given up. ca_file: a file with
    the certificates that are trusted, instead of the machine's.

    Everywhere an image is named by its id or its uri. All methods raise ``ClientError``; a progress is called with the
    bytes so far and the size, None if nobody knows it, and what it raises ends the transfer.
    """

    def __init__(
        self,
        url: str,
        auth: Auth | None = None,
        *,
        timeout: float = 60.0,
        patience: float = 60.0,
        ca_file: str | Path | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("The URL of a service is like https://images.example.org:9292.")
        if parts.username is not None or parts.password is not None:
            raise ValueError("The URL of a service holds no user and no password; say them with auth.")
        self.url, self._patience = url.rstrip("/"), patience
        self._is_v1 = self.url.rpartition("/")[2] in ("v1", "v1.0", "v1.1")
        self._transport = Transport(self.url, auth or Anonymous(), timeout, ca_file)
        self._images = f"{self.url}/images"
        self._own_uris = {f"{self._images}/"}  # what the uris of this service begin with

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ, **options: Any) -> Self:
        """Make a client as the environment says.

        ``PYRIMAGE_URL``, with ``PYRIMAGE_TOKEN``, or ``PYRIMAGE_USER`` and ``PYRIMAGE_PASSWORD``, or nobody; and
        ``PYRIMAGE_CA_FILE``. Without a ``PYRIMAGE_URL``, OpenStack's ``OS_CLOUD``, or ``OS_AUTH_URL`` and what else its
        tools take: Keystone is asked where the service is. options: timeout and patience.
        """
        return cls._at(environment.from_environment(environ), options)

    @classmethod
    def from_cloud(cls, name: str, **options: Any) -> Self:
        """Make a client for a cloud of ``clouds.yaml``: Keystone is asked where its image service is."""
        return cls._at(environment.from_cloud(name), options)

    @classmethod
    def _at(cls, place: environment.Place, options: Mapping[str, Any]) -> Self:
        return cls(place.url, place.auth, ca_file=place.ca_file, **options)

    def __repr__(self) -> str:
        return f"Client({self.url!r}, {self._transport.auth!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. The client can go on; it opens new ones."""
        self._transport.close()

    # -- lists

    def get_images(
        self,
        *,
        sort_key: str | None = None,
        sort_dir: str | None = None,
        marker: str | None = None,
        limit: int | None = None,
        **filters: Unpack[Filters],
    ) -> Iterator[ImageSummary]:
        """Yield the images in brief, page after page.

        sort_key: ``name``, ``size`` and others; the newest are first if it is not said. sort_dir: ``asc`` or ``desc``.
        marker: begin after this image. limit: how many at most.
        """
        order = {"sort_key": sort_key, "sort_dir": sort_dir}
        return self._pages(ImageSummary, "/images", order, marker, limit, filters)

    def get_images_detailed(
        self,
        *,
        sort_key: str | None = None,
        sort_dir: str | None = None,
        marker: str | None = None,
        limit: int | None = None,
        **filters: Unpack[Filters],
    ) -> Iterator[Image]:
        """Yield the images with all that is known. As ``get_images``."""
        order = {"sort_key": sort_key, "sort_dir": sort_dir}
        return self._pages(Image, "/images/detail", order, marker, limit, filters)

    def _pages(
        self,
        kind: type[Record],
        path: str,
        order: Mapping[str, str | None],
        marker: str | None,
        limit: int | None,
        filters: Filters,
    ) -> Iterator[Record]:
        query = {**{key: value for key, value in order.items() if value is not None}, **render_query(filters)}
        after, longest = None if marker is None else self._id(marker), 0
        while limit is None or limit > 0:
            query |= {"limit": str(PAGE if limit is None else min(limit, PAGE))}
            query |= {} if after is None else {"marker": after}
            answer = self._transport.read("GET", f"{path}?{urlencode(query)}")
            page = [self._noted(read_record(kind, each, self._images)) for each in read_list(answer.json(), "images")]
            yield from page
            longest = max(longest, len(page))
            limit = None if limit is None else limit - len(page)
            if not page or len(page) < longest:  # a page may be shorter than was asked for: servers have limits
                return
            after = page[-1].id

    # -- one image

    def get_image_meta(self, image: str) -> Image:
        """Return what is known about an image."""
        return self._of_headers(self._transport.read("HEAD", self._path(image)).headers)

    def get_image(self, image: str) -> tuple[Image, ImageData]:
        """Return what is known about an image, and its bytes, which are verified when the last one has come."""
        path = self._path(image)
        first = self._transport.stream(path, {})
        try:
            meta = self._of_headers(first.headers)
            return meta, ImageData(Reader(self._transport, path, meta, self._patience), meta, first)
        except BaseException:
            first.close()
            raise

    def download(
        self,
        image: str,
        path: str | os.PathLike[str],
        *,
        parallel: int = 1,
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> Path:
        """Download an image into a file; return its path.

        path: of the file, or of a directory: then the service names the file. parallel: over so many connections at
        once, each of which takes 8 MiB of memory. overwrite: whether the file may be there already, else
        FileExistsError is raised.

        Until all bytes are verified and safe on the disk they are in ``<path>.<image id>.part``. If a download ends
        before, that file stays, and the same download goes on from there.
        """
        if parallel < 1:
            raise ValueError("parallel is 1 or more.")
        address = self._path(image)
        headers = self._transport.read("HEAD", address).headers
        meta, target = self._of_headers(headers), Path(path)
        if not is_plain(meta.id):
            raise BadAnswer(f"The id {meta.id!r} cannot be part of a file's name.")
        if target.is_dir():
            target /= file_name(headers.get("content-disposition", "")) or meta.id
        if not overwrite:
            files.check_free(target)
        make_reader = partial(Reader, self._transport, address, meta, self._patience)
        if meta.size == 0 or meta.status != "active":
            make_reader().open().close()  # which says why there is nothing
        connections = parallel if headers.get("accept-ranges") == "bytes" else 1
        files.save(make_reader, meta, target, connections=connections, overwrite=overwrite, progress=progress)
        return target

    def add_image(
        self, data: Source | None = None, *, progress: Progress | None = None, **fields: Unpack[ImageFields]
    ) -> Image:
        """Add an image; return what the service knows about it then.

        data: a path, a file, bytes, or an iterator of bytes. Without data the image is queued and waits for
        ``update_image``. size and sha256 of the bytes may be announced; what the service has is compared with what
        was sent in any case.
        """
        return self._write("POST", "/images", data, fields, progress, {})

    def update_image(
        self,
        image: str,
        data: Source | None = None,
        *,
        purge_properties: bool = False,
        progress: Progress | None = None,
        **fields: Unpack[ImageFields],
    ) -> Image:
        """Change what is said of an image, or give a queued one its data; return what is known about it then.

        Fields and properties that are not named stay as they are. purge_properties: remove those that are not named.
        """
        purge = {"x-glance-registry-purge-props": str(purge_properties).lower()}
        return self._write("PUT", self._path(image), data, fields, progress, purge)

    def delete_image(self, image: str) -> None:
        """Delete an image."""
        self._transport.call("DELETE", self._path(image))

    def _write(
        self,
        method: str,
        path: str,
        data: Source | None,
        fields: ImageFields,
        progress: Progress | None,
        headers: Mapping[str, str],
    ) -> Image:
        told = fields.copy()
        if self._is_v1:
            told.pop("sha256", None)  # a Glance refuses what it does not know
        if data is None:
            return self._of_answer(self._transport.call(method, path, {**headers, **render_headers(told)}))
        told.pop("size", None)  # Content-Length says it
        headers = {**headers, **render_headers(told)}
        # A Glance tells the md5 alone; where the sha256 is told the md5 would prove nothing more, at twice the cost.
        with Upload(data, fields.get("size"), fields.get("sha256"), progress, md5=self._is_v1) as upload:
            made = self._of_answer(send(self._transport, method, path, headers, upload))
            if made.checksum is None if self._is_v1 else made.sha256 is None:
                raise HashMismatch(f"The service does not tell what bytes it has of image {made.id}.", made.id)
            upload.digests.check(made, "The service has other bytes than were sent")
            return made

    # -- members

    def get_image_members(self, image: str) -> list[Member]:
        """Return the projects that an image is shared with."""
        return read_members(self._transport.read("GET", f"{self._path(image)}/members").json())

    def get_member_images(self, member: str) -> list[SharedImage]:
        """Return the images that are shared with a project."""
        return read_shared_images(self._transport.read("GET", f"/shared-images/{_segment(member)}").json())

    def add_member(self, image: str, member: str, can_share: bool | None = None) -> None:
        """Share an image with a project. can_share: None for no, or as it is if it is a member already."""
        value = None if can_share is None else {"member": {"can_share": can_share}}
        self._put_json(f"{self._path(image)}/members/{_segment(member)}", value)

    def replace_members(self, image: str, members: Iterable[Member | str]) -> None:
        """Share an image with these projects and no others. Who is only named keeps what it may."""
        self._put_json(f"{self._path(image)}/members", render_members(members))

    def delete_member(self, image: str, member: str) -> None:
        """Share an image with a project no longer."""
        self._transport.call("DELETE", f"{self._path(image)}/members/{_segment(member)}")

    # -- what these share

    def _put_json(self, path: str, value: Any) -> None:
        if value is None:
            self._transport.call("PUT", path)
        else:
            self._transport.call("PUT", path, {"Content-Type": "application/json"}, json.dumps(value).encode())

    def _of_headers(self, headers: Mapping[str, str]) -> Image:
        return self._noted(image_of_headers(headers, self._images))

    def _of_answer(self, answer: Answer) -> Image:
        return self._noted(image_of_answer(answer.json(), answer.headers, self._images))

    def _noted(self, image: Record) -> Record:
        """Take note of how the service spells its own URL, which need not be the one that it was reached at."""
        if image.uri.endswith(f"/{image.id}"):
            self._own_uris.add(image.uri.removesuffix(image.id))
        return image

    def _path(self, image: str) -> str:
        return f"/images/{_segment(self._id(image))}"

    def _id(self, image: str) -> str:
        """Return the id that an id or a uri names. Raises ValueError for the uri of another service."""
        if "://" not in image:
            return image
        begin, slash, name = image.rpartition("/")
        if begin + slash not in self._own_uris:
            raise ValueError(f"{image} is not a uri of an image of {self.url}.")
        return unquote(name)


def _segment(text: str) -> str:
    """Quote a part of a path. Raises ValueError for one that would lead elsewhere."""
    if text in ("", ".", ".."):
        raise ValueError(f"{text!r} names nothing.")
    return quote(text, safe="")
