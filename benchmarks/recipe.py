"""Which shape and recipe learns most of the stories in the same CPU time.

Each candidate is trained on one thread for as many steps as fit in the budget; its schedule ends
there. The whole validation split is then scored in bits per byte, which compares vocabularies of
different sizes. One seed each: differences below about 0.02 mean nothing.
"""

import time

import click
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
    load_corpus,
)

# vocab_size, d_model, num_layers, num_heads, batch_size, learning_rate
CANDIDATES = [
    (512, 128, 2, 4, 4, 4e-3),
    (1024, 128, 4, 4, 4, 3e-3),
    (2048, 128, 2, 4, 4, 4e-3),
    (2048, 128, 4, 4, 4, 3e-3),
    (2048, 128, 4, 4, 2, 3e-3),
    (2048, 192, 2, 6, 4, 3e-3),
    (4096, 128, 2, 4, 4, 4e-3),
]
CONTEXT_LENGTH = 256
TIMED_STEPS = 12


def trainer(
    model_config: GPTConfig,
    train_ids: torch.Tensor,
    validation_ids: torch.Tensor,
    batch_size: int,
    learning_rate: float,
    max_steps: int,
) -> Trainer:
    torch.manual_seed(0)
    recipe = TrainingConfig(
        max_steps=max_steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        min_lr=learning_rate / 50,
        warmup_steps=max_steps // 15,
    )
    return Trainer(GPT(model_config), train_ids, validation_ids, recipe)


def steps_in(budget: float, run: Trainer) -> int:
    run.step()  # the first step also sets things up
    start = time.process_time()
    for _ in range(TIMED_STEPS):
        run.step()
    return int(budget * TIMED_STEPS / (time.process_time() - start))


@torch.no_grad()
def validation_loss(model: GPT, ids: torch.Tensor) -> float:
    model.eval()
    total = windows = 0.0
    for inputs, targets in epoch_batches(TokenWindows(ids, CONTEXT_LENGTH), batch_size=16):
        total += cross_entropy(model(inputs), targets).item() * len(inputs)
        windows += len(inputs)
    return total / windows


@click.command()
@click.option("--cpu-seconds", default=110.0, show_default=True, help="For each candidate.")
def main(cpu_seconds: float) -> None:
    torch.set_num_threads(1)
    train, validation = load_corpus("stories").split()
    click.echo("vocab  width layers heads batch     lr  parameters  steps    tokens  bits per byte")
    for vocab_size, d_model, num_layers, num_heads, batch_size, learning_rate in CANDIDATES:
        tokenizer = BPETokenizer.train(train.documents, vocab_size, [END_OF_TEXT])
        train_ids = encode_documents(train.documents, tokenizer)
        validation_ids = encode_documents(validation.documents, tokenizer)
        config = GPTConfig(
            vocab_size=tokenizer.vocab_size,
            context_length=CONTEXT_LENGTH,
            d_model=d_model,
            num_heads=num_heads,
            num_layers=num_layers,
            dropout=0.0,
        )
        setting = (config, train_ids, validation_ids, batch_size, learning_rate)
        steps = steps_in(cpu_seconds, trainer(*setting, max_steps=1000))
        run = trainer(*setting, max_steps=steps)
        for _ in range(steps):
            run.step()
        loss = validation_loss(run.model, validation_ids)
        bits = bits_per_byte(loss, len(validation_ids), validation.num_bytes)
        click.echo(
            f"{vocab_size:5}  {d_model:5} {num_layers:6} {num_heads:5} {batch_size:5}  "
            f"{learning_rate:.0e}  {run.model.num_parameters():10,} {steps:6} "
            f"{run.history.rows[-1]['tokens']:9,}  {bits:.3f}"
        )


if __name__ == "__main__":
    main()
