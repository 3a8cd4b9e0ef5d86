"""From a Markdown notebook, the source, to the executed ``.ipynb`` that is committed beside it."""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode
from traitlets import default

from course_pkg.authoring import exercises, formats
from course_pkg.files import atomic_write

CELL_TIMEOUT = 600  # seconds

_ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]{6,}")
_REMOTE = re.compile(
    r"<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)\s*=\s*[\"']?(?:https?:)?//"
    r"|@import\s+(?:url\()?[\"']?(?:https?:)?//",
    re.IGNORECASE,
)
_COMMANDS = ("cli.py", "learning.py", "doctor.py")
_IMPORTS_CHECKS = re.compile(
    r"course_pkg\.checks|from course_pkg import (?:\([^)]*|.*)\b(?:check|diagnose)\b"
)
_HOME_FOLDER = re.compile(r"(?:/home/|/Users/|/tmp/|/private/var/|[A-Za-z]:\\Users\\)\w")


def sources(root: Path) -> list[Path]:
    """Every Markdown page that is a notebook, in the order in which a reader meets them."""
    pages = sorted((root / "book").glob("*.md")) + sorted((root / "solutions").glob("*.md"))
    return [page for page in pages if formats.is_notebook(page)]


def build(path: Path) -> NotebookNode:
    """The notebook that a Markdown page stands for, not executed.

    A chapter's line ``<!-- exercises -->`` becomes the list of its exercises; a solutions page
    gets numbered headings.
    """
    if path.parent.name == "solutions":
        return exercises.solution_notebook(exercises.read_solutions(path))
    notebook = formats.read(path)
    for cell in notebook.cells:
        lines = cell.source.splitlines()
        if cell.cell_type == "markdown" and exercises.PLACEHOLDER in lines:
            page = exercises.read_solutions(path.parent.parent / "solutions" / path.name)
            lines[lines.index(exercises.PLACEHOLDER)] = exercises.chapter_list(page)
            cell.source = "\n".join(lines)
    return notebook


def inputs_digest(path: Path, notebook: NotebookNode) -> str:
    """A hash of all that decides what the notebook prints: its cells, the package, its data.

    It is on the safe side: a change anywhere in the package counts. What only other pages or the
    command line use does not: the checks count for the pages that import them, and a file of
    ``book/data`` for those that name it.
    """
    root = path.resolve().parent.parent
    package = root / "course_pkg"
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    left_out = {package / name for name in (*_COMMANDS, "authoring", "grading")}
    if not _IMPORTS_CHECKS.search(code):
        left_out.add(package / "checks")
    data = (f for f in sorted((root / "book" / "data").rglob("*")) if f.name in code)
    files = [
        file
        for file in [*sorted(package.rglob("*")), *data]
        if file.is_file()
        and "__pycache__" not in file.parts
        and (not left_out & {file, *file.parents} or file.name in ("figures.py", "shapes.py"))
    ]
    digest = hashlib.sha256(json.dumps(_content(notebook), sort_keys=True).encode())
    for file in [*files, root / "requirements.txt"]:
        digest.update(file.relative_to(root).as_posix().encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest() if file.exists() else b"-")
    return digest.hexdigest()


def _content(notebook: NotebookNode) -> list:
    kept = formats.CELL_METADATA
    return [
        [cell.cell_type, cell.source, {k: cell.metadata[k] for k in kept if k in cell.metadata}]
        for cell in notebook.cells
    ]


def difference(expected: NotebookNode, found: NotebookNode) -> str | None:
    """The first cell in which two notebooks differ (outputs aside), or None."""
    ours, theirs = _content(expected), _content(found)
    for index, (one, two) in enumerate(zip(ours, theirs, strict=False)):
        for what, left, right in zip(("type", "source", "metadata"), one, two, strict=True):
            if left != right:
                return f"cell {index}: its {what} is {_short(right)}, not {_short(left)}"
    if len(ours) != len(theirs):
        return f"{len(theirs)} cells, not {len(ours)}"
    return None


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


class _ThisPython(AsyncKernelManager):
    """Starts the Python that runs us as "python3", whatever kernels the user has installed."""

    @default("kernel_spec_manager")
    def _no_installed_kernels(self) -> KernelSpecManager:
        return KernelSpecManager(kernel_dirs=[])


