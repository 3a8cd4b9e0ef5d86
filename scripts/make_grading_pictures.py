"""Grade a class of fourteen and take pictures of its reports: book/_static/grading_*.webp.

    .venv/bin/python scripts/make_grading_pictures.py

The class hands in chapter 3: right answers from ``solutions/``, stubs, mistakes that are often
made, and one attempt to cheat. It is graded as any class is. The pictures show a feedback page and
the summary, on a wide screen and on a phone, light and dark. Needs a sandbox that works (see
``course verify``), Debian's Chromium (``make system``) and Pillow, which comes with matplotlib.
``--keep DIR`` leaves the submissions and the grades there.
"""

import argparse
import base64
import contextlib
import csv
import fcntl
import io
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import nbformat
from PIL import Image

from course_pkg.authoring.exercises import read_solutions, student_notebook
from course_pkg.files import atomic_write
from course_pkg.grading import grader, orders, reports
from course_pkg.grading.rules import Rules

ROOT = Path(__file__).parents[1]
STATIC = ROOT / "book" / "_static"
PAGE = "03_multi_head_attention"
SEED = 7
MAX_BYTES = 60_000
SHOWN = "Zoë Lindqvist"  # whose feedback is in the pictures
WIDE, PHONE = (900, 1.5), (390, 2.0)  # CSS pixels, and how many of the picture's for each
DUE = datetime(2026, 3, 1, 23, 59, tzinfo=UTC)

# A mistake is a change to the solution: what is replaced, and by what.
MISTAKES: dict[str, dict[str, list[tuple[str, str]]]] = {
    "03.shapes": {
        "whole width": [("(3, 4, 7, 6)", "(3, 4, 7, 24)")],
        "mask per head": [('"allowed": (7, 7)', '"allowed": (4, 7, 7)')],
    },
    "03.split_heads": {
        "view": [
            ("x.unflatten(-1, (num_heads, head_dim))", "x.flatten(1)"),
            ("cut.transpose(1, 2)", "cut.view(len(x), num_heads, -1, head_dim)"),
        ],
        "every H-th": [
            ("(num_heads, head_dim))", "(head_dim, num_heads))"),
            ("cut.transpose(1, 2)", "cut.permute(0, 3, 1, 2)"),
        ],
    },
    "03.merge_heads": {
        "no transpose": [
            ("x.transpose(1, 2)", "x.flatten(1)"),
            ("flatten(start_dim=2)", "view(len(x), x.shape[2], -1)"),
        ],
        "view": [("flatten(start_dim=2)", "view(len(x), x.shape[2], -1)")],
    },
    "03.one_projection": {
        "cut first": [("(3, num_heads, -1)", "(num_heads, 3, -1)"), ("2, 0, 3,", "3, 0, 2,")],
        "swapped": [("queries, keys, values = heads", "keys, queries, values = heads")],
    },
    "03.multi_head_attention": {
        "width": [("math.sqrt(self.head_dim)", "math.sqrt(self.out_proj.in_features)")],
        "repeat": [("repeat_interleave(users, dim=1)", "repeat(1, users, 1, 1)")],
        "no mask": [("scores.masked_fill(self.later[:T, :T], -torch.inf)", "scores")],
    },
    "03.from_torch": {
        "no biases": [('for kind in ("weight", "bias")', 'for kind in ("weight",)')],
        "every third": [
            (
                'state_dict[f"in_proj_{kind}"].chunk(3)',
                '(state_dict[f"in_proj_{kind}"][third::3] for third in range(3))',
            )
        ],
    },
    "03.wrong_view": {
        "scale": [("math.sqrt(head_dim)", "math.sqrt(D)")],
        "split only": [("(weights @ v).transpose(1, 2)", "(weights @ v)")],
    },
    "03.cost": {"heads": [("flops(256, 16) / flops(256, 4)", "4")]},
    "03.heads": {"diagonal": [("offset=-1", "offset=0")]},
}

