"""How far each library's recipe comes in one minute and in three, on two threads.

All train a model of the same size (four layers of 128 features) on the same tokens of the same
text, and are scored in bits per byte of whole stories or speeches that they have not seen.

``time`` measures the seconds of a step of each recipe, taking turns; every budget is then that
many steps, so the runs themselves do not depend on what else the machine does. ``search`` tries
learning rates, and for ours a few settings more, on the validation split with one seed: all of
them for a minute, and the best of them for three.
``compare`` trains the best of each with three seeds and scores them on the test split, which
nothing was chosen by; of the stories, the first of three minutes each writes some for ``judge.py``
to read. Every run that is done is kept in the file at once: a second call goes on.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import itertools
import json
import math
import multiprocessing
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import common
import peers
import torch

from course_pkg import (
    END_OF_TEXT,
    GPT,
    BPETokenizer,
    GPTConfig,
    TokenWindows,
    Trainer,
    TrainingConfig,
    bits_per_byte,
    cross_entropy,
    encode_documents,
    epoch_batches,
    learning_rate_at,
    load_corpus,
    next_token_probabilities,
    random_batches,
)
from course_pkg.files import atomic_write

FILE = Path(__file__).parent.parent / "book" / "data" / "recipe.json"
VOCAB_SIZES = {"stories": 2048, "shakespeare": 512}
BUDGETS = (60, 180)
SEEDS = (0, 1, 2)
STORIES = 100  # that a trained model writes for the judge
TOLD = Path(__file__).parent.parent / "_build" / "bench" / "told"


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A way to train, with the learning rates to try; the first is its authors' own."""

    library: str
    learning_rates: tuple[float, ...]
    context_length: int = 256
    batch_size: int = 4
    optimizer: str = "adamw"
    min_lr_over_peak: float = 0.02
    warmup: float = 1 / 15  # of all steps
    weight_decay: float = 0.1
    timed_as: str | None = None  # a recipe whose step does the same work


def _muon(
    batch_size: int, context_length: int, learning_rates: tuple[float, ...], **settings: Any
) -> Recipe:
    return Recipe(
        "course_pkg",
        learning_rates,
        context_length,
        batch_size,
        optimizer="muon",
        min_lr_over_peak=0.0,
        **settings,
    )


RECIPES = {
    # Its first chapters on training: a constant rate, dropout 0.1, no clipping.
    "LLMs-from-scratch": Recipe("LLMs-from-scratch", (4e-4, 1e-3, 2e-3, 4e-3), batch_size=2),
    # Its settings for a CPU, with the schedule fitted to the budget: 12 windows of 64 tokens.
    "nanoGPT": Recipe(
        "nanoGPT",
        (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2),
        context_length=64,
        batch_size=12,
        min_lr_over_peak=0.1,
        warmup=1 / 20,
    ),
    "AdamW, 4 windows of 256": Recipe("course_pkg", (3e-3, 6e-3)),
    "Muon, 8 windows of 256": _muon(8, 256, (1.2e-2,)),
    "Muon, 16 windows of 128": _muon(16, 128, (8e-3, 1.2e-2, 1.8e-2)),
    "Muon, 24 windows of 64": _muon(24, 64, (1.2e-2, 2.4e-2)),
    "Muon, 16 windows of 128, decay 0.3": _muon(
        16, 128, (1.2e-2,), weight_decay=0.3, timed_as="Muon, 16 windows of 128"
    ),
    "Muon, 16 windows of 128, decay 1": _muon(
        16, 128, (1.2e-2,), weight_decay=1.0, timed_as="Muon, 16 windows of 128"
    ),
    "Muon, 24 windows of 64, decay 0.3": _muon(
        24, 64, (1.2e-2,), weight_decay=0.3, timed_as="Muon, 24 windows of 64"
    ),
}

# Three minutes read Shakespeare more than six times, and what is read often is learned by heart. So
# ours tries more weight decay there; the others their best rate of one minute and the next lower.
LONGER_ON_SHAKESPEARE = (
    ("Muon, 24 windows of 64", 1.2e-2),
    ("Muon, 24 windows of 64, decay 0.3", 1.2e-2),
    ("Muon, 16 windows of 128", 1.2e-2),
    ("Muon, 16 windows of 128, decay 0.3", 1.2e-2),
    ("Muon, 16 windows of 128, decay 1", 1.2e-2),
    ("nanoGPT", 4e-3),
    ("nanoGPT", 2e-3),
    ("LLMs-from-scratch", 2e-3),
    ("LLMs-from-scratch", 1e-3),
)


