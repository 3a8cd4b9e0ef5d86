import copy
import inspect
import math

import pytest
import torch
from llms_from_scratch.ch03 import MultiHeadAttention as TextbookAttention
from torch import nn

from course_pkg.attention import (
    CausalAttention,
    MultiHeadAttention,
    MultiHeadAttentionWrapper,
    SelfAttention,
)

T = 7  # context length of every module here unless said otherwise


def self_attention(d_in=6, d_out=8, **_):
    return SelfAttention(d_in, d_out, qkv_bias=True)


def causal(d_in=6, d_out=8, dropout=0.0, context_length=T):
    return CausalAttention(d_in, d_out, context_length, dropout, qkv_bias=True)


def wrapper(d_in=6, d_out=8, dropout=0.0, context_length=T, num_heads=2):
    return MultiHeadAttentionWrapper(d_in, d_out, context_length, dropout, num_heads, True)


def multi_head(d_in=6, d_out=8, dropout=0.0, context_length=T, num_heads=2):
    return MultiHeadAttention(d_in, d_out, context_length, dropout, num_heads, qkv_bias=True)


every_kind = pytest.mark.parametrize("make", [self_attention, causal, wrapper, multi_head])
every_causal_kind = pytest.mark.parametrize("make", [causal, wrapper, multi_head])


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def forward_unchecked(module, x):
    """``forward`` without the type checks that the test run puts before it."""
    return inspect.unwrap(type(module).forward)(module, x)


def attend(queries, keys, values, is_causal):
    """Attention for one head of one sequence, token by token, from (T, Dh) lists of vectors."""
    outputs = []
    for t, query in enumerate(queries):
        seen = range(t + 1) if is_causal else range(len(keys))
        scores = [torch.dot(query, keys[s]) / math.sqrt(len(query)) for s in seen]
        exponentials = [torch.exp(score) for score in scores]
        total = sum(exponentials)
        outputs.append(sum(e / total * values[s] for e, s in zip(exponentials, seen, strict=True)))
    return torch.stack(outputs)


def explicit(module, x):
    """What ``module`` computes, from its weights alone."""
    if isinstance(module, MultiHeadAttentionWrapper):
        return torch.cat([explicit(head, x) for head in module.heads], dim=-1)
    num_heads = getattr(module, "num_heads", 1)
    rows = []
    for sequence in x:
        q, k, v = (
            sequence @ layer.weight.T + (0 if layer.bias is None else layer.bias)
            for layer in (module.W_query, module.W_key, module.W_value)
        )
        size = q.shape[1] // num_heads
        heads = [
            attend(*(z[:, h * size : (h + 1) * size] for z in (q, k, v)),
                   is_causal=not isinstance(module, SelfAttention))
            for h in range(num_heads)
        ]  # fmt: skip
        rows.append(torch.cat(heads, dim=1))
    merged = torch.stack(rows)
    if isinstance(module, MultiHeadAttention):
        merged = merged @ module.out_proj.weight.T + module.out_proj.bias
    return merged


def assert_same_outputs_and_gradients(module, function, x, parameters=None, **tolerance):
    """``module(x)`` and ``function(x)``: values, and gradients for x and all parameters."""
    parameters = list(module.parameters()) if parameters is None else parameters
    x = x.clone().requires_grad_()
    ours, theirs = module(x), function(x)
    torch.testing.assert_close(ours, theirs, **tolerance)
    weights = torch.randn_like(ours)  # any fixed function of the outputs would do
    ours = torch.autograd.grad((ours * weights).sum(), [x, *parameters])
    theirs = torch.autograd.grad((theirs * weights).sum(), [x, *parameters])
    torch.testing.assert_close(ours, theirs, **tolerance)


# The formula


@every_kind
@pytest.mark.parametrize("batch, tokens", [(1, 1), (3, 4), (2, T)])
def test_every_kind_is_the_formula_with_gradients(make, batch, tokens):
    module = make().double()
    x = torch.randn(batch, tokens, 6, dtype=torch.float64)
    assert_same_outputs_and_gradients(module, lambda x: explicit(module, x), x)


