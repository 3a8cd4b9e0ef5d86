"""Chapter 5: right answers by other routes."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from course_pkg import GPT, GPTConfig, TransformerBlock

# On its first use PyTorch loads what it needs for this, which takes seconds.
nn.Embedding(1, 1, device="meta")


def embed_with_modules(ids, token_table, position_table):
    tokens = F.embedding(ids, token_table)
    return tokens + F.embedding(torch.arange(ids.shape[1]).expand_as(ids), position_table)


def embed_one_hot(ids, token_table, position_table):
    hot = F.one_hot(ids, len(token_table)).to(token_table.dtype)
    return hot @ token_table + position_table.narrow(0, 0, ids.shape[1])


def embed_in_a_loop(ids, token_table, position_table):
    rows = [
        torch.stack([token_table[i] + position_table[t] for t, i in enumerate(row.tolist())])
        for row in ids
    ]
    return torch.stack(rows).double()


def embed_with_einsum(ids, token_table, position_table):
    tokens = F.one_hot(ids, token_table.shape[0]).to(token_table)
    places = torch.eye(ids.shape[1], position_table.shape[0]).to(position_table)
    return torch.einsum("btv,vd->btd", tokens, token_table) + torch.einsum(
        "tc,cd->td", places, position_table
    )


def count_by_building(vocab_size, context_length, d_model, num_layers, tie_weights):
    with torch.device("meta"):  # shapes without memory
        block = TransformerBlock(GPTConfig(d_model=d_model, num_heads=1))
        tables = nn.Embedding(vocab_size, d_model), nn.Embedding(context_length, d_model)
        head = nn.Linear(d_model, vocab_size, bias=False)
        parts = [*tables, *num_layers * [block], nn.LayerNorm(d_model)]
    parts += [] if tie_weights else [head]
    return sum(parameter.numel() for part in parts for parameter in part.parameters())


def count_by_formula(vocab_size, context_length, d_model, num_layers, tie_weights):
    block = 12 * d_model**2 + 13 * d_model
    heads = 1 if tie_weights else 2
    return (heads * vocab_size + context_length + 2) * d_model + num_layers * block


def count_by_shapes(vocab_size, context_length, d_model, num_layers, tie_weights):
    def linear(n_in, n_out):
        return [(n_out, n_in), (n_out,)]

    norm = [(d_model,), (d_model,)]
    block = 4 * linear(d_model, d_model) + 2 * norm
    block += linear(d_model, 4 * d_model) + linear(4 * d_model, d_model)
    shapes = [(vocab_size, d_model), (context_length, d_model), *norm, *num_layers * block]
    if not tie_weights:
        shapes.append((vocab_size, d_model))
    return np.int64(sum(np.prod(shape) for shape in shapes))


def losses_from_logits():
    def loss(num_tokens):
        return F.cross_entropy(torch.zeros(1, num_tokens), torch.tensor([0]))

    nothing = loss(50257)
    return {
        "loss": nothing,
        "twice": loss(2 * 50257),
        "thousand": loss(1000),
        "half_known": torch.stack([nothing, torch.tensor(0.0)]).mean(),
    }


def losses_from_probabilities():
    p = np.array([1 / 50257, 0.5 / 50257, 1e-3])
    first, twice, thousand = -np.log(p)
    return {
        "half_known": -np.log(p[0] * 1.0) * np.float64(0.5),
        "thousand": thousand,
        "twice": twice,
        "loss": first,
    }


def tie_by_name(model):
    setattr(model.output_head, "weight", getattr(model.token_embedding, "weight"))  # noqa: B009, B010


def tie_by_registering(model):
    del model.output_head.weight
    model.output_head.register_parameter("weight", model.token_embedding.weight)


def tie_by_a_new_head(model):
    vocab_size, d_model = model.token_embedding.weight.shape
    head = nn.Linear(d_model, vocab_size, bias=False, device="meta")
    head.weight = model.token_embedding.weight
    model.output_head = head


def tie_by_values_first(model):
    model.output_head.weight.data = model.token_embedding.weight.data.clone()
    model.token_embedding.weight = model.output_head.weight
    return model


def initialise_by_module(model):
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Embedding)):
            module.weight.data = 0.02 * torch.randn(module.weight.shape)
            if getattr(module, "bias", None) is not None:
                module.bias.data.zero_()
    if model.config.tie_weights:
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


def initialise_in_reverse(model):
    small = 0.02 / math.sqrt(2 * model.config.num_layers)
    for name, parameter in reversed(list(model.named_parameters())):
        if name.endswith((".scale", ".shift")):
            nn.init.constant_(parameter, float(name.endswith(".scale")))
        elif parameter.dim() < 2:
            nn.init.constant_(parameter, 0.0)
        else:
            ends = "out_proj" in name or name.endswith("layers.2.weight")
            nn.init.trunc_normal_(parameter, std=small if ends else 0.02)


def initialise_from_a_fresh_model(model):
    model.load_state_dict(GPT(model.config).state_dict())


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


def continue_into_a_buffer(model, ids, max_new_tokens, context_length):
    B, T = ids.shape
    text = torch.zeros(B, T + max_new_tokens, dtype=ids.dtype)
    text[:, :T] = ids
    for end in range(T, T + max_new_tokens):
        logits = model(text[:, max(0, end - context_length) : end])
        text[:, end] = logits.log_softmax(-1)[:, -1, :].argmax(-1)
    return text


def forward_as_the_model(model, ids):
    return model(ids)


def forward_in_float64(model, ids):
    model = model.double()
    x = model.token_embedding.weight[ids] + model.position_embedding.weight[: ids.shape[1]]
    return model.output_head(model.final_norm(nn.Sequential(*model.blocks)(x)))


def forward_by_hand(model, ids):
    x = model.token_embedding(ids)
    x = x + model.position_embedding(torch.arange(ids.shape[-1]).expand(ids.shape[0], -1))
    for block in model.blocks:
        x = x + block.attention(block.norm1(x))
        x = x + block.feed_forward(block.norm2(x))
    return model.final_norm(x) @ model.output_head.weight.T


def widths_by_building():
    def blocks_outweigh(d_model, num_layers, num_tables):
        block = count_by_formula(0, 0, d_model, 1, True) - 2 * d_model
        return num_layers * block > num_tables * 50257 * d_model

    models = {"12 layers": (12, 1), "24 layers": (24, 1), "48 layers": (48, 1), "untied": (12, 2)}
    return {
        name: next(d for d in range(1, 2000) if blocks_outweigh(d, *sizes))
        for name, sizes in models.items()
    }


RIGHT = {
    "05.embed": {
        "functional": embed_with_modules,
        "one-hot product": embed_one_hot,
        "loop, float64": embed_in_a_loop,
        "einsum": embed_with_einsum,
    },
    "05.parameter_count": {
        "builds the model": count_by_building,
        "one formula": count_by_formula,
        "list of shapes": count_by_shapes,
    },
    "05.first_loss": {
        "rounded": {"loss": 10.82, "twice": 11.52, "thousand": 6.91, "half_known": 5.41},
        "cross-entropy of zeros": losses_from_logits,
        "numpy": losses_from_probabilities,
    },
    "05.tie_weights": {
        "by name": tie_by_name,
        "registered": tie_by_registering,
        "a new head": tie_by_a_new_head,
        "values first": tie_by_values_first,
    },
    "05.initialise": {
        "by module": initialise_by_module,
        "without gradients": initialise_without_gradients,
        "in reverse": initialise_in_reverse,
        "from a fresh model": initialise_from_a_fresh_model,
    },
    "05.continue_greedily": {
        "lists": continue_with_lists,
        "recursion": continue_by_recursion,
        "buffer": continue_into_a_buffer,
    },
    "05.repair_forward": {
        "the model itself": forward_as_the_model,
        "float64": forward_in_float64,
        "by hand": forward_by_hand,
    },
    "05.balance": {
        "written down": {"12 layers": 348, "24 layers": 174, "48 layers": 87, "untied": 697},
        "floats": {"untied": 697.0, "48 layers": 87.0, "24 layers": 174.0, "12 layers": 348.0},
        "counted": widths_by_building,
    },
}
