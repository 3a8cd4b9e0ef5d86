"""Exercises of chapter 4, the transformer block."""

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_pkg import transformer
from course_pkg.attention import MultiHeadAttention
from course_pkg.checks.compare import expect, expect_close
from course_pkg.checks.engine import Exercise, Misconception, Property, fill_parameters
from course_pkg.checks.probes import (
    copied,
    first_alone,
    input_gradients,
    parameter_gradients,
    same_both_times,
    sees_its_past_alone,
    sensitivity,
    token_changed,
)
from course_pkg.config import GPTConfig


def _randn(generator: torch.Generator, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=dtype)


def _shapes(module: nn.Module) -> dict[str, list[int]]:
    return {name: list(parameter.shape) for name, parameter in module.named_parameters()}


def _token_axes(x: Tensor) -> dict[str, int]:
    B, T, D = x.shape
    return {"B": B, "T": T, "D": D, "4D": 4 * D}


# 04.layer_norm


class _Norm(nn.Module):
    """What the wrong layer norms share."""

    def __init__(self, d_model, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.scale = nn.Parameter(torch.ones(d_model))
        self.shift = nn.Parameter(torch.zeros(d_model))


class _UnbiasedNorm(_Norm):
    def forward(self, x):
        centred = x - x.mean(dim=-1, keepdim=True)
        return self.scale * centred / torch.sqrt(x.var(-1, keepdim=True) + self.eps) + self.shift


class _OutsideNorm(_Norm):
    def forward(self, x):
        centred = x - x.mean(dim=-1, keepdim=True)
        deviation = x.std(-1, correction=0, keepdim=True)
        return self.scale * centred / (deviation + self.eps) + self.shift


class _NoRootNorm(_Norm):
    def forward(self, x):
        centred = x - x.mean(dim=-1, keepdim=True)
        variance = x.var(-1, correction=0, keepdim=True)
        return self.scale * centred / (variance + self.eps) + self.shift


class _TokensNorm(_Norm):
    def forward(self, x):
        centred = x - x.mean(dim=1, keepdim=True)
        variance = x.var(1, correction=0, keepdim=True)
        return self.scale * centred / torch.sqrt(variance + self.eps) + self.shift


class _WholeNorm(_Norm):
    def forward(self, x):
        variance = x.var(correction=0)
        return self.scale * (x - x.mean()) / torch.sqrt(variance + self.eps) + self.shift


class _PlainNorm(nn.Module):
    def __init__(self, d_model, eps=1e-5):
        super().__init__()
        self.eps = eps

    def forward(self, x):
        centred = x - x.mean(dim=-1, keepdim=True)
        return centred / torch.sqrt(x.var(-1, correction=0, keepdim=True) + self.eps)


class _RootMeanSquareNorm(_Norm):
    def forward(self, x):
        return self.scale * x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) + self.shift


def _norm_inputs(generator: torch.Generator) -> list[tuple]:
    return [
        (3 * _randn(generator, 2, 5, 8) + 1,),
        (_randn(generator, 1, 3, 6, dtype=torch.float64) - 2,),
    ]


def _tiny_inputs(generator: torch.Generator) -> list[tuple]:
    return [(1e-3 * _randn(generator, 2, 4, 6),)]


def _constant_inputs(generator: torch.Generator) -> list[tuple]:
    return [(_randn(generator, 2, 3, 1).expand(2, 3, 8).clone(),)]


def _filled_norm(norm_class, x):
    return fill_parameters(norm_class(x.shape[-1]).to(x.dtype))(x)


def _new_norm(norm_class, x):
    return norm_class(x.shape[-1]).to(x.dtype)(x)


def _is_standard(y, x):
    expect_close(y.mean(dim=-1), torch.zeros(x.shape[:-1]), "means", tolerance=0.02)
    deviation = y.std(dim=-1, correction=0)
    expect_close(deviation, torch.ones(x.shape[:-1]), "standard deviations", tolerance=1e-3)


def _is_zero(y, x):
    expect(bool(y.isfinite().all()), "the output holds nan or an infinity")
    expect_close(y, torch.zeros_like(x), "the output", tolerance=0.02)


def _norm_of_changed_token(norm_class, x):
    layer = fill_parameters(norm_class(x.shape[-1]).to(x.dtype))
    return token_changed(layer, x, 1)


def _token_1_alone_moves(moved, x):
    expect(moved == [1], f"token 1 was changed; outputs that moved: {moved}")


def _norm_with_epsilon(norm_class, x):
    return fill_parameters(norm_class(x.shape[-1], eps=0.5).to(x.dtype))(x)


def _norm_axes(x: Tensor) -> dict[str, int]:
    return {**dict(zip(("B", "T"), x.shape[:-1], strict=False)), "D": x.shape[-1]}


def _other_axes(generator: torch.Generator) -> list[tuple]:
    return [
        (_randn(generator, 7),),
        (_randn(generator, 4, 7) + 1,),
        (_randn(generator, 2, 3, 4, 7) - 1,),
        (_randn(generator, 3, 7, 5).transpose(1, 2),),
    ]


def _norm_gradients(norm_class, x):
    layer = fill_parameters(norm_class(x.shape[-1]).to(x.dtype))
    return input_gradients(layer, x), parameter_gradients(layer, x)


def _norm_copied(norm_class, x):
    make = functools.partial(norm_class, x.shape[-1])
    return copied(make, fill_parameters(make().to(x.dtype)), x)


def _new_norm_parameters(norm_class, x):
    return {name: p.detach().clone() for name, p in norm_class(x.shape[-1]).named_parameters()}


def _norm_shapes(norm_class, x):
    return _shapes(norm_class(x.shape[-1]))


# 04.gelu


def gelu(x: Tensor) -> Tensor:
    """GELU in its tanh form, elementwise."""
    return F.gelu(x, approximate="tanh")


def _exact_gelu(x):
    return F.gelu(x)


def _relu(x):
    return torch.relu(x)