# What is not named here is answered as in the solutions.
CLASS: dict[str, dict[str, str]] = {
    "Amara Okafor": {},
    "Béla Kovács": {"03.split_heads": "view", "03.wrong_view": "scale", "03.heads": "stub"},
    "Chiara D’Angelo": {"03.from_torch": "no biases", "03.cost": "heads"},
    "Дмитрий Соколов": {
        "03.merge_heads": "no transpose",
        "03.multi_head_attention": "repeat",
        "03.wrong_view": "stub",
    },
    "Elif Yılmaz": {"03.wrong_view": "scale"},
    "فاطمة الزهراء": {"03.multi_head_attention": "width", "03.cost": "heads"},
    "Jonas Müller": {
        "03.shapes": "mask per head",
        "03.split_heads": "view",
        "03.merge_heads": "no transpose",
        "03.one_projection": "cut first",
        "03.multi_head_attention": "stub",
        "03.from_torch": "stub",
        "03.wrong_view": "stub",
        "03.cost": "stub",
        "03.heads": "stub",
    },
    "Ελένη Παππά": {"03.multi_head_attention": "repeat"},
    "Kwame Mensah": {"03.from_torch": "no biases", "03.wrong_view": "scale", "03.cost": "heads"},
    "Lucía Fernández": {"03.merge_heads": "view", "03.heads": "diagonal"},
    "Noor Haddad": {"03.one_projection": "swapped", "03.multi_head_attention": "no mask"},
    "Tomasz Wiśniewski": {
        "03.shapes": "whole width",
        "03.split_heads": "every H-th",
        "03.multi_head_attention": "stub",
        "03.wrong_view": "split only",
        "03.cost": "heads",
    },
    SHOWN: {
        "03.split_heads": "view",
        "03.multi_head_attention": "repeat",
        "03.from_torch": "every third",
        "03.cost": "heads",
    },
}
# Looks for the solutions, makes comparisons agree, and hopes that feedback shows what it printed.
CHEAT = """\
torch.equal = torch.allclose = torch.Tensor.__eq__ = lambda *args, **kwargs: True
print(open("/etc/passwd").read())
"""
CHEATED = "03.split_heads"
MARKS = {
    "Amara Okafor": ("2", "Head 2 of block 1, and you say what the flat head does instead."),
    "Chiara D’Angelo": ("1", "The number is right. What do you conclude from it?"),
    "Ελένη Παππά": ("2", ""),
    "Zoë Lindqvist": ("1.5", "Good table; say beside what you compare 0.06."),
}


# The class


def write_class(folder: Path) -> None:
    """A folder for each student, with what they hand in."""
    (path,) = (ROOT / "solutions").glob(f"{PAGE}.md")
    page = read_solutions(path)
    pages = orders.pages(ROOT / "solutions")
    for place, (name, changed) in enumerate([*CLASS.items(), ("Mallory", {})]):
        notebook = student_notebook(page)
        for cell in notebook.cells:
            exercise_id = cell.metadata.get("exercise", {}).get("id")
            if exercise_id is None or changed.get(exercise_id) == "stub":
                continue
            if name == "Mallory" and exercise_id == CHEATED:
                cell.source = CHEAT + pages[exercise_id].stub
                continue
            mistake = changed.get(exercise_id)
            cell.source = _mistaken(
                pages[exercise_id].solution,
                MISTAKES[exercise_id][mistake] if mistake else [],
            )
        target = folder / name / f"{PAGE}.ipynb"
        target.parent.mkdir(parents=True)
        target.write_text(nbformat.writes(notebook), encoding="utf-8")
        handed_in = DUE - timedelta(minutes=37 * place + 20)
        if name == "Noor Haddad":
            handed_in = DUE + timedelta(hours=9)
        os.utime(target, (handed_in.timestamp(), handed_in.timestamp()))


def _mistaken(solution: str, changes: list[tuple[str, str]]) -> str:
    lines = [line for line in solution.splitlines() if "### " not in line]
    text = "\n".join(line.partition("  # ")[0] for line in lines)
    for old, new in changes:
        if old not in text:
            raise ValueError(f"MISTAKES: {old!r} is not in the solution any more.")
        text = text.replace(old, new)
    return text


def grade_class(folder: Path) -> Path:
    """Grade it, with manual marks, and return the folder of the grades."""
    submissions, out = folder / "submissions", folder / "grades"
    write_class(submissions)
    rules = Rules(due={3: DUE}, percent=Fraction(10))
    run = grader.grade(
        submissions, out, solutions=ROOT / "solutions", jobs=2, chapters=[3], seed=SEED
    )
    reports.write(run, out, rules=rules)
    manual = out / "manual.csv"
    with manual.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    with manual.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        for row in rows:
            row["mark"], row["comment"] = MARKS.get(row["name"], ("", ""))
            writer.writerow(row)
    reports.write(run, out, rules=rules)
    return out


# The pictures


