"""The exercises of chapter 4: wrong answers of no known kind fail, and for the right reason."""

import math

import pytest
import torch
import torch.nn.functional as F
from judging import evaluate_at_seeds
from right_answers.ch04 import BlockOfLoops, FusedNorm, measured_stream
from torch import nn

from course_pkg import FeedForward, MultiHeadAttention
from course_pkg.checks import ch04

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
        ("04.gradient_depth", {**ch04._DEPTH, "depth": 7}),
        ("04.gradient_depth", {**ch04._DEPTH, "with_residual": math.nan}),
        ("04.gradient_depth", {"depth": 11, "with_residual": 1.0}),
        ("04.gradient_depth", 11),
        ("04.stream", {**ch04._STREAM, "scaled": 4.0}),
        ("04.stream", lambda: measured_stream(std=1 / 16)),
    ],
)
def test_wrong_answers_fail(exercise_id, answer):
    for report in evaluate_at_seeds(exercise_id, answer):
        assert report.status == "failed"


# Wrong in one respect alone


class NormOf32Bits(FusedNorm):
    """It takes its numbers in 32 bits, whatever they come in."""

    def forward(self, x):
        return super().forward(x.float().to(x.dtype))


class NormWithFixedEpsilon(FusedNorm):
    def __init__(self, d_model, eps=1e-5):
        super().__init__(d_model)


class NormThatStartsAtZero(FusedNorm):
    def __init__(self, d_model, eps=1e-5):
        super().__init__(d_model, eps)
        self.scale.data.zero_()


class NormOfThreeAxes(FusedNorm):
    def forward(self, x):
        B, T, D = x.shape
        return super().forward(x.reshape(B * T, D)).reshape(B, T, D)


class NormWithConstantStatistics(FusedNorm):
    def forward(self, x):
        mean = x.mean(-1, keepdim=True).detach()
        variance = x.var(-1, correction=0, keepdim=True).detach()
        return self.scale * (x - mean) / torch.sqrt(variance + self.eps) + self.shift


def gelu_without_gradient(x):
    return F.gelu(x.detach(), approximate="tanh")


def gelu_of_filled_tensors(x):
    return F.gelu(x, approximate="tanh") if x.max() < 99 else x


class FeedForwardOf32Bits(FeedForward):
    def forward(self, x):
        return super().forward(x.float().to(x.dtype))


class FeedForwardWithoutGradient(FeedForward):
    def forward(self, x):
        first, activation, last = self.layers
        return last(activation(first(x)).detach())


class FeedForwardWithoutOneToken(FeedForward):
    def forward(self, x):
        return super().forward(x.squeeze(1))


def residual_in_32_bits(x, norm1, attention, norm2, feed_forward):
    x = (x + attention(norm1(x))).float().to(x.dtype)
    return x + feed_forward(norm2(x))


def residual_without_gradient(x, norm1, attention, norm2, feed_forward):
    x = x.detach() + attention(norm1(x))
    return x + feed_forward(norm2(x))


class BlockWithoutAttentionDropout(BlockOfLoops):
    def __init__(self, config):
        super().__init__(config)
        D = config.d_model
        self.attention = MultiHeadAttention(
            D, D, config.context_length, 0.0, config.num_heads, config.qkv_bias
        )


class BlockThatAlwaysDrops(BlockOfLoops):
    def forward(self, x):
        for norm, branch in ((self.norm1, self.attention), (self.norm2, self.feed_forward)):
            x = x + F.dropout(branch(norm(x)), self.dropout.p)
        return x


class BlockWithFrozenNorm(BlockOfLoops):
    def __init__(self, config):
        super().__init__(config)
        self.norm1.requires_grad_(False)


class BlockOf32Bits(BlockOfLoops):
    def forward(self, x):
        return super().forward(x.float().to(x.dtype))


@pytest.mark.parametrize(
    ("exercise_id", "answer", "failing"),
    [
        ("04.layer_norm", NormOf32Bits, {"values", "gradients"}),
        ("04.layer_norm", NormWithFixedEpsilon, {"eps"}),
        ("04.layer_norm", NormThatStartsAtZero, {"standard", "start"}),
        ("04.layer_norm", NormOfThreeAxes, {"axes"}),
        ("04.layer_norm", NormWithConstantStatistics, {"gradients"}),
        ("04.gelu", gelu_without_gradient, {"gradient"}),
        ("04.gelu", gelu_of_filled_tensors, {"shapes"}),
        ("04.feed_forward", FeedForwardOf32Bits, {"64 bits"}),
        ("04.feed_forward", FeedForwardWithoutGradient, {"gradients"}),
        ("04.feed_forward", FeedForwardWithoutOneToken, {"one token"}),
        ("04.residual", residual_in_32_bits, {"64 bits"}),
        ("04.residual", residual_without_gradient, {"gradient"}),
        ("04.transformer_block", BlockWithoutAttentionDropout, {"attention's dropout"}),
        ("04.transformer_block", BlockThatAlwaysDrops, {"in use"}),
        ("04.transformer_block", BlockWithFrozenNorm, {"gradients"}),
        ("04.transformer_block", BlockOf32Bits, {"64 bits"}),
        ("04.transformer_block", ch04._NoDropoutBlock, {"dropout"}),
        ("04.transformer_block", ch04._DropoutOnTheStreamBlock, {"stream", "dropout"}),
    ],
)
def test_only_these_properties_fail(exercise_id, answer, failing):
    for report in evaluate_at_seeds(exercise_id, answer):
        assert {outcome.name for outcome in report.outcomes if not outcome.holds} - {
            "inputs"
        } == failing
