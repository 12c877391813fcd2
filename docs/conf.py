"""The documentation site: `make docs` builds it from the pages in this folder and docstrings."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_sphinx"))

from mcdrop import __version__  # noqa: E402

project = "mcdrop"
author = "The mcdrop developers"
project_copyright = author
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "generated",
]
exclude_patterns = ["_sphinx", "data"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
# Docstrings write names in single backticks; names that are documented become links.
default_role = "py:obj"

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 80
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries_show_parents = "hide"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_custom_sections = ["Source"]

templates_path: list[str] = []
html_theme = "furo"
html_title = f"mcdrop {__version__}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
# Light and dark colors with a contrast of at least 4.5 to 1 (WCAG 2.2, level AA).
pygments_style = "github-light"
pygments_dark_style = "github-dark"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
