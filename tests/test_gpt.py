import copy
import dataclasses
import inspect
import math

import pytest
import torch
import torch.nn.functional as F

from course_pkg.config import PRESETS, GPTConfig
from course_pkg.gpt import GPT

SMALL = GPTConfig(
    vocab_size=19, context_length=8, d_model=12, num_heads=3, num_layers=2, dropout=0.0
)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def small(dtype=torch.float64, **changes):
    """A model whose every parameter is away from its initial value, in eval mode."""
    model = GPT(dataclasses.replace(SMALL, **changes)).to(dtype).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def random_ids(batch=2, tokens=8, vocab_size=19):
    return torch.randint(vocab_size, (batch, tokens))


# Size


@pytest.mark.parametrize(
    "name, published",
    [
        ("gpt2-small", 124_439_808),
        ("gpt2-medium", 354_823_168),
        ("gpt2-large", 774_030_080),
        ("gpt2-xl", 1_557_611_200),
    ],
)
def test_parameter_counts_are_gpt2s(name, published):
    with torch.device("meta"):
        model = GPT(PRESETS[name].model)
    assert model.num_parameters() == published
    config = model.config
    tables = (config.vocab_size + config.context_length) * config.d_model
    assert model.num_parameters(non_embedding=True) == published - tables


@pytest.mark.parametrize("qkv_bias", [True, False])
@pytest.mark.parametrize("tie_weights", [True, False])
def test_parameter_counts_are_the_formula(qkv_bias, tie_weights):
    model = GPT(dataclasses.replace(SMALL, qkv_bias=qkv_bias, tie_weights=tie_weights))
    d, layers = 12, 2
    block = 12 * d * d + (10 + 3 * qkv_bias) * d  # weights; biases, scales and shifts
    body = layers * block + 2 * d
    head = 0 if tie_weights else 19 * d
    assert model.num_parameters(non_embedding=True) == body + head
    assert model.num_parameters() == body + head + (19 + 8) * d


# What it computes


def test_the_model_is_its_parts_in_order():
    model, ids = small(), random_ids()
    x = F.embedding(ids, model.token_embedding.weight) + model.position_embedding.weight[:8]
    for block in model.blocks:
        x = block(x)
    expected = F.linear(model.final_norm(x), model.output_head.weight)
    torch.testing.assert_close(model(ids), expected)
    assert model(ids).shape == (2, 8, 19)


def test_a_later_token_changes_no_earlier_logits():
    model, ids = small(), random_ids()
    before = model(ids)
    for t in range(8):
        changed = ids.clone()
        changed[:, t] = (ids[:, t] + 1) % 19
        after = model(changed)
        assert torch.equal(after[:, :t], before[:, :t])
        assert (after[:, t:] != before[:, t:]).any(-1).all()


def test_no_gradient_flows_from_logits_to_a_later_token():
    model, embedded = small(), []
    model.embedding_dropout.register_forward_hook(lambda _, __, output: embedded.append(output))
    logits = model(random_ids())
    for t in range(8):
        (gradient,) = torch.autograd.grad(logits[:, t].sum(), embedded[0], retain_graph=True)
        assert torch.equal((gradient != 0).any(-1), (torch.arange(8) <= t).expand(2, 8))


def test_the_position_of_a_token_matters():
    logits = small()(torch.full((1, 8), 3))[0]
    assert len({tuple(row.tolist()) for row in logits}) == 8


def test_the_sequences_of_a_batch_do_not_meet_and_a_shorter_input_is_a_prefix():
    model, ids = small(), random_ids(batch=3)
    logits = model(ids)
    torch.testing.assert_close(torch.cat([model(row[None]) for row in ids]), logits)
    for tokens in range(1, 9):
        torch.testing.assert_close(model(ids[:, :tokens]), logits[:, :tokens])


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-4), (torch.bfloat16, 0.3)])
def test_other_types(dtype, tolerance):
    model, ids = small(dtype), random_ids()
    reference = copy.deepcopy(model).double()
    logits = model(ids)
    assert logits.dtype == dtype
    torch.testing.assert_close(logits.double(), reference(ids), atol=tolerance, rtol=0.05)


def test_ids_of_any_whole_type_and_layout():
    model, ids = small(), random_ids(tokens=4, batch=8).T  # not contiguous
    assert not ids.is_contiguous()
    expected = model(ids.contiguous())
    torch.testing.assert_close(model(ids), expected)
    torch.testing.assert_close(model(ids.int()), expected)


def test_dropout_is_on_the_embeddings_and_only_while_training():
    model, ids = small(dropout=0.5), random_ids()
    assert torch.equal(model(ids), model(ids))
    plain = small()
    plain.load_state_dict(model.state_dict())
    assert torch.equal(model(ids), plain.train()(ids))
    model.train()
    assert not torch.equal(model(ids), model(ids))
    seen = []
    model.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(ids)
    assert 0.3 < (seen[0] == 0).double().mean() < 0.7
    dropouts = {name: m.p for name, m in model.named_modules() if isinstance(m, torch.nn.Dropout)}
    assert set(dropouts.values()) == {0.5}
    assert len(dropouts) == 1 + 2 * 2  # embeddings; in each block the weights and the branches


# Tying


def test_tied_weights_are_one_parameter():
    model = small()
    assert model.output_head.weight is model.token_embedding.weight
    names = [name for name, _ in model.named_parameters()]
    assert "output_head.weight" not in names and "token_embedding.weight" in names
    ids = torch.tensor([[3]])
    model(ids).sum().backward()
    rows = (model.token_embedding.weight.grad != 0).any(-1)
    assert rows.all()  # through the head; through the embedding alone only row 3 would be


