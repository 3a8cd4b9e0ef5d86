"""The engine of the checks, on toy exercises of its own."""

import dataclasses
import pickle
import random
import textwrap

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from course_pkg.checks import engine
from course_pkg.checks.compare import Failed, difference, expect, expect_close, plain
from course_pkg.checks.engine import (
    CheckFailed,
    Exercise,
    Misconception,
    Property,
    all_exercises,
    check,
    diagnose,
    evaluate,
    fill_parameters,
    find_exercise,
    judge,
    run,
)

SEEDS = range(20)


# A toy exercise in code


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    B, T, D = x.shape
    return x.view(B, T, num_heads, D // num_heads).transpose(1, 2)


def view_only(x, num_heads):
    B, T, D = x.shape
    return x.view(B, num_heads, T, D // num_heads)


def not_moved(x, num_heads):
    B, T, D = x.shape
    return x.view(B, T, num_heads, D // num_heads)


def inputs(generator: torch.Generator) -> list[tuple]:
    return [
        (torch.randn(2, 5, 8, generator=generator), 4),
        (torch.randn(1, 3, 6, generator=generator), 2),
    ]


def move_token_0(answer, x, num_heads):
    moved = x.clone()
    moved[:, 0] += 1.0
    return answer(x, num_heads), answer(moved, num_heads)


def only_token_0_moves(seen, x, num_heads):
    before, after = seen
    changed = (before != after).any(dim=3).any(dim=1).any(dim=0).tolist()
    expect(not any(changed[1:]), f"tokens that changed: {changed}")


SPLIT = Exercise(
    id="03.split_heads",
    title="Split the features into heads",
    kind="implement",
    points=2,
    difficulty=1,
    section="3.2",
    reference=split_heads,
    cases=inputs,
    properties=(
        Property("values", "Each head gets its own slice of every token's features."),
        Property(
            "tokens",
            "A token's features stay with the token.",
            observe=move_token_0,
            judge=only_token_0_moves,
        ),
    ),
    hints=("Write down both shapes.", "A view first, then a transpose."),
    misconceptions=(
        Misconception("view without transpose", "A head mixes several tokens.", view_only),
        Misconception("heads not moved", "The heads stand after the tokens.", not_moved, "3.3"),
    ),
)

PREDICT = Exercise(
    id="05.count",
    title="Count the parameters",
    kind="predict",
    points=1,
    difficulty=1,
    section="5.1",
    reference=nn.Linear(3, 4).weight.numel() + 4,
    properties=(Property("count", "The layer has this many parameters."),),
    misconceptions=(Misconception("no bias", "The bias has d_out parameters too.", 12),),
)


def failed(outcome_name, report):
    message = next(o.message for o in report.outcomes if o.name == outcome_name)
    assert message is not None
    return message


def by_loops(x, num_heads):
    B, T, D = x.shape
    out = torch.empty(B, num_heads, T, D // num_heads)
    for h in range(num_heads):
        width = D // num_heads
        out[:, h] = x[:, :, h * width : (h + 1) * width]
    return out


def by_chunks_in_float64(t, n):
    return torch.stack(t.double().chunk(n, dim=-1), dim=1)


def by_permute(x, num_heads, *, extra=None):
    return x.unflatten(-1, (num_heads, -1)).permute(0, 2, 1, 3).contiguous()


@pytest.mark.parametrize("answer", [split_heads, by_loops, by_chunks_in_float64, by_permute])
@pytest.mark.parametrize("seed", SEEDS)
def test_right_by_any_route_passes(answer, seed):
    report = evaluate(SPLIT, answer, seed=seed)
    assert report.status == "passed", report.text()
    assert report.points == report.max_points == 2


def test_text_of_success_is_deterministic_and_lists_every_property():
    text = evaluate(SPLIT, by_loops).text()
    assert text == evaluate(SPLIT, split_heads).text()
    assert text.splitlines() == [
        "03.split_heads: 3 of 3 properties hold (2 points)",
        "  ✓ values: Each head gets its own slice of every token's features.",
        "  ✓ tokens: A token's features stay with the token.",
        "  ✓ inputs: The inputs are left as they were.",
    ]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("index", [0, 1])
def test_a_misconception_fails_and_is_named(index, seed):
    misconception = SPLIT.misconceptions[index]
    report = evaluate(SPLIT, misconception.answer, seed=seed)
    assert report.status == "failed" and report.points == 0
    (diagnosis,) = report.diagnoses
    assert misconception.diagnosis in diagnosis and misconception.name in diagnosis
    assert f"See section {'3.2' if index == 0 else '3.3'}." in diagnosis
    assert diagnosis in report.text()


def test_another_mistake_is_not_called_a_misconception():
    report = evaluate(SPLIT, lambda x, num_heads: split_heads(x, num_heads) * 1.01)
    assert report.status == "failed" and report.diagnoses == ()


def test_several_equal_misconceptions_are_all_named_in_order():
    twin = Misconception("twin", "Also this.", view_only)
    exercise = dataclasses.replace(SPLIT, misconceptions=(*SPLIT.misconceptions, twin))
    names = [d.split(".")[0] for d in evaluate(exercise, view_only).diagnoses]
    assert names == ["view without transpose", "twin"]
    assert "Likely one of these:" in evaluate(exercise, view_only).text()


def test_a_misconception_that_raises_is_diagnosed_by_its_error():
    def transposed_view(x, num_heads):
        return x.transpose(1, 2).view(x.shape[0], num_heads, -1, x.shape[1])

    crash = Misconception("view after transpose", "Use reshape.", transposed_view)
    exercise = dataclasses.replace(SPLIT, misconceptions=(crash,))
    mine = lambda x, n: x.transpose(1, 2).view(x.shape[0], n, -1, x.shape[1])  # noqa: E731
    assert len(evaluate(exercise, mine).diagnoses) == 1
    assert evaluate(exercise, lambda x, n: x.view(7, 7, 7)).diagnoses == ()


def test_wrong_values_name_the_first_position_both_values_and_the_input():
    def off_by_one(x, num_heads):
        out = split_heads(x, num_heads).clone()
        out[1, 2, 3, 1] = 99.0
        return out

    (x, n), *_ = inputs(torch.Generator().manual_seed(engine.SEED))
    expected = split_heads(x, n)[1, 2, 3, 1].item()
    message = failed("values", evaluate(SPLIT, off_by_one))
    assert "1 of 80 values differ, the first at [1, 2, 3, 1]: got 99" in message
    assert f"expected {expected:.6g}" in message
    assert "x of shape (2, 5, 8), num_heads=4" in message


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            lambda x, num_heads: x,
            "got shape (2, 5, 12) = (B, T, D), expected (2, 4, 5, 3) = (B, H, T, Dh)"
            ": D is not split into H and Dh",
        ),
        (not_moved, "got shape (2, 5, 4, 3) = (B, T, H, Dh), "),
        (not_moved, "(B, H, T, Dh): the axes are in another order"),
        (lambda x, num_heads: split_heads(x, num_heads)[..., 0], "(B, H, T, Dh): Dh is missing"),
        (lambda x, num_heads: split_heads(x, num_heads).flatten(0, 1), "got shape (8, 5, 3) = "),
        (lambda x, num_heads: split_heads(x, num_heads)[..., :1], "got shape (2, 4, 5, 1), exp"),
        (lambda x, num_heads: -split_heads(x, num_heads), "the first at [0, 0, 0, 0] of (B, H, "),
    ],
)
def test_shapes_are_told_by_their_letters(answer, words):
    exercise = dataclasses.replace(
        SPLIT,
        cases=lambda generator: [(torch.randn(2, 5, 12, generator=generator), 4)],
        axes=lambda x, num_heads: {
            **dict(zip("BTD", x.shape, strict=True)),
            "H": num_heads,
            "Dh": x.shape[2] // num_heads,
        },
        misconceptions=(),
    )
    assert words in evaluate(exercise, answer).text()


@pytest.mark.parametrize(
    ("got", "expected", "words"),
    [
        ((2, 3, 5, 4), (2, 5, 12), "(B, H, T, Dh), expected (2, 5, 12) = (B, T, D)"),
        ((2, 3, 5, 4), (2, 5, 12), ": H and Dh are not merged into D"),
        ((6, 5, 4), (2, 3, 5, 4), "(B·H, T, Dh), expected (2, 3, 5, 4) = (B, H, T, Dh)"),
        ((2, 5, 12, 12), (2, 5, 12), "(B, T, D)"),
    ],
)
def test_axes_that_are_merged_or_left(got, expected, words):
    axes = {"B": 2, "T": 5, "D": 12, "H": 3, "Dh": 4}
    assert words in difference(torch.ones(got), torch.ones(expected), axes=axes)


def test_a_size_of_two_axes_names_none():
    axes = {"B": 2, "T": 2, "D": 3}
    said = difference(torch.ones(2, 3), torch.ones(3, 3), axes=axes)
    assert said == "got shape (2, 3), expected (3, 3) = (D, D)"


def test_wrong_shape_names_both_shapes():
    message = failed("values", evaluate(SPLIT, not_moved))
    assert "got shape (2, 5, 4, 2), expected shape (2, 4, 5, 2)" in message


def test_stub_is_not_started():
    def stub(x, num_heads):
        """Docstring."""
        raise NotImplementedError

    report = evaluate(SPLIT, stub)
    assert report.status == "not started" and report.points == 0
    assert report.text() == "03.split_heads: not started"


def test_a_module_without_forward_has_started_and_fails():
    class Nothing(nn.Module):
        pass

    def run_module(cls, x):
        return cls()(x)

    exercise = dataclasses.replace(
        SPLIT,
        reference=nn.Identity,
        cases=lambda generator: [(torch.randn(2, generator=generator),)],
        properties=(Property("values", "It is the identity.", observe=run_module),),
        misconceptions=(),
    )
    assert evaluate(exercise, nn.Identity).status == "passed"
    report = evaluate(exercise, Nothing)
    assert report.status == "failed"
    assert "NotImplementedError" in failed("values", report)


def test_an_exception_is_shown_with_the_learners_line_and_the_input():
    def broken(x, num_heads):
        y = x
        return y[99]  # the line

    first = broken.__code__.co_firstlineno
    message = failed("values", evaluate(SPLIT, broken))
    assert "your code raised IndexError: index 99 is out of bounds" in message
    assert "x of shape (2, 5, 8), num_heads=4" in message
    assert f"line {first + 2}: return y[99]  # the line" in message


def test_an_exception_inside_a_library_still_shows_the_learners_line():
    def broken(x, num_heads):
        return nn.functional.linear(x, torch.zeros(3, 3))

    assert "nn.functional.linear(x, torch.zeros(3, 3))" in failed("values", evaluate(SPLIT, broken))


def test_a_message_that_comes_again_names_the_property_that_has_it():
    def broken(x, num_heads):
        return x[99]

    report = evaluate(SPLIT, broken)
    told = [message for _, message in report.told()]
    assert told[0] == failed("values", report)
    again = [o.message == told[0] for o in report.outcomes[1:]]
    assert any(again)
    assert [message == "the same as for values" for message in told[1:]] == again


def test_one_failing_case_is_enough():
    def right_for_eight_features(x, num_heads):
        return split_heads(x, num_heads) if x.shape[-1] == 8 else view_only(x, num_heads)

    message = failed("values", evaluate(SPLIT, right_for_eight_features))
    assert "x of shape (1, 3, 6), num_heads=2" in message


def test_change_of_the_inputs_is_detected_and_does_not_reach_later_calls():
    def in_place(x, num_heads):
        result = split_heads(x, num_heads).clone()
        x.mul_(0.0)
        return result

    exercise = dataclasses.replace(SPLIT, properties=(SPLIT.properties[0],))
    report = evaluate(exercise, in_place)
    assert [o.name for o in report.outcomes if not o.holds] == ["inputs"]
    assert "x was changed in place" in failed("inputs", report)


def test_growing_an_input_list_is_a_change():
    exercise = dataclasses.replace(
        SPLIT,
        reference=sum,
        cases=lambda generator: [([1, 2],)],
        properties=(Property("sum", "It adds."),),
        misconceptions=(),
    )
    report = evaluate(exercise, lambda values: values.append(0) or sum(values))
    assert [o.name for o in report.outcomes if not o.holds] == ["inputs"]


def test_global_generators_are_untouched_and_seeded_for_the_answer():
    def draws(x, num_heads):
        noise = torch.randn(1).item() + np.random.rand() + random.random()  # noqa: NPY002
        torch.manual_seed(1)
        return split_heads(x, num_heads) + noise

    def states():
        numpy_state = np.random.get_state()  # noqa: NPY002
        return torch.get_rng_state().tolist(), random.getstate(), numpy_state[1].tolist()

    before = states()
    first = evaluate(SPLIT, draws).text()
    assert states() == before
    assert evaluate(SPLIT, draws).text() == first
    evaluate(SPLIT, lambda x, n: 1 / 0)
    assert states() == before


def test_cases_follow_the_seed():
    one, same, other = (inputs(torch.Generator().manual_seed(s))[0][0] for s in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)
    recordings = [run(SPLIT, split_heads, seed=s) for s in (1, 1, 2)]
    data = [r.seen["values"][0].data for r in recordings]
    assert torch.equal(data[0], data[1]) and not torch.equal(data[0], data[2])


def test_a_recording_is_plain_data_and_is_all_that_judging_needs():
    for answer in (split_heads, view_only, lambda x, n: x[99], lambda x, n: (i for i in x)):
        recording = run(SPLIT, answer, seed=3)
        moved = pickle.loads(pickle.dumps(recording))
        assert judge(SPLIT, moved, seed=3) == judge(SPLIT, recording, seed=3)
        assert diagnose(SPLIT, moved, seed=3) == diagnose(SPLIT, recording, seed=3)


def test_a_mistake_that_also_raises_on_an_odd_input_is_still_recognised():
    def of_a_strided_input(answer, x, num_heads):
        return answer(x.transpose(0, 1).contiguous().transpose(0, 1), num_heads)

    def reshaped(x, num_heads):
        B, T, D = x.shape
        return x.reshape(B, num_heads, T, D // num_heads)

    memory = Property("memory", "Strides do not matter.", observe=of_a_strided_input)
    exercise = dataclasses.replace(
        SPLIT,
        properties=(*SPLIT.properties, memory),
        misconceptions=(Misconception("no transpose", "Tokens are mixed.", reshaped),),
    )
    report = evaluate(exercise, view_only)  # a view of strided memory raises, a reshape copies
    assert "RuntimeError" in report.text()
    (diagnosis,) = report.diagnoses
    assert diagnosis.startswith("no transpose. ")

    def right_but_for_strides(x, num_heads):
        if not x.is_contiguous():
            raise RuntimeError("strided")
        return split_heads(x, num_heads)

    report = evaluate(exercise, right_but_for_strides)
    assert report.status == "failed" and not report.diagnoses


class NoForward(nn.Module):
    pass


ODD_RESULTS = [
    None,
    "text",
    b"bytes",
    3,
    float("nan"),
    [],
    {"a": 1},
    torch.tensor(float("nan")),
    torch.full((2, 4, 5, 2), float("nan")),
    torch.zeros(2, 4, 5, 2, dtype=torch.int64),
    torch.zeros(2, 4, 5, 2, dtype=torch.complex64),
    torch.zeros(2, 4, 5, 2, device="meta"),
    torch.zeros(2, 4).to_sparse(),
    np.zeros((2, 4, 5, 2)),
    torch.float32,
    object(),
    NoForward(),
    split_heads,
]


@pytest.mark.parametrize("result", ODD_RESULTS, ids=lambda r: type(r).__name__)
def test_odd_results_fail_in_words(result):
    report = evaluate(SPLIT, lambda x, num_heads: result)
    assert report.status == "failed"
    assert "got " in failed("values", report) or "raised" in failed("values", report)


def recursive():
    items = []
    items.append(items)
    return items


def endless(x, num_heads):
    return endless(x, num_heads)


def leaves(x, num_heads):
    raise SystemExit(3)


def odd_error(x, num_heads):
    class OddError(Exception):
        def __str__(self):
            raise ValueError("no words")

    raise OddError


@pytest.mark.parametrize(
    "answer", [lambda x, n: recursive(), lambda x, n: (i for i in x), endless, leaves, odd_error]
)
def test_odd_behaviour_fails_in_words(answer):
    assert evaluate(SPLIT, answer).status == "failed"


@pytest.mark.parametrize("answer", [None, ..., "text", 3, torch.zeros(2), NoForward, NoForward()])
def test_odd_answers_fail_in_words(answer):
    report = evaluate(SPLIT, answer)
    assert report.status == "failed"
    assert len(report.text()) > len("03.split_heads: ")


@pytest.mark.parametrize(
    ("answer", "theirs"),
    [
        (lambda x: x, "<lambda>(x)"),
        (lambda x, n, m: x, "<lambda>(x, n, m)"),
        (lambda: 0, "<lambda>()"),
    ],
)
def test_wrong_arity_is_one_line(answer, theirs):
    text = evaluate(SPLIT, answer).text()
    assert text == (
        "03.split_heads: expected the function split_heads(x, num_heads), "
        f"but yours takes {theirs}."
    )


def test_not_callable_is_one_line():
    text = evaluate(SPLIT, "split_heads").text()
    assert text == (
        "03.split_heads: expected the function split_heads(x, num_heads), got 'split_heads'."
    )


def test_an_object_in_place_of_its_class_is_told():
    exercise = dataclasses.replace(SPLIT, reference=nn.Linear)
    assert "expected the class Linear(in_features, out_features), got" in (
        evaluate(exercise, nn.Linear(2, 2)).text()
    )


def test_prints_are_kept_apart_and_cut(capsys):
    def chatty(x, num_heads):
        print("seen", "y" * 10_000_000)

    text = evaluate(SPLIT, chatty).text()
    assert capsys.readouterr().out == ""
    assert "Your code printed:\n  seen yyy" in text and len(text) < 5000


def test_keyboard_interrupt_gets_out():
    def interrupted(x, num_heads):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(SPLIT, interrupted)


# A toy exercise with a value


@pytest.mark.parametrize("answer", [16, 16.0, torch.tensor(16), np.int64(16), lambda: 16])
def test_a_right_value_passes(answer):
    report = evaluate(PREDICT, answer)
    assert report.status == "passed", report.text()
    assert report.text().startswith("05.count: 1 of 1 property holds (1 point)\n")


def test_a_wrong_value_says_by_how_much_and_why():
    report = evaluate(PREDICT, 12)
    assert "got 12, expected 16 (off by -4)" in failed("count", report)
    assert "The bias has d_out parameters too." in report.text()
    assert evaluate(PREDICT, 13).diagnoses == ()


def value_stub():
    raise NotImplementedError


@pytest.mark.parametrize("answer", [None, ..., value_stub])
def test_a_value_that_is_not_there_is_not_started(answer):
    assert evaluate(PREDICT, answer).status == "not started"


@pytest.mark.parametrize("answer", ["16", True, [16], {}, float("nan"), 10**400, lambda x: 16])
def test_a_value_of_another_kind_fails(answer):
    assert evaluate(PREDICT, answer).status == "failed"


def test_tolerance_of_a_property():
    near = Property("loss", "About ln V.", tolerance=0.05)
    exercise = dataclasses.replace(PREDICT, reference=6.93, properties=(near,), misconceptions=())
    assert evaluate(exercise, 7).status == "passed"
    assert evaluate(exercise, 7.5).status == "failed"


@pytest.mark.parametrize("answer", [(2, 5), [2, 5], torch.Size([2, 5])])
def test_a_shape_may_be_any_sequence(answer):
    exercise = dataclasses.replace(PREDICT, reference=(2, 5), misconceptions=())
    assert evaluate(exercise, answer).status == "passed"
    assert evaluate(exercise, (*answer, 1)).status == "failed"
    assert evaluate(exercise, tuple(answer)[::-1]).status == "failed"


# check()


@pytest.fixture
def registry(monkeypatch):
    """Two chapters that hold the toy exercises, and which of them were loaded."""
    chapters = {"ch03": (SPLIT,), "ch05": (PREDICT,)}
    loaded = []
    monkeypatch.setattr(engine, "chapters", lambda: sorted(chapters))
    monkeypatch.setattr(engine, "load_chapter", lambda name: loaded.append(name) or chapters[name])
    return loaded


def test_check_prints_and_returns_nothing(registry, capsys):
    assert check("03.split_heads", by_loops) is None
    assert capsys.readouterr().out == evaluate(SPLIT, by_loops).text() + "\n"
    assert registry == ["ch03"]


def test_check_raises_with_the_report_and_a_short_traceback(registry, capsys):
    with pytest.raises(CheckFailed) as caught:
        check("03.split_heads", view_only)
    assert not isinstance(caught.value, AssertionError)
    assert caught.value.report.status == "failed"
    assert evaluate(SPLIT, view_only).text() in str(caught.value)
    shown = caught.value._render_traceback_()
    assert shown == str(caught.value).splitlines()
    assert capsys.readouterr().out == ""


def test_check_fails_on_a_stub(registry):
    with pytest.raises(CheckFailed, match="not started"):
        check("05.count", None)


@pytest.mark.parametrize(("hint", "shown"), [(False, 0), (True, 1), (1, 1), (2, 2), (9, 2)])
def test_hints_are_staged(registry, hint, shown):
    with pytest.raises(CheckFailed) as caught:
        check("03.split_heads", view_only, hint=hint)
    text = str(caught.value)
    assert [h in text for h in SPLIT.hints] == [i < shown for i in range(2)]
    asked = {0: "add hint=True", 1: "add hint=2"}
    assert all((words in text) == (shown == n) for n, words in asked.items())


@pytest.mark.parametrize(
    ("given", "nearest"), [("03.split_head", "03.split_heads"), ("05.cuont", "05.count")]
)
def test_an_unknown_id_names_the_nearest(registry, given, nearest):
    with pytest.raises(ValueError, match=f"Did you mean '{nearest}'"):
        check(given, None)


@pytest.mark.parametrize("given", ["99.nothing", "split_heads", ""])
def test_an_id_of_no_chapter_is_unknown(registry, given):
    with pytest.raises(ValueError, match="is unknown"):
        find_exercise(given)


def test_all_exercises_are_in_order(registry):
    assert all_exercises() == (SPLIT, PREDICT)


def test_the_course_s_own_exercises_load_with_unique_ids_in_their_chapters():
    exercises = engine.all_exercises()
    assert len({e.id for e in exercises}) == len(exercises)
    for exercise in exercises:
        assert find_exercise(exercise.id) is exercise


def test_what_a_misconception_is_called_starts_like_a_sentence_or_with_a_name_of_the_code():
    names = {"decay", "hidden", "low", "nan", "p"}
    for exercise in engine.all_exercises():
        for misconception in exercise.misconceptions:
            first = misconception.name.split()[0]
            assert first[0].isupper() or not first[0].isalpha() or first in names


def test_the_example_in_the_docstring_runs():
    text = engine.__doc__.partition("One, complete::")[2].partition("The rules:")[0]
    scope = {}
    exec(textwrap.dedent(text), scope)
    (exercise,) = scope["EXERCISES"]
    assert evaluate(exercise, exercise.reference).status == "passed"
    assert evaluate(exercise, exercise.misconceptions[0].answer).diagnoses


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "3.split"),
        ("id", "03 split"),
        ("points", 0),
        ("difficulty", 4),
        ("properties", ()),
        ("properties", (SPLIT.properties[0], SPLIT.properties[0])),
    ],
)
def test_an_exercise_validates_itself(field, value):
    with pytest.raises(ValueError, match=field if field != "properties" else "properties="):
        dataclasses.replace(SPLIT, **{field: value})


