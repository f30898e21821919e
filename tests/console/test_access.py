"""Who may see what: the token, the cookie, the headers, and the rule about addresses that others can reach."""

import logging
import subprocess
import sys
from collections.abc import Mapping
from http.client import HTTPConnection
from pathlib import Path

import pytest
from click.testing import CliRunner
from starlette.testclient import TestClient

from detector.cli import main
from detector.console.access import SECURITY_HEADERS
from detector.console.app import create_app
from detector.console.config import ConsoleConfig, read_token
from detector.runtime.config import ConfigurationError
from tests.console.serving import Console

TOKEN = "a-token-of-some-length-4711"  # noqa: S105  of this test
PUBLIC = [
    "/login",
    "/healthz",
    "/static/console.js",
    "/static/console.css",
    "/static/login.js",
    "/static/icon.svg",
]


def config(**changes: object) -> ConsoleConfig:
    """Return settings; nothing is at the broker's address."""
    fields: dict[str, object] = {
        "bootstrap_servers": "127.0.0.1:1",
        "topic": "session-alerts",
        "host": "127.0.0.1",
        "port": 0,
        "token": None,
        "metrics_urls": (),
        "keep": 10,
        "models": None,
    }
    return ConsoleConfig(**(fields | changes))  # type: ignore[arg-type]  # as the fields are


def client(token: str | None, url: str = "https://console.example") -> TestClient:
    """Return a client of an application whose lifespan has not begun: it reads nothing from Kafka."""
    return TestClient(create_app(config(token=token)), base_url=url, follow_redirects=False)


