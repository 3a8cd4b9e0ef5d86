"""Every benchmark of a few minutes, one after another: what ``make bench`` runs.

Each part's results are kept in ``performance.json`` as soon as it is done; ``performance.svg``
shows all the ratios. Give ``--only training`` to measure one part again and keep the others, and
``--full`` for more rounds, larger sizes and what must be compiled: about an hour.
"""

import importlib
import json
import time
from pathlib import Path
from typing import Any

import click

from course_pkg.files import atomic_write

# Modules of this folder. They are imported one by one in `main`, because a worker process that
# `bpe` spawns imports this file again, and is to be ready soon.
PARTS = ("imports", "bpe", "generation", "training", "ladder")
FOLDER = Path(__file__).parent.parent / "_build" / "bench"


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


@click.command()
@click.option("--full", is_flag=True, help="More rounds, larger sizes: about an hour.")
@click.option("--only", multiple=True, type=click.Choice(PARTS), help="These parts alone.")
@click.option(
    "--out", "folder", type=click.Path(path_type=Path), default=FOLDER, help="Where it is kept."
)
def main(full: bool, only: tuple[str, ...], folder: Path) -> None:
    """Measure ours beside the others on this machine."""
    import common

    from course_pkg.authoring import performance

    path = folder / "performance.json"
    results = read(path)
    for name in only or PARTS:
        click.secho(f"\n{name}", bold=True)
        start, part = time.perf_counter(), importlib.import_module(name)
        measured = part.measure(quick=not full)
        part.show(measured)
        measured |= {"machine": common.machine(), "full": full}
        measured["seconds_taken"] = round(time.perf_counter() - start, 1)
        results[name] = measured
        with atomic_write(path) as file:
            json.dump(results, file, indent=1)
            file.write("\n")
    with atomic_write(folder / "performance.svg") as file:
        file.write(performance.svg(results))
    click.echo(f"\nkept in {path}, with performance.svg beside it")


if __name__ == "__main__":
    main()
