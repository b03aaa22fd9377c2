"""What every HTML page of ours must be: well formed, and whole without a network."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import ClassVar


class Nesting(HTMLParser):
    """Fails on tags that do not close in order."""

    void: ClassVar = {"meta", "img", "br", "link"}

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass


def check_page(html: str) -> None:
    """Well formed, without scripts, and nothing is loaded from elsewhere."""
    parser = Nesting()
    parser.feed(html)
    assert parser.open == []
    assert "<script" not in html
    assert "@import" not in html
    sources = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"'\s)>]+)""", html)
    assert all(source.startswith(("data:image/", "#")) for source in sources)
