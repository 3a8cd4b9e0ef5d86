"""BPE training and encoding beside HuggingFace tokenizers and tiktoken, in CPU seconds.

The alternatives take turns, so that a machine that changes its speed changes it for all of them.
"""

import statistics
import time
from collections.abc import Callable

import click
import tokenizers

from course_pkg import BPETokenizer, load_corpus


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU seconds of the whole process, other threads included."""
    start = time.process_time()
    work()
    return time.process_time() - start


def train_theirs(text: str, vocab_size: int) -> tokenizers.Tokenizer:
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE())
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size,
        show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )
    theirs.train_from_iterator([text], trainer)
    return theirs


@click.command()
@click.option("--corpus", default="shakespeare", show_default=True)
@click.option("--vocab-size", default=4096, show_default=True)
@click.option("--rounds", default=5, show_default=True)
def main(corpus: str, vocab_size: int, rounds: int) -> None:
    text = "".join(load_corpus(corpus).documents)
    megabytes = len(text.encode()) / 1e6
    ours, theirs = BPETokenizer.train(text, vocab_size), train_theirs(text, vocab_size)
    fast = ours.to_tiktoken()

    def encode_cold() -> None:
        BPETokenizer(ours.vocab, ours.merges).encode_ordinary(text)

    jobs = {
        "train: course_pkg": lambda: BPETokenizer.train(text, vocab_size),
        "train: tokenizers": lambda: train_theirs(text, vocab_size),
        "encode: course_pkg, warm": lambda: ours.encode_ordinary(text),
        "encode: course_pkg, cold": encode_cold,
        "encode: tokenizers": lambda: theirs.encode(text),
        "encode: tiktoken": lambda: fast.encode_ordinary(text),
    }
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, work in jobs.items():
            seconds[name].append(cpu_seconds(work))
    base = {"train": "train: tokenizers", "encode": "encode: tiktoken"}
    click.echo(f"{corpus}, {megabytes:.2f} MB, vocabulary {vocab_size}, {rounds} rounds")
    click.echo(f"{'':<26} {'median s':>9} {'least':>7} {'most':>7} {'MB/s':>7} {'ratio':>7}")
    for name, values in seconds.items():
        median = statistics.median(values)
        ratio = median / statistics.median(seconds[base[name.split(":")[0]]])
        click.echo(
            f"{name:<26} {median:9.3f} {min(values):7.3f} {max(values):7.3f} "
            f"{megabytes / median:7.1f} {ratio:7.2f}"
        )


if __name__ == "__main__":
    main()
