"""The explorer of loss curves: its runs, what the curve doctor says of them, and the page."""

import copy
import itertools
import shutil
import sys
from pathlib import Path

import browser
import pytest
import torch

from course_pkg.authoring import loss_grid, widgets
from course_pkg.checks.curves import DISEASES
from course_pkg.config import PRESETS

ROOT = Path(__file__).parent.parent
DATA_FILE = ROOT / "book" / "data" / "loss_grid.json"
NEEDS_BROWSER = pytest.mark.skipif(bool(browser.missing()), reason=browser.missing() or "is there")


@pytest.fixture(scope="module")
def grid():
    return loss_grid.load(DATA_FILE)


@pytest.fixture
def make_loss_grid(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import make_loss_grid

    yield make_loss_grid
    for name in ("make_loss_grid", "make_curves"):
        sys.modules.pop(name)


def places(grid):
    """The settings, in the order in which the page looks runs up: the last axis fastest."""
    values = itertools.product(*(grid[axis] for axis in loss_grid.AXES))
    return [dict(zip(loss_grid.AXES, place, strict=True)) for place in values]


# The data


def test_each_setting_has_one_whole_run(grid):
    settings = [{axis: run[axis] for axis in loss_grid.AXES} for run in grid["runs"]]
    assert settings == places(grid)
    recipe = PRESETS[grid["preset"]].training
    assert grid["vocab_size"] == PRESETS[grid["preset"]].model.vocab_size
    for steps in (grid["steps"], grid["evaluation_steps"]):
        assert steps == sorted(set(steps))
        assert steps[-1] == recipe.max_steps
    for run in grid["runs"]:
        assert len(run["train_loss"]) == len(run["grad_norm"]) == len(grid["steps"])
        for name in ("evaluation_train_loss", "validation_loss"):
            assert len(run[name]) == len(grid["evaluation_steps"])
    assert DATA_FILE.stat().st_size < 60_000


def test_each_disease_is_what_the_doctor_says_of_the_stored_curve(grid):
    for run in grid["runs"]:
        assert loss_grid.diagnosis(grid, run).disease == run["disease"], run
    # What the reader is meant to find is there.
    named = {run["disease"] for run in grid["runs"]}
    assert named == {"healthy", "rate_too_low", "rate_too_high", "no_warm_up", "small_batch"}


def test_the_disease_follows_from_the_curve_and_not_from_the_setting(grid):
    ill = loss_grid.find(grid, learning_rate=0.02, warmup_steps=0, batch_size=16)
    well = loss_grid.find(grid, learning_rate=0.02, warmup_steps=100, batch_size=16)
    assert ill["disease"] == "no_warm_up"
    exchanged = copy.deepcopy(ill)
    for name in ("train_loss", "grad_norm", "evaluation_train_loss", "validation_loss"):
        exchanged[name] = well[name]
    assert loss_grid.diagnosis(grid, exchanged).disease == "healthy"


def test_the_curves_are_as_ill_as_the_page_says(grid):
    def run(rate, warm_up, batch):
        return loss_grid.find(grid, learning_rate=rate, warmup_steps=warm_up, batch_size=batch)

    last = [r["validation_loss"][-1] for r in (run(0.02, 0, 16), run(0.02, 100, 16))]
    assert last[0] > last[1] + 0.5  # the same rate, without and with a warm-up
    # Without one the highest rate goes above what knowing nothing gives, at the very start.
    cold = run(0.3, 0, 1)["train_loss"]
    nothing = torch.tensor(float(grid["vocab_size"])).log().item()
    assert max(cold[:10]) > nothing + 3
    assert abs(run(0.3, 0, 16)["validation_loss"][-1] - grid["frequency_loss"]) < 0.1
    # From one point to the next a small batch jumps more, at every rate and warm-up.
    for rate, steps in itertools.product(grid["learning_rate"], grid["warmup_steps"]):
        small, large = (
            sum(abs(a - b) for a, b in itertools.pairwise(losses[-30:]))
            for losses in (run(rate, steps, batch)["train_loss"] for batch in (1, 16))
        )
        assert small > 1.8 * large


def test_a_run_made_again_is_the_recorded_one(grid, make_loss_grid):
    assert grid["steps"] == make_loss_grid.STEPS
    assert {axis: grid[axis] for axis in loss_grid.AXES} == make_loss_grid.GRID
    assert make_loss_grid.settings() == places(grid)
    setting = {"learning_rate": 0.02, "warmup_steps": 30, "batch_size": 4}
    recorded = loss_grid.find(grid, **setting)
    trainer = make_loss_grid.make_trainer(setting)
    losses = trainer.evaluate()
    assert losses["validation"] == pytest.approx(recorded["validation_loss"][0], abs=2e-3)
    assert losses["train"] == pytest.approx(recorded["evaluation_train_loss"][0], abs=2e-3)
    rows = [trainer.step() for _ in range(8)]
    stored = loss_grid.history(grid, recorded).rows
    for row, kept in zip(rows, stored, strict=False):
        assert row["step"] == kept["step"]
        assert row["tokens"] == kept["tokens"]
        assert row["learning_rate"] == pytest.approx(kept["learning_rate"])
        assert row["train_loss"] == pytest.approx(kept["train_loss"], abs=0.02)
        assert row["grad_norm"] == pytest.approx(kept["grad_norm"], abs=0.05)


def test_the_script_goes_on_where_it_stopped(grid, make_loss_grid, tmp_path, monkeypatch):
    made = []

    class Quick:
        def __init__(self, setting):
            self.setting = setting

        def train(self):
            made.append(self.setting)
            return loss_grid.history(grid, loss_grid.find(grid, **self.setting))

    monkeypatch.setattr(make_loss_grid, "make_trainer", Quick)
    make_loss_grid.train_missing(tmp_path)
    assert made == places(grid)
    gone = places(grid)[7]
    make_loss_grid.path_of(tmp_path, gone).unlink()
    made.clear()
    make_loss_grid.train_missing(tmp_path)
    assert made == [gone]
    make_loss_grid.write(make_loss_grid.collect(tmp_path), tmp_path / "again.json")
    # The same runs give the same file, byte by byte.
    assert (tmp_path / "again.json").read_bytes() == DATA_FILE.read_bytes()


def test_a_setting_outside_the_grid_is_an_error(grid):
    with pytest.raises(ValueError, match=r"0\.7.* is not in the grid.*batch_size: 1, 4, 16"):
        loss_grid.find(grid, learning_rate=0.7, warmup_steps=0, batch_size=1)


def test_the_table_holds_the_last_losses(grid):
    *_, head, first, _, last = loss_grid.table(grid, 16).splitlines()
    assert head.split() == [f"{rate:g}" for rate in grid["learning_rate"]]
    for line, steps in ((first, 0), (last, 100)):
        losses = [
            loss_grid.find(grid, learning_rate=rate, warmup_steps=steps, batch_size=16)
            for rate in grid["learning_rate"]
        ]
        shown = [str(steps), *(f"{run['validation_loss'][-1]:.2f}" for run in losses)]
        assert line.split() == shown


def test_the_export_leaves_the_curves_out_where_they_are_not(tmp_path):
    assert "loss-grid" not in widgets.export(tmp_path / "a")
    assert "loss-grid" not in widgets.export(tmp_path / "b", tmp_path / "no.json")
    assert "loss-grid" in widgets.export(tmp_path / "c", DATA_FILE)


# The page


@pytest.fixture(scope="module")
def chromium():
    with browser.chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def demo(grid, tmp_path_factory):
    placed = [
        widgets.Widget("loss", "0.02, 0, 16", loss_grid.table(grid, 16)),
        widgets.Widget("loss", "nonsense", "a second one"),
    ]
    return widgets.write_demo(tmp_path_factory.mktemp("loss"), browser.WIDGETS, placed)


@pytest.fixture
def page(chromium, demo):
    opened = browser.Page(chromium, demo, viewport={"width": 390, "height": 800})
    opened.page.wait_for_function("document.querySelectorAll('.course-loss-plot svg').length === 2")
    yield opened.page
    opened.context.close()
    assert opened.complaints == []


def said(page):
    return page.locator('[data-widget="loss"]').first.get_by_role("status").text_content()


@NEEDS_BROWSER
def test_each_choice_shows_its_own_run(page, grid):
    script = """([place]) => {
        const widget = document.querySelector('[data-widget="loss"]');
        [...widget.querySelectorAll("fieldset")].forEach((field, n) =>
            field.querySelectorAll("input")[place[n]].click());
        return [
            widget.querySelector("[role=status]").textContent,
            widget.querySelector("[role=img]").getAttribute("aria-label"),
            widget.querySelectorAll("polyline.beside").length,
        ];
    }"""
    axes = [grid[axis] for axis in loss_grid.AXES]
    best = min(run["validation_loss"][-1] for run in grid["runs"])
    seen = set()
    for run in grid["runs"]:
        place = [values.index(run[axis]) for axis, values in zip(loss_grid.AXES, axes, strict=True)]
        text, described, beside = page.evaluate(script, [place])
        loss = run["validation_loss"][-1]
        assert text.startswith(f"{loss:.2f} nats per token on validation text after 300 steps")
        assert f"{300 * 64 * run['batch_size']:,} tokens" in text
        assert ("the lowest of all 54" in text) == (loss == best)
        disease = DISEASES[run["disease"]]
        assert f"{disease.title}. {' '.join(loss_grid.diagnosis(grid, run).signs)}" in text
        assert (disease.advice in text) == (run["disease"] != "healthy")
        assert f"at most {max(run['train_loss']):.2f}" in described
        inner = sum(0 < n < len(values) - 1 for n, values in zip(place, axes, strict=True))
        assert beside == 3 + inner
        seen.add(text + described)
    assert len(seen) == len(grid["runs"])


@NEEDS_BROWSER
def test_the_curves_are_drawn_where_the_numbers_are(page, grid):
    run = loss_grid.find(grid, learning_rate=0.02, warmup_steps=0, batch_size=16)
    points = page.locator("polyline.validation").first.get_attribute("points").split()
    ys = [float(point.split(",")[1]) for point in points]
    losses = run["validation_loss"]
    assert len(ys) == len(losses)
    # Pixels are linear in the loss, and a higher loss is higher up.
    slope = (ys[-1] - ys[0]) / (losses[-1] - losses[0])
    assert slope < 0
    for y, loss in zip(ys, losses, strict=True):
        assert abs(y - ys[0] - slope * (loss - losses[0])) < 0.3


@NEEDS_BROWSER
def test_the_keyboard_alone_chooses(page, grid):
    def expect(rate, steps, batch):
        run = loss_grid.find(grid, learning_rate=rate, warmup_steps=steps, batch_size=batch)
        assert said(page).startswith(f"{run['validation_loss'][-1]:.2f} ")
        assert DISEASES[run["disease"]].title in said(page)

    expect(0.02, 0, 16)  # what the widget was placed with
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    expect(0.08, 0, 16)
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(0.005, 0, 16)
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    expect(0.005, 30, 16)
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowLeft")
    expect(0.005, 30, 4)
    assert page.evaluate("document.activeElement.closest('fieldset').textContent").startswith(
        "batch size"
    )


@NEEDS_BROWSER
def test_each_group_of_choices_has_a_name_and_widgets_do_not_share_them(page, grid):
    first = page.locator('[data-widget="loss"]').first
    for name, count in (("learning rate", 6), ("warm-up", 3), ("batch size", 3)):
        group = first.get_by_role("group", name=name)
        assert group.get_by_role("radio").count() == count
        assert group.get_by_role("radio", checked=True).count() == 1
    page.locator('[data-widget="loss"]').nth(1).get_by_role("radio", name="0.3").check()
    assert first.get_by_role("radio", name="0.02").is_checked()


@NEEDS_BROWSER
def test_a_phones_page_is_not_widened_and_print_shows_the_table(page, grid):
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    table = page.get_by_text("Validation loss (nats per token) after 300 steps")
    assert not table.is_visible()
    page.emulate_media(media="print")
    assert table.is_visible()
    assert not page.get_by_role("radio").first.is_visible()


@NEEDS_BROWSER
def test_without_its_data_the_widget_says_so(chromium, tmp_path, demo):
    folder = shutil.copytree(demo.parent, tmp_path / "copy")
    (folder / "widgets" / "data" / "loss-grid.js").unlink()
    opened = browser.Page(chromium, folder / "index.html")
    opened.page.get_by_text("data/loss-grid.js could not be loaded.").first.wait_for()
    opened.context.close()