@dataclasses.dataclass(frozen=True)
class Task:
    """A text as ids, in three splits of whole documents."""

    tokenizer: BPETokenizer
    ids: dict[str, torch.Tensor]
    num_bytes: dict[str, int]

    @classmethod
    @functools.cache
    def of(cls, corpus: str) -> "Task":
        rest, test = load_corpus(corpus).split(0.1)
        train, validation = rest.split(0.1)
        tokenizer = BPETokenizer.train(train.documents, VOCAB_SIZES[corpus], [END_OF_TEXT])
        splits = {"train": train, "validation": validation, "test": test}
        return cls(
            tokenizer,
            {name: encode_documents(split.documents, tokenizer) for name, split in splits.items()},
            {name: split.num_bytes for name, split in splits.items()},
        )


class Run:
    """A training run: ``step`` does one update of ``model``."""

    def __init__(
        self, recipe: Recipe, task: Task, steps: int, learning_rate: float, seed: int
    ) -> None:
        torch.manual_seed(seed)
        shape = GPTConfig(
            vocab_size=task.tokenizer.vocab_size,
            context_length=recipe.context_length,
            d_model=128,
            num_heads=4,
            num_layers=4,
            dropout=0.0,
            exact_gelu=True,
        )
        self.config = TrainingConfig(
            max_steps=steps,
            batch_size=recipe.batch_size,
            learning_rate=learning_rate,
            min_lr=learning_rate * recipe.min_lr_over_peak,
            warmup_steps=int(steps * recipe.warmup),
            optimizer=recipe.optimizer,
            weight_decay=recipe.weight_decay,
            seed=seed,
        )
        if recipe.library == "course_pkg":
            splits = task.ids["train"], task.ids["validation"]
            trainer = Trainer(GPT(shape), *splits, self.config, on_log=lambda record: None)
            self.model, self.step = trainer.model, trainer.step
            return
        generator = torch.Generator().manual_seed(seed)
        self.batches = random_batches(
            task.ids["train"], recipe.batch_size, recipe.context_length, generator
        )
        self.step_number = 0
        if recipe.library == "nanoGPT":
            self.model = peers.nanogpt(shape)
            self.optimizer = torch.optim.AdamW(
                self.model.parameters(), lr=learning_rate, betas=(0.9, 0.99), weight_decay=0.1
            )
            self.step = self.scheduled_step
        else:
            self.model = peers.llms_from_scratch(shape, dropout=0.1)
            self.optimizer = torch.optim.AdamW(
                self.model.parameters(), lr=learning_rate, weight_decay=0.1
            )
            self.step = self.plain_step

    def plain_step(self) -> None:
        self.model.train()
        inputs, targets = next(self.batches)
        self.optimizer.zero_grad()
        cross_entropy(self.model(inputs), targets).backward()
        self.optimizer.step()

    def scheduled_step(self) -> None:
        self.model.train()
        self.step_number += 1
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(self.step_number, self.config)
        inputs, targets = next(self.batches)
        cross_entropy(self.model(inputs), targets).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


@torch.no_grad()
def score(model: torch.nn.Module, recipe: Recipe, task: Task, split: str) -> float:
    """Bits per byte of a whole split, in windows as long as those of the training."""
    model.eval()
    ids = task.ids[split]
    total = count = 0.0
    for inputs, targets in epoch_batches(TokenWindows(ids, recipe.context_length), batch_size=16):
        total += cross_entropy(model(inputs), targets, reduction="sum").item()
        count += targets.numel()
    return bits_per_byte(total / count, len(ids), task.num_bytes[split])


@torch.no_grad()
def tell(
    model: torch.nn.Module, context_length: int, tokenizer: BPETokenizer, max_tokens: int = 320
) -> list[str]:
    """Stories from their beginning to the end-of-text token, or as far as they come.

    Temperature 0.8 and top-p 0.95, the last ``context_length`` tokens read anew for each.
    """
    model.eval()
    end = tokenizer.end_of_text_id
    generator = torch.Generator().manual_seed(0)
    ids = torch.full((STORIES, 1), end)
    for _ in range(max_tokens):
        logits = model(ids[:, -context_length:])[:, -1]  # (B, T) -> (B, V)
        probabilities = next_token_probabilities(logits, temperature=0.8, top_p=0.95)
        ids = torch.cat([ids, torch.multinomial(probabilities, 1, generator=generator)], dim=1)
        if (ids[:, 1:] == end).any(dim=1).all():
            break
    stories = []
    for row in ids[:, 1:].tolist():
        length = row.index(end) + 1 if end in row else len(row)
        stories.append(tokenizer.decode(row[:length]))
    return stories


