"""Python that a page of the documentation shows, run as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"


def run_code(page: str, heading: str, **names: Any) -> dict[str, Any]:
    """What the first Python block below a heading of `docs/<page>` defines, with `names` known to it beforehand."""
    _, found, below = (DOCS / page).read_text().partition(f"\n## {heading}\n")
    assert found, f"{page} has no heading {heading!r}"
    block = re.search(r"^```python\n(.*?)^```$", below.partition("\n## ")[0], re.MULTILINE | re.DOTALL)
    assert block, f"{page} shows no Python below {heading!r}"
    namespace = {"__name__": "page", **names}
    exec(compile(block[1], f"docs/{page}: {heading}", "exec", dont_inherit=True), namespace)
    return namespace
