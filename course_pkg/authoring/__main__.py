"""``python -m course_pkg.authoring``: make notebooks, exercises and the book, or check them."""

import hashlib
import shutil
import subprocess
import sys
import textwrap
import time
import webbrowser
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import click
import nbformat
import yaml
from nbclient.exceptions import CellExecutionError

from course_pkg.authoring import exercises as _exercises
from course_pkg.authoring import notebooks as _notebooks
from course_pkg.authoring import pdf as _pdf
from course_pkg.authoring import translation as _translation
from course_pkg.files import atomic_write


@click.group()
@click.option(
    "--root",
    default=".",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The repository's folder (default: here).",
)
@click.pass_context
def main(context: click.Context, root: Path) -> None:
    """Make what is generated in the book's repository."""
    if not (root / "book").is_dir():
        raise click.UsageError(f"{root} has no folder 'book': run this in the repository's folder.")
    context.obj = root


@main.command()
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Run also notebooks whose inputs did not change.")
@click.pass_obj
def notebooks(root: Path, files: tuple[Path, ...], force: bool) -> None:
    """Execute the .md notebooks whose inputs changed and write the .ipynb beside them."""
    failed = 0
    for path in files or _notebooks.sources(root):
        path = path.with_suffix(".md")
        try:
            if not force and _notebooks.is_current(path):
                click.echo(f"{path}: up to date")
                continue
            start = time.perf_counter()
            changed = _notebooks.make(path)
        except (ValueError, OSError, CellExecutionError) as error:
            click.echo(f"{path}: {error}", err=True)
            failed += 1
            continue
        seconds = time.perf_counter() - start
        click.echo(f"{path}: {'written' if changed else 'unchanged'} in {seconds:.0f} s")
    if failed:
        raise click.ClickException(f"{failed} not written")


@main.command()
@click.option("--check", is_flag=True, help="Only say whether exercises/ is up to date.")
@click.option("--force", is_flag=True, help="Overwrite notebooks that somebody has run.")
@click.pass_obj
def exercises(root: Path, check: bool, force: bool) -> None:
    """Make exercises/ from solutions/."""
    try:
        changed = _exercises.outdated(root) if check else _exercises.write(root, force)
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    for path in changed:
        click.echo(f"{path}: {'out of date' if check else 'made'}")
    if not changed:
        click.echo("exercises/ is up to date")
    elif check:
        raise click.ClickException("run `make exercises`")


@main.command()
@click.pass_obj
def check(root: Path) -> None:
    """Say whether every .ipynb agrees with its .md and is fit to be committed."""
    found = []
    try:
        found += [f"{path}: out of date" for path in _exercises.outdated(root)]
        for path in _notebooks.sources(root):
            target = path.with_suffix(".ipynb")
            if not target.exists():
                found.append(f"{target}: missing")
                continue
            notebook = nbformat.read(target, as_version=4)
            if differs := _notebooks.difference(_notebooks.build(path), notebook):
                found.append(f"{target}: {differs}")
            found += [f"{target}: {what}" for what in _notebooks.problems(notebook)]
    except (ValueError, OSError) as error:
        found.append(str(error))
    for line in found:
        click.echo(line, err=True)
    if found:
        raise click.ClickException("run `make exercises` and `make notebooks`")
    click.echo("notebooks and exercises agree with their sources")


@main.command()
@click.option("--check", is_flag=True, help="Change nothing; say what is out of step.")
@click.pass_obj
def gettext(root: Path, check: bool) -> None:
    """Bring the message catalogues of the translated pages into step with the English ones."""
    try:
        changed = _translation.update(root, check)
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    for path in changed:
        click.echo(f"{path.relative_to(root)}: {'out of step' if check else 'updated'}")
    for language in _translation.languages(root):
        published = _translation.published_pages(root, language)
        pages = _translation.translated_pages(root, language)
        for name in (*pages, _translation.INTERFACE):
            progress = _translation.Progress.of(_translation.load(root, language, name))
            line = f"{language.code} {name}: {progress.share:.0%} of {progress.total} messages"
            if name in pages and name not in published:
                line += f", too little to be shown (less than {_translation.PUBLISHED_SHARE:.0%})"
            click.echo(line)
            for kind, texts in (("fuzzy", progress.fuzzy), ("missing", progress.missing)):
                for text in texts:
                    click.echo(f"  {kind}: {textwrap.shorten(text, 90)}")
    if check and changed:
        raise click.ClickException(
            "English pages changed. Run `make gettext` and commit book/locale: what is not "
            "translated yet will be shown in English. You need not know the language."
        )


def _forget_other_ways(root: Path) -> None:
    """Remove what was built in another way: with other extensions, styles, settings or packages.

    Sphinx makes a page again when its text changes, and not when what it is made by does.
    """
    digest = hashlib.sha256()
    ways = [root / "_config.yml", root / "_toc.yml", root / "requirements.txt"]
    for folder in ("_ext", "_static"):
        ways += sorted(path for path in (root / "book" / folder).rglob("*") if path.is_file())
    for path in ways:
        if "__pycache__" not in path.parts and path.exists():
            digest.update(path.relative_to(root).as_posix().encode() + b"\0")
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    made = root / "_build" / "made-by.txt"
    if not made.exists() or made.read_text(encoding="utf-8") != digest.hexdigest():
        for folder in ("html", ".doctrees"):
            shutil.rmtree(root / "_build" / folder, ignore_errors=True)
        with atomic_write(made) as file:
            file.write(digest.hexdigest())


@main.command()
@click.pass_obj
def book(root: Path) -> None:
    """Build the book and its translated pages into _build/html; a warning is an error."""
    _forget_other_ways(root)
    run = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    result = subprocess.run([*run, "build", str(root), "-W", "-n", "--keep-going"], check=False)
    if result.returncode:
        # The next build would skip a page that gave a warning, and pass: forget what was read.
        shutil.rmtree(root / "_build" / ".doctrees", ignore_errors=True)
        raise click.ClickException("the book has errors or warnings, listed above")
    for language in _translation.languages(root):
        try:
            pages = _translation.build_edition(root, language)
        except ValueError as error:
            raise click.ClickException(str(error)) from error
        click.echo(f"{language.name}: {', '.join(pages) or 'no page is translated far enough'}")
    click.echo(f"The book: {(root / '_build' / 'html' / 'index.html').resolve()}")


@main.command()
@click.pass_obj
def pdf(root: Path) -> None:
    """Make one PDF of the whole book, _build/pdf/gpt-piece-by-piece.pdf (some minutes)."""
    settings = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    target = root / "_build" / "pdf" / _pdf.NAME
    try:
        page = _pdf.build_document(root, target.parent / "work")
        click.echo("printing ...")
        _pdf.print_document(page, target, settings["title"], settings["author"])
    except RuntimeError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"The PDF: {target.resolve()}")


@main.command()
@click.option("--port", default=0, help="The port to serve on (default: one that is free).")
@click.pass_obj
def serve(root: Path, port: int) -> None:
    """Serve the built book on this machine and open it, until Ctrl-C."""
    pages = root / "_build" / "html"
    if not (pages / "index.html").is_file():
        raise click.ClickException(f"{pages} holds no book: run `make book` first")
    handler = partial(SimpleHTTPRequestHandler, directory=str(pages))
    with ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        address = f"http://127.0.0.1:{server.server_port}/"
        click.echo(f"{address} (Ctrl-C stops)")
        webbrowser.open(address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            click.echo("stopped")


if __name__ == "__main__":
    main()