def bearer(token: str) -> dict[str, str]:
    """Return the header that presents a token."""
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize(
    "path",
    [
        *PUBLIC,
        "/",
        "/stream",
        "/explanations/a/b",
        "/session",
        "/absent",
        "/static/../app.py",
        "/static/absent",
    ],
)
@pytest.mark.parametrize("token", [None, TOKEN])
def test_every_answer_has_the_security_headers(path: str, token: str | None) -> None:
    """Pages, files, refusals and errors carry the policy; it allows neither inline code nor other hosts."""
    for method in ("HEAD", "PUT"):  # the answer of a GET to the stream does not end
        answer = client(token, "http://127.0.0.1").request(method, path)
        assert {name: answer.headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS
    policy = dict(
        part.strip().split(" ", 1) for part in SECURITY_HEADERS["Content-Security-Policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert (policy["script-src"], policy["style-src"]) == ("'self'", "'self'")


@pytest.mark.parametrize("headers", [{}, bearer("wrong"), bearer(""), bearer(TOKEN + "x"), {"Authorization": TOKEN},
                                     {"Authorization": f"Basic {TOKEN}"}, {"Cookie": f"__Host-console={TOKEN}"}])  # fmt: skip
def test_without_the_token_nothing_is_shown(headers: Mapping[str, str]) -> None:
    """No token, a wrong one, one in another scheme or in the cookie: the page sends to the sign-in, the stream is refused."""
    stranger = client(TOKEN)
    assert stranger.get("/stream", headers=headers).status_code == 401
    assert stranger.get("/session", headers=headers).status_code == 401
    assert stranger.post("/session", headers=headers).status_code == 401
    page = stranger.get("/", headers=headers)
    assert (page.status_code, page.headers["location"]) == (303, "login")
    assert stranger.get(f"/stream?token={TOKEN}").status_code == 401
    assert stranger.get("/explanations/some", headers=headers).status_code == 401
    for path in PUBLIC:
        assert stranger.get(path).status_code == 200


def test_the_token_opens_as_a_header() -> None:
    """A client that presents the token with each request needs no cookie, and is given none."""
    answer = client(TOKEN).get("/", headers=bearer(TOKEN))
    assert answer.status_code == 200
    assert "set-cookie" not in answer.headers


def test_the_cookie_stands_for_the_token_until_signed_out() -> None:
    """The cookie is out of scripts' and other sites' reach, does not hold the token, opens, and ends."""
    viewer = client(TOKEN)
    signed_in = viewer.post("/session", headers=bearer(TOKEN))
    assert signed_in.status_code == 204
    cookie = signed_in.headers["set-cookie"]
    assert cookie.startswith("__Host-console=")
    assert {"httponly", "secure", "samesite=strict", "path=/"} <= {
        part.strip().lower() for part in cookie.split(";")
    }
    assert TOKEN not in cookie
    assert viewer.get("/").status_code == 200
    assert viewer.get("/session").status_code == 204
    assert viewer.delete("/session").status_code == 204
    assert viewer.get("/").status_code == 303


def test_a_cookie_is_worth_nothing_elsewhere_or_altered() -> None:
    """A cookie that was altered, or made under another token, opens nothing."""
    viewer, other = client(TOKEN), client("another-token-of-length")
    viewer.post("/session", headers=bearer(TOKEN))
    value = viewer.cookies["__Host-console"]
    # The first character of the signature: the low bits of base64's last one may stand for nothing.
    signed, _, signature = value.rpartition(".")
    altered = f"{signed}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"
    for forged in (altered, value.partition(".")[0]):
        assert (
            client(TOKEN).get("/session", headers={"Cookie": f"__Host-console={forged}"}).status_code == 401
        )
    assert client(TOKEN).get("/session", headers={"Cookie": f"__Host-console={value}"}).status_code == 204
    assert other.get("/session", headers={"Cookie": f"__Host-console={value}"}).status_code == 401


def test_the_token_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A refused sign-in is logged, without what was presented; nor do the settings show the token."""
    with caplog.at_level(logging.DEBUG):
        client(TOKEN).post("/session", headers=bearer("something-else-presented"))
        client(TOKEN).post("/session", headers=bearer(TOKEN))
    assert "refused" in caplog.text
    assert "something-else-presented" not in caplog.text
    assert TOKEN not in caplog.text
    assert TOKEN not in repr(config(token=TOKEN))


@pytest.mark.parametrize("host", ["evil.example", "evil.example:9109", "127.0.0.1.evil.example", ""])
def test_without_a_token_only_this_machines_names_are_answered(host: str) -> None:
    """A foreign page that points its own name here (DNS rebinding) is refused; loopback's names are not."""
    local = client(None, "http://127.0.0.1:9109")
    assert local.get("/", headers={"Host": host}).status_code == 400
    for own in ("127.0.0.1:9109", "localhost:9109", "localhost", "[::1]:9109"):
        assert local.get("/", headers={"Host": own}).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),  # a program, or a browser of before
        ({"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "empty"}, 200),
        ({"Sec-Fetch-Site": "none", "Sec-Fetch-Dest": "document"}, 200),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"}, 200),  # a link in a case system
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "script"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "iframe"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Dest": "empty"}, 403),  # another port of this machine
    ],
)
def test_other_pages_requests_are_refused(headers: Mapping[str, str], status: int) -> None:
    """What the browser says another site's page asks for is refused, but for links; an own page's request is not."""
    for path in ("/", "/session", "/static/console.js", "/healthz"):
        answer = client(None, "http://127.0.0.1:9109").get(path, headers=headers)
        assert answer.status_code == (204 if (path, status) == ("/session", 200) else status)
    refused = client(TOKEN).delete("/session", headers={"Sec-Fetch-Site": "same-site"} | bearer(TOKEN))
    assert refused.status_code == 403


def test_what_is_kept_in_caches() -> None:
    """Pages and answers are not stored; files are asked after each time, so that two versions are never mixed."""
    viewer = client(TOKEN)
    for path in ("/", "/login", "/session", "/healthz", "/absent", "/static/absent", "/stream"):
        assert viewer.head(path).headers["cache-control"] == "no-store"
    for path in ("/static/console.js", "/static/console.css"):
        answer = viewer.get(path)
        assert answer.headers["cache-control"] == "no-cache"
        again = viewer.get(path, headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.headers["cache-control"]) == (304, "no-cache")


@pytest.mark.parametrize("path", ["/stream/", "/static", "/login/", "//evil.example/%2e%2e"])
def test_no_answer_leads_elsewhere(path: str) -> None:
    """No path is mended by a redirect: it would hold the host that the request named, which with a token is any."""
    answer = client(TOKEN).get(path, headers={"Host": "evil.example"} | bearer(TOKEN))
    assert answer.status_code == 404
    assert "evil.example" not in str(answer.headers) + answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static/..%5capp.py",
        "/static//etc/passwd",
        "/static/%2fetc%2fpasswd",
        "/static/console.js%00.css",
        "/static/" + "a" * 5_000,
        "/../../etc/passwd",
    ],
)
def test_no_other_file_is_served(served: Console, path: str) -> None:
    """Whatever a path holds, as it stands on the wire: not found, without a word of the file system."""
    connection = HTTPConnection(served.url.removeprefix("http://"))
    connection.request("GET", path)
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (404, b"Not Found")
    assert answer.headers["Content-Security-Policy"] == SECURITY_HEADERS["Content-Security-Policy"]
    connection.close()
    assert "Traceback" not in served.log.read_text()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7"])  # noqa: S104  that is the point