def seconds_per_step(corpus: str, rounds: int = 7, steps: int = 10) -> dict[str, float]:
    """Of each recipe, in turns, on PyTorch's own number of threads."""
    task = Task.of(corpus)
    runs = {
        name: Run(recipe, task, 1000, recipe.learning_rates[0], 0)
        for name, recipe in RECIPES.items()
        if recipe.timed_as is None
    }

    def work(run: Run) -> None:
        for _ in range(steps):
            run.step()

    jobs = {name: functools.partial(work, run) for name, run in runs.items()}
    seconds = common.take_turns(jobs, rounds)
    return {name: statistics.median(values) / steps for name, values in seconds.items()}


def train_and_score(entry: dict[str, Any]) -> dict[str, Any]:
    """One run, in a process and a thread of its own."""
    torch.set_num_threads(1)
    recipe, task = RECIPES[entry["recipe"]], Task.of(entry["corpus"])
    run = Run(recipe, task, entry["steps"], entry["learning_rate"], entry["seed"])
    with contextlib.suppress(FloatingPointError):  # too high a rate: what it has got to is scored
        for _ in range(entry["steps"]):
            run.step()
    bits = score(run.model, recipe, task, entry["split"])
    last = {"corpus": "stories", "split": "test", "budget": BUDGETS[-1], "seed": SEEDS[0]}
    if last.items() <= entry.items():
        stories = tell(run.model, recipe.context_length, task.tokenizer)
        TOLD.mkdir(parents=True, exist_ok=True)
        with atomic_write(TOLD / f"{recipe.library}.json") as file:
            json.dump(stories, file, indent=1)
    return entry | {"bits_per_byte": round(bits, 4) if math.isfinite(bits) else None}


# What is kept


def read(path: Path) -> dict[str, Any]:
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    return {"seconds_per_step": {}, "runs": []}


def write(path: Path, results: dict[str, Any]) -> None:
    with atomic_write(path) as file:
        json.dump(results, file, indent=1)
        file.write("\n")


def key(entry: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(entry[name] for name in sorted(entry) if name != "bits_per_byte")


def entry_of(
    results: dict[str, Any],
    corpus: str,
    recipe: str,
    learning_rate: float,
    split: str,
    budget: int,
    seed: int,
) -> dict[str, Any]:
    seconds = results["seconds_per_step"][corpus][RECIPES[recipe].timed_as or recipe]
    return {
        "corpus": corpus,
        "recipe": recipe,
        "learning_rate": learning_rate,
        "split": split,
        "budget": budget,
        "seed": seed,
        "steps": round(budget / seconds),
    }


def work_off(path: Path, entries: list[dict[str, Any]], jobs: int) -> None:
    results = read(path)
    known = {key(entry) for entry in results["runs"]}
    waiting = [entry for entry in entries if key(entry) not in known]
    click.echo(f"{len(entries) - len(waiting)} of {len(entries)} runs are done already")
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context) as pool:
        futures = [pool.submit(train_and_score, entry) for entry in waiting]
        for number, future in enumerate(concurrent.futures.as_completed(futures), start=1):
            done = future.result()
            results["runs"].append(done)
            write(path, results)
            click.echo(f"{number}/{len(waiting)}  {json.dumps(done)}")


def ranking(results: dict[str, Any], corpus: str, budget: int) -> list[tuple[str, float]]:
    """The recipes and rates that were searched with this budget, the best first."""
    wanted = {"split": "validation", "corpus": corpus, "budget": budget}
    runs = [run for run in results["runs"] if wanted.items() <= run.items()]
    runs.sort(key=lambda run: run["bits_per_byte"] or math.inf)
    return [(run["recipe"], run["learning_rate"]) for run in runs]


def winners(results: dict[str, Any], corpus: str, budget: int) -> dict[str, tuple[str, float]]:
    """Library -> its best recipe and rate with this budget, or with a shorter one if none was."""
    best: dict[str, tuple[str, float]] = {}
    for length in sorted((each for each in BUDGETS if each <= budget), reverse=True):
        for name, rate in ranking(results, corpus, length):
            best.setdefault(RECIPES[name].library, (name, rate))
    return best


