"""Right answers to the exercises of chapter 4 that do not look like the reference."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from course_pkg import FeedForward, GPTConfig, LayerNorm, MultiHeadAttention, TransformerBlock
from course_pkg.checks import ch04


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


class NormByMatrix(FusedNorm):
    """The mean is taken out by a matrix, the length brought to √D by a norm."""

    def forward(self, x):
        D = x.shape[-1]
        centred = x @ (torch.eye(D, dtype=x.dtype) - 1 / D)
        length = torch.sqrt((centred**2).sum(-1, keepdim=True) + D * self.eps)
        return torch.addcmul(self.shift, self.scale, centred / length * math.sqrt(D))


def gelu_by_sigmoid(x):
    return x * torch.sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))


def gelu_factored(x):
    return x / 2 + x / 2 * torch.tanh(x * (0.7978845608028654 + 0.035677408136300125 * x * x))


def gelu_in_double(x):
    wide = x.double()
    inner = torch.sqrt(torch.tensor(2.0, dtype=torch.float64) / torch.pi)
    return 0.5 * wide * (1 + torch.tanh(inner * (wide + 0.044715 * torch.pow(wide, 3))))


def gelu_by_relu(x):
    """What is added to ReLU is even: -|x| times the weight that is left."""
    size = x.abs()
    inner = math.sqrt(2 / math.pi) * (size + 0.044715 * size**3)
    return torch.relu(x) - size * torch.sigmoid(-2 * inner)


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


class FeedForwardFeatureByFeature(FeedForward):
    """The output is a sum over the features inside."""

    def forward(self, x):
        first, _, last = self.layers
        inside = F.gelu(F.linear(x, first.weight, first.bias), approximate="tanh")
        parts = [inside[..., h, None] * last.weight[:, h] for h in range(inside.shape[-1])]
        return sum(parts) + last.bias


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


def block_in_a_loop(x, *parts):
    for norm, branch in zip(parts[::2], parts[1::2], strict=True):
        x = torch.add(branch(norm(x)), x)
    return x


def block_by_keywords(x, norm1, attention, norm2, feed_forward):
    return block_in_a_loop(x, norm1, attention, norm2, feed_forward)


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


class BlockOfChanges(BlockOfLoops):
    """One dropout for each branch, and the input is added at the end."""

    def __init__(self, config):
        super().__init__(config)
        self.dropout = nn.ModuleList([nn.Dropout(config.dropout), nn.Dropout(config.dropout)])

    def forward(self, x):
        first = self.dropout[0](self.attention(self.norm1(x)))
        second = self.dropout[1](self.feed_forward(self.norm2(x + first)))
        return torch.stack([x, first, second]).sum(dim=0)


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


def measured_stream(std=1 / 8, tokens=(4, 32)):
    """With another seed at each call, and another way to build the blocks."""

    def size(x):
        return torch.linalg.vector_norm(x).item() / math.sqrt(x.numel())

    def blocks(count, last_std):
        config = GPTConfig(d_model=64, num_heads=4, context_length=32, dropout=0.0)
        for _ in range(count):
            block = TransformerBlock(config)
            state = {
                name: torch.randn_like(tensor) * (last_std if _ends_a_branch(name) else std)
                if tensor.ndim > 1
                else torch.full_like(tensor, float("scale" in name))
                for name, tensor in block.state_dict().items()
            }
            block.load_state_dict(state)
            yield block

    with torch.no_grad():
        x = y = z = torch.randn(*tokens, 64)
        found, pre, post = {}, [], []
        for depth, block in enumerate(blocks(24, std), start=1):
            old, x = x, block(x)
            found[depth] = size(x)
            pre.append(size(x - old) / size(old))
        for block in blocks(24, std):
            old = y
            y = block.norm1(y + block.attention(y))
            y = block.norm2(y + block.feed_forward(y))
            post.append(size(y - old) / size(old))
        for block in blocks(24, std / math.sqrt(48)):
            z = block(z)
    return {
        "growth": found[24] / found[6],
        "change": float(np.mean(pre[-12:])),
        "post_norm_change": torch.tensor(post[-12:]).mean(),
        "scaled": size(z),
    }


def _ends_a_branch(name):
    return name.endswith(("out_proj.weight", "layers.2.weight"))


def measured_depth():
    """With another seed at each call."""

    def ratio(count, residual=False, norm=False):
        layers = nn.ModuleList(FeedForward(64) for _ in range(count))
        x = torch.randn(1, 32, 64)
        for layer in layers:
            y = layer(F.layer_norm(x, (64,)) if norm else x)
            x = y + x * residual
        (x * torch.randn_like(x)).sum().backward()
        gradients = [layer.layers[0].weight.grad.norm().item() for layer in layers]
        return gradients[0] / gradients[-1]

    ratios = [ratio(count) for count in range(2, 16)]
    slope, _ = np.polyfit(range(2, 16), np.log(ratios), 1)
    depth = 2 + int(np.argmax(np.array(ratios) < 1e-6))
    return {
        "depth": depth,
        "factor": math.exp(slope),
        "with_residual": ratio(depth, residual=True),
        "with_norm": ratio(depth, norm=True),
    }


RIGHT = {
    "04.layer_norm": {
        "fused": FusedNorm,
        "64 bits": NormInDouble,
        "sums": NormBySums,
        "matrix": NormByMatrix,
    },
    "04.gelu": {
        "sigmoid": gelu_by_sigmoid,
        "factored": gelu_factored,
        "64 bits": gelu_in_double,
        "ReLU and the rest": gelu_by_relu,
        "module": nn.GELU("tanh"),
    },
    "04.feed_forward": {
        "module list": FeedForwardByHand,
        "token by token": FeedForwardTokenByToken,
        "matrices": FeedForwardByMatrices,
        "feature by feature": FeedForwardFeatureByFeature,
    },
    "04.parameters": {
        "formulas": counted_with_code,
        "with a remark": {**ch04._COUNTS, "remark": "12 D² + 13 D"},
        "tensors": {name: torch.tensor(count) for name, count in ch04._COUNTS.items()},
    },
    "04.residual": {
        "names": block_by_name,
        "changes": block_by_changes,
        "in place on a copy": block_in_place_on_a_copy,
        "loop": block_by_keywords,
    },
    "04.transformer_block": {
        "loop": BlockOfLoops,
        "functions": BlockOfFunctions,
        "the learner's parts": BlockOfLearnersParts,
        "changes": BlockOfChanges,
    },
    "04.gradient_depth": {
        "measured": measured_depth,
        "rounded": {"depth": 10, "factor": 0.17, "with_residual": 1.1, "with_norm": 1},
        "tensors": {
            "depth": torch.tensor(12),
            "factor": torch.tensor(1 / 6),
            "with_residual": torch.tensor(0.9),
            "with_norm": torch.tensor([0.8]),
        },
    },
    "04.stream": {
        "measured": measured_stream,
        "rounded": {"growth": 2, "change": 0.25, "post_norm_change": 1.05, "scaled": 1.4},
        "numpy": {name: np.float32(size) for name, size in ch04._STREAM.items()},
    },
}
