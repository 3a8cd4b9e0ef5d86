"""How the book is made: Markdown to executed notebooks, solutions to exercises, figures.

Run it as ``python -m course_pkg.authoring``. Needs the extra ``book``.
"""