@pytest.mark.parametrize("d_in, d_out, num_heads", [(5, 12, 1), (12, 4, 4), (3, 12, 6), (8, 8, 2)])
@pytest.mark.parametrize("qkv_bias", [False, True])
def test_multi_head_attention_of_several_sizes_is_the_formula(d_in, d_out, num_heads, qkv_bias):
    module = MultiHeadAttention(d_in, d_out, 5, 0.0, num_heads, qkv_bias).double()
    assert (module.W_query.bias is not None) is qkv_bias
    x = 3 * torch.randn(2, 5, d_in, dtype=torch.float64)
    assert_same_outputs_and_gradients(module, lambda x: explicit(module, x), x)


@pytest.mark.parametrize("num_heads", [1, 2, 4])
def test_multi_head_attention_equals_pytorchs_own(num_heads):
    ours = MultiHeadAttention(8, 8, T, 0.0, num_heads, qkv_bias=True).double()
    theirs = nn.MultiheadAttention(8, num_heads, batch_first=True, dtype=torch.float64)
    projections = (ours.W_query, ours.W_key, ours.W_value)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([layer.weight for layer in projections]))
        theirs.in_proj_bias.copy_(torch.cat([layer.bias for layer in projections]))
        theirs.out_proj.load_state_dict(ours.out_proj.state_dict())
    x = torch.randn(2, T, 8, dtype=torch.float64, requires_grad=True)
    hidden = torch.ones(T, T, dtype=torch.bool).triu(1)  # there True means: not allowed
    expected, _ = theirs(x, x, x, attn_mask=hidden, need_weights=False)
    actual = ours(x)
    torch.testing.assert_close(actual, expected)
    weights = torch.randn_like(actual)
    (gradient,) = torch.autograd.grad((actual * weights).sum(), x)
    torch.testing.assert_close(gradient, torch.autograd.grad((expected * weights).sum(), x)[0])


@pytest.mark.parametrize("num_heads", [1, 2, 4])
def test_the_wrapper_is_multi_head_attention_without_the_output_projection(num_heads):
    many, one = (make(num_heads=num_heads).double() for make in (wrapper, multi_head))
    with torch.no_grad():
        for name in ("W_query", "W_key", "W_value"):
            for part in ("weight", "bias"):
                stacked = torch.cat([getattr(getattr(h, name), part) for h in many.heads])
                getattr(getattr(one, name), part).copy_(stacked)
        one.out_proj.weight.copy_(torch.eye(8))
        one.out_proj.bias.zero_()
    x = torch.randn(3, T, 6, dtype=torch.float64)
    torch.testing.assert_close(many(x), one(x))


def test_one_token_gets_its_own_value():
    module = multi_head().double()
    x = torch.randn(2, 1, 6, dtype=torch.float64)
    torch.testing.assert_close(module(x), module.out_proj(module.W_value(x)))


def test_large_scores_stay_finite():
    module = causal()
    x = 1e4 * torch.randn(2, T, 6)
    assert module(x).isfinite().all()


# The mission's interface


def test_the_interface_is_the_textbooks():
    parameters = inspect.signature(MultiHeadAttention).parameters
    assert list(parameters) == [
        "d_in", "d_out", "context_length", "dropout", "num_heads", "qkv_bias",
    ]  # fmt: skip
    assert parameters["qkv_bias"].default is False
    projections = ("W_query", "W_key", "W_value", "out_proj")
    module = MultiHeadAttention(6, 8, T, 0.3, 2)
    assert list(module.state_dict()) == [
        *(f"{name}.weight" for name in projections),
        "out_proj.bias",
    ]
    assert module.dropout.p == 0.3


@pytest.mark.parametrize("qkv_bias", [False, True])
@pytest.mark.parametrize("tokens", [1, 4, T])
def test_a_textbook_state_dict_loads_with_its_mask_and_agrees(qkv_bias, tokens):
    theirs = TextbookAttention(6, 8, T, 0.0, 2, qkv_bias)
    ours = MultiHeadAttention(6, 8, T, 0.0, 2, qkv_bias)
    state_dict = theirs.state_dict()
    assert "mask" in state_dict
    assert ours.load_state_dict(state_dict) == ([], [])
    assert "mask" in state_dict  # the caller's own dictionary is as it was
    x = torch.randn(3, tokens, 6)
    torch.testing.assert_close(ours(x), theirs(x))


