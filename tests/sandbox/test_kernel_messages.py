"""What a kernel sends is read strictly: anything that is not a message is None."""

import json

import pytest

from qianwen.sandbox.kernel_messages import DELIMITER, _signature, read_message, run_request

KEY = "secret"


def signed(*objects: object, buffer: list[bytes] | None = None) -> list[bytes]:
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in objects]
    return [b"topic", DELIMITER, _signature(parts[:4], KEY), *parts, *(buffer or [])]


def test_a_message_has_its_kind_request_content_and_bytes():
    parts = signed({"msg_type": "file"}, {"msg_id": "7"}, {}, {"name": "a"}, buffer=[b"content"])
    message = read_message(parts, KEY)
    assert message and (message.kind, message.request, message.content) == ("file", "7", {"name": "a"})
    assert message.buffer == b"content"


def test_a_request_carries_code_and_files_and_a_signature():
    request, parts = run_request("print('六')", {"a/b.csv": b"1,2"}, KEY)
    header, _, metadata, content = map(json.loads, parts[2:6])
    assert header["msg_id"] == request and metadata == {"files": ["a/b.csv"]} and parts[6:] == [b"1,2"]
    assert content["code"] == "print('六')" and content["allow_stdin"] is False
    assert parts[1] == _signature(parts[2:6], KEY) != _signature(parts[2:6], "other")


GOOD = ({"msg_type": "stream"}, {"msg_id": "1"}, {}, {})
DEEP = b"[" * 100_000 + b"]" * 100_000
HOSTILE = {
    "nothing": [],
    "no delimiter": [b"x"] * 6,
    "no signature": [DELIMITER],
    "too few parts": signed(*GOOD)[:5],
    "another key": [b"topic", DELIMITER, b"0" * 64, *signed(*GOOD)[3:]],
    "a signature that is no text": [b"topic", DELIMITER, b"\xff", *signed(*GOOD)[3:]],
    "JSON that is too deep": signed(*GOOD[:3], DEEP),
    "deep objects": signed(*GOOD[:3], b'{"a":' * 50_000 + b"1" + b"}" * 50_000),
    "no JSON": signed(*GOOD[:3], b"{"),
    "no text": signed(*GOOD[:3], b"\xff\xfe"),
    "a huge number": signed(*GOOD[:3], b'{"a": 1' + b"0" * 10_000 + b"}"),
    "a list": signed(*GOOD[:3], []),
    "null": signed(*GOOD[:3], None),
    "a header that is a number": signed(7, *GOOD[1:]),
    "a kind that is a list": signed({"msg_type": ["stream"]}, *GOOD[1:]),
    "no kind": signed({}, *GOOD[1:]),
    "an id that is an object": signed(GOOD[0], {"msg_id": {}}, *GOOD[2:]),
}


@pytest.mark.parametrize("parts", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_message_is_none(parts):
    assert read_message(parts, KEY) is None
