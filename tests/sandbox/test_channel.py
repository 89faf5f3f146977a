"""Messages arrive in any pieces. A hostile kernel can neither fill our memory nor raise an exception of its choice."""

import random
import struct
import tracemalloc

import pytest

from qianwen.sandbox.channel import COMMAND, GREETING, LONG, MAX_PARTS, MORE, BrokenChannel, Channel, Messages

LIMITS = (1000, 5000)


def frame(content: bytes, flags: int = 0) -> bytes:
    is_long = len(content) > 255 or flags & LONG
    return struct.pack(">BQ" if is_long else ">BB", flags | (LONG if is_long else 0), len(content)) + content


def message(*parts: bytes) -> bytes:
    return b"".join(frame(part, MORE if part is not parts[-1] else 0) for part in parts)


def read(data: bytes, size: int = 1 << 16) -> tuple[list[list[bytes]], Messages]:
    messages = Messages(*LIMITS)
    found = [parts for start in range(0, len(data), size) for parts in messages.feed(data[start : start + size])]
    return [[bytes(part) for part in parts] for parts in found], messages


STREAM = (
    GREETING + frame(b"\x05READY", COMMAND) + message(b"topic", b"x" * 300) + frame(b"PING", COMMAND) + message(b"")
)


@pytest.mark.parametrize("size", [*range(1, 20), 63, 64, 65, 1000])
def test_messages_are_the_same_in_any_pieces(size):
    assert read(STREAM, size)[0] == [[b"topic", b"x" * 300], [b""]]


def test_a_part_that_is_too_large_drops_its_message_alone():
    large = message(b"a", b"x" * (LIMITS[0] + 1), b"c")
    found, messages = read(GREETING + message(b"1") + large + message(b"2"), 100)
    assert found == [[b"1"], [b"2"]] and messages.num_dropped == 1


def test_the_last_part_may_be_larger():
    whole = [b"p"] * (MAX_PARTS - 1) + [b"x" * LIMITS[1]]
    parts = [bytes([n]) for n in range(MAX_PARTS - 1)] + [b"x" * LIMITS[1]]
    assert read(GREETING + message(*parts))[0] == [parts] and len(whole) == MAX_PARTS
    parts[-1] += b"x"
    assert read(GREETING + message(*parts))[0] == []


@pytest.mark.parametrize("part", [b"", b"x" * 900])
def test_parts_without_an_end_use_no_memory(part):
    """Of libzmq's client this is not true: it stores all parts until the last one."""
    piece, messages = frame(part, MORE) * 1000, Messages(*LIMITS)
    list(messages.feed(GREETING))
    tracemalloc.start()
    for _ in range(20):
        assert not list(messages.feed(piece))
    assert tracemalloc.get_traced_memory()[1] < 4 * len(piece) + 100_000
    tracemalloc.stop()
    assert [[bytes(p) for p in parts] for parts in messages.feed(frame(b"") + message(b"next"))] == [[b"next"]]


def test_a_frame_of_any_length_uses_no_memory():
    messages = Messages(*LIMITS)
    list(messages.feed(GREETING + struct.pack(">BQ", LONG, (1 << 64) - 1)))
    tracemalloc.start()
    for _ in range(100):
        assert not list(messages.feed(bytes(1 << 16)))
    assert tracemalloc.get_traced_memory()[1] < 1 << 19
    tracemalloc.stop()


def test_random_bytes_raise_nothing():
    draw = random.Random(0)
    for _ in range(300):
        messages = Messages(*LIMITS)
        list(messages.feed(GREETING))
        for _ in range(20):
            data = draw.randbytes(draw.randrange(200))
            if draw.random() < 0.5:
                data = frame(data, draw.choice([0, MORE, COMMAND, MORE | COMMAND]))
            for parts in messages.feed(data):
                assert 0 < len(parts) <= MAX_PARTS and max(map(len, parts)) <= max(LIMITS)


def test_a_channel_has_no_name_and_ends_with_the_other_side(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    channel = Channel("SUB", Messages(*LIMITS))
    assert not list(tmp_path.iterdir())
    kernel, _ = channel.listener.accept()
    assert kernel.recv(1000).startswith(GREETING)
    kernel.sendall(STREAM)
    assert [bytes(parts[0]) for parts in channel.receive()] == [b"topic", b""]
    kernel.close()
    with pytest.raises(BrokenChannel):
        list(channel.receive())
    channel.close()


def test_a_kernel_that_does_not_read_cannot_block_us():
    channel = Channel("DEALER", Messages(*LIMITS))
    with pytest.raises(BrokenChannel, match="timed out"):
        channel.send([bytes(1 << 22)], 0.05)
    channel.close()
