"""Record ``course train --mine`` on a half-finished folder: book/_static/train_mine.svg.

    .venv/bin/python scripts/record_mine.py

The folder is made from ``solutions/``: some exercises with their solution, some with a mistake that
is often made, the rest with their stub. The program then runs on it as a learner would run it.
Only the times are left out of what it prints: they say more about the machine than about the run.
"""

import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

from course_pkg.authoring import formats
from course_pkg.authoring.exercises import read_solutions, student_notebook
from course_pkg.files import atomic_write

ROOT = Path(__file__).parents[1]
RECORDING = ROOT / "book" / "_static" / "train_mine.svg"
WIDTH = 100

DONE = (
    *("01.merge_pair", "01.encode_by_rank", "01.decode_bytes"),
    *("02.softmax", "02.causal_weights"),
    *("03.split_heads", "04.layer_norm", "04.gelu", "05.embed", "05.tie_weights"),
    *("06.shifted_cross_entropy", "06.clip"),
)
MISTAKEN = {
    "03.merge_heads": """
def merge_heads(x):
    B, H, T, Dh = x.shape
    return x.reshape(B, T, H * Dh)
""",
    "04.feed_forward": """
class MyFeedForward(nn.Module):
    def __init__(self, d_model, hidden=None):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(d_model, 4 * d_model), GELU())

    def forward(self, x):
        return self.layers(x)
""",
    "05.initialise": """
def initialise(model):
    for parameter in model.parameters():
        if parameter.ndim == 2:
            nn.init.normal_(parameter, std=0.02)
""",
}
_TIMES = re.compile(r"  [\d,]+ tokens/s  [\d:]+ left$")
TRAIN = "course train --out runs/mine --mine exercises --max-steps 200"
GENERATE = 'course generate runs/mine "Once upon a time" --mine exercises --seed 1'


def half_finished(folder: Path) -> None:
    """The six notebooks of exercises, some of them answered."""
    folder.mkdir()
    for path in sorted((ROOT / "solutions").glob("[0-9][0-9]_*.md")):
        page = read_solutions(path)
        text = formats.to_markdown(student_notebook(page))
        for exercise in page.exercises:
            (cell,) = (c for c in exercise.cells if formats.has_tag(c, "exercise"))
            answer = MISTAKEN.get(exercise.id, "").strip("\n")
            if exercise.id in DONE:
                answer = re.sub(
                    r"^ *### (BEGIN|END) SOLUTION\n", "", cell.source + "\n", flags=re.M
                )
            if answer:
                text = text.replace(exercise.stub.strip("\n"), answer.strip("\n"), 1)
        (folder / f"{page.stem}.md").write_text(text, encoding="utf-8")


def run(command: str, folder: Path, console: Console) -> None:
    """Run a command there and print it and what it says, as in a terminal."""
    console.print(Text(f"$ {command}", style="bold"))
    words = [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', command)][1:]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [sys.executable, "-m", "course_pkg.cli", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if ended.returncode:
        raise SystemExit(ended.stderr)
    for printed in ended.stdout.splitlines():
        line = _TIMES.sub("", printed)
        style = "green" if line.endswith("yours") or "  yours, " in line else ""
        style = "red" if line.endswith("ours (failing)") else style
        style = "dim" if line.endswith("ours (not started)") else style
        console.print(Text(line, style=style))
    console.print()


def main() -> None:
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    with tempfile.TemporaryDirectory() as folder:
        half_finished(Path(folder) / "exercises")
        run(TRAIN, Path(folder), console)
        run(GENERATE, Path(folder), console)
    svg = console.export_svg(title="some exercises done", unique_id="mine")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.S)  # nothing is fetched to show it
    svg = svg.replace("Fira Code, monospace", "monospace")
    RECORDING.parent.mkdir(exist_ok=True)
    with atomic_write(RECORDING) as file:
        file.write(svg.rstrip() + "\n")


if __name__ == "__main__":
    main()
