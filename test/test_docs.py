"""What README and docs/ name exists: links, files, commands, options, parameters, message fields. Needs no mkdocs."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from vpr_ros import cli
from vpr_ros.config import Config

ROOT = Path(__file__).parents[1]
FRONT = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
PAGES = [*FRONT, *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "models").rglob("*.md"))]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
FOLDERS = (
    "vpr_ros", "vpr_msgs", "demo_world", "training", "test", "docs", "config", "launch", "models", "examples", "benchmarks",
    r"\.github", r"\.ci",
)  # fmt: skip
PATH = re.compile(rf"(?<![\w/.~-])(?:{'|'.join(FOLDERS)})/[\w./*{{}},-]*")
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]*)(?:#([^)\s]*))?\)")
every_page = pytest.mark.parametrize("page", PAGES, ids=NAMES)


def code_of(page: Path) -> Iterator[str]:
    """The lines of code blocks and the code spans of a page, a backslash at the end joining lines."""
    text = page.read_text()
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    for block in blocks:
        yield from block.replace("\\\n", " ").splitlines()
    without = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    for span in re.findall(r"`([^`]+)`", without):
        yield " ".join(span.split())


def anchors_of(page: Path) -> set[str]:
    """Of its headings, as mkdocs and GitHub make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    plain = (re.sub(r"[^\w\s-]", "", heading.lower()) for heading in headings)
    return {re.sub(r"[\s-]+", "-", text.strip()) for text in plain}


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target, anchor in LINK.findall(text):
        if re.match(r"[a-z]+:", target):
            continue
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors_of(path), f"{page.name}: {target or page.name} has no heading #{anchor}"


@every_page
def test_files_that_are_named_exist(page: Path) -> None:
    for line in code_of(page):
        for name in PATH.findall(line):
            name = name.rstrip(".,")
            if "{" in name or line.startswith('"""'):  # the name of a file that the reader is to write
                continue
            if name == "vpr_ros/vpr_msgs":  # from where a checkout is cloned into: src/ of a workspace
                name = "vpr_msgs"
            where = [ROOT / folder / name for folder in ("", "docs", "vpr_ros", "training")]  # as pages shorten them
            if name.startswith("vpr_msgs/"):
                where += [ROOT / "vpr_msgs" / kind / f"{Path(name).name}.{kind}" for kind in ("msg", "srv")]
            assert any(glob.glob(str(path)) for path in where), f"{page.name} names {name}"


@cache
def help_of(*command: str) -> str:
    import contextlib
    import io

    text = io.StringIO()
    with contextlib.redirect_stdout(text), pytest.raises(SystemExit) as stopped:
        cli.main([*command, "--help"])
    assert stopped.value.code == 0
    return text.getvalue()


@every_page
def test_commands_and_their_options_exist(page: Path) -> None:
    for line in code_of(page):
        line = line.partition("  #")[0]
        for command in re.findall(r"(?:^|\s|bin/)(vpr (?:[a-z].*)?)$", line):
            words = command.split()
            name = words[1] if len(words) > 1 else ""
            if not name:
                continue
            assert name in cli.COMMANDS, f"{page.name}: {line}"
            action = words[2] if name in ("engine", "map") and len(words) > 2 and words[2].isalpha() else ""
            known = help_of(name, action) if action else help_of(name)
            for option in re.findall(r"\s(--[a-z][\w-]*)", command):
                assert option in known or option in help_of(name), f"{page.name}: vpr {name} has no {option}: {line}"
        for module in re.findall(r"python(?:3)? -m ([\w.]+)", line):
            path = ROOT / module.replace(".", "/")
            is_module = path.with_suffix(".py").exists() or (path / "__main__.py").exists()
            assert is_module or module in ("venv", "pytest", "colcon"), f"{page.name}: python -m {module}"
        for target in re.findall(r"(?:^|\s)make ([a-z-]+)", line):
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), (
                f"{page.name}: make {target}"
            )


STAGES = {name.partition(".")[0] for name in Config.parameters()}
FIELDS_OF_MESSAGES = {
    field
    for message in (ROOT / "vpr_msgs").rglob("*.msg")
    for field in re.findall(r"^[\w/\[\]]+ (\w+)(?:=\d+)?\s*(?:#.*)?$", message.read_text(), re.MULTILINE)
}


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "architecture.md"], ids=lambda page: page.name)
def test_parameters_that_are_named_exist(page: Path) -> None:
    """architecture.md names functions of modules by `rotations.is_pose`; elsewhere such a name is a parameter."""
    known = Config.parameters()
    for line in code_of(page):
        for name in re.findall(rf"(?<![\w./])((?:{'|'.join(STAGES)})\.[a-z_]+)(?![\w(.])", line):
            stage, _, leaf = name.partition(".")
            is_attribute = stage in ("match", "model") and leaf in FIELDS_OF_MESSAGES | {
                "id",
                "dim",
                "onnx",
                "stamp_ns",
                "verification",
                "accepted",
            }
            assert name in known or is_attribute, f"{page.name} names the parameter {name}"


def test_the_front_page_is_one() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130


def test_the_site_has_every_page_once() -> None:
    def pages(nav: object) -> Iterator[str]:
        if isinstance(nav, str):
            yield nav
        for item in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ():
            yield from pages(item)

    text = (ROOT / "mkdocs.yml").read_text()
    found = list(pages(yaml.safe_load(text)["nav"]))
    expected = {name.removeprefix("docs/") for name in NAMES} - {"README.md"} | {"index.md", "CHANGELOG.md"}
    assert sorted(found) == sorted(expected)


def test_messages_are_documented_whole() -> None:
    page = (ROOT / "docs" / "messages.md").read_text()
    named = set(re.findall(r"`(\w+)`", page))
    for message in (ROOT / "vpr_msgs" / "msg").glob("*.msg"):
        text = message.read_text()
        fields = re.findall(r"^[\w/\[\]]+ (\w+)\s*(?:=|#|$)", text, re.MULTILINE)
        assert fields
        assert set(fields) <= named, f"docs/messages.md lacks {set(fields) - named} of {message.name}"
        assert message.stem in page


def sources() -> Iterator[Path]:
    for folder in (
        "vpr_ros",
        "training",
        "demo_world",
        "benchmarks",
        "examples",
        "test",
        "config",
        "launch",
        "vpr_msgs",
    ):
        yield from (path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".yaml", ".msg", ".xml"))


def test_sections_and_pages_that_sources_cite_exist() -> None:
    sections = set(re.findall(r"^#+ ([\d.]+) ", (ROOT / "docs" / "methods.md").read_text(), re.MULTILINE))
    for path in sources():
        text = path.read_text()
        for section in re.findall(r"docs/methods\.md(?:'s)? (\d(?:\.\d)?)", text):
            assert section in sections, f"{path} cites section {section}"
        for page in re.findall(r"docs/[\w/]+\.md", text):
            assert (ROOT / page).exists(), f"{path} cites {page}"


def test_the_citation_has_the_version_of_the_package() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    assert (citation["version"], citation["license"]) == (package.findtext("version"), package.findtext("license"))


def test_workflows_call_targets_that_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    steps = [
        step["run"]
        for path in (ROOT / ".github" / "workflows").glob("*.yml")
        for job in yaml.safe_load(path.read_text())["jobs"].values()
        for step in job["steps"]
        if "run" in step
    ]
    assert steps
    for step in steps:
        target = re.fullmatch(r"make (?:-C \S+ )?([a-z-]+)(?: .*)?", step)
        assert target, f"a workflow runs more than a target: {step}"
        assert re.search(rf"^{target[1]}:", makefile, re.MULTILINE), step