def _no_root_gelu(x):
    return 0.5 * x * (1 + torch.tanh(2 / math.pi * (x + 0.044715 * x**3)))


def _cubed_product_gelu(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + (0.044715 * x) ** 3)))


def _cube_alone_gelu(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * x + 0.044715 * x**3))


def _doubled_gelu(x):
    return x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _sigmoid_gelu(x):
    return x * torch.sigmoid(1.702 * x)


def _gelu_inputs(generator: torch.Generator) -> list[tuple]:
    return [(2 * _randn(generator, 3, 4, 5),), (2 * _randn(generator, 20, dtype=torch.float64),)]


def _gelu_grid(generator: torch.Generator) -> list[tuple]:
    return [(torch.linspace(-3, 3, 61, dtype=torch.float64),)]


def _far_out(generator: torch.Generator) -> list[tuple]:
    return [(torch.tensor([-50.0, -20.0, 0.0, 20.0, 50.0]),)]


def _flat_ends(y, x):
    expect_close(y, torch.relu(x), "at -50, -20, 0, 20 and 50", tolerance=1e-6)


def _any_shape(generator: torch.Generator) -> list[tuple]:
    return [
        (_randn(generator, 1)[0],),
        (_randn(generator, 0),),
        (2 * _randn(generator, 3, 4).T,),
    ]


def _gelu_gradient(gelu, x):
    return input_gradients(gelu, x)


def _both_signs(gelu, x):
    return gelu(x), gelu(-x)


def _differ_by_x(seen, x):
    above, below = seen
    expect_close(above - below, x, "gelu(x) - gelu(-x)", tolerance=1e-5)


# 04.feed_forward


class _TwoLinear(nn.Module):
    """What the wrong feed-forward networks share."""

    activation: nn.Module = transformer.GELU()

    def __init__(self, d_model, hidden=None):
        super().__init__()
        hidden = 4 * d_model if hidden is None else hidden
        self.layers = nn.Sequential(
            nn.Linear(d_model, hidden), self.activation, nn.Linear(hidden, d_model)
        )

    def forward(self, x):
        return self.layers(x)


class _NoActivation(_TwoLinear):
    activation = nn.Identity()


class _ReluFeedForward(_TwoLinear):
    activation = nn.ReLU()


class _ExactFeedForward(_TwoLinear):
    activation = nn.GELU()


class _AlwaysFourTimes(_TwoLinear):
    def __init__(self, d_model, hidden=None):
        super().__init__(d_model)


class _NotWidened(_TwoLinear):
    def __init__(self, d_model, hidden=None):
        super().__init__(d_model, d_model if hidden is None else hidden)


class _ActivationAtTheEnd(_TwoLinear):
    def forward(self, x):
        return self.layers[1](self.layers[2](self.layers[0](x)))


class _ActivationTwice(_TwoLinear):
    def forward(self, x):
        return self.layers[1](self.layers(x))


class _OwnResidual(_TwoLinear):
    def forward(self, x):
        return x + self.layers(x)


def _vectors(generator: torch.Generator) -> list[tuple]:
    return [(_randn(generator, 2, 5, 8),), (_randn(generator, 1, 3, 6),)]


def _filled_feed_forward(feed_forward_class, x):
    return fill_parameters(feed_forward_class(x.shape[-1]))(x)


def _given_width(feed_forward_class, x):
    layer = feed_forward_class(x.shape[-1], 10)
    return _shapes(layer), fill_parameters(layer)(x)


def _feed_forward_shapes(feed_forward_class, x):
    return _shapes(feed_forward_class(x.shape[-1]))


def _reordered(feed_forward_class, x):
    layer = fill_parameters(feed_forward_class(x.shape[-1]))
    return layer(x).flip(1), layer(x.flip(1))


def _double_vectors(generator: torch.Generator) -> list[tuple]:
    return [(_randn(generator, 2, 7, 5, dtype=torch.float64).transpose(1, 2),)]


def _few_vectors(generator: torch.Generator) -> list[tuple]:
    return [(_randn(generator, 3, 1, 8),), (_randn(generator, 1, 1, 6),)]


def _feed_forward_in_double(feed_forward_class, x):
    return fill_parameters(feed_forward_class(x.shape[-1]).to(x.dtype))(x)


def _feed_forward_gradients(feed_forward_class, x):
    layer = fill_parameters(feed_forward_class(x.shape[-1]))
    return input_gradients(layer, x), parameter_gradients(layer, x)


def _feed_forward_copied(feed_forward_class, x):
    make = functools.partial(feed_forward_class, x.shape[-1])
    return copied(make, fill_parameters(make()), x)


def _feed_forward_on_first(feed_forward_class, x):
    return first_alone(fill_parameters(feed_forward_class(x.shape[-1])), x)


def _same_in_both_orders(seen, x):
    expect_close(seen[1], seen[0], "the tokens backwards in, their outputs backwards")


# 04.parameters


def _count_parameters(width: int) -> dict[str, int]:
    config = GPTConfig.preset("gpt2-medium", d_model=width)
    with torch.device("meta"):  # shapes without memory
        block = transformer.TransformerBlock(config)

    def count(*modules: nn.Module) -> int:
        return sum(p.numel() for module in modules for p in module.parameters())

    return {
        "attention": count(block.attention),
        "feed_forward": count(block.feed_forward),
        "norms": count(block.norm1, block.norm2),
        "block": count(block),
    }


_WIDTH = GPTConfig.preset("gpt2-medium").d_model
_COUNTS = _count_parameters(_WIDTH)


def _counts(**changed: int) -> dict[str, int]:
    parts = {key: changed.get(key, value) for key, value in _COUNTS.items() if key != "block"}
    return {**parts, "block": sum(parts.values())}


def _entry(name: str) -> Callable[[Any], Any]:
    return lambda answer: answer()[name]


# 04.residual


