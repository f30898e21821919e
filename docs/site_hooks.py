"""Hooks of the documentation's pages: files from outside docs/, links that leave it, and no foreign requests."""  # noqa: INP001

import os
import re
from html.parser import HTMLParser
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

_DOCS = Path(__file__).parent
_ROOT = _DOCS.parent

_BROUGHT_IN = {
    "changelog.md": _ROOT / "CHANGELOG.md",
    "model-card.md": _ROOT / "detector/model/default.md",
    "model-card-history.md": _ROOT / "detector/model/history.md",
}
"""Pages whose source lies elsewhere in the repository."""

_FENCE = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put every decision where the navigation says `adr/*.md`, so that a new one needs no line there."""
    for section in config.nav or []:
        for children in section.values():
            if isinstance(children, list) and "adr/*.md" in children:
                decisions = sorted(path.name for path in (_DOCS / "adr").glob("[0-9]*.md"))
                at = children.index("adr/*.md")
                children[at : at + 1] = [f"adr/{name}" for name in decisions]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Bring in the pages whose source lies elsewhere."""
    for uri, source in _BROUGHT_IN.items():
        files.append(File.generated(config, uri, content=source.read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Point links where their targets are published; a link to a file that is not published leaves its text.

    One that leads nowhere stays as it is, for the strict build to refuse.
    """
    source = _BROUGHT_IN.get(page.file.src_uri, _DOCS / page.file.src_uri)
    here = (_DOCS / page.file.src_uri).parent
    published = {origin.resolve(): _DOCS / uri for uri, origin in _BROUGHT_IN.items()}

    def follow(found: re.Match[str]) -> str:
        image, text, link = found.groups()
        path, hash_, anchor = link.partition("#")
        target = (source.parent / path).resolve()
        if not path or re.match(r"[a-z]+:", link) or not target.exists():
            return found[0]
        target = published.get(target, target)
        if target.is_dir() or not target.is_relative_to(_DOCS):
            return text
        return f"{image}[{text}]({os.path.relpath(target, here)}{hash_}{anchor})"

    parts = _FENCE.split(markdown)
    return "".join(part if part.startswith("```") else _LINK.sub(follow, part) for part in parts)


def on_post_build(config: MkDocsConfig) -> None:
    """Refuse a page that would make the reader's browser ask another host.

    Raises:
        PluginError: a page loads something from elsewhere, or has a drawing whose script would.
    """
    for path in sorted(Path(config.site_dir).rglob("*.html")):
        foreign = foreign_loads(path.read_text(encoding="utf-8"))
        if foreign:
            raise PluginError(
                f"{path.name} loads {foreign}: expected files of the site only, add them to docs/"
            )


def foreign_loads(page: str) -> list[str]:
    """Return what a browser would load from other hosts to show an HTML page."""
    loads = _Loads()
    loads.feed(page)
    return loads.foreign


class _Loads(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.foreign: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Note what the browser loads by itself; an anchor's target is loaded only when it is followed."""
        if tag == "a":
            return
        for name, value in attributes:
            if name in {"src", "href", "data", "poster"} and re.match(r"(?:https?:)?//", value or ""):
                self.foreign.append(f"{value} by <{tag} {name}>")
            if name == "class" and "mermaid" in (value or "").split():
                self.foreign.append("a script for a mermaid drawing")
