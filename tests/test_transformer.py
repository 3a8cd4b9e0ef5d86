import copy
import inspect
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course_pkg.config import GPTConfig
from course_pkg.transformer import GELU, FeedForward, LayerNorm, TransformerBlock

CONFIG = GPTConfig(
    vocab_size=11, context_length=7, d_model=12, num_heads=3, num_layers=2, dropout=0.0
)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def block(dropout=0.0, dtype=torch.float64):
    """A block whose every parameter, layer norms included, is away from its initial value."""
    config = GPTConfig.from_dict({**CONFIG.to_dict(), "dropout": dropout})
    module = TransformerBlock(config).to(dtype)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module


# Layer norm


@pytest.mark.parametrize("shape", [(8,), (3, 8), (2, 5, 8), (2, 1, 3, 8)])
@pytest.mark.parametrize("eps", [1e-5, 1e-2])
def test_layer_norm_equals_pytorchs_with_gradients(shape, eps):
    ours, theirs = LayerNorm(8, eps).double(), nn.LayerNorm(8, eps).double()
    with torch.no_grad():
        ours.scale.copy_(torch.randn(8))
        ours.shift.copy_(torch.randn(8))
        theirs.weight.copy_(ours.scale)
        theirs.bias.copy_(ours.shift)
    x = (2 + 3 * torch.randn(shape, dtype=torch.float64)).requires_grad_()
    weights = torch.randn_like(x)
    torch.testing.assert_close(ours(x), theirs(x))
    actual = torch.autograd.grad((ours(x) * weights).sum(), [x, ours.scale, ours.shift])
    expected = torch.autograd.grad((theirs(x) * weights).sum(), [x, theirs.weight, theirs.bias])
    torch.testing.assert_close(actual, expected)


def test_layer_norm_is_its_formula_with_the_biased_variance():
    norm = LayerNorm(4).double()
    x = torch.tensor([[1.0, 2.0, 3.0, 10.0]], dtype=torch.float64)
    variance = ((x - 4) ** 2).mean()  # 12.5, where dividing by 3 would give 16.67
    torch.testing.assert_close(norm(x), (x - 4) / torch.sqrt(variance + 1e-5))


def test_layer_norm_brings_each_token_to_mean_zero_and_variance_one():
    y = LayerNorm(64)(5 + 7 * torch.randn(3, 6, 64))
    torch.testing.assert_close(y.mean(-1), torch.zeros(3, 6), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.var(-1, correction=0), torch.ones(3, 6), atol=1e-4, rtol=0)


def test_layer_norm_of_a_constant_vector_is_the_shift():
    norm = LayerNorm(8)
    nn.init.constant_(norm.shift, 0.5)
    torch.testing.assert_close(norm(torch.full((2, 8), 3.0)), torch.full((2, 8), 0.5))


def test_layer_norm_forgets_the_size_of_its_input():
    norm, x = LayerNorm(16).double(), torch.randn(2, 3, 16, dtype=torch.float64)
    torch.testing.assert_close(norm(1000 * x + 5), norm(x), atol=1e-4, rtol=0)


# GELU and the feed-forward network


@pytest.mark.parametrize("exact, approximate", [(False, "tanh"), (True, "none")])
def test_gelu_equals_pytorchs_with_gradients(exact, approximate):
    x = torch.linspace(-10, 10, 401, dtype=torch.float64, requires_grad=True)
    ours, theirs = GELU(exact)(x), nn.GELU(approximate)(x)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(
        torch.autograd.grad(ours.sum(), x), torch.autograd.grad(theirs.sum(), x)
    )


def test_both_forms_of_gelu_are_their_formulas():
    values = [-3.0, -1.0, -0.1, 0.0, 0.1, 1.0, 3.0]
    expected = [
        0.5 * v * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))) for v in values
    ]
    x = torch.tensor(values, dtype=torch.float64)
    torch.testing.assert_close(GELU()(x), torch.tensor(expected, dtype=torch.float64))
    phi = [0.5 * math.erfc(-v / math.sqrt(2)) for v in values]  # the normal distribution's
    exact = torch.tensor([v * p for v, p in zip(values, phi, strict=True)], dtype=torch.float64)
    torch.testing.assert_close(GELU(exact=True)(x), exact)
    assert 1e-5 < (GELU()(x) - exact).abs().max() < 1e-3  # close and not the same


@pytest.mark.parametrize("hidden, expected", [(None, 48), (5, 5)])
def test_feed_forward_equals_pytorchs_layers_with_gradients(hidden, expected):
    ours = FeedForward(12, hidden).double()
    theirs = nn.Sequential(nn.Linear(12, expected), nn.GELU("tanh"), nn.Linear(expected, 12))
    theirs.double().load_state_dict(ours.layers.state_dict())
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x))
    weights = torch.randn_like(x)
    actual = torch.autograd.grad((ours(x) * weights).sum(), list(ours.parameters()))
    reference = torch.autograd.grad((theirs(x) * weights).sum(), list(theirs.parameters()))
    torch.testing.assert_close(actual, reference)


def test_feed_forward_treats_each_token_alone():
    module = FeedForward(12).double()
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    alone = torch.cat([module(x[:, t : t + 1]) for t in range(5)], dim=1)
    torch.testing.assert_close(module(x), alone)


# The block


