"""Formulas as MathML: written into the page when the book is built, drawn by the browser itself.

MathJax would bring 1.6 MB of scripts and fonts to each page and move its text while one reads. A
formula that cannot be converted is an error of the build.
"""

import re

import math_core
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.math import get_node_equation_number
from sphinx.writers.html5 import HTML5Translator

_CONVERTER = math_core.LatexToMathML(fancy_error=False)
_ENVIRONMENT = re.compile(r"\\begin\{(\w+\*?)\}(?:(?!\\begin).)*?\\end\{\1\}", re.DOTALL)


def mathml(tex: str, display: bool) -> str:
    r"""A formula in TeX as a ``<math>`` element.

    As in Sphinx, a displayed formula may have several lines: after an empty line, or after a ``\\``
    that is in no environment.

    Raises:
        ValueError: the formula is not understood.
    """
    if display:
        lines = r"\\".join(part.strip() for part in tex.split("\n\n") if part.strip())
        rest, inside = lines, 1
        while inside:
            rest, inside = _ENVIRONMENT.subn("", rest)
        tex = rf"\begin{{aligned}}{lines}\end{{aligned}}" if r"\\" in rest else lines
    try:
        return _CONVERTER.convert_with_local_state(tex.strip(), displaystyle=display)
    except math_core.LatexError as error:
        raise ValueError(f"the formula {tex!r} is not understood: {error}") from error


def visit_inline(self: HTML5Translator, node: nodes.math) -> None:
    self.body.append(self.starttag(node, "span", "", CLASS="math notranslate nohighlight"))
    self.body.append(mathml(node.astext(), display=False) + "</span>")
    raise nodes.SkipNode


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
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_displayed, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
