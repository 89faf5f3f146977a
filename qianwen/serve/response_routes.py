"""`/v1/responses`: OpenAI's newer API for the same conversations as `/v1/chat/completions`."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from qianwen.serve import protocol
from qianwen.serve.chat_routes import prepare_chat, respond
from qianwen.serve.exchange import read_body
from qianwen.serve.guard import check_prompt
from qianwen.serve.openapi import request_body
from qianwen.serve.response_events import ResponseAnswer
from qianwen.serve.responses_protocol import ResponsesRequest
from qianwen.serve.service import Service


def response_routes(service: Service) -> APIRouter:
    """The route that creates a response. None is stored, so there is no route to read or delete one."""
    router = APIRouter()

    async def responses(http: Request) -> Response:
        request = protocol.parse(await read_body(http, service.admission.limits), ResponsesRequest)
        served, chat = service.model(request.model), request.as_chat()
        await check_prompt(service.guard, "\n".join(message.text for message in chat.messages))
        job = await asyncio.to_thread(prepare_chat, chat, served)
        return await respond(http, job, ResponseAnswer(request, served.name), service, stream=request.stream)

    router.add_api_route("/v1/responses", responses, methods=["POST"], openapi_extra=request_body(ResponsesRequest))
    return router
