"""The exercises of chapter 4: right answers pass by any route, wrong ones fail and are told why."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from judging import evaluate_at_seeds
from torch import nn

from course_pkg import FeedForward, GPTConfig, LayerNorm, MultiHeadAttention
from course_pkg.checks import ch04

# Right by another route


class FusedNorm(nn.Module):
    def __init__(self, d_model, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.shift = nn.Parameter(torch.zeros(d_model))  # in another order
        self.scale = nn.Parameter(torch.ones(d_model))

    def forward(self, x):
        return F.layer_norm(x, self.shift.shape, self.scale, self.shift, self.eps)


class NormInDouble(FusedNorm):
    def forward(self, x):
        wide = x.double()
        centred = wide - wide.mean(-1, keepdim=True)
        normalised = centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + self.eps)
        return normalised * self.scale + self.shift


class NormBySums(FusedNorm):
    def forward(self, x):
        D = x.shape[-1]
        mean = torch.einsum("...d->...", x)[..., None] / D
        variance = x.var(dim=-1, keepdim=True) * (D - 1) / D
        return self.shift + (x - mean) / (variance + self.eps) ** 0.5 * self.scale


def gelu_by_sigmoid(x):
    return x * torch.sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))


def gelu_factored(x):
    return x / 2 + x / 2 * torch.tanh(x * (0.7978845608028654 + 0.035677408136300125 * x * x))


def gelu_in_numpy(x):
    x = x.numpy()
    return torch.from_numpy(0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))))


class FeedForwardByHand(nn.Module):
    def __init__(self, d_model, hidden=None):
        super().__init__()
        width = hidden or 4 * d_model
        self.layers = nn.ModuleList(
            [nn.Linear(d_model, width), nn.GELU("tanh"), nn.Linear(width, d_model)]
        )

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class FeedForwardTokenByToken(FeedForward):
    def forward(self, x):
        return torch.stack([self.layers(token) for token in x.unbind(dim=1)], dim=1)


class FeedForwardByMatrices(FeedForward):
    def forward(self, x):
        first, _, last = self.layers
        hidden = gelu_by_sigmoid(torch.einsum("btd,hd->bth", x, first.weight) + first.bias)
        return hidden @ last.weight.mT + last.bias


def block_by_name(x, norm1, attention, norm2, feed_forward):
    after_attention = x + attention(norm1(x))
    return after_attention + feed_forward(norm2(after_attention))


def block_by_changes(x, norm1, attention, norm2, feed_forward):
    change = attention(norm1(x))
    return x + (change + feed_forward(norm2(x + change)))


def block_in_place_on_a_copy(x, norm1, attention, norm2, feed_forward):
    x = x.clone()
    x += attention(norm1(x))
    x += feed_forward(norm2(x))
    return x


class BlockOfLoops(nn.Module):
    def __init__(self, config):
        super().__init__()
        D = config.d_model
        self.attention = MultiHeadAttention(
            D, D, config.context_length, config.dropout, config.num_heads, config.qkv_bias
        )
        self.feed_forward = FeedForward(D)
        self.norm1, self.norm2 = LayerNorm(D), LayerNorm(D)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x):
        for norm, branch in ((self.norm1, self.attention), (self.norm2, self.feed_forward)):
            x = self.dropout(branch(norm(x))) + x
        return x


class BlockOfFunctions(BlockOfLoops):
    def forward(self, x):
        def dropped(y):
            return F.dropout(y, self.dropout.p, self.training)

        x = x + dropped(self.attention(self.norm1(x)))
        return torch.add(x, dropped(self.feed_forward(self.norm2(x))))


class BlockOfLearnersParts(BlockOfLoops):
    def __init__(self, config):
        super().__init__(config)
        self.norm1, self.norm2 = FusedNorm(config.d_model), NormBySums(config.d_model)
        self.feed_forward = FeedForwardByHand(config.d_model)


def counted_with_code():
    D = GPTConfig.preset("gpt2-medium").d_model
    attention = 4 * (D + 1) * D
    feed_forward = D * (4 * D + 1) + 4 * D * (D + 1)
    norms = 4 * D
    return {
        "norms": norms,
        "attention": attention,
        "feed_forward": feed_forward,
        "block": attention + feed_forward + norms,
    }


ALTERNATIVES = {
    "04.layer_norm": [FusedNorm, NormInDouble, NormBySums],
    "04.gelu": [nn.GELU("tanh"), gelu_by_sigmoid, gelu_factored, gelu_in_numpy],
    "04.feed_forward": [FeedForwardByHand, FeedForwardTokenByToken, FeedForwardByMatrices],
    "04.parameters": [counted_with_code, {**ch04._COUNTS, "remark": "12 D² + 13 D"}],
    "04.residual": [block_by_name, block_by_changes, block_in_place_on_a_copy],
    "04.transformer_block": [BlockOfLoops, BlockOfFunctions, BlockOfLearnersParts],
    "04.gradient_depth": [
        {"depth": 10, "with_residual": 1.1},
        {"depth": 12, "with_residual": torch.tensor(0.9)},
        lambda: {"depth": 11, "with_residual": 0.97},
    ],
}


@pytest.mark.parametrize(
    ("exercise_id", "answer"),
    [
        pytest.param(exercise_id, answer, id=f"{exercise_id}-{number}")
        for exercise_id, answers in ALTERNATIVES.items()
        for number, answer in enumerate(answers)
    ],
)
def test_right_by_another_route_passes(exercise_id, answer):
    for report in evaluate_at_seeds(exercise_id, answer):
        assert report.status == "passed", report.text()


# Wrong in ways that no misconception foresees


class BlockThatLooksAhead(BlockOfLoops):
    def forward(self, x):
        return super().forward(x + x.mean(dim=1, keepdim=True))


class SwappedNorm(FusedNorm):
    def forward(self, x):
        return F.layer_norm(x, self.shift.shape, self.shift, self.scale, self.eps)


def add_in_place(x, norm1, attention, norm2, feed_forward):
    x += attention(norm1(x))
    return x + feed_forward(norm2(x))


@pytest.mark.parametrize(
    ("exercise_id", "answer"),
    [
        ("04.layer_norm", SwappedNorm),
        ("04.layer_norm", nn.Identity),
        ("04.gelu", lambda x: x),
        ("04.gelu", torch.nn.functional.silu),
        ("04.feed_forward", nn.Identity),
        ("04.parameters", 12_596_224),
        ("04.parameters", {**ch04._COUNTS, "block": 12 * 1024**2}),
        ("04.residual", lambda x, norm1, attention, norm2, feed_forward: x),
        ("04.residual", add_in_place),
        ("04.transformer_block", BlockThatLooksAhead),
        ("04.gradient_depth", {"depth": 7, "with_residual": 1.0}),
        ("04.gradient_depth", {"depth": 11, "with_residual": math.nan}),
        ("04.gradient_depth", 11),
    ],
)
def test_wrong_answers_fail(exercise_id, answer):
    for report in evaluate_at_seeds(exercise_id, answer):
        assert report.status == "failed"
