"""Files that take the place of a model's file: a Git LFS pointer, a web page, an error message of a server.

A clone without Git LFS leaves a pointer of three lines for each large file. `curl` and `wget` save the page that a
server shows instead of the file: a login, an error, a confirmation. Both have the right name and the wrong contents, so
readers of weights and vocabularies ask here before they call a file damaged.
"""

from pathlib import Path

from qianwen.runtime.errors import CheckpointError
from qianwen.runtime.translation import tr

START_BYTES = 1024  # that are read of a file to recognise it
POINTERS = (b"version https://git-lfs.github.com/spec/", b"version https://hawser.github.com/spec/")
ANNEX = b"/annex/objects/"
PAGES = (b"<!doctype html", b"<html", b"<head", b"<!doctype xhtml")
XML = b"<?xml"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Bodies of the hub's servers that `curl` without `--fail` saves under the name of the file.
REFUSALS = (
    b"Entry not found",
    b"Access to model",
    b"Invalid credentials",
    b"Invalid username or password",
    b'{"error":',
)


def check_contents(path: Path) -> None:
    """Raise CheckpointError if the file at `path` is a pointer, a page or an error message in place of a model file."""
    with path.open("rb") as file:
        start = file.read(START_BYTES)
    text = start.removeprefix(BYTE_ORDER_MARK).lstrip()
    if text.startswith(POINTERS):
        message = (
            "{path} is a Git LFS pointer, not the file itself; run `git lfs pull` in its folder or download it again"
        )
    elif text.startswith(ANNEX):
        message = "{path} is a git-annex pointer, not the file itself; run `git annex get` in its folder"
    elif text.lower().startswith(PAGES) or (text.startswith(XML) and b"<html" in text.lower()):
        message = "{path} is a web page (HTML), not the file itself; download the file from its direct address"
    elif text.startswith((XML, *REFUSALS)):
        message = "{path} is an error message of a server ({start}), not the file itself; download it again"
    else:
        return
    first = text.splitlines()[0][:80].decode("utf-8", "replace")
    raise CheckpointError(tr(message, path=path, start=first))