def test_a_textbook_mask_is_dropped_inside_a_larger_model_and_nothing_else_is():
    ours, theirs = (
        nn.Sequential(nn.Linear(6, 6), kind(6, 8, T, 0.0, 2))
        for kind in (MultiHeadAttention, TextbookAttention)
    )
    ours.load_state_dict(theirs.state_dict())
    with pytest.raises(RuntimeError, match="masks"):
        ours.load_state_dict({**theirs.state_dict(), "1.masks": torch.ones(1)})


def test_a_state_dict_of_the_causal_kinds_has_no_mask():
    for make in (causal, wrapper):
        assert all(name.endswith(("weight", "bias")) for name in make().state_dict())


# Causality


@every_causal_kind
def test_a_later_token_changes_no_earlier_output(make):
    module = make()
    x = torch.randn(2, T, 6)
    before = module(x)
    for t in range(T):
        changed = x.clone()
        changed[:, t] += torch.randn(6)
        after = module(changed)
        assert torch.equal(after[:, :t], before[:, :t])
        assert (after[:, t:] != before[:, t:]).any(dim=-1).all()  # and each of the rest is


@every_causal_kind
def test_no_gradient_flows_from_an_output_to_a_later_token(make):
    module = make()
    x = torch.randn(2, T, 6, requires_grad=True)
    output = module(x)
    for t in range(T):
        (gradient,) = torch.autograd.grad(output[:, t].sum(), x, retain_graph=True)
        seen = (gradient != 0).any(dim=-1)  # (B, T)
        assert torch.equal(seen, (torch.arange(T) <= t).expand(2, T))


def test_without_a_mask_every_token_sees_every_token():
    x = torch.randn(1, T, 6, requires_grad=True)
    (gradient,) = torch.autograd.grad(self_attention()(x)[:, 0].sum(), x)
    assert (gradient != 0).any(dim=-1).all()


def test_self_attention_does_not_see_the_order():
    module = self_attention().double()
    x = torch.randn(2, T, 6, dtype=torch.float64)
    order = torch.randperm(T)
    torch.testing.assert_close(module(x[:, order]), module(x)[:, order])
    assert not torch.allclose(module(x), module(x)[:, order])


# Dropout


def weights_made_visible(make, tokens, dropout):
    """A module whose output is its own matrix of attention weights: row t has 1/(t + 1) each."""
    kind = {"d_in": tokens, "d_out": tokens, "dropout": dropout, "context_length": tokens}
    module = make(**kind) if make is causal else make(**kind, num_heads=1)
    head = module.heads[0] if make is wrapper else module
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
        head.W_value.weight.copy_(torch.eye(tokens))
        if make is multi_head:
            head.out_proj.weight.copy_(torch.eye(tokens))
    return module


@every_causal_kind
@pytest.mark.parametrize("dropout", [0.1, 0.5, 0.8])
def test_dropout_falls_on_the_weights_with_its_rate_and_scale(make, dropout):
    batch, tokens = 64, 32
    module = weights_made_visible(make, tokens, dropout)
    x = torch.eye(tokens).expand(batch, -1, -1)
    plain = module.eval()(x)
    uniform = torch.ones(tokens, tokens).tril() / torch.arange(1.0, tokens + 1)[:, None]
    torch.testing.assert_close(plain[0], uniform)
    dropped = module.train()(x)
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], (plain / (1 - dropout))[kept])  # the scale
    allowed = torch.ones(tokens, tokens, dtype=torch.bool).tril().expand(batch, -1, -1)
    count = int(allowed.sum())
    deviation = math.sqrt(dropout * (1 - dropout) / count)
    rate = 1 - kept[allowed].double().mean().item()
    assert abs(rate - dropout) < 5 * deviation  # the rate
    # Each weight has its own chance: the first token is dropped for some queries and not for
    # others, which dropping its value vector would not do.
    first = kept[:, :, 0]
    mixed = (first.any(dim=1) & ~first.all(dim=1)).double().mean()
    assert mixed > 0.8
    assert not torch.equal(kept[0], kept[1])  # and each sequence its own
    assert not kept[~allowed].any()
    # The expectation: a row's weights still sum to 1 on average.
    total = dropped.sum(dim=-1).double()
    error = total.std() / math.sqrt(total.numel())
    assert abs(total.mean() - 1) < 5 * error


