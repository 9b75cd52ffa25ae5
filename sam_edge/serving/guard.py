"""The outermost layer of the server: it applies the rules of access, and gives every response its headers.

With `Cross-Origin-Opener-Policy` and `-Embedder-Policy` a page is cross-origin isolated, and the engine may have
threads. The content security policy lets scripts come from files of the page alone. WebAssembly is compiled, nothing is
evaluated; so a name with markup in it can never become a script.
"""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .access import Access
from .api_error import ApiError, error_response

# Of the page and of what it loads. `blob:`: the engine's workers, and photos that a person chose.
POLICY = {
    "default-src": "'none'",
    "script-src": "'self' 'wasm-unsafe-eval'",
    "worker-src": "'self' blob:",
    "style-src": "'self'",
    "img-src": "'self' blob: data:",
    "connect-src": "'self' blob: data:",
    "font-src": "'self'",
    "manifest-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
HEADERS = {
    "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in POLICY.items()),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "geolocation=(), microphone=(), payment=(), usb=()",
}
PAGE = "/"
_TOKEN_FIELD = "token"  # noqa: S105 - the field's name


class Guard:
    """An ASGI application around another: it refuses what breaks the rules, and adds the headers.

    Args:
        app: answers requests that keep the rules.
        access: the rules.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            answer = self._opened(scope)
            if answer is None:
                self._access.check(scope["method"], Headers(scope=scope))
        except ApiError as error:
            answer = self._refusal(scope, error)
        await (self._app if answer is None else answer)(scope, receive, guarded)

    def _opened(self, scope: Scope) -> Response | None:
        """Where the address has the token: the cookie, and the way to the same address without it."""
        if scope["path"] != PAGE:
            return None
        fields = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        token = next((value for name, value in fields if name == _TOKEN_FIELD), None)
        if not self._access.opens(scope["method"], Headers(scope=scope), token):
            return None
        rest = urlencode([(name, value) for name, value in fields if name != _TOKEN_FIELD])
        response = Response(status_code=303, headers={"Location": f".{PAGE}{rest and '?' + rest}"})
        response.set_cookie(self._access.cookie, self._access.token or "", path="/", httponly=True, samesite="strict")
        return response

    def _refusal(self, scope: Scope, error: ApiError) -> Response:
        """JSON for the interface, a line of text for people."""
        if scope["path"].startswith("/api/"):
            return error_response(error)
        return Response(f"{error.message}\n", error.status, media_type="text/plain")
