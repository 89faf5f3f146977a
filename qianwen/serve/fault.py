"""Log unexpected errors: type and place only, never the error's text, because it may quote a prompt."""

from __future__ import annotations

import json
import logging

log = logging.getLogger("qianwen.serve")


def log_fault(error: BaseException, request_id: str | None = None) -> None:
    """Write one JSON line: the request id, the error's type, and the file and line that raised it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else None
    log.error(json.dumps({"id": request_id, "error": type(error).__name__, "at": place}, ensure_ascii=True))
