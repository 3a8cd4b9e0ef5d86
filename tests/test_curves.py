"""The curve doctor, on runs it was not made from.

``held_out_curves.json`` holds the histories of healthy and sick runs, thinned out, of other seeds,
severities, sizes and parts of the corpus than those on which its thresholds were chosen.
"""

import copy
import json
import math
import re
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from course_pkg import (
    END_OF_TEXT,
    GPT,
    BPETokenizer,
    GPTConfig,
    History,
    Trainer,
    TrainingConfig,
    diagnose,
    encode_documents,
    load_corpus,
)
from course_pkg.authoring import figures
from course_pkg.checks import curve_plot, curves
from course_pkg.cli import DEFAULT_PRESET, LEARNERS_PRESET, course
from course_pkg.config import PRESETS
from course_pkg.training import learning_rate_at, train

ROOT = Path(__file__).parent.parent
HELD_OUT = json.loads((Path(__file__).parent / "held_out_curves.json").read_text("utf-8"))
NAMES = [run["name"] for run in HELD_OUT]
BY_NAME = dict(zip(NAMES, HELD_OUT, strict=True))


def judged(run):
    # As the command line does: the bands are of the stories.
    preset = None if run["corpus"] == "shakespeare" else run["preset"]
    return diagnose(run["history"], preset, run["vocab_size"])


def some(disease):
    return next(run for run in HELD_OUT if run["disease"] == disease and "tiny" in run["name"])


def inside_the_band(run):
    band = curves._bands()[run["preset"]]
    if run["vocab_size"] != band.vocab_size:
        band = band.scaled(run["vocab_size"])
    evaluations = run["history"]["evaluations"]
    low, high = band.at("validation_loss", evaluations["step"][-1])
    return low <= evaluations["validation_loss"][-1] <= high


def cut(history, last_step):
    """The run as it was when it had done so many steps."""
    shorter = copy.deepcopy(history)
    for table in shorter.values():
        kept = [i for i, step in enumerate(table["step"]) if step <= last_step]
        for name in table:
            table[name] = [table[name][i] for i in kept]
    return shorter


# Right on runs that it has not seen


def test_there_are_enough_held_out_runs_and_diseases():
    count = Counter(run["disease"] for run in HELD_OUT)
    assert len(count) - 1 >= 8
    assert count.pop("healthy") >= 10
    assert min(count.values()) >= 4
    assert len(set(NAMES)) == len(NAMES)
    assert set(count) <= set(curves.DISEASES)
    # None of the seeds of a band.
    for run in HELD_OUT:
        assert run["seed"] not in curves._bands()[run["preset"]].seeds


def test_what_the_command_line_trains_has_a_band_and_held_out_runs_of_each_disease():
    assert {DEFAULT_PRESET, LEARNERS_PRESET} <= set(curves.presets_with_a_band())
    of_default = {run["disease"] for run in HELD_OUT if run["preset"] == DEFAULT_PRESET}
    assert of_default == {run["disease"] for run in HELD_OUT}


def test_at_least_nine_of_ten_held_out_runs_are_diagnosed_right():
    pairs = [(run["disease"], judged(run).disease) for run in HELD_OUT]
    wrong = [pair for pair in pairs if pair[0] != pair[1]]
    assert len(wrong) <= 0.1 * len(pairs), Counter(wrong)
    # No disease lives off the others.
    for disease in {pair[0] for pair in pairs}:
        of_it = [pair for pair in pairs if pair[0] == disease]
        assert sum(a == b for a, b in of_it) >= 0.5 * len(of_it), disease


@pytest.mark.parametrize("name", [n for n, run in BY_NAME.items() if run["disease"] == "healthy"])
def test_no_healthy_run_is_called_ill(name):
    run = BY_NAME[name]
    assert judged(run).disease == "healthy"
    assert not judged(run).ill
    assert not diagnose(run["history"], None, run["vocab_size"]).ill
    assert not diagnose(run["history"]).ill


@pytest.mark.parametrize("share", [0.1, 0.25, 0.4, 0.6, 0.8])
def test_no_healthy_run_is_called_ill_before_it_is_finished(share):
    for run in HELD_OUT:
        if run["disease"] == "healthy":
            history = cut(run["history"], round(share * run["max_steps"]))
            preset = None if run["corpus"] == "shakespeare" else run["preset"]
            said = diagnose(history, preset, run["vocab_size"])
            assert not said.ill, (run["name"], said.text())


