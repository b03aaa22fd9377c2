"""Hooks of mkdocs: pages of the repository outside docs/ join the site, and links lead to pages instead of files.

A link to a file that is no page becomes its text; a link to a file that does not exist fails the strict build.
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = (
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    *(p.relative_to(ROOT).as_posix() for p in sorted((ROOT / "models").rglob("*.md"))),
)
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")
_LOG = logging.getLogger("mkdocs.hooks.site")


def page_of(path: str) -> str:
    """Where a file of the repository is in the site."""
    return "index.md" if path == "README.md" else path.removeprefix("docs/")


def file_of(page: str) -> str:
    """The file of the repository that became a page."""
    return "README.md" if page == "index.md" else page if page in OUTSIDE else f"docs/{page}"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for path in OUTSIDE:
        files.append(File.generated(config, page_of(path), abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    here = Path(file_of(page.file.src_uri)).parent

    def rewritten(link: re.Match[str]) -> str:
        image, text, target, anchor = link[1], link[2], link[3], link[4] or ""
        if re.match(r"[a-z]+:", target):
            return link[0]
        path = os.path.normpath(here / target).replace(os.sep, "/")
        if files.get_file_from_path(page_of(path)):
            leads = os.path.relpath(page_of(path), Path(page.file.src_uri).parent).replace(os.sep, "/")
            return f"{image}[{text}]({leads}{anchor})"
        if not (ROOT / path).exists():
            _LOG.warning("%s links to %s, which does not exist", page.file.src_uri, path)
        return text if text.startswith("`") else f"`{path}`" if text == path else text

    return LINK.sub(rewritten, markdown)