def fixed_block(x, norm1, attention, norm2, feed_forward):
    """A pre-norm block from its parts. (B, T, D) -> (B, T, D)"""
    x = x + attention(norm1(x))
    return x + feed_forward(norm2(x))


def _after_the_norm(x, norm1, attention, norm2, feed_forward):
    x = norm1(x)
    x = x + attention(x)
    x = norm2(x)
    return x + feed_forward(x)


def _back_to_the_input(x, norm1, attention, norm2, feed_forward):
    return x + feed_forward(norm2(x + attention(norm1(x))))


def _first_only(x, norm1, attention, norm2, feed_forward):
    x = x + attention(norm1(x))
    return feed_forward(norm2(x))


def _post_norm(x, norm1, attention, norm2, feed_forward):
    x = norm1(x + attention(x))
    return norm2(x + feed_forward(x))


def _second_not_mended(x, norm1, attention, norm2, feed_forward):
    x = x + attention(norm1(x))
    x = norm2(x)
    return x + feed_forward(x)


def _side_by_side(x, norm1, attention, norm2, feed_forward):
    return x + attention(norm1(x)) + feed_forward(norm2(x))


def _parts(d_model: int) -> nn.ModuleDict:
    parts = nn.ModuleDict(
        {
            "norm1": transformer.LayerNorm(d_model),
            "attention": MultiHeadAttention(d_model, d_model, 16, 0.0, 2),
            "norm2": transformer.LayerNorm(d_model),
            "feed_forward": transformer.FeedForward(d_model),
        }
    )
    fill_parameters(parts)
    return parts


def _double_vectors_of_even_width(generator: torch.Generator) -> list[tuple]:
    return [(_randn(generator, 2, 6, 5, dtype=torch.float64).transpose(1, 2),)]


def _wired(answer, x, **replaced):
    return answer(x, **{**_parts(x.shape[-1]), **replaced})


def _wired_without_attention(answer, x):
    return _wired(answer, x, attention=torch.zeros_like)


def _wired_without_feed_forward(answer, x):
    return _wired(answer, x, feed_forward=torch.zeros_like)


def _wired_without_both(answer, x):
    return _wired(answer, x, attention=torch.zeros_like, feed_forward=torch.zeros_like)


def _wired_in_double(answer, x):
    parts = _parts(x.shape[-1]).double()
    return answer(x, **parts)


def _gradient_of_silent(answer, x):
    return input_gradients(lambda x: _wired_without_both(answer, x), x)


def _order_of_calls(answer, x):
    calls = []

    def noted(name):
        def part(y):
            calls.append(name)
            return y / 2

        return part

    answer(x, **{name: noted(name) for name in ("norm1", "attention", "norm2", "feed_forward")})
    return calls


def _is_the_input(y, x):
    expect_close(y, x, "the output, compared with the input", tolerance=1e-6)


# 04.transformer_block


class _Parts(transformer.TransformerBlock):
    """What the wrong blocks share: the right parts."""


class _PostNormBlock(_Parts):
    def forward(self, x):
        x = self.norm1(x + self.dropout(self.attention(x)))
        return self.norm2(x + self.dropout(self.feed_forward(x)))


class _ResidualAfterNormBlock(_Parts):
    def forward(self, x):
        x = self.norm1(x)
        x = x + self.dropout(self.attention(x))
        x = self.norm2(x)
        return x + self.dropout(self.feed_forward(x))


class _DropoutOnTheStreamBlock(_Parts):
    def forward(self, x):
        x = self.dropout(x + self.attention(self.norm1(x)))
        return self.dropout(x + self.feed_forward(self.norm2(x)))


class _NoDropoutBlock(_Parts):
    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.feed_forward(self.norm2(x))


class _OneNormBlock(_Parts):
    def forward(self, x):
        x = x + self.dropout(self.attention(self.norm1(x)))
        return x + self.dropout(self.feed_forward(self.norm1(x)))


class _SideBySideBlock(_Parts):
    def forward(self, x):
        return (
            x
            + self.dropout(self.attention(self.norm1(x)))
            + self.dropout(self.feed_forward(self.norm2(x)))
        )


class _NoNormBlock(_Parts):
    def forward(self, x):
        x = x + self.dropout(self.attention(x))
        return x + self.dropout(self.feed_forward(x))


_CONTEXT = 16


def _block_inputs(generator: torch.Generator) -> list[tuple]:
    return [(_randn(generator, 2, 6, 8),), (_randn(generator, 1, 3, 12),)]


def _full_context(generator: torch.Generator) -> list[tuple]:
    return [(_randn(generator, 3, _CONTEXT, 8),)]


def _many_inputs(generator: torch.Generator) -> list[tuple]:
    return [(_randn(generator, 4, _CONTEXT, 32),)]


def _config(d_model: int, dropout: float = 0.0, qkv_bias: bool = True) -> GPTConfig:
    return GPTConfig(
        d_model=d_model,
        num_heads=2,
        context_length=_CONTEXT,
        dropout=dropout,
        qkv_bias=qkv_bias,
    )


def _new_block(block_class, x, dropout=0.0, silent=(), qkv_bias=True):
    """A filled block, with the last layer of each ``silent`` branch at zero."""
    config = _config(x.shape[-1], dropout, qkv_bias)
    block = fill_parameters(block_class(config).to(x.dtype), scale=0.2)
    last = {"attention": "attention.out_proj", "feed_forward": "feed_forward.layers.2"}
    with torch.no_grad():
        for branch in silent:
            for parameter in block.get_submodule(last[branch]).parameters():
                parameter.zero_()
    return block


def _block_values(block_class, x):
    return _new_block(block_class, x).eval()(x)


def _block_shapes(block_class, x):
    return [_shapes(block_class(_config(x.shape[-1], qkv_bias=bias))) for bias in (True, False)]


def _block_at_lengths(block_class, x):
    block = _new_block(block_class, x).eval()
    return [block(x[:, :length]) for length in (1, 2, _CONTEXT)]