def test_untied_weights_are_two_parameters():
    model = small(tie_weights=False)
    assert model.output_head.weight is not model.token_embedding.weight
    assert not torch.equal(model.output_head.weight, model.token_embedding.weight)
    model(torch.tensor([[3]])).sum().backward()
    rows = (model.token_embedding.weight.grad != 0).any(-1)
    assert rows.nonzero().flatten().tolist() == [3]


@pytest.mark.parametrize("tie_weights", [True, False])
def test_a_state_dict_goes_round(tie_weights):
    model, other = (small(tie_weights=tie_weights) for _ in range(2))
    ids = random_ids()
    assert not torch.equal(model(ids), other(ids))
    other.load_state_dict(model.state_dict())
    assert torch.equal(model(ids), other(ids))
    for changed in (other, copy.deepcopy(other), other.float()):
        assert (changed.output_head.weight is changed.token_embedding.weight) is tie_weights


# Initialisation


@pytest.mark.parametrize("tie_weights", [True, False])
@pytest.mark.parametrize("num_layers", [1, 8])
def test_initial_weights_have_gpt2s_spread(tie_weights, num_layers):
    config = GPTConfig(
        vocab_size=500, context_length=128, d_model=64, num_heads=4, num_layers=num_layers,
        tie_weights=tie_weights,
    )  # fmt: skip
    for name, parameter in GPT(config).named_parameters():
        if parameter.ndim == 1:
            assert torch.equal(parameter, torch.full_like(parameter, float("scale" in name))), name
            continue
        ends_a_branch = name.endswith(("out_proj.weight", "layers.2.weight"))
        expected = 0.02 / math.sqrt(2 * num_layers) if ends_a_branch else 0.02
        # A sample's standard deviation is off by expected / sqrt(2 n), about.
        error = expected / math.sqrt(2 * parameter.numel())
        assert abs(parameter.std().item() - expected) < 5 * error, name
        assert abs(parameter.mean().item()) < 5 * expected / math.sqrt(parameter.numel()), name


@pytest.mark.parametrize("tie_weights", [True, False])
def test_the_first_loss_is_near_the_log_of_the_vocabulary(tie_weights):
    config = GPTConfig.preset("story-1m", num_layers=2, tie_weights=tie_weights)
    ids, targets = (random_ids(8, 64, config.vocab_size) for _ in range(2))
    with torch.no_grad():
        logits = GPT(config).eval()(ids)
    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten()).item()
    # A logit is a sum of d_model products of a unit normal and one of standard deviation 0.02;
    # normal logits of variance s² add s²/2 to ln V.
    expected = math.log(config.vocab_size) + config.d_model * 0.02**2 / 2
    assert abs(loss - expected) < 0.05


# The optimizer


@pytest.mark.parametrize("tie_weights", [True, False])
def test_each_parameter_is_in_one_group_and_only_matrices_decay(tie_weights):
    model = small(tie_weights=tie_weights)
    optimizer = model.configure_optimizer(1e-3, 0.1, betas=(0.8, 0.9))
    assert isinstance(optimizer, torch.optim.AdamW)
    decay, no_decay = optimizer.param_groups
    assert (decay["weight_decay"], no_decay["weight_decay"]) == (0.1, 0.0)
    for group in optimizer.param_groups:
        assert (group["lr"], group["betas"]) == (1e-3, (0.8, 0.9))
    grouped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())
    names = {id(p): name for name, p in model.named_parameters()}
    for parameter in decay["params"]:
        assert names[id(parameter)].endswith("weight")
    for parameter in no_decay["params"]:
        assert names[id(parameter)].endswith(("bias", "scale", "shift"))


def test_frozen_parameters_are_not_optimized():
    model = small()
    model.token_embedding.requires_grad_(False)
    optimizer = model.configure_optimizer(1e-3, 0.1)
    grouped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert id(model.token_embedding.weight) not in grouped
    assert len(grouped) == len(list(model.parameters())) - 1


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((-1e-3, 0.1), "Invalid learning rate"),
        ((1e-3, -0.1), "Invalid weight_decay"),
        ((1e-3, 0.1, (1.0, 0.9)), "Invalid beta"),
    ],
)
def test_the_optimizer_refuses_bad_values(arguments, message):
    with pytest.raises(ValueError, match=message):
        small().configure_optimizer(*arguments)


def test_some_steps_learn_one_batch():
    model = GPT(SMALL)
    optimizer = model.configure_optimizer(1e-2, 0.1)
    ids = random_ids(4, 8)
    losses = []
    for _ in range(40):
        loss = F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 4


# Bad input


@pytest.mark.parametrize(
    "ids, message",
    [
        (torch.zeros(1, 9, dtype=torch.long), "ids has 9 tokens: at most context_length=8"),
        (torch.tensor([[0, 19]]), r"ids holds 19: ids must be in \[0, vocab_size=19\)"),
        (torch.tensor([[-1, 3]]), r"ids holds -1: ids must be in \[0, vocab_size=19\)"),
        (torch.zeros(1, 2), r"ids has shape \(1, 2\) and dtype torch.float32"),
        (torch.zeros(3, dtype=torch.long), r"ids has shape \(3,\)"),
        (torch.zeros(1, 2, 3, dtype=torch.long), r"ids has shape \(1, 2, 3\)"),
        (torch.zeros(0, 3, dtype=torch.long), r"ids has shape \(0, 3\).*non-empty"),
        (torch.zeros(3, 0, dtype=torch.long), r"ids has shape \(3, 0\).*non-empty"),
    ],
)
def test_bad_ids_are_named(ids, message):
    # Without the type checks that the test run puts before it.
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(GPT.features)(small(), ids)