def test_without_a_band_fewer_diseases_are_named_and_hardly_ever_wrong_ones():
    # Without the preset's recipe, the same loss may come from either.
    either = {"no_warm_up": {"rate_too_high"}}
    wrong = []
    for run in HELD_OUT:
        said = diagnose(run["history"], None, run["vocab_size"]).disease
        not_wrong = {run["disease"], "healthy", "unclear"} | either.get(run["disease"], set())
        if said not in not_wrong:
            wrong.append((run["name"], said))
    assert len(wrong) <= 0.03 * len(HELD_OUT), wrong


# The words


def test_a_diagnosis_says_what_was_seen_where_and_against_what():
    said = judged(some("rate_too_low"))
    band = curves._bands()["story-tiny"]
    low, high = band.at("validation_loss", 300)
    assert f"{low:.2f} to {high:.2f}" in said.signs[0]
    assert "step 300" in said.signs[0]
    last = some("rate_too_low")["history"]["evaluations"]["validation_loss"][-1]
    assert f"{last:.2f}" in said.signs[0]
    assert "0.005" in said.signs[1]
    assert said.title in str(said) and said.advice in str(said) and said.section in str(said)


def test_a_healthy_run_is_nothing_unusual():
    said = judged(some("healthy"))
    assert said.title == "Nothing unusual"
    assert not said.ill
    assert "What to do" not in str(said)
    # Inside the band there is no more to say; outside, why it is healthy all the same.
    assert not said.signs[0].endswith("ill.")
    outside = [r for r in HELD_OUT if r["disease"] == "healthy" and r["corpus"] != "shakespeare"]
    outside = [judged(run).signs[0] for run in outside if not inside_the_band(run)]
    assert outside and all(sign.endswith("without being ill.") for sign in outside)


@pytest.mark.parametrize("disease", sorted(curves.DISEASES))
def test_every_disease_has_words_and_a_section_that_exists(disease):
    words = curves.DISEASES[disease]
    chapter, section = (int(number) for number in words.section.split("."))
    (page,) = (ROOT / "book").glob(f"{chapter:02d}_*.md")
    headings = re.findall(r"^## (.+)$", page.read_text("utf-8"), flags=re.MULTILINE)
    assert 1 <= section <= len(headings)
    assert words.title[0].isupper() and not words.title.endswith(".")
    assert words.advice.endswith(".")


SECTIONS = {
    "bad_init": "initialisation",
    "double_softmax": "Loss",
    "frozen": "AdamW",
    "diverged": "Clipping",
    "no_warm_up": "rises and falls",
    "small_batch": "large batch",
    "not_zeroed": "The loop",
    "leak": "my curve normal",
    "unclear": "overfit one batch",
}


@pytest.mark.parametrize("disease", sorted(SECTIONS))
def test_the_section_is_the_one_about_it(disease):
    chapter, section = (int(n) for n in curves.DISEASES[disease].section.split("."))
    (page,) = (ROOT / "book").glob(f"{chapter:02d}_*.md")
    headings = re.findall(r"^## (.+)$", page.read_text("utf-8"), flags=re.MULTILINE)
    assert SECTIONS[disease] in headings[section - 1]


# Odd histories


def test_an_empty_history():
    said = diagnose(History(), "story-tiny")
    assert said.disease == "too_short"
    assert "empty" in said.signs[0]
    with pytest.raises(ValueError, match="nothing to draw"):
        said.svg()


def test_one_row_is_too_short():
    history = cut(some("healthy")["history"], 1)
    said = diagnose(history, "story-tiny")
    assert said.disease == "too_short"
    assert "1 step;" in said.signs[0] and "60" in said.signs[0]


def test_only_the_evaluation_of_the_untrained_model():
    assert diagnose(cut(some("healthy")["history"], 0), "story-tiny").disease == "too_short"
    assert diagnose(cut(some("bad_init")["history"], 0), "story-tiny").disease == "bad_init"


def test_rows_without_evaluations():
    for disease in ("healthy", "rate_too_low", "frozen", "bad_init"):
        history = copy.deepcopy(some(disease)["history"])
        for column in history["evaluations"].values():
            column.clear()
        assert diagnose(history, "story-tiny").disease == disease


def test_evaluations_without_rows():
    for disease in ("healthy", "little_text", "leak"):
        history = copy.deepcopy(some(disease)["history"])
        for column in history["rows"].values():
            column.clear()
        assert diagnose(history, "story-tiny").disease == disease


