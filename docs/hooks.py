"""Hooks of the site: pages from outside ``docs/``, sections of other pages, links and formulas.

Pages are written to be read in the repository too, so links lead from file to file there.
"""

import ast
import html
import json
import posixpath
import re
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGE = "zforcing_pyro"
OUTSIDE = "CHANGELOG.md", "CONTRIBUTING.md", "notebooks/*.ipynb", "experiments/**/*.md"
PICTURES = "experiments/**/*.png", "experiments/**/*.svg"
GROUPS = {
    "How to": "docs/*.md",
    "Notebooks": "notebooks/*.ipynb",
    "Results": "experiments/*/README.md",
}
"""Titles in the navigation to which files that it does not list are added."""
ROOMS = {
    "data": "data",
    "emissions": "emissions",
    "estimators": "estimators",
    "models": "models",
    "training": "training",
    "posterior": "analysis.posterior",
    "plots": "analysis.plots",
}
"""Pages of the reference, and their modules."""
BESIDE = {
    "estimators": ["terms.Terms"],
    "models": ["lgssm.LGSSM", "stream.Stream", "exported"],
    "training": ["twists.fit_twist"],
}
"""Names of the reference that no ``__all__`` lists."""

CODE = re.compile(r"(^```.*?^```|^(?: {4}[^\n]*\n)+)", re.S | re.M)
LINK = re.compile(r"`[^`\n]+`|(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!\w+:|#)([^)\s#]+)(#[^)\s]*)?\)")
INCLUDE = re.compile(r"^include: \[[^\]]*\]\(([^)#]+)#([^)]+)\)$", re.M)
DRAWN = re.compile(r"^pictures: \[[^\]]*\]\(([^)]+)\)$", re.M)
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.S)

INDEX = re.compile(r"(<mi>[tkTn]</mi>)<mo>(&#x02212;|&#x0002B;)</mo>(?=<mn>1<|<mi>n<)")
FUNCTION = re.compile(r"<mi>(?:log|tanh)</mi>(?!<mo stretchy)")
SCRIPT = re.compile(r"<script.*?</script>", re.S)


def address(path: str) -> str:
    """Returns the place in the site of a file of the repository."""
    return "index.md" if path == "README.md" else path.removeprefix("docs/")


def origin(place: str) -> str:
    """Returns the file of the repository that a page comes from."""
    return place if (ROOT / place).exists() else f"docs/{place}"


def slug(title: str) -> str:
    """Returns a heading's anchor, as GitHub and the site make it.

    Example:
        >>> slug("A model of your own")
        'a-model-of-your-own'
    """
    return re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", title.lower()).strip())


def section(path: str, anchor: str) -> str:
    """Returns a section of a Markdown file without its heading.

    Raises:
        ValueError: If the file has no such section.
    """
    lines, inside, fenced = [], False, False
    for line in (ROOT / path).read_text(encoding="utf-8").splitlines():
        fenced ^= line.startswith("```")
        if line.startswith("## ") and not fenced:
            inside = slug(line) == anchor
        elif inside:
            lines.append(line)
    if not lines:
        raise ValueError(f"'include' must name a section of {path}, got '#{anchor}'")
    return "\n".join(lines).strip("\n")


def linked(markdown: str, path: str, place: str, places: set[str]) -> str:
    """Returns Markdown of the file ``path`` with links that lead from the page ``place``.

    A link to a file that is not in the site becomes its text.
    """

    def link(match: re.Match) -> str:
        mark, text, target, anchor = match.groups(default="")
        if not target:  # code
            return match[0]
        target = address(posixpath.normpath(posixpath.join(posixpath.dirname(path), target)))
        if target in places:
            target = posixpath.relpath(target, posixpath.dirname(place) or ".")
            return f"{mark}[{text}]({target}{anchor})"
        return text if "`" in text else f"`{text}`"

    parts = CODE.split(markdown)
    return "".join(p if CODE.fullmatch(p) else LINK.sub(link, p) for p in parts)


def drawn(path: str) -> Iterator[tuple[str, bytes, str]]:
    """Yields place, bytes and code of each picture of a notebook."""
    number = 0
    for cell in json.loads((ROOT / path).read_text(encoding="utf-8"))["cells"]:
        for output in cell.get("outputs", []):
            if picture := output.get("data", {}).get("image/png"):
                number += 1
                place = f"{path.removesuffix('.ipynb')}-{number}.png"
                yield place, b64decode("".join(picture)), "".join(cell["source"])


def gallery(path: str) -> str:
    """Returns a notebook's pictures, each with the code that drew it."""
    pieces = []
    for place, _, code in drawn(path):
        body = "\n".join(f"    {line}".rstrip() for line in code.splitlines())
        pieces.append(f'![]({place})\n\n??? quote "Code"\n    ```python\n{body}\n    ```\n')
    return "\n".join(pieces)


