"""What the log learns of an error nobody foresaw: its kind and its place, never its text, which may quote a prompt."""

from __future__ import annotations

import json
import logging

log = logging.getLogger("qianwen.serve")


def log_fault(error: BaseException, request_id: str | None = None) -> None:
    """One JSON line: the request, the error's type, and where it was raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else None
    log.error(json.dumps({"id": request_id, "error": type(error).__name__, "at": place}, ensure_ascii=True))
