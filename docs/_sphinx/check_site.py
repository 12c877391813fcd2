"""Check the built site: nothing comes from the network, links lead somewhere, no name is missing.

python docs/_sphinx/check_site.py site
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from api_pages import documented_names
from error_texts import error_texts

# Attributes by which a page loads something, as against those by which it links to it.
_LOADS = {("script", "src"), ("img", "src"), ("link", "href"), ("source", "src"), ("iframe", "src")}
_CSS_LOADS = re.compile(r"(?:url\(\s*['\"]?|@import\s+['\"])\s*(?:https?:)?//", re.IGNORECASE)


class _Page(HTMLParser):
    """The places of a page, what it loads, and where it links to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.places: set[str] = set()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect the attributes of a tag."""
        for name, value in attrs:
            if name == "id" and value:
                self.places.add(value)
            elif value and (tag, name) in _LOADS:
                self.loads.append(value)
            elif value and (tag, name) == ("a", "href"):
                self.links.append(value)


def faults(site: Path) -> Iterator[str]:
    """Yield what is wrong with a built site, one line each."""
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        here = path.relative_to(site)
        for address in page.loads:
            if urlsplit(address).netloc:
                yield f"{here} loads {address}"
            elif not _target(path, address).exists() and not address.startswith("data:"):
                yield f"{here} loads {address}, which is not there"
        for address in page.links:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = _target(path, address)
            if not target.exists():
                yield f"{here} links to {address}, which is not there"
            elif parts.fragment and target in pages:
                # Sphinx links listings of source to descriptions by a name it guesses.
                listing = here.parts[0] == "_modules"
                if not listing and unquote(parts.fragment) not in pages[target].places:
                    yield f"{here} links to {address}, a place that is not there"
    for path in sorted(site.rglob("*.css")):
        if _CSS_LOADS.search(path.read_text(encoding="utf-8")):
            yield f"{path.relative_to(site)} loads from the network"
    yield from _missing(site, pages)


def _missing(site: Path, pages: dict[Path, _Page]) -> Iterator[str]:
    """Yield names without a description, and errors without a heading."""
    reference = {
        place for path, page in pages.items() if path.parent.name == "api" for place in page.places
    }
    for name in documented_names():
        if name not in reference:
            yield f"the reference has no {name}"
    errors = site / "_generated" / "every-error.html"
    shown = len(re.findall(r"<h3>", errors.read_text(encoding="utf-8")))
    wanted = len({(text.error, text.heading) for text in error_texts()})
    if shown != wanted:
        yield f"every-error.html has {shown} headings for {wanted} texts"
    if not (site / "searchindex.js").exists():
        yield "there is no search index"


def _target(page: Path, address: str) -> Path:
    """Return the file that an address on a page leads to."""
    path = unquote(urlsplit(address).path)
    return (page.parent / path).resolve() if path else page


def main() -> None:
    """Print the faults and fail if there are any."""
    found = list(faults(Path(sys.argv[1]).resolve()))
    sys.stdout.write("".join(f"{fault}\n" for fault in found))
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
