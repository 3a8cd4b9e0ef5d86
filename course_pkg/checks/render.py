"""A report as HTML, for notebooks."""

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from course_pkg.checks.engine import Report

# Text keeps the page's own colour. The two marks have one colour for light pages and one for dark
# ones, which the book, JupyterLab and VS Code each announce in a way of their own.
_STYLE = """\
<style>
.course-check{max-width:48rem;border-left:4px solid #8b949e;padding:.2rem 0 .2rem .8rem}
.course-check.passed{border-color:#2da44e}.course-check.failed{border-color:#d1242f}
.course-check table{border-collapse:collapse;margin:.4rem 0;font-size:inherit;width:100%}
.course-check tr,.course-check td,.course-check th{background:none;border:none;text-align:left;
vertical-align:top;padding:.15rem .6rem .15rem 0;font-weight:inherit;white-space:normal}
.course-check th{font-weight:600}
.course-check pre{margin:.2rem 0;padding:0;background:none;border:none;color:inherit;
white-space:pre-wrap;overflow-wrap:anywhere;font-size:.9em}
.course-check p{margin:.4rem 0}
.course-check .yes{color:#116329}.course-check .no{color:#a40e26}
html[data-theme=dark] .course-check .yes,[data-jp-theme-light=false] .course-check .yes,
.vscode-dark .course-check .yes{color:#56d364}
html[data-theme=dark] .course-check .no,[data-jp-theme-light=false] .course-check .no,
.vscode-dark .course-check .no{color:#ff7b72}
</style>
"""


def report_html(report: "Report", hints: list[str]) -> str:
    """What ``Report.text()`` says and the hints, as a table that any page can hold.

    Everything that comes from the learner is escaped.
    """
    state = report.status.replace(" ", "-")
    parts = [_STYLE, f'<div class="course-check {state}">', _paragraph(report.headline, "strong")]
    if report.diagnoses:
        parts.append(_paragraph(report.introduction, "strong"))
        parts += [_paragraph(diagnosis) for diagnosis in report.diagnoses]
    if report.outcomes:
        parts.append("<table><tbody>")
        for outcome, message in report.told():
            parts.append(_row(outcome.name, outcome.statement, outcome.holds, message))
        parts.append("</tbody></table>")
    if report.printed and report.status == "failed":
        parts += [_paragraph("Your code printed:"), f"<pre>{escape(report.printed)}</pre>"]
    parts += [_paragraph(hint, "em") for hint in hints]
    return "\n".join([*parts, "</div>"])


def _row(name: str, statement: str, holds: bool, message: str | None) -> str:
    kind, mark, said = ("yes", "✓", "holds") if holds else ("no", "✗", "does not hold")
    detail = f"<pre>{escape(message)}</pre>" if message else ""
    return (
        f'<tr><td><b class="{kind}" role="img" aria-label="{said}">{mark}</b></td>'
        f'<th scope="row">{escape(name)}</th><td>{escape(statement)}{detail}</td></tr>'
    )


def _paragraph(text: str, tag: str | None = None) -> str:
    inner = escape(text)
    return f"<p><{tag}>{inner}</{tag}></p>" if tag else f"<p>{inner}</p>"