# Comparison


SAME = [
    (torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0 + 1e-6])),
    (torch.tensor([1.0, float("inf"), float("nan")]), torch.tensor([1.0, np.inf, np.nan])),
    (torch.tensor([1, 2], dtype=torch.int32), torch.tensor([1, 2])),
    (2.5, torch.tensor(2.5)),
    (torch.tensor(2.5), 2.5),
    (torch.zeros(0, 3), torch.zeros(0, 3)),
    ([1, (2, "a")], (1, [2, "a"])),
    ({"a": torch.ones(2), "b": {1, 2}}, {"b": {2, 1}, "a": torch.ones(2)}),
    (np.arange(3.0), np.arange(3.0, dtype=np.float32)),
    (None, None),
    (float("nan"), float("nan")),
]
DIFFERENT = [
    (torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.01]), "at [1]: got 2, expected 2.01"),
    (torch.tensor([1e-6]), torch.tensor([1.1e-6]), "got 1e-06"),
    (torch.zeros(2), torch.tensor([0.0, -np.inf]), "expected -inf"),
    (torch.zeros(1), torch.tensor([np.nan]), "expected nan"),
    (torch.ones(2), torch.tensor([True, True]), "got float32 values, expected bool"),
    (torch.ones(2, dtype=torch.float16) / 3, torch.ones(2, dtype=torch.float64) / 3, "float16"),
    ([1.0, 2.0], torch.tensor([1.0, 2.0]), "expected a tensor of shape (2,)"),
    (torch.ones(1), 1.0, "got a tensor of shape (1,)"),
    (True, 1, "got True, expected 1"),
    (3e-4, 3.05e-4, "expected 0.000305"),
    (0.0, 1e-9, "expected 1e-09"),
    ("abd", "abc", "the same up to position 2"),
    ("abc", b"abc", "expected b'abc'"),
    ([1, 2], [1, 3], "item 1: got 2, expected 3 (off by -1)"),
    ([[0, 1], [[2]]], [[0, 1], [[3]]], "item 0 of item 0 of item 1: got 2, expected 3"),
    ([1], [1, 2], "got 1 items, expected 2"),
    ({"a": 1}, {"a": 1, "b": 2}, "key 'b' is missing"),
    ({"a": 1, "b": 2}, {"a": 1}, "key 'b' is not expected"),
    ({1}, {1, 2}, "got {1}, expected {1, 2}"),
    (None, 0, "got None, expected 0"),
    (0, None, "got 0, expected None"),
]


