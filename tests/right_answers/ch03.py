"""Right answers to the exercises of chapter 3 that do not look like the reference."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from course_pkg import CausalAttention, MultiHeadAttention
from course_pkg.checks import ch03


def split_in_a_loop(x, num_heads):
    return torch.stack(x.split(x.shape[-1] // num_heads, dim=-1), dim=1)


def split_by_permute(x, num_heads):
    B, T, D = x.shape
    return x.double().contiguous().view(B, T, num_heads, D // num_heads).permute(0, 2, 1, 3)


def split_element_by_element(x, num_heads):
    B, T, D = x.shape
    Dh = D // num_heads
    heads = x.new_empty(B, num_heads, T, Dh)
    for h in range(num_heads):
        for d in range(Dh):
            heads[:, h, :, d] = x[:, :, h * Dh + d]
    return heads


def split_by_index(x, num_heads):
    features = torch.arange(x.shape[-1]).reshape(num_heads, -1)  # (H, Dh)
    return x[..., features].swapaxes(1, 2)


def split_by_unfold(x, num_heads):
    size = x.shape[2] // num_heads
    return x.unfold(2, size, size).permute(0, 2, 1, 3)


def merge_in_a_loop(x):
    return torch.cat([x[:, h] for h in range(x.shape[1])], dim=-1)


def merge_by_contiguous_view(x):
    B, H, T, Dh = x.shape
    return x.transpose(1, 2).contiguous().view(B, T, H * Dh)


def merge_by_einsum(x):
    _, H, _, Dh = x.shape
    place = torch.eye(H * Dh, dtype=x.dtype).view(H, Dh, H * Dh)
    return torch.einsum("bhtd,hde->bte", x, place)


def merge_by_unbinding(x):
    return torch.concat(x.unbind(dim=1), dim=2)


def merge_into_a_buffer(x):
    B, H, T, Dh = x.shape
    merged = torch.zeros(B, T, H * Dh, dtype=torch.float64)
    for h in range(H):
        merged[:, :, h * Dh : (h + 1) * Dh] = x[:, h]
    return merged


def project_by_linear(x, weight, num_heads):
    parts = F.linear(x, weight).tensor_split(3, dim=-1)
    return [split_in_a_loop(part, num_heads) for part in parts]


def project_head_by_head(x, weight, num_heads):
    blocks = weight.reshape(3, num_heads, -1, weight.shape[1])
    return tuple(torch.einsum("btk,hdk->bhtd", x, block) for block in blocks)


def project_in_double(x, weight, num_heads):
    parts = (weight.double() @ x.double().mT).mT.chunk(3, dim=2)
    return tuple(split_in_a_loop(part, num_heads) for part in parts)


def project_as_one_tensor(x, weight, num_heads):
    B, T, _ = x.shape
    return (x @ weight.T).reshape(B, T, 3, num_heads, -1).permute(2, 0, 3, 1, 4)


class LayerWithFusedKernel(nn.Module):
    def __init__(
        self, d_in, d_out, context_length, dropout, num_heads, qkv_bias=False, num_kv_heads=None
    ):
        super().__init__()
        self.heads, self.kv_heads = num_heads, num_kv_heads or num_heads
        kv_width = d_out // num_heads * self.kv_heads
        self.W_value = nn.Linear(d_in, kv_width, qkv_bias)
        self.W_key = nn.Linear(d_in, kv_width, qkv_bias)
        self.W_query = nn.Linear(d_in, d_out, qkv_bias)
        self.out_proj = nn.Linear(d_out, d_out)
        self.rate = dropout

    def forward(self, x):
        q = split_in_a_loop(self.W_query(x), self.heads)
        k = split_in_a_loop(self.W_key(x), self.kv_heads)
        v = split_in_a_loop(self.W_value(x), self.kv_heads)
        rate = self.rate if self.training else 0.0
        shared = self.kv_heads < self.heads
        out = F.scaled_dot_product_attention(
            q, k, v, dropout_p=rate, is_causal=True, enable_gqa=shared
        )
        return self.out_proj(merge_in_a_loop(out))


class LayerHeadByHead(LayerWithFusedKernel):
    def forward(self, x):
        T = x.shape[1]
        allowed = torch.ones(T, T).tril() == 1
        queries = self.W_query(x).chunk(self.heads, dim=-1)
        keys, values = (f(x).chunk(self.kv_heads, dim=-1) for f in (self.W_key, self.W_value))
        outputs = []
        for h, q in enumerate(queries):
            used = h * self.kv_heads // self.heads
            scores = torch.einsum("bid,bjd->bij", q, keys[used]) * q.shape[-1] ** -0.5
            weights = torch.where(allowed, scores, float("-inf")).softmax(-1)
            outputs.append(F.dropout(weights, self.rate, self.training) @ values[used])
        return self.out_proj(torch.cat(outputs, dim=-1))


class LayerByGroups(LayerWithFusedKernel):
    """Queries in groups, keys and values broadcast: nothing is repeated."""

    def __init__(self, d_in, d_out, context_length, *args, **kwargs):
        super().__init__(d_in, d_out, context_length, *args, **kwargs)
        self.register_buffer("mask", torch.full((context_length, context_length), -1e9).triu(1))

    def forward(self, x):
        B, T, _ = x.shape
        G = self.kv_heads
        q = self.W_query(x).view(B, T, G, self.heads // G, -1)
        k, v = self.W_key(x).view(B, T, G, -1), self.W_value(x).view(B, T, G, -1)
        scores = torch.einsum("bigud,bjgd->bguij", q / math.sqrt(q.shape[-1]), k)
        weights = (scores + self.mask[:T, :T]).exp()
        weights = weights / weights.sum(-1, keepdim=True)
        weights = nn.functional.dropout(weights, p=self.rate, training=self.training)
        return self.out_proj(torch.einsum("bguij,bjgd->bigud", weights, v).flatten(2))


class LayerWithBareParameters(nn.Module):
    """Every matrix by hand, the three projections multiplied at once, 64 bits inside."""

    def __init__(
        self, d_in, d_out, context_length, dropout, num_heads, qkv_bias=False, num_kv_heads=None
    ):
        super().__init__()
        self.sizes = [d_out] + 2 * [d_out // num_heads * (num_kv_heads or num_heads)]
        for name, size in zip(("W_query", "W_key", "W_value"), self.sizes, strict=True):
            part = nn.Module()
            part.weight = nn.Parameter(torch.randn(size, d_in) / math.sqrt(d_in))
            part.bias = nn.Parameter(torch.zeros(size)) if qkv_bias else None
            self.add_module(name, part)
        self.out_proj = nn.Linear(d_out, d_out)
        self.attention_dropout = nn.Dropout(dropout)
        self.num_heads = num_heads

    def forward(self, x):
        parts = (self.W_query, self.W_key, self.W_value)
        y = x.double() @ torch.cat([p.weight for p in parts]).double().T
        if parts[0].bias is not None:
            y = y + torch.cat([p.bias for p in parts])
        Dh = self.sizes[0] // self.num_heads
        q, k, v = (part.unflatten(-1, (-1, Dh)).movedim(2, 1) for part in y.split(self.sizes, -1))
        index = torch.arange(self.num_heads) // (self.num_heads // k.shape[1])
        scores = q @ k[:, index].mT / Dh**0.5
        positions = torch.arange(x.shape[1])
        scores[..., positions[:, None] < positions] = -math.inf
        weights = self.attention_dropout(scores.softmax(dim=-1))
        context = (weights @ v[:, index]).movedim(1, 2).reshape(*x.shape[:2], -1)
        return self.out_proj(context.to(x.dtype))


def from_torch_by_slices(state_dict):
    D = state_dict["out_proj.bias"].numel()
    result = {}
    for i, name in enumerate(("W_query", "W_key", "W_value")):
        result[f"{name}.weight"] = state_dict["in_proj_weight"][i * D : (i + 1) * D].clone()
        result[f"{name}.bias"] = state_dict["in_proj_bias"][i * D : (i + 1) * D].clone()
    result |= {key: value for key, value in state_dict.items() if key.startswith("out_proj")}
    return result


def from_torch_through_the_layer(state_dict):
    D = state_dict["out_proj.bias"].numel()
    layer = MultiHeadAttention(D, D, 3, 0.0, 2, qkv_bias=True)
    for start, linear in enumerate((layer.W_query, layer.W_key, layer.W_value)):
        rows = torch.arange(start * D, (start + 1) * D)
        linear.weight.data = state_dict["in_proj_weight"][rows]
        linear.bias.data = state_dict["in_proj_bias"][rows]
    layer.out_proj.weight.data = state_dict["out_proj.weight"]
    layer.out_proj.bias.data = state_dict["out_proj.bias"]
    return layer.state_dict()


def from_torch_by_view(state_dict):
    weights = state_dict["in_proj_weight"].unflatten(0, (3, -1))
    biases = state_dict["in_proj_bias"].view(3, -1)
    return {
        "out_proj.bias": state_dict["out_proj.bias"],
        "out_proj.weight": nn.Parameter(state_dict["out_proj.weight"]),
        **{f"W_{n}.weight": w for n, w in zip(("query", "key", "value"), weights, strict=True)},
        **{f"W_{n}.bias": b for n, b in zip(("query", "key", "value"), biases, strict=True)},
    }


def heads_fused(queries, keys, values, num_heads):
    parts = [split_in_a_loop(t, num_heads) for t in (queries, keys, values)]
    return merge_in_a_loop(F.scaled_dot_product_attention(*parts, is_causal=True))


def heads_in_a_loop(queries, keys, values, num_heads):
    d = queries.shape[-1]
    size, outputs = d // num_heads, []
    eye = torch.eye(d, dtype=queries.dtype)
    for h in range(num_heads):
        rows = eye[h * size : (h + 1) * size]
        head = CausalAttention(d, size, context_length=queries.shape[1], dropout=0.0)
        for linear in (head.W_query, head.W_key, head.W_value):
            linear.weight.data = rows
        q, k, v = head.W_query(queries), head.W_key(keys), head.W_value(values)
        scores = (q @ k.mT / math.sqrt(size)).masked_fill(~head.allowed, -torch.inf)
        outputs.append(scores.softmax(dim=-1) @ v)
    return torch.cat(outputs, dim=-1)


def heads_by_einsum(queries, keys, values, num_heads):
    q, k, v = [t.unflatten(-1, (num_heads, -1)) for t in (queries, keys, values)]  # (B, T, H, Dh)
    scores = torch.einsum("bihd,bjhd->bhij", q, k) * q.shape[-1] ** -0.5
    T = scores.shape[-1]
    weights = (scores + torch.full((T, T), -torch.inf).triu(1)).softmax(-1)
    return torch.einsum("bhij,bjhd->bihd", weights, v).flatten(2)


def heads_token_by_token(queries, keys, values, num_heads):
    q, k, v = [split_by_permute(t, num_heads) for t in (queries, keys, values)]
    outputs = []
    for i in range(queries.shape[1]):
        past = slice(0, i + 1)
        scores = (k[:, :, past] @ q[:, :, i, :, None]).squeeze(-1) / math.sqrt(q.shape[-1])
        outputs.append((scores.softmax(-1)[..., None] * v[:, :, past]).sum(2).flatten(1))
    return torch.stack(outputs, dim=1)


def previous_in_a_loop(weights):
    B, H, T, _ = weights.shape
    sums = torch.zeros(H, dtype=torch.float64)
    for b in range(B):
        for i in range(1, T):
            sums += weights[b, :, i, i - 1]
    return sums / (B * (T - 1))


def previous_by_indexing(weights):
    i = torch.arange(1, weights.shape[-1])
    return weights[:, :, i, i - 1].mean(-1).mean(0)


def previous_by_trace(weights):
    below = weights[:, :, 1:, :-1]
    return torch.einsum("bhii->h", below) / (below.shape[0] * below.shape[-1])


def previous_by_mask(weights):
    T = weights.shape[-1]
    below = torch.diag(torch.ones(T - 1), -1).bool()
    return weights[:, :, below].transpose(0, 1).flatten(1).mean(1)


def operations(num_tokens, num_heads, d_model=96):
    """By adding up the products: (m, k) @ (k, n) takes 2 m k n operations."""
    head_dim = d_model // num_heads
    products = 4 * [(num_tokens, d_model, d_model)]
    products += num_heads * [(num_tokens, head_dim, num_tokens), (num_tokens, num_tokens, head_dim)]
    return sum(2 * m * k * n for m, k, n in products)


def cost_by_hand():
    T, D = 256, 96
    kept_beside_the_tables = 5 * T * D + 4 * D * D + T * T
    return {
        "flops_tokens": torch.tensor(operations(512, 4) / operations(256, 4)),
        "flops_heads": operations(256, 16) // operations(256, 4),
        "kept_heads": (kept_beside_the_tables + 16 * T * T) / (kept_beside_the_tables + 4 * T * T),
        "crossover": next(n for n in range(1, 999) if operations(n, 4) >= 2 * 4 * 2 * n * 96 * 96),
    }


def with_lists(shapes):
    return {name: list(shape) for name, shape in shapes.items()}


RIGHT = {
    "03.shapes": {
        "sizes": lambda: {name: torch.Size(shape) for name, shape in ch03._SHAPES.items()},
        "lists": with_lists(ch03._SHAPES),
        "shapes of tensors": lambda: {
            name: torch.empty(shape).shape for name, shape in reversed(ch03._SHAPES.items())
        },
    },
    "03.split_heads": {
        "loop": split_in_a_loop,
        "permute, 64 bits": split_by_permute,
        "element by element": split_element_by_element,
        "index": split_by_index,
        "unfold": split_by_unfold,
    },
    "03.merge_heads": {
        "loop": merge_in_a_loop,
        "contiguous view": merge_by_contiguous_view,
        "einsum": merge_by_einsum,
        "unbind": merge_by_unbinding,
        "buffer": merge_into_a_buffer,
    },
    "03.one_projection": {
        "linear": project_by_linear,
        "head by head": project_head_by_head,
        "64 bits": project_in_double,
        "one tensor": project_as_one_tensor,
    },
    "03.multi_head_attention": {
        "fused kernel": LayerWithFusedKernel,
        "head by head": LayerHeadByHead,
        "groups": LayerByGroups,
        "bare parameters, 64 bits": LayerWithBareParameters,
    },
    "03.from_torch": {
        "slices": from_torch_by_slices,
        "through the layer": from_torch_through_the_layer,
        "view": from_torch_by_view,
    },
    "03.wrong_view": {
        "fused kernel": heads_fused,
        "head by head": heads_in_a_loop,
        "einsum": heads_by_einsum,
        "token by token": heads_token_by_token,
    },
    "03.cost": {
        "by hand": cost_by_hand,
        "numpy": {name: np.float64(value) for name, value in ch03._COST.items()},
        "rounded": {
            "flops_tokens": 3.14,
            "flops_heads": 1,
            "kept_heads": 2.61,
            "crossover": 193,
        },
    },
    "03.heads": {
        "loop": previous_in_a_loop,
        "indexing": previous_by_indexing,
        "trace": previous_by_trace,
        "mask": previous_by_mask,
    },
}