@pytest.mark.parametrize("column", ["train_loss", "grad_norm"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_a_number_is_said_with_its_step(column, value):
    history = copy.deepcopy(some("healthy")["history"])
    history["rows"][column][20] = value
    said = diagnose(history, "story-tiny")
    assert said.disease == "diverged"
    assert f"step {history['rows']['step'][20]}" in said.signs[0]
    assert "<svg" in said.svg()


def test_a_run_that_ends_high_above_its_start_has_diverged():
    history = copy.deepcopy(some("healthy")["history"])
    losses = history["rows"]["train_loss"]
    losses[40:] = [9.0 + i for i in range(len(losses) - 40)]
    history["evaluations"] = {name: [] for name in history["evaluations"]}
    assert diagnose(history, "story-tiny").disease == "diverged"


def test_steps_that_were_done_twice_count_once():
    whole = some("healthy")["history"]
    twice = copy.deepcopy(whole)
    for name, column in twice["rows"].items():
        crashed = [value * 3 if name == "train_loss" else value for value in column[30:40]]
        column[40:40] = []
        twice["rows"][name] = column[:30] + crashed + column[30:]
    said = diagnose(twice, "story-tiny")
    assert any("more than once" in note for note in said.notes)
    assert said.signs == diagnose(whole, "story-tiny").signs


def test_a_resumed_run_is_the_same_run():
    # A resumed trainer's history is one list, so there is nothing to mend.
    whole = some("little_text")["history"]
    again = History.from_dict(json.loads(json.dumps(History.from_dict(whole).to_dict())))
    assert diagnose(again, "story-tiny") == diagnose(whole, "story-tiny")


def test_a_rate_of_zero_is_named():
    history = copy.deepcopy(some("frozen")["history"])
    history["rows"]["learning_rate"] = [0.0] * len(history["rows"]["step"])
    assert diagnose(history, "story-tiny").disease == "zero_rate"


def test_a_pretrained_model_starts_low_and_is_not_ill():
    history = copy.deepcopy(some("healthy")["history"])
    for table in history.values():
        for name in table:
            if name.endswith("loss"):
                table[name] = [2.6 + 0.1 * (value - 3) for value in table[name]]
    assert not diagnose(history, None, 512).ill


@pytest.mark.parametrize("history", [None, 3, "x", [], {}, {"rows": {}}, {"rows": 1}])
def test_what_is_no_history_is_refused(history):
    with pytest.raises(ValueError, match="history is not one"):
        curves._as_history(history)


def test_rows_that_lack_a_column_are_refused():
    history = History()
    history.rows = [{"step": 1, "train_loss": 3.0}]
    with pytest.raises(ValueError, match="rows must hold the numbers step, tokens"):
        diagnose(history)
    history.rows = [dict.fromkeys(History._COLUMNS, "many")]
    with pytest.raises(ValueError, match="rows must hold the numbers"):
        diagnose(history)


def test_an_unknown_preset_and_a_vocabulary_of_one_are_refused():
    with pytest.raises(ValueError, match=r"preset='story-tny'.*'story-tiny'"):
        diagnose(History(), "story-tny")
    with pytest.raises(ValueError, match="vocab_size=1 is not allowed"):
        diagnose(History(), "story-tiny", 1)


def test_a_preset_without_a_band_says_so():
    said = diagnose(some("healthy")["history"], "gpt2-small", 512)
    assert any("no band for gpt2-small" in note for note in said.notes)
    assert any("no band" in note for note in diagnose(some("healthy")["history"]).notes)
    assert not judged(some("healthy")).notes


NUMBERS = st.floats(allow_nan=True, allow_infinity=True, width=32) | st.integers(-3, 12)


def tables(columns):
    row = st.fixed_dictionaries(dict.fromkeys(columns, NUMBERS) | {"step": st.integers(0, 400)})
    return st.lists(row, max_size=12)


@settings(max_examples=150, deadline=None)
@given(
    rows=tables(History._COLUMNS),
    evaluations=tables(History._EVALUATION_COLUMNS),
    preset=st.sampled_from([None, "story-tiny", "gpt2-small"]),
    vocab_size=st.none() | st.integers(2, 100_000),
)
def test_no_numbers_whatever_make_it_fail(rows, evaluations, preset, vocab_size):
    history = History()
    history.rows, history.evaluations = rows, evaluations
    said = diagnose(history, preset, vocab_size)
    assert said.disease in curves.DISEASES
    assert json.loads(json.dumps(said.to_dict()))["signs"]
    assert said.text().isascii()
    if said.panels:
        ET.fromstring(said.svg())


# The bands


@pytest.mark.parametrize("preset", curves.presets_with_a_band())
def test_a_band_is_of_its_preset_and_of_several_seeds(preset):
    band = curves._bands()[preset]
    assert len(set(band.seeds)) >= 3
    assert band.vocab_size == PRESETS[preset].model.vocab_size
    assert band.last_step == PRESETS[preset].training.max_steps
    for steps, low, high in band.curves.values():
        assert (steps[1:] > steps[:-1]).all()
        assert (low <= high).all()
    first = band.at("validation_loss", 0)
    assert first[0] == pytest.approx(math.log(band.vocab_size), abs=0.1)
    last = band.at("validation_loss", band.last_step)
    assert last[1] < band.frequencies - 1
    assert band.frequencies < first[0] - 0.5


def test_the_band_is_of_the_preset_as_it_is_today():
    # The first steps of a run that the band was made of, again.
    band = curves._bands()["story-tiny"]
    seed = band.seeds[0]
    training, validation = load_corpus("stories").split()
    tokenizer = BPETokenizer.train(training.documents, 512, special_tokens=[END_OF_TEXT])
    ids = [encode_documents(split.documents, tokenizer) for split in (training, validation)]
    recipe = TrainingConfig.preset("story-tiny", seed=seed)
    torch.manual_seed(seed)
    trainer = Trainer(GPT(GPTConfig.preset("story-tiny")), *ids, recipe)
    rows = [trainer.step() for _ in range(10)]
    steps = np.array([row["step"] for row in rows])
    for name in ("train_loss", "grad_norm"):
        values = np.array([row[name] for row in rows])
        seen = curves.smooth(steps, values, curves.smoothing_width(recipe.max_steps))
        for step, value in zip(steps, seen, strict=True):
            low, high = band.at(name, float(step))
            assert low - 0.01 <= value <= high + 0.01


def test_the_bands_are_small():
    assert curves.BANDS_FILE.stat().st_size < 300_000


def test_the_frequencies_are_those_of_the_stories():
    training, validation = load_corpus("stories").split()
    tokenizer = BPETokenizer.train(training.documents, 512, special_tokens=[END_OF_TEXT])

    def ids(documents):
        return [i for d in documents for i in [*tokenizer.encode(d), tokenizer.end_of_text_id]]

    counts = Counter(dict.fromkeys(range(512), 1)) + Counter(ids(training.documents))
    total = sum(counts.values())
    losses = [math.log(total / counts[i]) for i in ids(validation.documents)]
    mean = sum(losses) / len(losses)
    assert curves._bands()["story-tiny"].frequencies == pytest.approx(mean, abs=1e-3)


def test_a_band_for_another_vocabulary_is_scaled():
    band = curves._bands()["story-tiny"]
    wider = band.scaled(band.vocab_size**2)
    assert wider.at("train_loss", 100)[0] == pytest.approx(2 * band.at("train_loss", 100)[0])
    assert wider.at("grad_norm", 100) == band.at("grad_norm", 100)


def test_smoothing_is_a_mean_over_the_last_steps():
    steps, values = np.array([1, 2, 3, 7, 8]), np.array([1.0, 3, 5, 7, 9])
    assert curves.smooth(steps, values, 2).tolist() == [1, 2, 4, 7, 8]


# The picture


@pytest.mark.parametrize("disease", sorted({run["disease"] for run in HELD_OUT}))
def test_the_picture_is_xml_with_words_for_who_cannot_see_it(disease):
    said = judged(some(disease))
    for text in (said.svg(), said.svg(inline=True)):
        root = ET.fromstring(text)
        assert root.get("role") == "img"
        assert said.signs[0] in root.get("aria-label")
        assert "currentColor" in text and "#000" not in text
        assert ("the sign" in text) == said.ill
        assert len(text) < 60_000
    assert said.svg() == judged(some(disease)).svg()
    page = said._repr_html_()
    assert said.title in page and "<svg" in page


def test_the_picture_stays_on_its_page():
    for run in HELD_OUT[::7]:
        root = ET.fromstring(judged(run).svg())
        width, height = (float(n) for n in root.get("viewBox").split()[2:])
        for shape in root.iter():
            for pair in (shape.get("points") or "").split():
                x, y = (float(n) for n in pair.split(","))
                assert 0 <= x <= width and 0 <= y <= height


def test_the_colours_are_those_of_the_courses_figures():
    used = {curve_plot.RUN, curve_plot.VALIDATION, curve_plot.SIGN, curve_plot.BAND}
    assert used <= set(figures.COLORS.values())
    assert curve_plot._INK_ON_LIGHT == figures.INK_ON_LIGHT
    assert curve_plot._INK_ON_DARK == figures.INK_ON_DARK


def test_the_sign_is_drawn_where_the_words_say_it_is():
    said = judged(some("not_zeroed"))
    (panel,) = [p for p in said.panels if p.sign]
    assert panel.label == "gradient norm"
    assert panel.sign[0] == 1 and panel.sign[1] < 30
    said = judged(some("no_warm_up"))
    (panel,) = [p for p in said.panels if p.sign]
    assert panel.label == "learning rate"
    said = judged(some("little_text"))
    (panel,) = [p for p in said.panels if p.sign]
    assert panel.label.startswith("loss") and panel.sign[1] == 300


def test_letters_are_ascii_and_of_equal_height():
    said = judged(some("rate_too_high"))
    plot = curve_plot.letters(said.panels[0], width=50, height=9)
    assert plot.isascii()
    assert sum("|" in line for line in plot.splitlines()) == 9
    assert max(map(len, plot.splitlines())) < 80
    assert "^" in plot and "*" in plot and "." in plot and "o" in plot


# course diagnose


def invoke(*arguments):
    return CliRunner().invoke(course, ["diagnose", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path):
    """A finished run's folder, as far as the doctor looks at it."""

    def make(run, corpus="stories"):
        path = tmp_path / "run"
        path.mkdir()
        (path / "history.json").write_text(json.dumps(run["history"]), "utf-8")
        (path / "config.json").write_text(json.dumps({"vocab_size": run["vocab_size"]}), "utf-8")
        about = {"preset": run["preset"], "corpus": corpus}
        (path / "run.json").write_text(json.dumps(about), "utf-8")
        return path

    return make


def test_diagnose_prints_the_diagnosis_and_a_plot(folder):
    run = some("little_text")
    result = invoke(folder(run))
    assert result.exit_code == 0
    assert result.output == f"{judged(run)}\n"
    assert "Overfitting" in result.output and "^" in result.output


def test_diagnose_as_json(folder):
    run = some("leak")
    result = invoke(folder(run), "--json")
    assert json.loads(result.output) == judged(run).to_dict()
    assert json.loads(result.output)["disease"] == "leak"


def test_diagnose_writes_the_figure(folder, tmp_path):
    run = some("bad_init")
    result = invoke(folder(run), "--figure", tmp_path / "curves.svg")
    assert result.exit_code == 0
    assert (tmp_path / "curves.svg").read_text("utf-8") == judged(run).svg()
    result = invoke(tmp_path / "run", "--figure", tmp_path / "curves.png")
    assert result.exit_code == 2
    assert "must end in .svg" in result.stderr
    assert not (tmp_path / "curves.png").exists()


def test_on_another_text_the_band_is_not_used(folder):
    # Its losses would all look wrong.
    result = invoke(folder(some("rate_too_low"), corpus="/somewhere/mine.txt"), "--json")
    content = json.loads(result.output)
    assert any("no band" in note for note in content["notes"])


@pytest.mark.parametrize("damage", ["{", "[]", '{"rows": {}}', "null"])
def test_a_damaged_history_is_one_line(folder, damage):
    path = folder(some("healthy"))
    (path / "history.json").write_text(damage, "utf-8")
    result = invoke(path)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1


def test_a_folder_without_a_history_is_one_line(tmp_path):
    result = invoke(tmp_path)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "no history" in result.stderr
    result = invoke(tmp_path / "nothing")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "no such folder" in result.stderr


def test_a_run_that_was_stopped_is_read_from_its_checkpoint(tmp_path):
    config = GPTConfig(vocab_size=16, context_length=4, d_model=8, num_heads=2, num_layers=1)
    recipe = TrainingConfig(
        max_steps=3, batch_size=2, learning_rate=1e-3, min_lr=1e-4, warmup_steps=1, eval_batches=1
    )
    ids = torch.arange(200) % 16
    torch.manual_seed(0)
    history = train(GPT(config), ids, ids, recipe, tmp_path / "run", on_log=lambda record: None)
    result = invoke(tmp_path / "run", "--json")
    expected = diagnose(history, None, 16)
    assert json.loads(result.output) == expected.to_dict()
    assert expected.disease == "too_short"


def test_the_schedule_drawn_is_the_presets():
    panel = judged(some("no_warm_up")).panels[1]
    steps, low, high = panel.band
    assert low == high
    recipe = PRESETS["story-tiny"].training
    assert low == [learning_rate_at(step, recipe) for step in steps]
