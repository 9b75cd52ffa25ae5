"""Who is answered: every rule of access refuses what breaks it, and nothing of a refused request is read."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from sam_edge.serving.access import Access, is_loopback, new_token
from sam_edge.serving.api_error import ApiError
from sam_edge_runtime.errors import UsageError

from .builders import ADDRESS, EVERYWHERE, TOKEN, client_of, photo_app

PATHS = ("/", "/session.json", "/bundles/bundle/encoder.onnx", "/assets/app-0a1b2c.js", "/api/photos", "/nothing")


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    return photo_app(tmp_path_factory.mktemp("served"))


@pytest.fixture
def stranger(app) -> TestClient:
    return client_of(app, token=None)


@pytest.fixture
def owner(app) -> TestClient:
    return client_of(app)


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_answered_without_the_token(stranger, path):
    answer = stranger.get(path)
    assert answer.status_code == 401
    assert "sam-edge serve" in answer.text
    assert TOKEN not in answer.text + str(answer.headers)


@pytest.mark.parametrize("token", ["", "a-token-of-the-test", f"{TOKEN}s", "ä"])
def test_a_wrong_token_is_none(stranger, token):
    assert stranger.get("/", params={"token": token}, follow_redirects=False).status_code == 401
    value = f"Bearer {token}".encode()
    assert stranger.get("/session.json", headers={"Authorization": value}).status_code == 401
    cookie = f"{Access(TOKEN).cookie}={token}".encode()
    assert stranger.get("/session.json", headers={"Cookie": cookie}).status_code == 401


def test_the_printed_address_sets_a_cookie_and_leaves_the_token_behind(stranger):
    answer = stranger.get("/", params={"token": TOKEN, "x": "a b"}, follow_redirects=False)
    assert answer.status_code == 303
    assert answer.headers["location"] == "./?x=a+b"
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "path=/" in cookie
    assert "domain" not in cookie
    assert stranger.get("/").text == "<!doctype html><title>page</title>"
    assert stranger.get("/session.json").json()["mode"] == "photo"


def test_the_token_in_the_address_opens_the_page_alone(stranger):
    assert stranger.get("/session.json", params={"token": TOKEN}).status_code == 401
    assert stranger.post("/", params={"token": TOKEN}).status_code in (401, 403)


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "0.0.0.0:8000", "",
     "[::1", "evil@127.0.0.1", "127.0.0.1:port", "192.168.1.7:8000", "127.0.0.2", "127.0.0.1 evil"],
)  # fmt: skip
def test_another_host_is_refused_even_with_the_token(owner, stranger, host):
    for path in PATHS:
        assert owner.get(path, headers={"Host": host}).status_code == 403
    opened = stranger.get("/", params={"token": TOKEN}, headers={"Host": host}, follow_redirects=False)
    assert opened.status_code == 403
    assert "set-cookie" not in opened.headers


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "127.0.0.1", "localhost:8000", "LOCALHOST:9000", "[::1]:8000"])
def test_names_of_this_machine_are_its_own_on_any_port(owner, host):
    assert owner.get("/session.json", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "http://localhost:3000", "http://127.0.0.1:8001", "null", "file://", ADDRESS + "0"],
)
def test_the_page_of_another_origin_is_refused(owner, origin):
    headers = {"Origin": origin}
    assert owner.get("/session.json", headers=headers).status_code == 403
    assert owner.post("/api/photos/x/masks", json={}, headers=headers).status_code == 403
    assert owner.delete("/api/photos/x", headers=headers).status_code == 403


def test_what_changes_something_needs_an_origin_or_the_token_in_the_header(stranger, owner):
    stranger.get("/", params={"token": TOKEN})  # the cookie
    assert stranger.delete("/api/photos/x").status_code == 403
    assert stranger.delete("/api/photos/x", headers={"Origin": ADDRESS}).status_code == 204
    assert owner.delete("/api/photos/x").status_code == 204


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_browser_that_names_another_site_is_refused_but_for_opening_the_page(owner, site):
    headers = {"Sec-Fetch-Site": site}
    assert owner.get("/bundles/bundle/encoder.onnx", headers=headers).status_code == 403
    navigation = {**headers, "Sec-Fetch-Mode": "navigate"}
    assert owner.get("/", headers={**navigation, "Sec-Fetch-Dest": "document"}).status_code == 200
    assert owner.get("/", headers={**navigation, "Sec-Fetch-Dest": "iframe"}).status_code == 403


def test_forms_are_refused(owner):
    for kind in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", ""):
        answer = owner.post("/api/photos", content=b"x", headers={"Content-Type": kind})
        assert (answer.status_code, answer.json()["code"]) == (415, "media_type")


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_has_the_headers(owner, stranger, path):
    for answer in (owner.get(path), stranger.get(path), owner.get(path, headers={"Host": "evil.example"})):
        headers = answer.headers
        policy = dict(each.split(" ", 1) for each in headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == "'self' 'wasm-unsafe-eval'"
        assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert "unsafe-inline" not in headers["content-security-policy"]
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert headers["cross-origin-embedder-policy"] == "require-corp"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in headers
        assert "server" not in headers


def test_a_preflight_gets_no_leave(owner):
    asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    answer = owner.options("/api/photos", headers=asked)
    assert answer.status_code == 403
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_web_sockets_are_closed(app):
    from starlette.websockets import WebSocketDisconnect

    with pytest.raises(WebSocketDisconnect), client_of(app).websocket_connect("/"):
        pass


class TestRules:
    def test_without_a_token_other_machines_cannot_be_let_in(self):
        for host in (EVERYWHERE, "::", "192.168.1.7", "example.org"):
            with pytest.raises(UsageError, match="--no-token"):
                Access.of(host, None)
        assert Access.of("localhost", None).token is None

    def test_another_loopback_address_is_answered_where_it_is_listened_on(self):
        assert Access.of("127.0.0.2", TOKEN).hosts == Access.of("127.0.0.1", TOKEN).hosts | {"127.0.0.2"}

    def test_all_addresses_mean_addresses_and_no_foreign_names(self):
        from starlette.datastructures import Headers

        access = Access.of(EVERYWHERE, TOKEN)
        authorized = {"authorization": f"bearer {TOKEN}"}
        for host in ("192.168.1.7:8000", "[fe80::1]:8000", "localhost"):
            access.check("GET", Headers({"host": host, **authorized}))
        with pytest.raises(ApiError):
            access.check("GET", Headers({"host": "rebound.example:8000", **authorized}))

    def test_loopback(self):
        assert [is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "::1", "LocalHost")] == [True] * 4
        assert [is_loopback(host) for host in (EVERYWHERE, "::", "10.0.0.1", "localhost.example", "")] == [False] * 5

    def test_tokens_are_long_and_never_the_same(self, monkeypatch):
        monkeypatch.delenv("SAM_EDGE_TOKEN", raising=False)
        assert len({new_token() for _ in range(100)}) == 100
        assert len(new_token()) >= 32

    def test_a_token_of_the_environment_has_to_be_long_and_plain(self, monkeypatch):
        monkeypatch.setenv("SAM_EDGE_TOKEN", TOKEN)
        assert new_token() == TOKEN
        for bad in ("short", "sixteen letters and spaces", "sixteen-letters-é", "a" * 15):
            monkeypatch.setenv("SAM_EDGE_TOKEN", bad)
            with pytest.raises(UsageError, match="SAM_EDGE_TOKEN"):
                new_token()

    def test_two_servers_on_one_machine_have_two_cookies(self):
        assert Access("one").cookie != Access("other").cookie
