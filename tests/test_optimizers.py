import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_pkg.config import GPTConfig
from course_pkg.gpt import GPT
from course_pkg.optimizers import Muon, configure_muon, orthogonalize

CONFIG = GPTConfig(
    vocab_size=11, context_length=8, d_model=16, num_heads=2, num_layers=2, dropout=0.0
)


@given(
    st.sampled_from([(4, 4), (3, 9), (9, 3), (2, 5, 8), (1, 7), (7, 1)]),
    st.integers(0, 1000),
    st.floats(1e-12, 1e12),
)
def test_all_directions_become_about_equally_long(shape, seed, scale):
    generator = torch.Generator().manual_seed(seed)
    matrices = torch.randn(shape, generator=generator, dtype=torch.float64)
    u, singular, vt = torch.linalg.svd(matrices, full_matrices=False)
    found = orthogonalize(scale * matrices)
    assert found.shape == matrices.shape
    # In the basis of the matrix's own directions nothing is left but a diagonal.
    diagonal = u.mT @ found @ vt.mT
    values = diagonal.diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(diagonal, torch.diag_embed(values), rtol=0, atol=1e-8)
    lengths = singular / matrices.norm(dim=(-2, -1)).unsqueeze(-1)
    assert ((values > 0.68) & (values < 1.14))[lengths > 0.01].all()
    assert ((values > 0) & (values < 1.21)).all()  # no direction is turned round


def test_a_matrix_of_zeros_stays_one():
    assert not orthogonalize(torch.zeros(3, 5)).any()


def test_the_polynomial_s_bounds_are_the_docstring_s():
    x = torch.linspace(0.01, 1, 100_001, dtype=torch.float64)
    # A matrix of one row has one singular value, its norm; that is scaled away. Two rows show x.
    pairs = torch.zeros(len(x), 2, 2, dtype=torch.float64)
    pairs[:, 0, 0], pairs[:, 1, 1] = x, (1 - x**2).clamp_min(0).sqrt()
    values = orthogonalize(pairs)[:, 0, 0]
    assert 0.68 < values.min() < 0.69 and 1.12 < values.max() < 1.14


def trained(optimizer_of, steps=6):
    torch.manual_seed(0)
    model = GPT(CONFIG).double()
    optimizer = optimizer_of(model)
    ids = torch.randint(11, (4, 9))
    for _ in range(steps):
        loss = torch.nn.functional.cross_entropy(
            model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model, optimizer, loss.item()


def test_equals_pytorch_s_own_muon():
    """Which rounds to bfloat16 inside, so that only about three digits agree."""
    torch.manual_seed(0)
    start = torch.randn(12, 20)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    optimizers = [
        Muon([{"params": [ours], "weight_decay": 0.1, "orthogonalize": True}], lr=0.02),
        torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
    ]
    for _ in range(5):
        gradient = torch.randn(12, 20)
        for parameter, optimizer in zip((ours, theirs), optimizers, strict=True):
            parameter.grad = gradient.clone()
            optimizer.step()
    moved = (theirs - start).norm()
    assert (ours - theirs).norm() < 0.02 * moved


def test_what_is_not_orthogonalized_moves_as_with_adamw():
    def adamw_only(model):
        groups = [
            {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": 0.1},
            {"params": [p for p in model.parameters() if p.ndim < 2]},
        ]
        return Muon(groups, lr=0.01, betas=(0.9, 0.95))

    ours, _, _ = trained(adamw_only)
    theirs, _, _ = trained(lambda model: model.configure_optimizer(0.01, 0.1))
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter, theirs.get_parameter(name))


def test_the_matrices_of_the_blocks_and_nothing_else():
    model = GPT(CONFIG)
    matrices, tables, rest = configure_muon(model, 0.01, 0.1).param_groups
    names = {id(p): name for name, p in model.named_parameters()}
    assert all(names[id(p)].startswith("blocks.") for p in matrices["params"])
    assert len(matrices["params"]) == 2 * 6
    assert sorted(names[id(p)] for p in tables["params"]) == [
        "position_embedding.weight",
        "token_embedding.weight",
    ]
    assert [g["weight_decay"] for g in (matrices, tables, rest)] == [0.1, 0.1, 0.0]
    assert sum(len(g["params"]) for g in (matrices, tables, rest)) == len(names)


def test_it_learns_and_an_update_is_as_long_as_adamw_s():
    before = trained(lambda model: configure_muon(model, 0.01, 0.0), steps=1)[0]
    start = trained(lambda model: configure_muon(model, 0.0, 0.0), steps=1)[0]
    adam = trained(lambda model: model.configure_optimizer(0.01, 0.0), steps=1)[0]
    for name, parameter in before.named_parameters():
        if name.startswith("blocks.") and parameter.ndim == 2:
            length = (parameter - start.get_parameter(name)).norm()
            theirs = (adam.get_parameter(name) - start.get_parameter(name)).norm()
            # 0.2 is what AdamW's updates have in the middle of a run; its first is five times that.
            assert 0.1 < length / theirs < 0.4
    losses = [trained(lambda model: configure_muon(model, 0.01, 0.1), n)[2] for n in (1, 40)]
    assert losses[1] < losses[0] / 2


def test_a_saved_state_goes_on_as_if_nothing_had_happened():
    model, optimizer, _ = trained(lambda model: configure_muon(model, 0.01, 0.1))
    other = copy.deepcopy(model)
    resumed = configure_muon(other, 0.3, 0.0)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        one.grad = torch.randn_like(one)
        two.grad = one.grad.clone()
    optimizer.step()
    resumed.step()
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


def test_parameters_without_a_gradient_stay():
    model = GPT(CONFIG)
    before = copy.deepcopy(model.state_dict())
    configure_muon(model, 0.01, 0.1).step()
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())


@pytest.mark.parametrize(
    "options, message",
    [
        ({"lr": -1.0}, "lr=-1.0 is not allowed"),
        ({"lr": 0.1, "momentum": 1.0}, r"momentum=1.0 is not allowed: it must be in \[0, 1\)"),
        ({"lr": 0.1, "betas": (0.9, 1.5)}, r"beta2=1.5 is not allowed"),
    ],
)
def test_bad_numbers_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Muon([{"params": [torch.nn.Parameter(torch.ones(2, 2))]}], **options)


def test_a_vector_cannot_be_orthogonalized():
    group = {"params": [torch.nn.Parameter(torch.ones(3))], "orthogonalize": True}
    with pytest.raises(ValueError, match=r"a parameter of shape \(3,\) to orthogonalize"):
        Muon([group], lr=0.1)
