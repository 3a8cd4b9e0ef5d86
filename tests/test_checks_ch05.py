"""Chapter 5: right answers pass by any route, and wrong ones that are no known mistake fail."""

import math

import pytest
import torch
from judging import evaluate_at_seeds
from torch import nn

from course_pkg import GPT, GPTConfig


def embed_with_modules(ids, token_table, position_table):
    tokens = nn.Embedding.from_pretrained(token_table)
    positions = nn.Embedding.from_pretrained(position_table)
    return tokens(ids) + positions(torch.arange(ids.shape[1]).expand_as(ids))


def embed_one_hot(ids, token_table, position_table):
    hot = torch.nn.functional.one_hot(ids, len(token_table)).to(token_table.dtype)
    return hot @ token_table + position_table.narrow(0, 0, ids.shape[1])


def embed_in_a_loop(ids, token_table, position_table):
    rows = [
        torch.stack([token_table[i] + position_table[t] for t, i in enumerate(row.tolist())])
        for row in ids
    ]
    return torch.stack(rows).double()


def count_by_building(vocab_size, context_length, d_model, num_layers, tie_weights):
    with torch.device("meta"):
        model = GPT(
            GPTConfig(
                vocab_size=vocab_size,
                context_length=context_length,
                d_model=d_model,
                num_heads=1,
                num_layers=num_layers,
                tie_weights=tie_weights,
            )
        )
    return sum(parameter.numel() for parameter in model.parameters())


def count_by_formula(vocab_size, context_length, d_model, num_layers, tie_weights):
    block = 12 * d_model**2 + 13 * d_model
    heads = 1 if tie_weights else 2
    return (heads * vocab_size + context_length + 2) * d_model + num_layers * block


def tie_by_name(model):
    setattr(model.output_head, "weight", getattr(model.token_embedding, "weight"))  # noqa: B009, B010


def tie_by_registering(model):
    del model.output_head.weight
    model.output_head.register_parameter("weight", model.token_embedding.weight)


def initialise_by_module(model):
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Embedding)):
            module.weight.data = 0.02 * torch.randn(module.weight.shape)
            if getattr(module, "bias", None) is not None:
                module.bias.data.zero_()
    model.output_head.weight = model.token_embedding.weight
    for block in model.blocks:
        for end in (block.attention.out_proj, block.feed_forward.layers[-1]):
            end.weight.data.mul_((2 * len(model.blocks)) ** -0.5)


def initialise_without_gradients(model):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                continue
            if parameter.ndim == 1:
                parameter.fill_(0)
            elif "out_proj" in name or "layers.2" in name:
                parameter.normal_(0, 0.02 / math.sqrt(2 * model.config.num_layers))
            else:
                parameter.normal_(0, 0.02)


def continue_with_lists(model, ids, max_new_tokens, context_length):
    texts = ids.tolist()
    for _ in range(max_new_tokens):
        for text in texts:
            logits = model(torch.tensor([text[-context_length:]]))[0, -1]
            text.append(int(logits.max(dim=0).indices))
    return torch.tensor(texts)


def continue_by_recursion(model, ids, max_new_tokens, context_length):
    if max_new_tokens == 0:
        return ids
    read = ids[:, max(0, ids.shape[1] - context_length) :]
    best = model(read).softmax(dim=-1)[:, -1].topk(1).indices
    return continue_by_recursion(
        model, torch.hstack([ids, best]), max_new_tokens - 1, context_length
    )


def forward_as_the_model(model, ids):
    return model(ids)


def forward_in_float64(model, ids):
    model = model.double()
    x = model.token_embedding.weight[ids] + model.position_embedding.weight[: ids.shape[1]]
    return model.output_head(model.final_norm(nn.Sequential(*model.blocks)(x)))


RIGHT = [
    ("05.embed", embed_with_modules),
    ("05.embed", embed_one_hot),
    ("05.embed", embed_in_a_loop),
    ("05.parameter_count", count_by_building),
    ("05.parameter_count", count_by_formula),
    ("05.first_loss", 10.82),
    ("05.first_loss", lambda: -math.log(1 / 50257)),
    ("05.tie_weights", tie_by_name),
    ("05.tie_weights", tie_by_registering),
    ("05.initialise", initialise_by_module),
    ("05.initialise", initialise_without_gradients),
    ("05.continue_greedily", continue_with_lists),
    ("05.continue_greedily", continue_by_recursion),
    ("05.repair_forward", forward_as_the_model),
    ("05.repair_forward", forward_in_float64),
    ("05.balance", 384),
]


def uniform_with_the_right_std(model):
    initialise_without_gradients(model)
    model.token_embedding.weight.data.add_(0.05)


def untied_copy(model):
    model.output_head = nn.Linear(*reversed(model.token_embedding.weight.shape), bias=False)


WRONG = [
    ("05.embed", lambda ids, token_table, position_table: None),
    ("05.embed", lambda ids, token_table, position_table: token_table[ids].mean(dim=1)),
    ("05.parameter_count", lambda *sizes: 124_439_808),
    ("05.first_loss", 6.93),
    ("05.tie_weights", untied_copy),
    ("05.tie_weights", lambda model: None),
    ("05.initialise", uniform_with_the_right_std),
    ("05.initialise", lambda model: None),
    ("05.continue_greedily", lambda model, ids, max_new_tokens, context_length: ids),
    ("05.repair_forward", lambda model, ids: model(ids).roll(1, dims=1)),
    ("05.balance", 348),
]


def named(pairs):
    return [
        pytest.param(exercise_id, answer, id=f"{exercise_id}-{number}")
        for number, (exercise_id, answer) in enumerate(pairs)
    ]


@pytest.mark.parametrize(("exercise_id", "answer"), named(RIGHT))
def test_right_by_another_route_passes(exercise_id, answer):
    for report in evaluate_at_seeds(exercise_id, answer):
        assert report.status == "passed", report.text()


@pytest.mark.parametrize(("exercise_id", "answer"), named(WRONG))
def test_wrong_answers_fail(exercise_id, answer):
    for report in evaluate_at_seeds(exercise_id, answer):
        assert report.status == "failed"