@pytest.mark.parametrize(("got", "expected"), SAME)
def test_same(got, expected):
    assert difference(plain(got), plain(expected)) is None


@pytest.mark.parametrize(("got", "expected", "words"), DIFFERENT)
def test_different(got, expected, words):
    assert words in difference(plain(got), plain(expected))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_tolerance_is_above_rounding_and_below_mistakes(dtype):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(50, 64, generator=generator, dtype=torch.float64)
    w = torch.randn(64, 64, generator=generator, dtype=torch.float64)
    exact = x @ w
    rounded = x.to(dtype) @ w.to(dtype)
    assert difference(rounded, exact.to(dtype)) is None
    assert difference((exact * 1.05).to(dtype), exact.to(dtype)) is not None


def test_plain_copies():
    x = torch.ones(2, requires_grad=True)
    copied = plain({"x": [x], "module": nn.Linear(1, 1)})
    with torch.no_grad():
        x += 1
    assert torch.equal(copied["x"][0], torch.ones(2)) and not copied["x"][0].requires_grad
    assert copied["module"].type_name == "Linear"


def test_expect_close_says_what_was_compared():
    with pytest.raises(Failed, match="sum of each row: got 2, expected 1"):
        expect_close(2.0, 1.0, "sum of each row")
    expect_close(torch.ones(2), torch.ones(2).double())


def test_fill_parameters_follows_names_and_shapes_only():
    one, other = (fill_parameters(nn.Linear(3, 2)) for _ in range(2))
    assert torch.equal(one.weight, other.weight) and not torch.equal(
        one.bias[:2], one.weight[0, :2]
    )
    state = torch.get_rng_state()
    fill_parameters(one)
    assert torch.equal(torch.get_rng_state(), state)
