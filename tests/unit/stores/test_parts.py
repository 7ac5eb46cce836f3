"""Parts of a stream: how they are cut, sent, and what becomes of one that fails."""

import threading
import tracemalloc

import pytest

from pyrimage.errors import LimitExceeded, StoreUnavailable
from pyrimage.stores.parts import PartSender
from pyrimage.stores.testing import pattern

DEADLINE = 30  # seconds


def echo(number: int, part: bytearray) -> tuple[int, bytes]:
    return number, bytes(part)


def sender_of(*sizes: int) -> PartSender[tuple[int, bytes]]:
    return PartSender(echo, lambda number: sizes[number - 1], in_flight=2)


@pytest.mark.parametrize("piece", [1, 7, 100, 1000])
def test_parts_have_the_sizes_that_were_asked_for_however_bytes_come(piece: int) -> None:
    data, sender = pattern(650), sender_of(100, 200, 300, 400)
    for at in range(0, len(data), piece):
        sender.write(data[at : at + piece])
    assert sender.finish() == [(1, data[:100]), (2, data[100:300]), (3, data[300:600]), (4, data[600:])]


def test_one_part_is_not_sent_before_more_bytes_come() -> None:
    sender = sender_of(5, 5)
    sender.write(b"12345")
    assert not sender.has_sent
    assert sender.take() == b"12345"


def test_more_bytes_send_the_part_before_them() -> None:
    sender = sender_of(5, 5)
    sender.write(b"123456")
    assert sender.has_sent
    assert sender.finish() == [(1, b"12345"), (2, b"6")]


def test_answers_stand_in_the_order_of_the_parts_however_late_they_come() -> None:
    second_is_sent = threading.Event()

    def send(number: int, part: bytearray) -> int:
        if number == 1:
            second_is_sent.wait(DEADLINE)
        else:
            second_is_sent.set()
        return number

    sender = PartSender(send, lambda number: 1, in_flight=2)
    sender.write(b"12")
    assert sender.finish() == [1, 2]


def test_memory_is_bounded_by_the_parts_in_flight_and_the_one_that_is_filled() -> None:
    """Those in flight wait for each other, so that there are always as many as there may be."""
    in_flight, part_size, parts = 2, 1_000_000, 20
    together = threading.Barrier(in_flight)

    def send(number: int, part: bytearray) -> None:
        together.wait(DEADLINE)

    sender, piece = PartSender(send, lambda number: part_size, in_flight), bytes(100_000)
    tracemalloc.start()
    try:
        for _ in range(parts * part_size // len(piece)):
            sender.write(piece)
        sender.finish()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    spare = 1.125  # a bytearray that grows takes an eighth more
    assert peak < (in_flight + 1) * part_size * spare + 200_000


def test_what_a_part_raised_is_raised_by_the_next_write_and_nothing_more_is_sent() -> None:
    sent = []

    def send(number: int, part: bytearray) -> None:
        sent.append(number)
        raise StoreUnavailable("away")

    sender = PartSender(send, lambda number: 1, in_flight=1)
    sender.write(b"12")
    for step in (lambda: sender.write(b"3"), sender.finish, lambda: sender.write(b"4")):
        with pytest.raises(StoreUnavailable, match="away"):
            step()
    sender.wait()
    assert sent == [1]


def test_what_the_last_part_raised_is_raised_by_finish() -> None:
    def send(number: int, part: bytearray) -> None:
        if number == 2:
            raise StoreUnavailable("away")

    sender = PartSender(send, lambda number: 1, in_flight=1)
    sender.write(b"12")
    with pytest.raises(StoreUnavailable, match="away"):
        sender.finish()


def test_whoever_waits_knows_that_no_part_is_under_way() -> None:
    ended, go = [], threading.Event()

    def send(number: int, part: bytearray) -> None:
        go.wait(DEADLINE)
        ended.append(number)

    sender = PartSender(send, lambda number: 1, in_flight=2)
    sender.write(b"123")
    waiter = threading.Thread(target=sender.wait)
    waiter.start()
    go.set()
    waiter.join(DEADLINE)
    assert sorted(ended) == [1, 2]
    sender.wait()  # any number of times


def test_a_size_that_is_refused_ends_the_blob_at_the_first_byte_beyond() -> None:
    def part_size(number: int) -> int:
        if number > 2:
            raise LimitExceeded("too long")
        return 1

    sender = PartSender(echo, part_size, in_flight=2)
    sender.write(b"12")
    assert len(sender.finish()) == 2
    longer = PartSender(echo, part_size, in_flight=2)
    longer.write(b"12")
    with pytest.raises(LimitExceeded):
        longer.write(b"3")
    longer.wait()


def test_a_thread_that_cannot_start_leaves_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    sender = sender_of(1, 1)
    sender.write(b"1")
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError):
        sender.write(b"2")
    sender.wait()