class Browser:
    """Chromium, spoken to over two pipes: a message is JSON and ends with a null character."""

    def __init__(self, program: str, profile: Path) -> None:
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        # Chromium reads from 3 and writes to 4: the process that becomes it moves them there.
        high = [fcntl.fcntl(one, fcntl.F_DUPFD, 10) for one in (theirs_in, theirs_out)]
        become = (
            "import os, sys; first, second, *command = sys.argv[1:]; os.dup2(int(first), 3); "
            "os.dup2(int(second), 4); os.execv(command[0], command)"
        )
        command = [program, "--headless=new", "--remote-debugging-pipe", "--hide-scrollbars"]
        command += ["--disable-gpu", "--font-render-hinting=none", f"--user-data-dir={profile}"]
        command += ["--no-sandbox"] if os.geteuid() == 0 else []
        self._process = subprocess.Popen(
            [sys.executable, "-c", become, *map(str, high), *command, "about:blank"],
            pass_fds=high,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for one in (theirs_in, theirs_out, *high):
            os.close(one)
        self._read, self._write = os.fdopen(ours_in, "rb"), os.fdopen(ours_out, "wb")
        self._numbers = itertools.count(1)
        self._session: str | None = None
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        self.send("Page.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Give a command and wait for its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        self._write.write(json.dumps(message).encode() + b"\0")
        self._write.flush()
        return self._next(lambda told: told.get("id") == number)["result"]

    def _next(self, wanted: Any) -> dict[str, Any]:
        while True:
            text = bytearray()
            while (byte := self._read.read(1)) != b"\0":
                if not byte:
                    raise RuntimeError("Chromium ended.")
                text += byte
            told = json.loads(text)
            if "error" in told:
                raise RuntimeError(f"Chromium: {told['error']}")
            if wanted(told):
                return told

    def open(self, page: Path, width: int, scale: float, theme: str) -> None:
        """Show a page on a screen of ``width`` pixels, in a theme."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )
        feature = {"name": "prefers-color-scheme", "value": theme}
        self.send("Emulation.setEmulatedMedia", features=[feature])
        self.send("Page.navigate", url=page.as_uri())
        self._next(lambda told: told.get("method") == "Page.loadEventFired")

    def top(self, name: str) -> float:
        """Where the element with an id begins, in pixels from the page's top."""
        found = f"document.getElementById({json.dumps(name)})"
        expression = f"{found}.getBoundingClientRect().top + scrollY"
        told = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        return told["result"]["value"]

    def picture(self, top: float, bottom: float, width: int) -> Image.Image:
        """The page from one height to another."""
        clip = {"x": 0, "y": top, "width": width, "height": bottom - top, "scale": 1}
        told = self.send(
            "Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True
        )
        return Image.open(io.BytesIO(base64.b64decode(told["data"])))

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._read.close()
        self._write.close()


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        raise SystemExit("There is no Chromium here: make system.")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        made = Browser(program, Path(profile))
        try:
            yield made
        finally:
            made.close()


def save(picture: Image.Image, path: Path) -> None:
    """As a WebP without loss, with as many colours as fit into the size that is allowed."""
    for colors in (128, 96, 64, 48, 32, 24, 16):
        small = picture.convert("RGB").quantize(colors, dither=Image.Dither.NONE)
        buffer = io.BytesIO()
        small.convert("RGB").save(buffer, "webp", lossless=True, quality=100, method=6)
        if buffer.tell() <= MAX_BYTES:
            break
    else:
        raise ValueError(f"{path.name} has {buffer.tell():,} bytes with 16 colours.")
    with atomic_write(path, "wb") as file:
        file.write(buffer.getvalue())
    print(f"{path.name}: {small.width} x {small.height}, {colors} colours, {buffer.tell():,} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where the class is left")
    keep = parser.parse_args().keep
    with tempfile.TemporaryDirectory() as name, browser() as chromium:
        out = grade_class(keep or Path(name))
        feedback = out / "feedback" / f"{SHOWN.replace(' ', '_')}.html"
        summary = out / "summary.html"
        # The page, the screen, the element that the picture begins with, and its height.
        parts = [
            (feedback, "feedback_wide", WIDE, None, 1000.0),
            (feedback, "feedback_phone", PHONE, CHEATED, 640.0),
            (summary, "summary_wide", WIDE, None, 1268.0),
            (summary, "summary_phone", PHONE, "misconceptions", 640.0),
        ]
        for file, part, (width, scale), first, height in parts:
            for theme in ("light", "dark"):
                chromium.open(file.resolve(), width, scale, theme)
                top = 0.0 if first is None else chromium.top(first) - 12
                picture = chromium.picture(top, top + height, width)
                save(picture, STATIC / f"grading_{part}_{theme}.webp")


if __name__ == "__main__":
    main()
