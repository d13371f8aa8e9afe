"""Make the site: the pages of `packaging/docs`, and what is made from MIB, schema and code.

    python packaging/site/build.py BASE_MIB_DIRECTORY OUTPUT_DIRECTORY

Sphinx's warnings are errors, so that no link leads nowhere.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
DOCS = ROOT / "packaging" / "docs"
sys.path[:0] = [str(ROOT / "mibs"), str(ROOT / "packaging")]

import markdown_page  # noqa: E402
import mib_reference  # noqa: E402
from manpages import pages  # noqa: E402

from generate import compile_mibs  # noqa: E402

_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)")
_MODULES = ("vmib_manager", "vmib.units", "vmib.errors", "vmib.canonical")


def main() -> None:
    """Build, and say where."""
    base, out = map(Path, sys.argv[1:])
    with tempfile.TemporaryDirectory(prefix="vmib-site-") as place:
        source = Path(place)
        stage(source, base)
        command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
        done = subprocess.run([*command, str(source), str(out)], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)
    print(f"site: {out}/index.html")


def stage(source: Path, base: Path) -> None:
    """Put all that Sphinx reads into one directory."""
    shutil.copy(HERE / "conf.py", source)
    (source / "files").mkdir()
    for picture in (*DOCS.glob("*.svg"), *DOCS.glob("*.png")):
        shutil.copy(picture, source)
    for page in DOCS.glob("*.md"):
        (source / page.name).write_text(_with_links(page, source))
    changes = ROOT / "CHANGELOG.md"
    (source / "changes.md").write_text(_with_links(changes, source))
    for module in (ROOT / "mibs").glob("VMIB-*.txt"):
        shutil.copy(module, source / "files")
    schema = ROOT / "manager" / "vmib_manager" / "vmib.xsd"
    shutil.copy(schema, source / "files")
    mib = compile_mibs(base)["VMIB-MIB"]
    (source / "mib-reference.md").write_text(mib_reference.reference(mib))
    (source / "python.md").write_text(_python())
    for name, text in pages(markdown_page.Page).items():
        if name != "vmib-network.xml.5":  # that is xml.md
            (source / f"{name}.md").write_text(text)
    shutil.copy(HERE / "index.md", source)


def _with_links(page: Path, source: Path) -> str:
    """A page whose links to files outside of the documentation lead to copies of them."""

    def link(found: re.Match[str]) -> str:
        words, target = found.groups()
        path = (page.parent / target.partition("#")[0]).resolve()
        if target.startswith(("http:", "https:", "#")) or path.parent == DOCS:
            return found[0]
        if path == ROOT / "README.md":
            return f"[{words}](index.md)"
        if not path.is_file():
            return words
        shutil.copy(path, source / "files" / path.name)
        return f"[{words}](files/{path.name})"

    return _LINK.sub(link, page.read_text())


def _python() -> str:
    """The Python reference: what the manager's package offers, and what it shares with agents."""
    parts = ["# Python"]
    for module in _MODULES:
        options = "   :members:\n   :undoc-members:\n"
        if module == "vmib_manager":
            options += "   :imported-members:\n"
        parts.append(f"## `{module}`\n\n```{{eval-rst}}\n.. automodule:: {module}\n{options}```")
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
