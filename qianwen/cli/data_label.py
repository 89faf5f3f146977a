"""`qianwen data label FILE`: a local page to read, mark, edit and rank rows; exports training files."""

from dataclasses import dataclass

import tyro

from qianwen.runtime.log import console
from qianwen.runtime.translation import tr


@dataclass(frozen=True)
class LabelData:
    """Open a local page to read, mark, edit and rank the rows of a file: dialogues turn by turn, tool calls step by
    step, pairs of answers by preference. Every action is saved in FILE.labels.jsonl; FILE is never changed."""

    file: tyro.conf.Positional[str]
    """Dialogues as `qianwen sft` reads them, or pairs of answers (`prompt`, `chosen`, `rejected`)."""
    port: int = 7861
    """Port of the page, on this machine only."""
    export: bool = False
    """Only write FILE.sft.jsonl (kept dialogues) and FILE.preferences.jsonl (ranked pairs); open no page."""


def label_data(options: LabelData) -> int:
    """Export, or serve the page until Ctrl-C."""
    from qianwen.align.choosing.labels import LabelFile

    if options.export:
        for path, count in LabelFile(options.file).export().items():
            console.print(f"{count:>8,}  {path}", markup=False)
        return 0

    import uvicorn

    from qianwen.serve.app import HeaderTimeoutProtocol
    from qianwen.serve.gate import listen
    from qianwen.serve.ui.label import label_app

    listener = listen("127.0.0.1", options.port)
    labels = LabelFile(options.file)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    console.print(tr("page at {url}; Ctrl-C ends it; marks are saved in {path}", url=url, path=labels.labels_path))
    config = uvicorn.Config(
        label_app(labels), http=HeaderTimeoutProtocol, ws="none", access_log=False, log_level="warning",
        server_header=False, timeout_graceful_shutdown=1,
    )  # fmt: skip
    uvicorn.Server(config).run([listener])
    return 0