def searched(results: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for corpus, (name, recipe) in itertools.product(VOCAB_SIZES, RECIPES.items()):
        for rate in recipe.learning_rates if recipe.timed_as is None else ():
            yield entry_of(results, corpus, name, rate, "validation", BUDGETS[0], seed=0)


def searched_longer(results: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """On the stories the best rate of each recipe and the next lower ones, which longer runs like.

    Two of them for the others' recipes, one for ours; ours with AdamW is out of the race by then.
    """
    corpus = "stories"
    seen = set()
    for name, best in ranking(results, corpus, BUDGETS[0]):
        recipe = RECIPES[name]
        ours = recipe.library == "course_pkg"
        if name in seen or (ours and recipe.optimizer == "adamw"):
            continue
        seen.add(name)
        lower = [rate for rate in sorted(recipe.learning_rates, reverse=True) if rate <= best]
        for rate in lower[: 2 if ours else 3]:
            yield entry_of(results, corpus, name, rate, "validation", BUDGETS[1], seed=0)
    for name, rate in LONGER_ON_SHAKESPEARE:
        yield entry_of(results, "shakespeare", name, rate, "validation", BUDGETS[1], seed=0)


def compared(results: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for corpus, budget, seed in itertools.product(VOCAB_SIZES, BUDGETS, SEEDS):
        for name, rate in winners(results, corpus, budget).values():
            yield entry_of(results, corpus, name, rate, "test", budget, seed)


def of_winners(results: dict[str, Any]) -> list[dict[str, Any]]:
    """The runs without those on the test split whose recipe a longer search has replaced."""
    wanted = {key(entry) for entry in compared(results)}
    return [run for run in results["runs"] if run["split"] != "test" or key(run) in wanted]


def show(results: dict[str, Any]) -> None:
    for split, title in (
        ("validation", "The search: bits per byte of the validation split"),
        ("test", "The comparison: bits per byte of the test split"),
    ):
        table: dict[tuple[Any, ...], list[float]] = {}
        for run in results["runs"]:
            if run["split"] == split:
                row = (run["corpus"], run["budget"], run["recipe"], run["learning_rate"])
                table.setdefault((*row, run["steps"]), []).append(run["bits_per_byte"] or math.nan)
        rows = [
            [
                f"{corpus}, {budget} s: {name}",
                f"{rate:g}",
                f"{steps:,}",
                f"{statistics.mean(values):.3f}",
                f"{min(values):.3f}",
                f"{max(values):.3f}",
                str(len(values)),
            ]
            for (corpus, budget, name, rate, steps), values in sorted(table.items())
        ]
        columns = ["", "learning rate", "steps", "mean", "least", "most", "seeds"]
        common.show(title, columns, rows)


@click.group()
@click.option("--file", "path", type=click.Path(path_type=Path), default=FILE, show_default=True)
@click.pass_context
def main(context: click.Context, path: Path) -> None:
    """What one and three minutes of training give, ours and other recipes."""
    context.obj = path


@main.command("time")
@click.pass_obj
def time_steps(path: Path) -> None:
    """Measure the seconds of a step, on a machine that does nothing else."""
    results = read(path)
    results["machine"] = common.machine()
    results["seconds_per_step"] = {corpus: seconds_per_step(corpus) for corpus in VOCAB_SIZES}
    write(path, results)
    click.echo(json.dumps(results["seconds_per_step"], indent=1))


@main.command()
@click.option("--jobs", default=2, show_default=True, help="Runs at a time, one thread each.")
@click.pass_obj
def search(path: Path, jobs: int) -> None:
    """Try learning rates and settings on the validation split, for a minute, then for three."""
    for stage in (searched, searched_longer):
        work_off(path, list(stage(read(path))), jobs)
    show(read(path))


@main.command()
@click.option("--jobs", default=2, show_default=True, help="Runs at a time, one thread each.")
@click.pass_obj
def compare(path: Path, jobs: int) -> None:
    """Train the best of each library with three seeds and score them on the test split."""
    results = read(path)
    write(path, results | {"runs": of_winners(results)})
    work_off(path, list(compared(results)), jobs)
    show(read(path))


@main.command("show")
@click.pass_obj
def show_results(path: Path) -> None:
    """Print what has been measured."""
    show(read(path))


if __name__ == "__main__":
    main()
