"""The trained models that come with the package are what their records say."""

import json

import pytest
import torch

from course_pkg import (
    GPTConfig,
    TokenWindows,
    TrainingConfig,
    bits_per_byte,
    cross_entropy,
    encode_documents,
    epoch_batches,
    generate,
    load_corpus,
    load_pretrained,
    load_tokenizer,
)
from course_pkg.files import MODELS, packaged_models


@pytest.fixture(params=packaged_models())
def name(request):
    return request.param


@pytest.fixture
def record(name):
    return json.loads((MODELS / name / "record.json").read_text("utf-8"))


def test_story_1m_is_there():
    assert "story-1m" in packaged_models()


def test_it_is_the_preset_trained_with_the_recorded_command(name, record):
    assert f"--preset {name}" in record["command"]
    assert load_pretrained(name).config == GPTConfig.preset(name)
    steps = TrainingConfig.from_dict(record["training"])
    changed = TrainingConfig.preset(name, max_steps=steps.max_steps)
    assert steps == changed and f"--max-steps {steps.max_steps}" in record["command"]


def test_its_corpus_is_the_one_that_is_embedded(record):
    corpora = MODELS.parent / "corpora"
    corpus = json.loads((corpora / f"{record['corpus']['name']}.json").read_text("utf-8"))
    assert corpus["sha256"] == record["corpus"]["sha256"]


def test_its_loss_on_the_validation_split_is_the_recorded_one(name, record):
    model, tokenizer = load_pretrained(name), load_tokenizer(name)
    _, validation = load_corpus(record["corpus"]["name"]).split()
    ids = encode_documents(validation.documents, tokenizer)
    total = windows = 0.0
    with torch.no_grad():
        for inputs, targets in epoch_batches(TokenWindows(ids, model.config.context_length), 16):
            total += cross_entropy(model(inputs), targets).item() * len(inputs)
            windows += len(inputs)
    expected = record["whole_validation_split"]
    assert total / windows == pytest.approx(expected["loss"], abs=2e-3)
    bits = bits_per_byte(total / windows, len(ids), validation.num_bytes)
    assert bits == pytest.approx(expected["bits_per_byte"], abs=2e-3)


def test_it_tells_stories_that_end(name):
    model, tokenizer = load_pretrained(name), load_tokenizer(name)
    prompt = torch.tensor([tokenizer.encode("Once upon a time")] * 8)
    stop = tokenizer.end_of_text_id
    generator = torch.Generator().manual_seed(0)
    told = generate(model, prompt, 250, temperature=0.6, stop_ids=[stop], generator=generator)
    ended = sum(stop in ids for ids in told.tolist())
    words = {word for ids in told.tolist() for word in tokenizer.decode(ids).split()}
    assert ended >= 5 and len(words) > 80
