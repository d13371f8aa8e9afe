"""How Sphinx makes the site of what `build.py` has put together."""

from vmib import __version__

project = "vMIB"
author = "the authors of vMIB"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_enable_extensions = ["deflist"]
source_suffix = {".md": "markdown"}
myst_heading_anchors = 3
smartquotes = False  # options begin with two hyphens
default_role = "literal"
toc_object_entries = False

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"

html_theme = "furo"
html_title = f"vMIB {release}"
html_static_path: list[str] = []
html_copy_source = False
html_show_sourcelink = False