def _silent_block(block_class, x):
    """Whether a block whose branches add nothing hands back its input while training."""
    block = _new_block(block_class, x, dropout=0.5, silent=("attention", "feed_forward"))
    return torch.allclose(block(x), x, rtol=0.0, atol=1e-6)


def _is_handed_back(same, x):
    expect(same, "with silent branches, what comes out in training is not what went in")


def _dropped_branches(block_class, x):
    """In words, so that it does not hang on the random numbers: how much of each branch is zero."""
    found = {}
    for branch, other in (("attention", "feed_forward"), ("feed_forward", "attention")):
        block = _new_block(block_class, x, dropout=0.5, silent=(other,))
        with torch.no_grad():
            added = block(x) - x
        share = (added.abs() < 1e-6).float().mean().item()
        found[branch] = "about half" if 0.4 < share < 0.6 else f"{round(share, 1):.0%}"
    return found


def _half_of_each_is_dropped(seen, x):
    for branch, dropped in seen.items():
        expect(
            dropped == "about half",
            f"dropout=0.5 leaves {dropped} of what {branch} adds at zero",
        )


def _attention_drops(block_class, x):
    """Whether attention drops weights of its own: then not all that is added is just doubled.

    The only weight of a single token is 1, so dropping it is easy to see.
    """
    tokens = x.flatten(0, 1)[:, None]  # (B T, 1, D): texts of one token
    block = _new_block(block_class, tokens, dropout=0.5, silent=("feed_forward",))
    with torch.no_grad():
        training, plain = block.train()(tokens) - tokens, block.eval()(tokens) - tokens
    kept = training.abs() > 1e-6
    other = kept & ~torch.isclose(training, 2 * plain, rtol=1e-3, atol=1e-4)
    return (other.sum() / kept.sum()).item() > 0.1


def _attention_has_dropout(drops, x):
    expect(drops, "with dropout=0.5, none of the attention weights is dropped in training")


def _block_in_use(block_class, x):
    """Whether a block with dropout, in use, gives what one without gives, and twice the same."""
    without = _new_block(block_class, x).eval()(x)
    block = _new_block(block_class, x, dropout=0.5).eval()
    return [torch.allclose(block(x), without, rtol=0.0, atol=1e-5) for _ in range(3)]


def _nothing_is_dropped(seen, x):
    expect(seen == [True] * 3, "in use, a block with dropout=0.5 gives other numbers than without")


def _block_of_changed_token(block_class, x):
    return token_changed(_new_block(block_class, x).eval(), x, 3)


def _token_3_and_later_move(moved, x):
    expected = list(range(3, x.shape[1]))
    expect(moved == expected, f"token 3 was changed; outputs that moved: {moved}")


def _block_sensitivity(block_class, x):
    return sensitivity(_new_block(block_class, x).eval(), x)


def _block_sees_its_past(seen, x):
    sees_its_past_alone(seen)


def _block_gradients(block_class, x):
    # Without biases of queries, keys and values: that of the keys cancels in the softmax.
    return parameter_gradients(_new_block(block_class, x, qkv_bias=False), x)


def _block_copied(block_class, x):
    return copied(
        functools.partial(block_class, _config(x.shape[-1])), _new_block(block_class, x), x
    )


def _block_on_first_text(block_class, x):
    return first_alone(_new_block(block_class, x).eval(), x)


# 04.gradient_depth


def _first_to_last(num_layers: int, residual: bool = False, norm: bool = False) -> float:
    """The first layer's gradient over the last one's, in a stack of feed-forward networks."""
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(0)
        layers = [transformer.FeedForward(64) for _ in range(num_layers)]
        x, weights = torch.randn(2, 1, 32, 64)  # (1, 32, 64) each
    with torch.enable_grad():
        for layer in layers:
            y = layer(F.layer_norm(x, (64,)) if norm else x)
            x = x + y if residual else y
        (x * weights).sum().backward()
    first, last = layers[0].layers[0].weight, layers[-1].layers[0].weight
    return float(torch.norm(first.grad) / torch.norm(last.grad))


def _measure_depth() -> dict[str, int | float]:
    without = {n: _first_to_last(n) for n in range(8, 15)}
    depth = next(n for n, ratio in without.items() if ratio < 1e-6)
    return {
        "depth": depth,
        "factor": (without[14] / without[8]) ** (1 / 6),
        "with_residual": _first_to_last(depth, residual=True),
        "with_norm": _first_to_last(depth, norm=True),
    }


_DEPTH = _measure_depth()


def _near_the_depth(depth):
    near = abs(float(depth) - _DEPTH["depth"]) <= 1
    expect(near, f"got a depth of {depth}; measured here: {_DEPTH['depth']}, give or take one")


def _between(low: float, high: float, remark: str) -> Callable[[Any], None]:
    def judge(value):
        expect(low < float(value) < high, f"got {float(value):.3g}; {remark}")

    return judge


# 04.stream


_STREAM_WIDTH, _STREAM_DEPTHS = 64, (6, 24)


def _stream(
    num_layers: int, *, post_norm: bool = False, scaled: bool = False
) -> tuple[list[float], list[float]]:
    """The size of the stream before the first block and after each, and each block's change.

    Size is the root of the mean square; a change is relative to what went in.
    """
    D = _STREAM_WIDTH
    config = GPTConfig(d_model=D, num_heads=4, context_length=16, dropout=0.0)
    generator = torch.Generator().manual_seed(9)  # near the mean of 40 others in all four
    x = torch.randn(4, 16, D, generator=generator)
    sizes, changes = [float(x.square().mean().sqrt())], []
    with torch.no_grad():
        for _ in range(num_layers):
            with torch.device("meta"):
                block = transformer.TransformerBlock(config)
            block.to_empty(device="cpu")
            for name, parameter in block.named_parameters():
                if parameter.ndim == 2:
                    last = name.endswith(("out_proj.weight", "layers.2.weight"))
                    shrink = math.sqrt(2 * num_layers) if scaled and last else 1.0
                    parameter.normal_(std=1 / math.sqrt(D) / shrink, generator=generator)
                else:
                    parameter.fill_(float(name.endswith("scale")))
            old, x = x, _post_norm(x, **_branches(block)) if post_norm else block(x)
            sizes.append(float(x.square().mean().sqrt()))
            changes.append(float((x - old).norm() / old.norm()))
    return sizes, changes


