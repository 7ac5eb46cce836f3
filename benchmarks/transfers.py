"""Uploads and downloads, by curl, beside md5sum, waitress as released, and nginx."""

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from .harness import Figure, Installation, nginx, row, spread, timed

MIB = 2**20
PARALLEL = 8
SHARE = 4  # a parallel upload has a fourth of the single one's size


class Job(NamedTuple):
    """What is timed."""

    size: int  # bytes that go through, in all
    run: Callable[[], float]  # returns seconds


Results = dict[str, list[float]]  # seconds, one for each round


def make_file(path: Path, mib: int) -> Path:
    """Write random bytes, which stay in the page cache."""
    with path.open("wb") as file:
        for _ in range(mib):
            file.write(os.urandom(MIB))
    return path


def md5sum(path: Path, copies: int = 1) -> float:
    """Return how long ``md5sum`` takes."""
    return timed(["md5sum", str(path)], copies)[0]


def upload(server: Installation, path: Path, copies: int = 1, *, chunked: bool = False) -> float:
    """Return how long ``curl`` takes to upload a file, then delete the images."""
    seconds, images = send(server, path, copies, chunked=chunked)
    for image in images:
        server.call("DELETE", image, 200)
    return seconds


def send(server: Installation, path: Path, copies: int = 1, *, chunked: bool = False) -> tuple[float, list[str]]:
    """Return how long ``curl`` takes to upload a file, and the paths of the images."""
    curl = ["curl", "-sS", "-X", "POST", "-T", str(path), "-w", "\n%{http_code}"]
    headers = ["Content-Type: application/octet-stream", "x-image-meta-name: large"]
    headers += ["Transfer-Encoding: chunked"] * chunked
    for header in headers:
        curl += ["-H", header]
    seconds, answers = timed([*curl, f"{server.url}/v1/images"], copies)
    images = []
    for answer in answers:
        body, _, status = answer.rpartition("\n")
        if status != "201":
            raise SystemExit(f"an upload was answered with {status} {body}")
        images.append(f"/v1/images/{json.loads(body)['image']['id']}")
    return seconds, images


def download(url: str, size: int, copies: int = 1) -> float:
    """Return how long ``curl`` takes to download ``size`` bytes into nowhere."""
    curl = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code} %{size_download}", url]
    seconds, answers = timed(curl, copies)
    if set(answers) != {f"200 {size}"}:
        raise SystemExit(f"downloads of {size} bytes were answered with {answers}")
    return seconds


def store(server: Installation, path: Path) -> str:
    """Upload an image that stays, from a file; return its URL."""
    with path.open("rb") as file:
        answer = server.call("POST", "/v1/images", 201, file, name="stays")
    return f"{server.url}/v1/images/{answer.image['id']}"


def list_jobs(ours: Installation, stock: Installation, other: str | None, files: tuple[Path, Path]) -> dict[str, Job]:
    """Return everything that is timed, by name; what is compared stands together. other: nginx' URL."""
    large, small = files
    size, sizes = large.stat().st_size, PARALLEL * small.stat().st_size
    image = store(ours, large)
    jobs = {
        "md5sum": Job(size, lambda: md5sum(large)),
        "upload": Job(size, lambda: upload(ours, large)),
        "upload, stock": Job(size, lambda: upload(stock, large)),
        "upload, chunked": Job(size, lambda: upload(ours, large, chunked=True)),
        "upload, chunked, stock": Job(size, lambda: upload(stock, large, chunked=True)),
        "8 x md5sum": Job(sizes, lambda: md5sum(small, PARALLEL)),
        "8 uploads": Job(sizes, lambda: upload(ours, small, PARALLEL)),
    }
    urls = {"": image}
    if other:
        (blob,) = ours.files()
        urls[", nginx"] = f"{other}/{blob}"
    for name, copies in {"download": 1, "8 downloads": PARALLEL}.items():
        for server, url in urls.items():
            jobs[name + server] = Job(copies * size, partial(download, url, size, copies))
    return jobs


def measure(jobs: dict[str, Job], rounds: int) -> Results:
    """Run each job in turn, ``rounds`` times over."""
    results: Results = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            os.sync()  # what one has left to be written back is not the next one's
            results[name].append(job.run())
    return results


def compare(directory: Path, mib: int, rounds: int) -> list[Figure]:
    """Measure every kind of transfer, on the service as production.ini has it, and print the seconds."""
    files = make_file(directory / "large", mib), make_file(directory / "small", mib // SHARE)
    with (
        Installation(directory / "ours") as ours,
        Installation(directory / "stock", stock=True) as stock,
        nginx(directory / "nginx", ours.datadir) as other,
    ):
        servers = {"pyrimage": ours, "on stock waitress": stock}
        before = {name: server.peaks() for name, server in servers.items()}
        jobs = list_jobs(ours, stock, other, files)
        results = measure(jobs, rounds)
        after = {name: server.peaks() for name, server in servers.items()}
    print(f"\nTransfers of {mib} MiB, 8 uploads of {mib // SHARE} MiB each; rounds: {rounds}")
    print(row("", "seconds", "MB/s together"))
    for name, seconds in results.items():
        print(row(name, spread(seconds), spread([jobs[name].size / 1e6 / second for second in seconds], ".0f")))
    for name, peaks in after.items():
        print(f"memory of the processes, {name}: {before[name]} MiB at the start, {peaks} at the worst moment")
    return figures(results, mib) + [
        Figure(f"memory at the worst moment of all these, {name}: MiB of each process", "", ", ".join(map(str, peaks)))
        for name, peaks in after.items()
    ]


def figures(results: Results, mib: int) -> list[Figure]:
    """Set the times of each round beside those that they are compared with."""
    compared = [
        (f"upload of {mib} MiB, time to `md5sum`'s", "<= 1.6", "upload", "md5sum"),
        (f"chunked upload of {mib} MiB, likewise", "<= 1.8", "upload, chunked", "md5sum"),
        ("upload on stock waitress as released, time to ours", ">= 1.8", "upload, stock", "upload"),
        ("chunked on stock waitress, likewise", ">= 1.8", "upload, chunked, stock", "upload, chunked"),
        (f"8 parallel uploads of {mib // SHARE} MiB, time to 8 parallel `md5sum`", "<= 2.3", "8 uploads", "8 x md5sum"),
        (f"download of {mib} MiB, time to that from nginx", "<= 1.2", "download", "download, nginx"),
        ("8 parallel downloads, likewise", "<= 1.2", "8 downloads", "8 downloads, nginx"),
    ]
    return [
        Figure(what, aim, spread([a / b for a, b in zip(results[mine], results[other], strict=True)]))
        for what, aim, mine, other in compared
        if other in results
    ]
