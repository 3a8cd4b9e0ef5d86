"""Make ``course_pkg/checks/ch06_runs.json``: the loss curves of the exercise 06.read_curves.

Seven small models are trained on the stories by one recipe: one as it should be, and six with one
thing wrong. The file holds the training loss of every step, each faulty run under a letter; which
letter has which fault is said by the check. It takes less than two minutes on one core::

    python scripts/make_ch06_runs.py
"""

import copy
import dataclasses
import json
import re
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_pkg.checks.ch06 import CURVE_FAULTS, CURVES_FILE
from course_pkg.config import GPTConfig, TrainingConfig
from course_pkg.data import encode_documents, load_corpus, random_batches
from course_pkg.files import atomic_write
from course_pkg.gpt import GPT
from course_pkg.tokenizer import END_OF_TEXT, BPETokenizer
from course_pkg.training import accumulate_gradients, learning_rate_at

MODEL = GPTConfig(
    vocab_size=1024, context_length=16, d_model=64, num_heads=4, num_layers=2, dropout=0.0
)
RECIPE = TrainingConfig(
    max_steps=240, batch_size=32, learning_rate=5e-3, min_lr=5e-4, warmup_steps=20, seed=6
)
SAVED, STOPPED = 20, 120  # one run goes on after STOPPED with the weights that it had after SAVED


def run(ids: Tensor, fault: str) -> list[float]:
    """The training loss of each step of a fresh model, with the fault of this name."""
    recipe = RECIPE
    if fault == "learning rate too low":
        recipe = dataclasses.replace(RECIPE, learning_rate=1e-4, min_lr=1e-5)
    torch.manual_seed(recipe.seed)
    model = GPT(MODEL)
    if fault == "initial weights too large":
        nn.init.normal_(model.token_embedding.weight)  # nn.Embedding's own start, spread 1
    if fault == "leak":
        for block in model.blocks:
            block.attention.forward = _without_mask(block.attention)
    trained = GPT(MODEL) if fault == "weights never updated" else model
    optimizer = trained.configure_optimizer(
        recipe.learning_rate, recipe.weight_decay, betas=(recipe.beta1, recipe.beta2)
    )
    generator = torch.Generator().manual_seed(recipe.seed)
    batches = random_batches(ids, recipe.batch_size, MODEL.context_length, generator)
    losses = []
    for step in range(1, recipe.max_steps + 1):
        inputs, targets = next(batches)
        if fault == "targets of other windows":
            targets = targets.roll(1, dims=0)
        loss, _ = accumulate_gradients(model, [(inputs, targets)])
        nn.utils.clip_grad_norm_(model.parameters(), recipe.grad_clip)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, recipe)
        optimizer.step()
        model.zero_grad()
        if step == SAVED:
            saved = copy.deepcopy(model.state_dict())
        if step == STOPPED and fault == "resumed from an older checkpoint":
            model.load_state_dict(saved)
        losses.append(round(loss, 3))
    return losses


def _without_mask(attention: nn.Module) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        projections = (attention.W_query, attention.W_key, attention.W_value)
        q, k, v = (attention._split_heads(W(x)) for W in projections)
        context = F.scaled_dot_product_attention(q, k, v)  # is_causal=True is missing
        return attention.out_proj(context.transpose(1, 2).flatten(2))

    return forward


def main() -> None:
    torch.set_num_threads(1)
    training, _ = load_corpus("stories").split()
    tokenizer = BPETokenizer.train(training.documents, MODEL.vocab_size, [END_OF_TEXT])
    ids = encode_documents(training.documents, tokenizer)
    p = torch.bincount(ids).double() / len(ids)
    entropy = -torch.special.xlogy(p, p).sum().item()
    content = {
        "vocab_size": MODEL.vocab_size,
        "frequency_loss": round(entropy, 3),
        "losses": {name: run(ids, fault) for name, fault in CURVE_FAULTS.items()},
    }
    text = json.dumps(content, indent=1)
    text = re.sub(r"\[[^]]*\]", lambda numbers: " ".join(numbers[0].split()), text)
    with atomic_write(CURVES_FILE) as file:
        file.write(text + "\n")


if __name__ == "__main__":
    main()