def test_the_block_is_its_formula():
    module = block()
    x = torch.randn(2, 7, 12, dtype=torch.float64)

    def norm(z, layer):
        variance, mean = torch.var_mean(z, dim=-1, correction=0, keepdim=True)
        return layer.scale * (z - mean) / torch.sqrt(variance + 1e-5) + layer.shift

    after_attention = x + module.attention(norm(x, module.norm1))
    first, _, last = module.feed_forward.layers
    hidden = F.gelu(F.linear(norm(after_attention, module.norm2), first.weight, first.bias),
                    approximate="tanh")  # fmt: skip
    expected = after_attention + F.linear(hidden, last.weight, last.bias)
    torch.testing.assert_close(module(x), expected)


def test_the_block_equals_pytorchs_encoder_layer():
    module = block()
    theirs = nn.TransformerEncoderLayer(
        d_model=12, nhead=3, dim_feedforward=48, dropout=0.0, batch_first=True, norm_first=True,
        activation=nn.GELU("tanh"), dtype=torch.float64,
    )  # fmt: skip
    attention, (first, _, last) = module.attention, module.feed_forward.layers
    projections = (attention.W_query, attention.W_key, attention.W_value)
    with torch.no_grad():
        theirs.self_attn.in_proj_weight.copy_(torch.cat([p.weight for p in projections]))
        theirs.self_attn.in_proj_bias.copy_(torch.cat([p.bias for p in projections]))
        for ours, copy_to in [
            (attention.out_proj, theirs.self_attn.out_proj),
            (first, theirs.linear1),
            (last, theirs.linear2),
        ]:
            copy_to.load_state_dict(ours.state_dict())
        for ours, copy_to in [(module.norm1, theirs.norm1), (module.norm2, theirs.norm2)]:
            copy_to.weight.copy_(ours.scale)
            copy_to.bias.copy_(ours.shift)
    x = torch.randn(2, 7, 12, dtype=torch.float64)
    mask = torch.ones(7, 7, dtype=torch.bool).triu(1)  # there True means: not allowed
    torch.testing.assert_close(module(x), theirs(x, src_mask=mask))


def test_branches_that_give_nothing_leave_the_identity():
    module = block()
    for layer in (module.attention.out_proj, module.feed_forward.layers[2]):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    x = torch.randn(2, 7, 12, dtype=torch.float64)
    assert torch.equal(module(x), x)


def test_the_block_is_causal_by_perturbation_and_by_autograd():
    module = block()
    x = torch.randn(1, 7, 12, dtype=torch.float64, requires_grad=True)
    output = module(x)
    for t in range(7):
        (gradient,) = torch.autograd.grad(output[:, t].sum(), x, retain_graph=True)
        assert torch.equal((gradient[0] != 0).any(-1), torch.arange(7) <= t)
        changed = x.detach().clone()
        changed[:, t] += 1
        assert torch.equal(module(changed)[:, :t], output[:, :t])


@pytest.mark.parametrize("dropout", [0.2, 0.6])
@pytest.mark.parametrize("branch", ["attention", "feed_forward"])
def test_dropout_falls_on_each_residual_branch_with_its_rate_and_scale(branch, dropout):
    # One branch gives 1 everywhere and the other nothing, so the output shows what was dropped.
    module = block(dropout, torch.float32).train()
    for name, layer in [
        ("attention", module.attention.out_proj),
        ("feed_forward", module.feed_forward.layers[2]),
    ]:
        nn.init.zeros_(layer.weight)
        nn.init.constant_(layer.bias, 1.0 if name == branch else 0.0)
    x = torch.zeros(400, 7, 12)
    added = module(x)
    kept = added != 0
    torch.testing.assert_close(added[kept], torch.full_like(added[kept], 1 / (1 - dropout)))
    deviation = math.sqrt(dropout * (1 - dropout) / added.numel())
    assert abs(1 - kept.double().mean().item() - dropout) < 5 * deviation
    assert torch.equal(module.eval()(x), torch.ones_like(x))


def test_the_configurations_dropout_also_reaches_the_attention_weights():
    assert block(0.3).attention.dropout.p == block(0.3).dropout.p == 0.3


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-4), (torch.bfloat16, 0.3)])
def test_other_types(dtype, tolerance):
    module = block().to(dtype)
    reference = copy.deepcopy(module).double()
    x = torch.randn(2, 7, 12).to(dtype)
    output = module(x)
    assert output.dtype == dtype
    torch.testing.assert_close(output.double(), reference(x.double()), atol=tolerance, rtol=0.05)


def test_the_sequences_of_a_batch_do_not_meet_and_layout_does_not_matter():
    module = block()
    x = torch.randn(12, 3, 7, dtype=torch.float64).permute(1, 2, 0)
    alone = torch.cat([module(x[i : i + 1].contiguous()) for i in range(3)])
    torch.testing.assert_close(module(x), alone)


def test_one_token_and_a_full_context_and_no_more():
    module = block()
    x = torch.randn(1, 8, 12, dtype=torch.float64)
    torch.testing.assert_close(module(x[:, :1]), module(x[:, :7])[:, :1])
    with pytest.raises(ValueError, match="x has 8 tokens: at most context_length=7"):
        module(x)


def test_names_are_fixed():
    assert [name for name, _ in block().named_children()] == [
        "norm1", "attention", "norm2", "feed_forward", "dropout",
    ]  # fmt: skip
    assert list(inspect.signature(FeedForward).parameters) == [
        "d_model",
        "hidden",
        "exact_gelu",
    ]
    assert [name for name, _ in LayerNorm(2).named_parameters()] == ["scale", "shift"]
