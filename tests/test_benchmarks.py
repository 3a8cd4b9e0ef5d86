"""The benchmarks' own logic, on a tiny model. What they measure is not tested."""

import dataclasses
import struct
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


def test_the_restated_nanogpt_is_ours_without_biases_and_with_the_exact_gelu():
    import gpu
    import peers

    from course_pkg.gpt import GPT

    theirs = peers.nanogpt(gpu.TINY)
    ours = GPT(dataclasses.replace(gpu.TINY, exact_gelu=True))
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


def test_the_restated_nanogpt_with_biases_has_as_many_numbers_as_ours():
    import gpu
    import peers

    from course_pkg.gpt import GPT

    ours = GPT(dataclasses.replace(gpu.TINY, qkv_bias=True, tie_weights=True))
    theirs = peers.PEERS["nanoGPT with biases"](gpu.TINY)
    assert sum(p.numel() for p in theirs.parameters()) == ours.num_parameters()


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


# The search for a recipe


def run_of(recipe, rate, bits, corpus="stories", budget=60, split="validation"):
    return {
        "corpus": corpus,
        "recipe": recipe,
        "learning_rate": rate,
        "split": split,
        "budget": budget,
        "seed": 0,
        "steps": 1,
        "bits_per_byte": bits,
    }


def test_the_search_chooses_by_the_validation_split_and_the_nearest_budget():
    import recipe

    runs = [
        run_of("nanoGPT", 1e-3, 1.2),
        run_of("nanoGPT", 2e-3, None),  # diverged
        run_of("nanoGPT", 4e-3, 1.1),
        run_of("nanoGPT", 1e-3, 0.1, split="test"),
        run_of("nanoGPT", 2e-3, 0.1, corpus="shakespeare"),
        run_of("Muon, 24 windows of 64", 1.2e-2, 1.0),
        run_of("Muon, 16 windows of 128", 1.2e-2, 1.05),
        run_of("Muon, 16 windows of 128", 1.2e-2, 0.9, budget=180),
        run_of("Muon, 24 windows of 64", 1.2e-2, 0.95, budget=180),
    ]
    results = {"runs": runs}
    short = {"nanoGPT": ("nanoGPT", 4e-3), "course_pkg": ("Muon, 24 windows of 64", 1.2e-2)}
    assert recipe.winners(results, "stories", 60) == short
    longer = short | {"course_pkg": ("Muon, 16 windows of 128", 1.2e-2)}
    assert recipe.winners(results, "stories", 180) == longer
    assert recipe.ranking(results, "stories", 60)[-1] == ("nanoGPT", 2e-3)


def test_a_comparison_keeps_the_runs_of_the_winners_and_the_whole_search():
    import recipe

    seconds = {corpus: dict.fromkeys(recipe.RECIPES, 6.0) for corpus in recipe.VOCAB_SIZES}
    results = {"seconds_per_step": seconds, "runs": []}
    for corpus in recipe.VOCAB_SIZES:
        for budget in recipe.BUDGETS:
            results["runs"].append(run_of("nanoGPT", 4e-3, 1.1, corpus, budget))
    found = [entry | {"bits_per_byte": 1.0} for entry in recipe.compared(results)]
    old = recipe.entry_of(results, "stories", "nanoGPT", 8e-3, "test", 180, 0)
    search = list(results["runs"])
    results["runs"] = [*search, old | {"bits_per_byte": 0.9}, *found]
    assert recipe.of_winners(results) == [*search, *found]


def test_the_search_of_a_minute_leaves_out_what_only_three_minutes_try():
    import recipe

    seconds = {corpus: dict.fromkeys(recipe.RECIPES, 6.0) for corpus in recipe.VOCAB_SIZES}
    tried = {entry["recipe"] for entry in recipe.searched({"seconds_per_step": seconds})}
    assert {name for name, _ in recipe.LONGER_ON_SHAKESPEARE} - tried == {
        name for name, each in recipe.RECIPES.items() if each.timed_as
    }


def test_the_default_preset_is_the_winner_of_the_recorded_search():
    import recipe

    from course_pkg.cli import DEFAULT_PRESET
    from course_pkg.config import PRESETS

    results = recipe.read(recipe.FILE)
    budget = recipe.BUDGETS[-1]
    name, rate = recipe.winners(results, "stories", budget)["course_pkg"]
    steps = recipe.entry_of(results, "stories", name, rate, "test", budget, 0)["steps"]
    found, preset = recipe.RECIPES[name], PRESETS[DEFAULT_PRESET]
    run = recipe.Run(found, recipe.Task.of("stories"), steps, rate, seed=0)
    assert run.model.config == preset.model
    ours = preset.training
    assert ours.max_steps == pytest.approx(steps, rel=0.05)
    assert ours.warmup_steps == pytest.approx(ours.max_steps * found.warmup, abs=1)
    assert (ours.batch_size, ours.learning_rate, ours.optimizer, ours.weight_decay) == (
        found.batch_size,
        rate,
        found.optimizer,
        found.weight_decay,
    )
    assert ours.min_lr == rate * found.min_lr_over_peak