@every_causal_kind
def test_dropout_is_off_in_eval_mode(make):
    module = make(dropout=0.5)
    plain = make(dropout=0.0)
    plain.load_state_dict(module.state_dict())
    x = torch.randn(2, T, 6)
    assert not torch.equal(module.train()(x), module(x))
    torch.testing.assert_close(module.eval()(x), plain.train()(x))
    assert torch.equal(module(x), module(x))


# Batches, lengths, types, memory


@every_kind
def test_the_sequences_of_a_batch_do_not_meet(make):
    module = make().double()
    x = torch.randn(3, T, 6, dtype=torch.float64)
    alone = torch.cat([module(x[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(module(x), alone)


@every_causal_kind
def test_a_shorter_input_is_a_prefix(make):
    module = make().double()
    x = torch.randn(2, T, 6, dtype=torch.float64)
    for tokens in range(1, T + 1):
        torch.testing.assert_close(module(x[:, :tokens]), module(x)[:, :tokens])


@every_kind
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.bfloat16, 5e-2)])
def test_other_types(make, dtype, tolerance):
    module = make().to(dtype)
    reference = copy.deepcopy(module).double()
    x = torch.randn(2, T, 6).to(dtype)
    output = module(x)
    assert output.dtype == dtype
    torch.testing.assert_close(output.double(), reference(x.double()), atol=tolerance, rtol=0)


@every_kind
def test_memory_layout_does_not_matter(make):
    module = make().double()
    x = torch.randn(6, 2, T, dtype=torch.float64).permute(1, 2, 0)  # (B, T, D), not contiguous
    assert not x.is_contiguous()
    torch.testing.assert_close(module(x), module(x.contiguous()))


@every_kind
def test_the_shape_is_batch_tokens_d_out(make):
    assert make()(torch.randn(3, 5, 6)).shape == (3, 5, 8)


# Bad input


@every_causal_kind
def test_too_long_an_input_is_refused(make):
    module = make()
    module(torch.randn(1, T, 6))
    with pytest.raises(ValueError, match=f"x has {T + 1} tokens: at most context_length={T}"):
        module(torch.randn(1, T + 1, 6))


@pytest.mark.parametrize("make", [self_attention, causal, multi_head])
@pytest.mark.parametrize("shape", [(2, 3, 5), (3, 6), (1, 2, 3, 6)])
def test_another_shape_is_refused(make, shape):
    with pytest.raises(ValueError, match=r"x has shape .* it must be \(batch, tokens, d_in=6\)"):
        forward_unchecked(make(), torch.randn(shape))


@pytest.mark.parametrize("kind", [MultiHeadAttention, MultiHeadAttentionWrapper])
def test_heads_divide_the_width(kind):
    with pytest.raises(ValueError, match="d_out=8 is not divisible by num_heads=3"):
        kind(6, 8, T, 0.0, 3)
    with pytest.raises(ValueError, match="num_heads=0"):
        kind(6, 8, T, 0.0, 0)


@pytest.mark.parametrize("kind", [CausalAttention, MultiHeadAttention, MultiHeadAttentionWrapper])
@pytest.mark.parametrize("dropout", [-0.1, 1.0, 1.5, float("nan")])
def test_dropout_outside_its_range_is_refused(kind, dropout):
    with pytest.raises(ValueError, match=r"dropout=.*\[0, 1\)"):
        kind(6, 8, T, dropout, **({} if kind is CausalAttention else {"num_heads": 2}))


@pytest.mark.parametrize("argument", ["d_in", "d_out", "context_length"])
@pytest.mark.parametrize("kind", [CausalAttention, MultiHeadAttention, MultiHeadAttentionWrapper])
def test_sizes_below_one_are_refused(kind, argument):
    sizes = {"d_in": 6, "d_out": 8, "context_length": T, "dropout": 0.0, argument: 0}
    with pytest.raises(ValueError, match=f"{argument}=0"):
        kind(**sizes, **({} if kind is CausalAttention else {"num_heads": 2}))


@pytest.mark.parametrize("argument", ["d_in", "d_out"])
def test_self_attentions_sizes_below_one_are_refused(argument):
    with pytest.raises(ValueError, match=f"{argument}=-1"):
        SelfAttention(**{"d_in": 6, "d_out": 8, argument: -1})