def _branches(block: transformer.TransformerBlock) -> dict[str, nn.Module]:
    return {name: getattr(block, name) for name in ("norm1", "attention", "norm2", "feed_forward")}


def _measure_stream() -> dict[str, float]:
    few, many = _STREAM_DEPTHS
    sizes, changes = _stream(many)
    _, post_norm_changes = _stream(many, post_norm=True)
    scaled_sizes, _ = _stream(many, scaled=True)
    late = slice(many // 2, None)
    return {
        "growth": sizes[many] / sizes[few],
        "change": sum(changes[late]) / (many // 2),
        "post_norm_change": sum(post_norm_changes[late]) / (many // 2),
        "scaled": scaled_sizes[many],
    }


_STREAM = _measure_stream()


EXERCISES = (
    Exercise(
        id="04.layer_norm",
        title="Layer norm from its formula",
        kind="implement",
        points=2,
        difficulty=1,
        section="4.2",
        reference=transformer.LayerNorm,
        cases=_norm_inputs,
        axes=_norm_axes,
        properties=(
            Property("values", "The output follows the formula.", observe=_filled_norm),
            Property(
                "standard",
                "A new layer gives each token mean 0 and standard deviation 1.",
                observe=_new_norm,
                judge=_is_standard,
            ),
            Property(
                "tokens",
                "A token's output depends on that token alone.",
                observe=_norm_of_changed_token,
                judge=_token_1_alone_moves,
            ),
            Property(
                "epsilon",
                "Tiny vectors show the epsilon inside the root.",
                observe=_filled_norm,
                cases=_tiny_inputs,
            ),
            Property(
                "constant",
                "A vector of equal features gives zeros, not nan.",
                observe=_new_norm,
                judge=_is_zero,
                cases=_constant_inputs,
            ),
            Property(
                "parameters", "The parameters are scale and shift, (D,) each.", observe=_norm_shapes
            ),
            Property(
                "start",
                "The scale starts at 1 and the shift at 0.",
                observe=_new_norm_parameters,
            ),
            Property("eps", "A given eps is used.", observe=_norm_with_epsilon, cases=_tiny_inputs),
            Property(
                "axes",
                "Any axes may stand before the features, in any order in memory.",
                observe=_filled_norm,
                cases=_other_axes,
            ),
            Property(
                "gradients",
                "The right gradient reaches the input, the scale and the shift.",
                observe=_norm_gradients,
            ),
            Property(
                "state dict",
                "A new layer with the state dict of another one computes the same.",
                observe=_norm_copied,
                judge=same_both_times,
            ),
        ),
        hints=(
            "Mean and variance are over the last axis; keepdim=True leaves them room to line up.",
            "x.var() divides by D - 1 unless it is told correction=0.",
            "scale * (x - mean) / sqrt(variance + eps) + shift, each of the two an nn.Parameter.",
        ),
        misconceptions=(
            Misconception(
                "The unbiased variance",
                "The variance is divided by D - 1, which is what x.var() does by default. Layer "
                "norm divides by D: pass correction=0.",
                _UnbiasedNorm,
            ),
            Misconception(
                "Epsilon outside the root",
                "Epsilon is added to the standard deviation. It belongs to the variance, inside "
                "the root; for small vectors the two differ a lot.",
                _OutsideNorm,
            ),
            Misconception(
                "No root",
                "The vector is divided by its variance. It is the standard deviation, the root of "
                "the variance, that has the vector's own scale.",
                _NoRootNorm,
            ),
            Misconception(
                "Mean and variance over the tokens",
                "dim=1 is the axis of the tokens, so each feature is compared over the text, its "
                "future included. Layer norm works over the features of one token: dim=-1.",
                _TokensNorm,
            ),
            Misconception(
                "One mean and variance for the whole tensor",
                "Without dim the statistics are those of all tokens of all sequences together, so "
                "a token's output depends on the rest of the batch.",
                _WholeNorm,
            ),
            Misconception(
                "No scale and shift",
                "The normalised vector is returned as it is. Each feature also has a learned "
                "factor and offset, nn.Parameters of shape (D,).",
                _PlainNorm,
            ),
            Misconception(
                "RMSNorm",
                "The mean is not subtracted. That is RMSNorm, another norm.",
                _RootMeanSquareNorm,
                "4.8",
            ),
        ),
    ),
    Exercise(
        id="04.gelu",
        title="GELU as GPT-2 computes it",
        kind="implement",
        points=1,
        difficulty=1,
        section="4.3",
        reference=gelu,
        cases=_gelu_inputs,
        properties=(
            Property("values", "Each element is the tanh form of GELU."),
            Property(
                "form",
                "It is the tanh form and not the exact one, to many digits.",
                cases=_gelu_grid,
            ),
            Property("symmetry", "gelu(x) - gelu(-x) = x.", _both_signs, _differ_by_x),
            Property(
                "ends",
                "Far to the left it is 0, far to the right x.",
                judge=_flat_ends,
                cases=_far_out,
            ),
            Property(
                "shapes",
                "The shape may be any, a single number and no number too.",
                cases=_any_shape,
            ),
            Property(
                "gradient",
                "The slope, which training needs, is right too.",
                observe=_gelu_gradient,
            ),
        ),
        hints=(
            "math.sqrt(2 / math.pi) is a number; torch.tanh works on tensors.",
            "The cube is of x alone, and its factor 0.044715 stands outside the cube.",
            "The root of 2/π multiplies the whole sum x + 0.044715 x³.",
        ),
        misconceptions=(
            Misconception(
                "The exact form",
                "This is x Φ(x) itself. GPT-2 was trained with the tanh form, which differs in "
                "the fourth decimal.",
                _exact_gelu,
            ),
            Misconception(
                "ReLU",
                "This is max(0, x). GELU is smooth and slightly negative left of 0.",
                _relu,
            ),
            Misconception(
                "No root over 2/π",
                "The factor is √(2/π), about 0.798, and not 2/π.",
                _no_root_gelu,
            ),
            Misconception(
                "The factor is cubed too",
                "0.044715 is inside the cube. It multiplies x³: 0.044715 * x**3.",
                _cubed_product_gelu,
            ),
            Misconception(
                "The root multiplies x only",
                "√(2/π) multiplies the whole sum x + 0.044715 x³: a pair of brackets is missing.",
                _cube_alone_gelu,
            ),
            Misconception(
                "The half is missing",
                "1 + tanh(...) goes from 0 to 2, so without the factor 0.5 the right end is 2x.",
                _doubled_gelu,
            ),
            Misconception(
                "The sigmoid form",
                "x σ(1.702 x) is a coarser approximation, from the same paper. GPT-2 uses the one "
                "with tanh.",
                _sigmoid_gelu,
            ),
        ),
    ),
    Exercise(
        id="04.feed_forward",
        title="The feed-forward network",
        kind="implement",
        points=2,
        difficulty=1,
        section="4.3",
        reference=transformer.FeedForward,
        cases=_vectors,
        axes=_token_axes,
        builds_on=("04.gelu",),
        properties=(
            Property("values", "Widen, GELU, narrow.", observe=_filled_feed_forward),
            Property(
                "parameters",
                "Two matrices and two biases, four times as wide inside.",
                observe=_feed_forward_shapes,
            ),
            Property("hidden", "hidden sets the width inside.", observe=_given_width),
            Property(
                "tokens",
                "Each token is treated alone: reordered tokens give reordered outputs.",
                observe=_reordered,
                judge=_same_in_both_orders,
            ),
            Property(
                "batch",
                "A text's output does not depend on the other texts.",
                observe=_feed_forward_on_first,
                judge=same_both_times,
            ),
            Property(
                "one token",
                "It takes a single token.",
                observe=_filled_feed_forward,
                cases=_few_vectors,
            ),
            Property(
                "gradients",
                "The right gradient reaches the input and every parameter.",
                observe=_feed_forward_gradients,
            ),
            Property(
                "state dict",
                "A new layer with the state dict of another one computes the same.",
                observe=_feed_forward_copied,
                judge=same_both_times,
            ),
            Property(
                "64 bits",
                "Numbers of 64 bits keep all their digits, in whatever order they are in memory.",
                observe=_feed_forward_in_double,
                cases=_double_vectors,
            ),
        ),
        hints=(
            "nn.Sequential(first, second, third) calls its modules one after the other.",
            "course_pkg.GELU() is the tanh form; nn.GELU() without an argument is not.",
        ),
        misconceptions=(
            Misconception(
                "No activation",
                "Nothing stands between the two linear layers, so together they are one linear "
                "layer.",
                _NoActivation,
            ),
            Misconception(
                "The exact GELU",
                "nn.GELU() is the exact form. This book and GPT-2 use the tanh form: GELU() of "
                "course_pkg, or nn.GELU('tanh').",
                _ExactFeedForward,
            ),
            Misconception("ReLU", "ReLU stands where GELU belongs.", _ReluFeedForward),
            Misconception(
                "Activation at the end",
                "GELU comes after the second linear layer instead of between the two, which are "
                "then one linear layer.",
                _ActivationAtTheEnd,
            ),
            Misconception(
                "Activation after both layers",
                "GELU is applied to the output too. A branch must be able to add negative numbers "
                "to the stream.",
                _ActivationTwice,
            ),
            Misconception(
                "Not widened",
                "The width inside is d_model; without another wish it is 4 * d_model.",
                _NotWidened,
            ),
            Misconception(
                "hidden is ignored",
                "The width inside is always 4 * d_model, also when hidden is given.",
                _AlwaysFourTimes,
            ),
            Misconception(
                "A residual connection inside",
                "The input is added to the output. The block does that; with both it is added "
                "twice.",
                _OwnResidual,
                "4.4",
            ),
        ),
    ),
    Exercise(
        id="04.parameters",
        title="Count the parameters of a block",
        kind="predict",
        points=1,
        difficulty=2,
        section="4.3",
        reference=_COUNTS,
        builds_on=("04.layer_norm", "04.feed_forward"),
        properties=(
            Property(
                "attention",
                "Four projections, one of them behind the heads.",
                observe=_entry("attention"),
            ),
            Property(
                "feed_forward",
                "Two layers, the inner vector four times as wide.",
                observe=_entry("feed_forward"),
            ),
            Property("norms", "Two layer norms together.", observe=_entry("norms")),
            Property("block", "The block is their sum.", observe=_entry("block")),
        ),
        hints=(
            "nn.Linear(m, n) has m * n weights and n biases.",
            "Attention has four linear layers of D to D: queries, keys, values, output.",
            "The number of heads does not matter: heads share the four matrices between them.",
        ),
        misconceptions=(
            Misconception(
                "No biases",
                "Only the matrices are counted. In GPT-2 every linear layer has a bias.",
                _counts(attention=4 * _WIDTH**2, feed_forward=8 * _WIDTH**2),
            ),
            Misconception(
                "No bias for queries, keys and values",
                "GPT-2 has qkv_bias=True: three more vectors of D numbers.",
                _counts(attention=4 * _WIDTH**2 + _WIDTH),
            ),
            Misconception(
                "No output projection",
                "Attention ends in a fourth linear layer, out_proj, which mixes the heads.",
                _counts(attention=3 * _WIDTH**2 + 3 * _WIDTH),
            ),
            Misconception(
                "One norm",
                "A block has two layer norms, each with a scale and a shift.",
                _counts(norms=2 * _WIDTH),
            ),
            Misconception(
                "One bias width for both layers",
                "The first feed-forward layer has 4D outputs, so 4D biases; the second has D.",
                _counts(feed_forward=8 * _WIDTH**2 + 2 * _WIDTH),
            ),
        ),
    ),
    Exercise(
        id="04.residual",
        title="A block that forgets its input",
        kind="debug",
        points=2,
        difficulty=2,
        section="4.4",
        reference=fixed_block,
        cases=_vectors,
        axes=_token_axes,
        builds_on=("04.layer_norm",),
        properties=(
            Property("values", "The output is that of a pre-norm block.", observe=_wired),
            Property(
                "silent",
                "With branches that give zeros, the block hands back its input.",
                observe=_wired_without_both,
                judge=_is_the_input,
            ),
            Property(
                "feed-forward",
                "With silent attention, the feed-forward branch is added to the input.",
                observe=_wired_without_attention,
            ),
            Property(
                "attention",
                "With a silent feed-forward network, attention is added to the input.",
                observe=_wired_without_feed_forward,
            ),
            Property(
                "order",
                "Each part is called once: norm, attention, norm, feed-forward.",
                observe=_order_of_calls,
            ),
            Property(
                "gradient",
                "With silent branches, the gradient runs through unchanged.",
                observe=_gradient_of_silent,
            ),
            Property(
                "64 bits",
                "Numbers of 64 bits keep all their digits, in whatever order they are in memory.",
                observe=_wired_in_double,
                cases=_double_vectors_of_even_width,
            ),
        ),
        hints=(
            "Follow x alone: which lines replace it, and which add to it?",
            "A norm may be applied to what goes into a branch, not to what runs past it.",
        ),
        misconceptions=(
            Misconception(
                "The residual is taken after the norm",
                "x = norm(x) replaces the stream, so what is added back is the normalised vector "
                "and the input's own scale is lost.",
                _after_the_norm,
            ),
            Misconception(
                "Only the first half is mended",
                "The second norm still replaces the stream before the addition.",
                _second_not_mended,
            ),
            Misconception(
                "The second addition goes back to the block's input",
                "The sum after attention is used for the second branch but not kept: what "
                "attention added is lost to the stream.",
                _back_to_the_input,
            ),
            Misconception(
                "No residual around the feed-forward network",
                "The second branch replaces the stream instead of adding to it.",
                _first_only,
            ),
            Misconception(
                "Post-norm",
                "The norms stand behind the additions, on the stream. This block is pre-norm.",
                _post_norm,
                "4.6",
            ),
            Misconception(
                "Both branches side by side",
                "The feed-forward network reads the block's input and not the sum after attention.",
                _side_by_side,
                "4.7",
            ),
        ),
    ),
    Exercise(
        id="04.transformer_block",
        title="The transformer block",
        kind="implement",
        points=3,
        difficulty=2,
        section="4.7",
        reference=transformer.TransformerBlock,
        cases=_block_inputs,
        axes=_token_axes,
        builds_on=("04.layer_norm", "04.feed_forward", "04.residual", "03.multi_head_attention"),
        properties=(
            Property("values", "The output is that of a pre-norm block.", observe=_block_values),
            Property("parameters", "The parts have their names and sizes.", observe=_block_shapes),
            Property(
                "lengths",
                "It takes texts from one token to context_length.",
                observe=_block_at_lengths,
                cases=_full_context,
            ),
            Property(
                "causality",
                "Changing a token moves its own output and all later ones.",
                observe=_block_of_changed_token,
                judge=_token_3_and_later_move,
                cases=_full_context,
            ),
            Property(
                "gradient from the past",
                "An output has a gradient from its own and earlier tokens, and from no later one.",
                observe=_block_sensitivity,
                judge=_block_sees_its_past,
            ),
            Property(
                "gradients",
                "The right gradient reaches every parameter.",
                observe=_block_gradients,
            ),
            Property(
                "state dict",
                "A new block with the state dict of another one computes the same.",
                observe=_block_copied,
                judge=same_both_times,
            ),
            Property(
                "batch",
                "A text's output does not depend on the other texts.",
                observe=_block_on_first_text,
                judge=same_both_times,
                cases=_full_context,
            ),
            Property(
                "64 bits",
                "Numbers of 64 bits keep all their digits, in whatever order they are in memory.",
                observe=_block_values,
                cases=_double_vectors_of_even_width,
            ),
            Property(
                "in use",
                "In use, nothing is dropped.",
                observe=_block_in_use,
                judge=_nothing_is_dropped,
            ),
            Property(
                "stream",
                "While training with dropout, silent branches leave the input as it is.",
                observe=_silent_block,
                judge=_is_handed_back,
                cases=_full_context,
            ),
            Property(
                "dropout",
                "While training, dropout acts on what each branch adds.",
                observe=_dropped_branches,
                judge=_half_of_each_is_dropped,
                cases=_many_inputs,
            ),
            Property(
                "attention's dropout",
                "The rate is handed to the attention too.",
                observe=_attention_drops,
                judge=_attention_has_dropout,
                cases=_many_inputs,
            ),
        ),
        hints=(
            "MultiHeadAttention takes d_in, d_out, context_length, dropout, num_heads, qkv_bias.",
            "Two lines in forward, one for each branch: x = x + dropout(branch(norm(x))).",
        ),
        misconceptions=(
            Misconception(
                "Post-norm",
                "The norms stand behind the additions, on the stream. In a pre-norm block each "
                "stands in front of its branch.",
                _PostNormBlock,
                "4.6",
            ),
            Misconception(
                "The residual is taken after the norm",
                "x = norm(x) replaces the stream, so the input's own scale is lost.",
                _ResidualAfterNormBlock,
                "4.4",
            ),
            Misconception(
                "Dropout on the stream",
                "Dropout acts after the addition and hits the stream itself; what it drops is gone "
                "for all later layers.",
                _DropoutOnTheStreamBlock,
                "4.5",
            ),
            Misconception(
                "No dropout on the branches",
                "Attention has a dropout of its own, on its weights. Each branch has one more, "
                "before its addition.",
                _NoDropoutBlock,
                "4.5",
            ),
            Misconception(
                "One norm for both branches",
                "norm1 is used twice and norm2 never.",
                _OneNormBlock,
            ),
            Misconception(
                "Both branches side by side",
                "The feed-forward network reads the block's input and not the sum after attention.",
                _SideBySideBlock,
            ),
            Misconception(
                "No norms",
                "The branches read the stream as it is, so a drift of its scale reaches them.",
                _NoNormBlock,
                "4.2",
            ),
        ),
    ),
    Exercise(
        id="04.gradient_depth",
        title="How deep can you go without residual connections?",
        kind="explore",
        points=2,
        difficulty=2,
        section="4.4",
        reference=_DEPTH,
        properties=(
            Property(
                "depth",
                "Without residual connections, less than a millionth is left at this depth.",
                observe=_entry("depth"),
                judge=_near_the_depth,
            ),
            Property(
                "factor",
                "Each further layer without a residual connection leaves this much.",
                observe=_entry("factor"),
                judge=_between(0.12, 0.23, "one more layer leaves about a sixth"),
            ),
            Property(
                "with_residual",
                "With residual connections, the first layer's gradient keeps its size.",
                observe=_entry("with_residual"),
                judge=_between(0.3, 3.0, "a gradient that keeps its size gives about 1"),
            ),
            Property(
                "with_norm",
                "With norms alone it keeps its size too.",
                observe=_entry("with_norm"),
                judge=_between(0.2, 5.0, "a norm in front stretches the gradient with the vector"),
            ),
        ),
        hints=(
            "Measure layers[0].layers[0].weight.grad.norm() over the same of layers[-1].",
            "Begin with new layers for each depth, and try depths one after the other.",
        ),
        misconceptions=(
            Misconception(
                "Still above a millionth",
                "At this depth there is more than a millionth left, about a factor of six a layer.",
                {**_DEPTH, "depth": _DEPTH["depth"] - 3},
            ),
            Misconception(
                "The ratio upside down",
                "The last layer's gradient is divided by the first one's: without residual "
                "connections that never falls below a millionth, it grows.",
                {**_DEPTH, "depth": 100},
            ),
            Misconception(
                "The residual stack was measured without its additions",
                "With x = x + layer(x) the ratio stays near 1 at any depth you try.",
                {**_DEPTH, "with_residual": 1e-6},
            ),
            Misconception(
                "The factor upside down",
                "This is how many times larger the gradient becomes from a layer to the next. On "
                "its way back it is multiplied by the inverse, about a sixth.",
                {**_DEPTH, "factor": 1 / _DEPTH["factor"]},
            ),
            Misconception(
                "Norms without effect",
                "A norm in front of each layer keeps the gradient's size: where the vectors "
                "shrink, dividing them by their size stretches the gradient.",
                {**_DEPTH, "with_norm": 1e-6},
            ),
        ),
    ),
    Exercise(
        id="04.stream",
        title="How large the stream becomes",
        kind="measure",
        points=2,
        difficulty=2,
        section="4.6",
        reference=_STREAM,
        builds_on=("04.transformer_block",),
        properties=(
            Property(
                "growth",
                "How many times larger the stream is after 24 pre-norm blocks than after 6.",
                observe=_entry("growth"),
                tolerance=0.25,
            ),
            Property(
                "change",
                "How much a late pre-norm block changes the stream.",
                observe=_entry("change"),
                tolerance=0.18,
            ),
            Property(
                "post_norm_change",
                "How much a late post-norm block changes the stream.",
                observe=_entry("post_norm_change"),
                tolerance=0.1,
            ),
            Property(
                "scaled",
                "How large it is after 24 pre-norm blocks whose branches end smaller.",
                observe=_entry("scaled"),
                tolerance=0.1,
            ),
        ),
        hints=(
            "The size of the stream is x.square().mean().sqrt(); keep it after each block.",
            "A post-norm block is norm1(x + attention(x)), then norm2(x + feed_forward(x)).",
            "nn.init.normal_ and nn.init.zeros_ change a parameter in place. Which parameters have "
            "two axes?",
        ),
        misconceptions=(
            Misconception(
                "The stream grows with the number of blocks",
                "Four times the blocks would make it four times as large if all of them added in "
                "the same direction. Theirs are random: the squares add up, and the size grows "
                "like the root.",
                {**_STREAM, "growth": 4.0},
            ),
            Misconception(
                "A pre-norm stream keeps its size",
                "The norm stands in the branch. Nothing brings the stream itself back to size.",
                {**_STREAM, "growth": 1.0},
            ),
            Misconception(
                "The change is not relative",
                "What a block adds is divided by the size that the stream had at the start. It "
                "has grown since: divide by what went into the block.",
                {**_STREAM, "change": 1.45},
            ),
            Misconception(
                "Post-norm was measured as pre-norm",
                "Behind each addition stands a norm, so the stream stays at size 1, and what a "
                "late block adds counts as fully as what the first one adds.",
                {**_STREAM, "post_norm_change": _STREAM["change"]},
            ),
            Misconception(
                "The default initialisation",
                "PyTorch's own initialisation of nn.Linear is smaller: a standard deviation of "
                "1/√(3D). The exercise asks for 1/√D.",
                {"growth": 1.46, "change": 0.2, "post_norm_change": 0.32, "scaled": 1.11},
                "4.1",
            ),
            Misconception(
                "All matrices were made smaller",
                "Divide only the matrix that ends each branch. With the others divided too, the "
                "branches add next to nothing.",
                {**_STREAM, "scaled": 1.0},
                "5.6",
            ),
        ),
    ),
)
