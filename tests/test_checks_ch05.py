"""Chapter 5: wrong answers that are no known mistake fail."""

import pytest
import torch
from judging import evaluate_at_seeds
from torch import nn

from course_pkg.checks.ch05 import _BALANCE, _LOSSES


def uniform_with_the_right_std(model):
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            nn.init.uniform_(parameter, -0.0346, 0.0346)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)


def untied_copy(model):
    model.output_head = nn.Linear(*reversed(model.token_embedding.weight.shape), bias=False)


def embed_without_gradients(ids, token_table, position_table):
    return (token_table[ids] + position_table[: ids.shape[1]]).detach()


def reads_one_token_too_few_when_full(model, ids, max_new_tokens, context_length):
    for _ in range(max_new_tokens):
        read = ids if ids.shape[1] < context_length else ids[:, 1 - context_length :]
        ids = torch.cat([ids, model(read)[:, -1].argmax(dim=-1, keepdim=True)], dim=1)
    return ids


WRONG = [
    ("05.embed", lambda ids, token_table, position_table: None),
    ("05.embed", lambda ids, token_table, position_table: token_table[ids].mean(dim=1)),
    ("05.embed", embed_without_gradients),
    ("05.parameter_count", lambda *sizes: 124_439_808),
    ("05.first_loss", 6.93),
    ("05.first_loss", {}),
    ("05.first_loss", dict.fromkeys(_LOSSES)),
    ("05.first_loss", {**_LOSSES, "thousand": "6.91 nats"}),
    *[("05.first_loss", {**_LOSSES, name: loss + 0.02}) for name, loss in _LOSSES.items()],
    ("05.tie_weights", untied_copy),
    ("05.tie_weights", lambda model: None),
    ("05.initialise", uniform_with_the_right_std),
    ("05.initialise", lambda model: None),
    ("05.continue_greedily", lambda model, ids, max_new_tokens, context_length: ids),
    ("05.continue_greedily", reads_one_token_too_few_when_full),
    ("05.repair_forward", lambda model, ids: model(ids).roll(1, dims=1)),
    ("05.repair_forward", lambda model, ids: model(ids).detach()),
    ("05.balance", 348),
    *[("05.balance", {**_BALANCE, name: width + 1}) for name, width in _BALANCE.items()],
]


@pytest.mark.parametrize(
    ("exercise_id", "answer"),
    [pytest.param(*pair, id=f"{pair[0]}-{number}") for number, pair in enumerate(WRONG)],
)
def test_wrong_answers_fail(exercise_id, answer):
    for report in evaluate_at_seeds(exercise_id, answer):
        assert report.status == "failed"
