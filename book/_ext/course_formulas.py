"""Formulas as MathML: written into the page when the book is built, drawn by the browser itself.

MathJax would bring 1.6 MB of scripts and fonts to each page and move its text while one reads. A
formula that cannot be converted is an error of the build.
"""

import re
from typing import Any

import math_core
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.math import get_node_equation_number
from sphinx.writers.html5 import HTML5Translator

_CONVERTER = math_core.LatexToMathML(fancy_error=False)
# A class on a part of a formula, for the page's scripts. The converter does not know the command: a
# function goes through it under a name that begins with the class, anything else as a box whose
# content does.
_FUNCTION = re.compile(r"\\class\{([\w-]+)\}\{\\(?:operatorname\{(\w+)\}|(ln|tanh))\}")
_NAMED = re.compile(r"<(m[io][^>]*)>([\w\u2212]+)§")  # its hyphens have become minus signs
_PART = re.compile(r"\\class\{([\w-]+)\}\{")
_BOX = re.compile(r'<menclose notation="box"><mrow><mtext>([\w-]+)</mtext>')
# In a box of its own an operator such as an arrow has no neighbours and would lose its spaces.
_ALONE = re.compile(
    r'(<mrow class="[\w-]+"><mo[^>]*?)(?: [lr]space="0")+(?=[^>]*>[^<]*</mo></mrow>)'
)
MINUS = "\u2212"
_ENVIRONMENT = re.compile(r"\\begin\{(\w+\*?)\}(?:(?!\\begin).)*?\\end\{\1\}", re.DOTALL)


def mathml(tex: str, display: bool) -> str:
    r"""A formula in TeX as a ``<math>`` element.

    ``\class{name}{part}`` gives a part a class. As in Sphinx, a displayed formula may have several
    lines: after an empty line, or after a ``\\`` that is in no environment.

    Raises:
        ValueError: the formula is not understood.
    """
    if display:
        lines = r"\\".join(part.strip() for part in tex.split("\n\n") if part.strip())
        rest, inside = lines, 1
        while inside:
            rest, inside = _ENVIRONMENT.subn("", rest)
        tex = rf"\begin{{aligned}}{lines}\end{{aligned}}" if r"\\" in rest else lines
    named, functions = _FUNCTION.subn(r"\\operatorname{\1§\2\3}", tex.strip())
    boxed, parts = _PART.subn(r"\\boxed{\\text{\1}", named)
    try:
        made = _CONVERTER.convert_with_local_state(boxed, displaystyle=display)
    except math_core.LatexError as error:
        raise ValueError(f"the formula {tex!r} is not understood: {error}") from error
    made, found_functions = _NAMED.subn(
        lambda name: f'<{name[1]} class="{name[2].replace(MINUS, "-")}">', made
    )
    made, found_parts = _BOX.subn(r'<mrow class="\1">', made)
    ends = made.count("</mrow></menclose>")
    if (functions, parts, parts) != (found_functions, found_parts, ends) or "§" in made:
        raise ValueError(f"the formula {tex!r} has a class where none can be")
    return _ALONE.sub(r"\1", made.replace("</mrow></menclose>", "</mrow>"))


def visit_inline(self: HTML5Translator, node: nodes.math) -> None:
    self.body.append(self.starttag(node, "span", "", CLASS="math notranslate nohighlight"))
    self.body.append(mathml(node.astext(), display=False) + "</span>")
    raise nodes.SkipNode


class KeepSigns(SphinxPostTransform):
    """A sign behind a formula does not begin a line: a browser would break there."""

    default_priority = 900
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        for formula in list(self.document.findall(nodes.math)):
            place = formula.parent.index(formula) + 1
            after = formula.parent[place] if place < len(formula.parent) else None
            if isinstance(after, nodes.Text) and after.startswith((".", ",", ";", ":", ")", "?")):
                formula.parent[place] = nodes.Text(f"\u2060{after}")  # a word joiner


def visit_displayed(self: HTML5Translator, node: nodes.math_block) -> None:
    self.body.append(self.starttag(node, "div", CLASS="math notranslate nohighlight"))
    if node["number"]:
        self.body.append(f'<span class="eqno">({get_node_equation_number(self, node)})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    # The formula scrolls within a box of its own, so that its number stays in sight.
    formula = mathml(node.astext(), display=True)
    self.body.append(f'<div class="formula">{formula}</div></div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_post_transform(KeepSigns)
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_displayed, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