def exported(module: str) -> list[str]:
    """Returns a package's ``__all__``, without importing it."""
    tree = ast.parse((ROOT / module.replace(".", "/") / "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return ast.literal_eval(node.value)
    return []


def reference() -> dict[str, str]:
    """Returns the pages of the reference by their place: a block for each public name."""
    homes = {name: room for room in ("models",) for name in exported(f"{PACKAGE}.{room}")}
    pages = {}
    modules, links, objects = [], [], []
    for name in exported(PACKAGE):
        if name in ROOMS:
            modules.append(f"[`zf.{name}`]({name}.md)")
        elif name in homes:
            links.append(f"[`zf.{name}`][{PACKAGE}.{homes[name]}.{name}]")
        else:
            objects.append(f"{PACKAGE}.{name}")
    head = f"# `{PACKAGE}`\n\n`import {PACKAGE} as zf` has the modules "
    listed = f"{', '.join(modules)}, the models {', '.join(links)}, and the names below."
    pages["reference/index.md"] = head + "\n\n".join([listed, *map(block, objects)])
    for room, module in ROOMS.items():
        path = f"{PACKAGE}.{module}"
        names = [f"{path}.{name}" for name in exported(path) + BESIDE.get(room, [])]
        listed = ", ".join(f"[`{name.rsplit('.', 1)[1]}`][{name}]" for name in names)
        about = f"# `{path}`\n\n::: {path}\n    options:\n      members: false\n"
        about += "      show_root_heading: false\n      show_root_toc_entry: false\n"
        pages[f"reference/{room}.md"] = "\n".join([about, listed, "", *map(block, names)])
    return pages


def block(name: str) -> str:
    """Returns the reference's block of one name."""
    inherited = name.endswith(".StochasticRNN")
    return f"::: {name}\n" + "    options:\n      inherited_members: true\n" * inherited


def on_config(config: Any) -> Any:
    """Adds to the navigation the pages, notebooks and results that it does not list."""
    text = json.dumps(config.nav)
    for title, pattern in GROUPS.items():
        places = [address(str(f.relative_to(ROOT))) for f in sorted(ROOT.glob(pattern))]
        group(config.nav, title).extend(place for place in places if f'"{place}"' not in text)
    return config


def group(nav: list, title: str) -> list:
    """Returns the pages under a title of the navigation, none where there is no such title."""
    for item in nav:
        for name, pages in item.items() if isinstance(item, dict) else ():
            if name == title:
                return pages
            if isinstance(pages, list) and (places := group(pages, title)):
                return places
    return []


def on_files(files: Any, config: Any) -> Any:
    """Adds pages and pictures from outside ``docs/``, and the reference."""
    from mkdocs.structure.files import File

    for pattern in OUTSIDE + PICTURES:
        for file in sorted(ROOT.glob(pattern)):
            place = file.relative_to(ROOT).as_posix()
            files.append(File(place, str(ROOT), config.site_dir, config.use_directory_urls))
    for file in sorted(ROOT.glob("notebooks/*.ipynb")):
        for place, content, _ in drawn(file.relative_to(ROOT).as_posix()):
            files.append(File.generated(config, place, content=content))
    for place, text in reference().items():
        files.append(File.generated(config, place, content=text))
    return files


on_files.mkdocs_priority = 100  # type: ignore[attr-defined]  # before notebooks become pages


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Puts in sections and pictures of other files, and turns links to the site's places."""
    place, places = page.file.src_uri, set(files.src_uris)
    if place.startswith("reference/"):
        return markdown
    path = origin(place)
    folder = posixpath.dirname(path)

    def included(match: re.Match) -> str:
        file = posixpath.normpath(posixpath.join(folder, match[1]))
        return linked(section(file, match[2]), file, place, places)

    def pictures(match: re.Match) -> str:
        return gallery(posixpath.normpath(posixpath.join(folder, match[1])))

    pieces = re.split(r"(^include: .*$|^pictures: .*$)", markdown, flags=re.M)
    return "".join(
        DRAWN.sub(pictures, INCLUDE.sub(included, piece))
        if piece.startswith(("include: ", "pictures: "))
        else linked(piece, path, place, places)
        for piece in pieces
    )


def mathml(match: re.Match) -> str:
    """Returns MathML, which browsers draw without scripts, for TeX in a page."""
    from latex2mathml.converter import convert

    tex = html.unescape(match[2]).replace("{aligned}", "{align*}")
    math = convert(tex, display="inline" if match[1] == "span" else "block")
    math = INDEX.sub(r'\1<mo lspace="0" rspace="0">\2</mo>', math)
    math = FUNCTION.sub(r'\g<0><mspace width="0.17em" />', math)
    return math if match[1] == "span" else f'<div class="formula">{math}</div>'


def on_page_content(content: str, page: Any, config: Any, files: Any) -> str:
    """Draws formulas; notebooks lose their scripts, and their links lead to pages."""
    content = FORMULA.sub(mathml, content)
    if page.file.src_uri.endswith(".ipynb"):
        content = re.sub(r'href="(\w+)\.ipynb"', r'href="\1.html"', SCRIPT.sub("", content))
    return content