def test_no_address_that_others_reach_goes_without_a_token(host: str) -> None:
    """Without a token the settings are refused, with one they are not; loopback needs none."""
    with pytest.raises(ConfigurationError, match="no token"):
        config(host=host)
    assert config(host=host, token=TOKEN).token == TOKEN
    for loopback in ("127.0.0.1", "127.8.9.10", "::1", "localhost"):
        assert config(host=loopback).loopback


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"token": "short"}, "at least 16"),
        ({"token": "tökens-are-not-umlauts"}, "ASCII"),
        ({"metrics_urls": ("127.0.0.1:9108",)}, "expected such as"),
        ({"metrics_urls": ("file:///etc/passwd",)}, "expected such as"),
        ({"runbook_url": "javascript:alert(1)"}, "expected such as https"),
        ({"runbook_url": "/runbook.html"}, "expected such as https"),
        ({"host": "no such host"}, "names no address"),
    ],
)
def test_settings_out_of_bounds_are_refused(changes: dict[str, object], said: str) -> None:
    """What was seen and what was expected is said."""
    with pytest.raises(ConfigurationError, match=said):
        config(**changes)


def test_the_token_comes_from_a_file_or_the_environment(tmp_path: Path) -> None:
    """Either, not both; a file that can't be read is told of, not taken for none."""
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    assert read_token({}, path) == TOKEN
    assert read_token({"DETECTOR_CONSOLE_TOKEN": TOKEN}, None) == TOKEN
    assert read_token({"DETECTOR_CONSOLE_TOKEN": ""}, None) is None
    with pytest.raises(ConfigurationError, match="both"):
        read_token({"DETECTOR_CONSOLE_TOKEN": TOKEN}, path)
    with pytest.raises(ConfigurationError, match="can't be read"):
        read_token({}, tmp_path / "absent")


def test_the_command_refuses_to_be_exposed() -> None:
    """The process ends with exit code 2 and one message that says what to do, and has listened to nothing."""
    answer = subprocess.run(
        [sys.executable, "-m", "detector", "console", "--host", "0.0.0.0", "--port", "0"],  # noqa: S104
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert answer.returncode == 2
    assert "no token" in answer.stderr
    assert "DETECTOR_CONSOLE_TOKEN" in answer.stderr
    assert "Traceback" not in answer.stderr + answer.stdout


def test_without_its_libraries_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the console's extra is not installed, one message names what is missing and the command that brings it."""
    monkeypatch.setitem(sys.modules, "starlette", None)
    answer = CliRunner().invoke(main, ["console"])
    assert answer.exit_code == 1
    assert "needs starlette" in answer.output
    assert "session-fraud-detector[console]" in answer.output
