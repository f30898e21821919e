"""The documentation as pages: built strictly, whole in itself, and fit to be looked at in a real browser."""

import functools
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.console.browser import PHONE, chromium, missing
from tests.documentation.pages import ROOT
from tests.machine import skip_without

pytestmark = pytest.mark.long
LOADED = {"img": "src", "script": "src", "iframe": "src", "source": "src", "object": "data", "link": "href"}
"""What a browser fetches by itself to show a page."""


class Page(HTMLParser):
    """What a page links to, what it loads, and the anchors it has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect."""
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag in LOADED and LOADED[tag] in values:
            self.loads.append(values[LOADED[tag]])


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built pages; `make test` has installed what builds them."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING  -" not in done.stderr, done.stderr
    return folder


@pytest.fixture(scope="session")
def pages(site: Path) -> dict[Path, Page]:
    """Every page that was built, by its path."""
    return {path: Page(path) for path in sorted(site.rglob("*.html"))}


def test_every_link_and_anchor_resolves(site: Path, pages: dict[Path, Page]) -> None:
    """A link within the site leads to a file of it and, if it has an anchor, to an element of that page."""
    assert len(pages) > 40
    for path, page in pages.items():
        if path.name == "404.html":  # is served in the place of any page, so its links are absolute
            continue
        for link in page.links + page.loads:
            told = urlsplit(link)
            if told.scheme or told.netloc:
                continue
            target = (path.parent / unquote(told.path)).resolve() if told.path else path
            target = target / "index.html" if target.is_dir() else target
            assert target.is_file(), f"{path.relative_to(site)}: {link} leads nowhere"
            if told.fragment and target.suffix == ".html":
                anchors = pages[target].anchors
                assert unquote(told.fragment) in anchors, f"{path.relative_to(site)}: {link}: no such anchor"


def test_nothing_is_loaded_from_another_host(site: Path, pages: dict[Path, Page]) -> None:
    """No page and no style sheet names a file of another host that a browser would fetch by itself."""
    for path, page in pages.items():
        foreign = [one for one in page.loads if urlsplit(one).netloc]
        assert foreign == [], path.relative_to(site)
    sheets = sorted(site.rglob("*.css"))
    assert sheets
    for sheet in sheets:
        assert re.findall(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//", sheet.read_text()) == [], sheet.name


@pytest.fixture(scope="session")
def address(site: Path) -> Iterator[str]:
    """Where the site is served while tests run."""
    handler = functools.partial(_Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@skip_without(missing())
def test_pages_in_a_browser(address: str, site: Path, pages: dict[Path, Page], tmp_path: Path) -> None:
    """On a phone no page is wider than the screen, reports an error, or asks another host."""
    with chromium(tmp_path, PHONE) as browser:
        for path in pages:
            name = path.relative_to(site).as_posix()
            browser.get(f"{address}/{name}")
            assert browser.execute_script(_OVERFLOW) <= 0, f"{name} is too wide"
            asked = browser.execute_script(_ASKED)
            assert {urlsplit(url).netloc for url in asked} <= {urlsplit(address).netloc}, name
        log: list[dict[str, str]] = browser.get_log("browser")  # type: ignore[no-untyped-call]
    assert [entry for entry in log if entry["level"] == "SEVERE"] == []


_OVERFLOW = "return document.documentElement.scrollWidth - window.innerWidth"
_ASKED = "return performance.getEntriesByType('resource').map(entry => entry.name)"
