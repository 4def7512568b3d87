"""
The wire between a controller and its callers, as a test may spoil it.

An interceptor on the real server, before all others. It knows calls by their names
and nothing of what they say: it counts them, and it loses an answer or breaks a
stream off where a test wants it. Every call is carried out.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import grpc.aio
from tests.services.controller import PATIENCE_S


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fault:
    code: grpc.StatusCode
    after: int


class Wire(grpc.aio.ServerInterceptor):
    """
    One for all servers that a test starts, one after the other.

    Attributes:
        calls: How often each RPC was called.
        sent: How many messages of each went out in answer.
    """

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self._faults: defaultdict[str, deque[_Fault]] = defaultdict(deque)
        self._news = asyncio.Event()

    def lose(
        self, method: str, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE, *, after: int = 0, times: int = 1
    ) -> None:
        """Let the next calls of a method end with *code* in the place of an answer, of a stream's *after* so many."""
        self._faults[method].extend([_Fault(code=code, after=after)] * times)

    async def until_sent(self, method: str, count: int = 1) -> None:
        """Wait until so many messages of a method went out."""
        async with asyncio.timeout(PATIENCE_S):
            while self.sent[method] < count:
                await self._news.wait()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method.rpartition("/")[2]
        codecs = (handler.request_deserializer, handler.response_serializer)
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(self._answering(handler.unary_unary, method), *codecs)
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(self._streaming(handler.unary_stream, method), *codecs)
        return grpc.stream_stream_rpc_method_handler(self._streaming(handler.stream_stream, method), *codecs)

    def _answering(self, handle: Any, method: str) -> Any:
        async def answer(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            fault = self._begin(method)
            response = await handle(request, context)
            if fault is not None:
                await context.abort(fault.code, f"the answer to {method} is lost")
            self._tell(method)
            return response

        return answer

    def _streaming(self, handle: Any, method: str) -> Any:
        async def stream(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            fault = self._begin(method)
            count = 0
            async with aclosing(handle(request, context)) as responses:
                async for response in responses:
                    if fault is not None and count == fault.after:
                        await context.abort(fault.code, f"the stream of {method} is broken")
                    yield response
                    count += 1
                    self._tell(method)

        return stream

    def _begin(self, method: str) -> _Fault | None:
        self.calls[method] += 1
        return self._faults[method].popleft() if self._faults[method] else None

    def _tell(self, method: str) -> None:
        self.sent[method] += 1
        self._news.set()
        self._news = asyncio.Event()