def execute(notebook: NotebookNode, folder: Path, allow_errors: bool = False) -> None:
    """Run every cell in a fresh kernel and keep the outputs in a form that never varies.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell fails, is not tagged raises-exception, and
            ``allow_errors`` is not set.
    """
    with tempfile.TemporaryDirectory() as profile:
        client = NotebookClient(
            notebook,
            kernel_manager_class=_ThisPython,
            kernel_name="python3",
            extra_arguments=["--IPKernelApp.log_level=ERROR"],
            timeout=CELL_TIMEOUT,
            allow_errors=allow_errors,
            record_timing=False,
            store_widget_state=False,
            resources={"metadata": {"path": str(folder)}},
        )
        client.execute(env=_kernel_environment(folder.resolve().parent, profile))
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = list(_settled(cell.outputs))
    notebook.metadata = formats.new_notebook([]).metadata  # the kernel adds its version


def _kernel_environment(root: Path, profile: str) -> dict[str, str]:
    paths = [str(root), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "COURSE_PROGRESS": "0",
        "IPYTHONDIR": profile,
        "MPLBACKEND": "agg",
        "OMP_NUM_THREADS": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
    }


def _settled(outputs: list[NotebookNode]) -> Iterator[NotebookNode]:
    """Outputs with neighbouring streams joined and tracebacks cut to their last line.

    How a stream is split into messages is chance, and a traceback names folders.
    """
    stream: NotebookNode | None = None
    for output in outputs:
        if stream is not None and output.get("name") == stream.name:
            stream.text += output.text
            continue
        if stream is not None:
            yield stream
        stream = output if output.output_type == "stream" else None
        if output.output_type == "error":
            output.traceback = [f"{output.ename}: {output.evalue}"]
        if stream is None:
            yield output
    if stream is not None:
        yield stream


def problems(notebook: NotebookNode, machine_paths: tuple[str, ...] = ()) -> list[str]:
    """What a committed notebook must not have; empty when all is well."""
    found = []
    count = 0
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            continue
        count += 1
        if cell.execution_count != count:
            found.append(f"cell {index}: execution count {cell.execution_count}, not {count}")
        for output in cell.outputs:
            found += [f"cell {index}: {what}" for what in _faults(cell, output, machine_paths)]
    return found


def _faults(cell: NotebookNode, output: NotebookNode, machine_paths: tuple[str, ...]) -> list[str]:
    found = []
    data = output.get("data", {})
    if output.get("name") == "stderr":
        found.append(f"writes to stderr: {_short(output.text)}")
    if output.output_type == "error" and not formats.has_tag(cell, "raises-exception"):
        found.append(f"fails: {output.ename}: {output.evalue}")
    if any("widget" in kind for kind in data):
        found.append("shows a widget, which needs a network and a kernel")
    if any(kind.startswith("image/") for kind in data):
        alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
        if not alt.strip():
            found.append("shows an image but has no mystnb.image.alt")
    texts = [output.get("text", ""), output.get("evalue", "")]
    texts += [str(value) for kind, value in data.items() if not kind.startswith("image/png")]
    text = "\n".join(texts)
    for path in machine_paths:
        if re.search(re.escape(path) + r"(?![\w.-])", text):
            found.append(f"shows a folder of this machine: {path}")
    if match := _HOME_FOLDER.search(text):
        found.append(f"shows a folder of a machine: {match[0]}")
    if match := _ADDRESS.search(text):
        found.append(f"shows an object's address: {match[0]}")
    if match := _REMOTE.search(text):
        found.append(f"loads from a network: {match[0]}")
    return found


def machine_paths(root: Path) -> tuple[str, ...]:
    """The folders of this machine that an output could give away."""
    places = {str(place) for p in (root, Path.home()) for place in (p, p.resolve())}
    places.add(tempfile.gettempdir())
    return tuple(sorted(place for place in places if len(place) > 1))


def is_current(path: Path) -> bool:
    """Whether the ``.ipynb`` beside a page was made from what is there now."""
    target = path.with_suffix(".ipynb")
    if not target.exists():
        return False
    found = nbformat.read(target, as_version=4)
    expected = build(path)
    digest = found.metadata.get("course", {}).get("inputs")
    return digest == inputs_digest(path, expected) and difference(expected, found) is None


def make(path: Path) -> bool:
    """Execute a page and write its ``.ipynb``; returns whether the file changed.

    Raises:
        ValueError: an output holds what must not be committed; nothing is written then.
    """
    notebook = build(path)
    digest = inputs_digest(path, notebook)
    execute(notebook, path.parent)
    notebook.metadata["course"] = {"inputs": digest, "source": path.name}
    if wrong := problems(notebook, machine_paths(path.resolve().parent.parent)):
        raise ValueError(f"{path.name} is not written:\n  " + "\n  ".join(wrong))
    target = path.with_suffix(".ipynb")
    text = formats.to_ipynb(notebook)
    if target.exists() and target.read_text(encoding="utf-8") == text:
        return False
    with atomic_write(target) as file:
        file.write(text)
    return True
