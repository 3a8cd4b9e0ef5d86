"""The benchmarks' own logic, on a tiny model. What they measure is not tested."""

import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def importable():
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


def test_peers_have_the_shape_that_they_are_asked_for():
    import gpu
    import peers

    ids = torch.randint(gpu.TINY.vocab_size, (2, 64))
    for make in peers.PEERS.values():
        assert make(gpu.TINY)(ids).shape == (2, 64, gpu.TINY.vocab_size)


def test_the_restated_nanogpt_is_ours_without_biases_and_with_the_exact_gelu(monkeypatch):
    import gpu
    import peers
    import torch.nn.functional as F

    from course_pkg.gpt import GPT
    from course_pkg.transformer import GELU

    theirs = peers.nanogpt(gpu.TINY)
    ours = GPT(gpu.TINY)
    monkeypatch.setattr(GELU, "forward", lambda self, x: F.gelu(x))
    with torch.no_grad():
        for parameter in ours.parameters():
            if parameter.ndim == 1:
                parameter.zero_()
        ours.token_embedding.weight.copy_(theirs.tokens.weight)
        ours.position_embedding.weight.copy_(theirs.positions.weight)
        ours.final_norm.scale.copy_(theirs.norm.weight)
        for mine, block in zip(ours.blocks, theirs.blocks, strict=True):
            attention = mine.attention
            parts = (attention.W_query, attention.W_key, attention.W_value)
            for layer, weight in zip(parts, block.attention.qkv.weight.chunk(3), strict=True):
                layer.weight.copy_(weight)
            attention.out_proj.weight.copy_(block.attention.out.weight)
            mine.feed_forward.layers[0].weight.copy_(block.up.weight)
            mine.feed_forward.layers[2].weight.copy_(block.down.weight)
            mine.norm1.scale.copy_(block.norm1.weight)
            mine.norm2.scale.copy_(block.norm2.weight)
        ids = torch.randint(gpu.TINY.vocab_size, (2, 64))
        torch.testing.assert_close(ours(ids), theirs(ids))


def test_the_utilisation_of_a_tiny_model_on_a_cpu(monkeypatch):
    import gpu

    shown = CliRunner().invoke(
        gpu.main, ["--tiny", "--eager", "--rounds", "1", "--batch-size", "1"]
    )
    assert shown.exit_code == 0, shown.output
    rows = shown.output.splitlines()[2:]
    assert [row[:24].strip() for row in rows] == [*gpu.VARIANTS, *gpu.THEIRS]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    shown = CliRunner().invoke(gpu.main)
    assert shown.exit_code == 2 and "nothing was measured" in shown.output


def test_the_flops_are_those_of_the_products():
    import training
    from torch.utils.flop_counter import FlopCounterMode

    case = training.Case(training._case(128, 2).config, 2)
    trainer = training.our_trainer(case)
    with FlopCounterMode(display=False) as counter:
        trainer.step()
    assert counter.get_total_flops() == case.weight_flops  # it does not know attention on a CPU
    queries, keys, values = (torch.randn(2, 6, 256, 64, requires_grad=True) for _ in range(3))
    with FlopCounterMode(display=False) as counter:
        ((queries @ keys.mT) @ values).sum().backward()
    assert 6 * counter.get_total_flops() == case.flops - case.weight_flops
