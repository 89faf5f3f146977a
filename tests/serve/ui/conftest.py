"""A page without a browser, for tests that call its handlers as an attacker would."""

import json
import re
import uuid
from collections.abc import Callable, Iterator

import httpx
import pytest


class Page:
    """A page without a browser: sends the requests that a browser would send."""

    def __init__(self, client: httpx.Client, path: str = "/") -> None:
        self.client, self.name = client, uuid.uuid4().hex[:10]
        document = client.get(path, headers={"accept": "text/html"}).text
        match = re.search(r"window\.gradio_config = (.*?);</script>", document)
        assert match is not None
        self.config = json.loads(match[1])

    def function(self, part: str, event: str) -> int:
        """The number of the handler for `event` of the component with element id `part`."""
        ids = [c["id"] for c in self.config["components"] if c["props"].get("elem_id") == part]
        called = [d for d in self.config["dependencies"] if d["backend_fn"]]
        return next(d["id"] for d in called if [ids[0], event] in [list(t) for t in d["targets"]])

    def call(self, function: int, *data: object, address: str = "") -> httpx.Response:
        """Call a handler, as a page at the address of conversation `address` would."""
        body = {"fn_index": function, "data": data, "session_hash": self.name, "event_data": None}
        waits = next(d["queue"] for d in self.config["dependencies"] if d["id"] == function) is not False
        path = "/gradio_api/queue/join" if waits else "/gradio_api/run/predict"
        return self.client.post(path, json=body, params={"open": address} if address else {})

    def open(self, id: str) -> httpx.Response:
        """Load the page at the address of a conversation."""
        arrivals = [d for d in self.config["dependencies"] if [t[1] for t in d["targets"]] == ["load"]]
        return self.call(arrivals[0]["id"], address=id)


@pytest.fixture(scope="session")
def page_of() -> Callable[..., Page]:
    """`page_of(client, path)`: a page that this client has opened."""
    return Page


@pytest.fixture
def clients(server) -> Iterator[list[httpx.Client]]:
    """A client for each key of the file's server: `server.secrets`."""
    opened = [server.client(headers={"authorization": f"Bearer {key}"}) for key in server.secrets]
    yield opened
    for client in opened:
        client.close()