def test_a_model_tells_until_it_ends():
    import recipe

    from course_pkg import END_OF_TEXT, BPETokenizer

    tokenizer = BPETokenizer.train(["abc abc"], 258, [END_OF_TEXT])
    end, a = tokenizer.end_of_text_id, tokenizer.encode("a")[0]

    class Script(torch.nn.Module):
        """Says "a" as long as it sees fewer than four tokens, then the end."""

        def forward(self, ids):
            assert ids.shape[1] <= 4
            logits = torch.full((*ids.shape, tokenizer.vocab_size), -torch.inf)
            logits[..., end if ids.shape[1] == 4 else a] = 0.0
            return logits

    stories = recipe.tell(Script(), 4, tokenizer)
    assert stories == ["aaa" + END_OF_TEXT] * recipe.STORIES
    assert recipe.tell(Script(), 4, tokenizer, max_tokens=2) == ["aa"] * recipe.STORIES


def test_the_judge_merges_by_score_and_gives_back_bytes():
    import judge

    pieces = [b"<unk>", b"\n<s>\n", b"\n</s>\n", *(bytes([b]) for b in range(256))]
    pieces += [b" ", b"a", b"b", b"ab", b" a", b" ab"]
    scores = [0.0] * 259 + [-1.0, -2.0, -3.0, -5.0, -4.0, -6.0]
    data = struct.pack("<i", 9)
    for piece, score in zip(pieces, scores, strict=True):
        data += struct.pack("<fi", score, len(piece)) + piece
    merges = judge.read_merges(data, pieces)
    # "ab" has the lower score, so " a" is made first, and " ab" of that.
    for text, expected in [
        ("ab", [b" ab"]),
        ("aab", [b" a", b"ab"]),
        ("bé", [b" ", b"b", b"\xc3", b"\xa9"]),
    ]:
        assert [pieces[i] for i in judge.encode(text, merges)] == expected


def test_a_name_counts_where_no_sentence_begins():
    import judge

    assert judge.has_name("One day Tom ran. He saw that Tom was tired.")
    assert not judge.has_name("Tom ran. Tom was tired. The Dog and the Cat.")


def test_the_judge_counts_each_storys_own_tokens():
    import judge
    import make_stories

    torch.manual_seed(0)
    names = list(make_stories.Llama.__dataclass_fields__)[:11]
    D, F, V = 8, 12, 262
    shapes = [(V, D), (1, D), *[(1, D, D)] * 4, (1, D), (1, F, D), (1, D, F), (1, F, D), (D,)]
    tensors = {n: torch.randn(s) / 3 for n, s in zip(names, shapes, strict=True)}
    llama = make_stories.Llama(**tensors, num_heads=2, context_length=16)
    merges = {bytes([b]): (0.0, 3 + b) for b in range(128)}
    short, long = "ab<|endoftext|>", "abcdefgh"
    together = judge.bits_of(llama, [short, long], merges)
    alone = [judge.bits_of(llama, [story], merges)[0] for story in (short, long)]
    assert together == pytest.approx(alone)
    # Longer than the context: the part that was read, over its share of the bytes.
    cut = judge.bits_of(llama, ["abcdefgh" * 4], merges)[0]
    assert cut == pytest.approx(judge.bits_of(llama, ["abcdefgh" * 4 + "xyz"], merges)[0], rel=0.1)


def test_the_table_of_pages_has_the_heaviest_first():
    import pages

    def page(total, milliseconds):
        sizes = {"all": total, **dict.fromkeys(pages.KINDS, total / 5)}
        return {"bytes": sizes, "first_paint_ms": {"median": milliseconds}}

    results = {"pages": {"a.html": page(1000, 3.4), "b.html": page(500_000, 90)}}
    assert pages.table(results).splitlines() == [
        "| page | all, kB | html | css | js | fonts | images | first paint, ms |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
        "| b.html | 500 | 100 | 100 | 100 | 100 | 100 | 90 |",
        "| a.html | 1 | 0 | 0 | 0 | 0 | 0 | 3 |",
    ]
