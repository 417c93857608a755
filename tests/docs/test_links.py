"""Links and paths in the documentation resolve."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *(ROOT / name for name in ("README.md", "TPU_USAGE.md", "CHANGELOG.md")),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "data").glob("*/README.md"),
        ROOT / "clipa_jax" / "preprocess" / "assets" / "README.md",
        ROOT / "tests" / "golden" / "README.md",
    ]
)
TOP = "clipa_jax|configs|notebooks|tools|tests|docs|data/emoji|data/icons"

LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
PATH = re.compile(rf"(?<![\w./:-])(?:{TOP})/[\w./-]*\w/?")


def anchor(heading: str) -> str:
    """The id that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    return {anchor(heading) for heading in re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_resolve(page):
    broken = []
    for link in LINK.findall(page.read_text()):
        if re.match(r"\w+:", link):
            continue
        path, _, fragment = link.partition("#")
        target = (page.parent / path) if path else page
        if not target.exists() or (fragment and fragment not in anchors(target)):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_in_code_exist(page):
    code = " ".join(CODE.findall(page.read_text()))
    paths = set(PATH.findall(code))
    assert sorted(path for path in paths if not exists(path)) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_started_modules_exist(page):
    modules = re.findall(r"-m ((?:clipa_jax|tests)(?:\.\w+)+)", page.read_text())
    paths = {module.replace(".", "/") + ".py" for module in modules}
    assert sorted(path for path in paths if not (ROOT / path).is_file()) == []


def exists(path: str) -> bool:
    """True for a file, a folder, or a module named without its suffix."""
    return (ROOT / path).exists() or (ROOT / f"{path}.py").is_file()
