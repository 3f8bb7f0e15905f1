"""Generation: left padding, order, sampling from a seed, and log-probabilities that add up."""

from __future__ import annotations

import pytest
import training_fixtures as tiny

from tasks.errors import ModelError, ParamsError
from tasks.training.generate import generate, pad_left
from tasks.training.models import load_policy
from tasks.training.tokens import encode_chat

PROMPTS = [[{"role": "user", "content": "When does Marsh open? " * n}] for n in (1, 6, 3, 2, 5)]


@pytest.fixture(scope="module")
def policy():
    """The tiny SFT model, merged."""
    return load_policy(tiny.world() / "base", [tiny.trained("sft")], tiny.params().compute)


def test_padding_is_on_the_left():
    """Each row ends in the same column; the mask marks the padding."""
    ids, mask = pad_left([[5, 6, 7], [8]], pad=1)
    assert ids.tolist() == [[5, 6, 7], [1, 1, 8]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1]]


def test_a_batch_answers_as_one_prompt_alone(policy):
    """Sorting by length and padding change nothing, and the order of the prompts comes back."""
    together = generate(*policy, PROMPTS, max_new_tokens=10, batch_size=3)
    for prompt, (answer,) in zip(PROMPTS, together, strict=True):
        ((alone,),) = generate(*policy, [prompt], max_new_tokens=10, batch_size=1)
        assert (answer.text, answer.tokens, answer.ended) == (alone.text, alone.tokens, alone.ended)
        assert answer.logprob == pytest.approx(alone.logprob, abs=1e-4)


def test_greedy_equals_the_library(policy):
    """The oracle: transformers' own generate on one prompt."""
    import torch

    model, tokenizer = policy
    ids = torch.tensor([encode_chat(tokenizer, PROMPTS[1], add_generation_prompt=True)])
    whole = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=10, do_sample=False)
    ((answer,),) = generate(model, tokenizer, [PROMPTS[1]], max_new_tokens=10, batch_size=1)
    assert answer.text == tokenizer.decode(whole[0, ids.shape[1]:], skip_special_tokens=True).strip()


def test_logprob_is_the_sum_over_the_answers_tokens(policy):
    """The oracle: one forward pass over prompt + answer."""
    import torch

    model, tokenizer = policy
    prompt = encode_chat(tokenizer, PROMPTS[0], add_generation_prompt=True)
    ((answer,),) = generate(model, tokenizer, [PROMPTS[0]], max_new_tokens=6, batch_size=1)
    ids = torch.tensor([prompt])
    new = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False)
    with torch.inference_mode():
        logps = model(input_ids=new).logits[0, :-1].log_softmax(-1)
    expected = logps.gather(1, new[0, 1:, None])[len(prompt) - 1:, 0]
    assert len(expected) == answer.tokens
    assert answer.logprob == pytest.approx(float(expected.sum()), abs=1e-4)


def test_samples_depend_on_seed_and_prompt_and_not_on_the_batch(policy):
    """Equal seeds give equal answers in any batching and order; another seed gives others."""
    options = {"max_new_tokens": 8, "temperature": 1.0, "top_p": 0.9, "samples": 3}
    first = generate(*policy, PROMPTS, batch_size=5, seed=1, **options)
    again = generate(*policy, PROMPTS[::-1], batch_size=2, seed=1, **options)[::-1]
    other = generate(*policy, PROMPTS, batch_size=5, seed=2, **options)
    texts = [[a.text for a in each] for each in first]
    assert texts == [[a.text for a in each] for each in again]
    assert texts != [[a.text for a in each] for each in other]
    assert all(len(each) == 3 for each in first) and len({t for each in texts for t in each}) > 5


def test_a_small_nucleus_is_greedy(policy):
    """top_p → 0 leaves the likeliest token only."""
    greedy = generate(*policy, PROMPTS, max_new_tokens=6, batch_size=8)
    nucleus = generate(*policy, PROMPTS, max_new_tokens=6, batch_size=8, temperature=1.0, top_p=1e-6)
    assert [a.text for (a,) in greedy] == [a.text for (a,) in nucleus]


def test_sampling_follows_the_distribution():
    """400 draws from (0.7, 0.2, 0.1): within four standard errors; the nucleus of 0.6 holds the first token only."""
    import math
    import random

    import torch

    from tasks.training.generate import _choose, _Row

    logps = torch.tensor([[0.2, 0.7, 0.1]]).log().expand(400, 3)
    rows = [_Row(0, [], 0.0, False, random.Random(i)) for i in range(400)]
    drawn = _choose(logps, rows, 1.0, 1.0).tolist()
    for token, p in enumerate((0.2, 0.7, 0.1)):
        assert abs(drawn.count(token) / 400 - p) < 4 * math.sqrt(p * (1 - p) / 400)
    assert set(_choose(logps, rows, 1.0, 0.6).tolist()) == {1}
    assert set(_choose(logps, rows, 1.0, 0.75).tolist()) == {0, 1}


def test_an_answer_that_ends_says_so(policy):
    """With the end token made certain the answer is empty, one token long and ended; else it is cut."""
    import torch

    model, tokenizer = policy
    ((cut,),) = generate(model, tokenizer, [PROMPTS[0]], max_new_tokens=3, batch_size=1)
    assert (cut.tokens, cut.ended) == (3, False)

    def certain(module, args, output):
        output.logits = torch.full_like(output.logits, -50.0)
        output.logits[..., tokenizer.eos_token_id] = 50.0
        return output

    handle = model.register_forward_hook(certain)
    try:
        ((end,),) = generate(model, tokenizer, [PROMPTS[0]], max_new_tokens=3, batch_size=1)
    finally:
        handle.remove()
    assert (end.text, end.tokens, end.ended) == ("", 1, True)
    assert end.logprob == pytest.approx(0.0, abs=1e-6)


def test_what_cannot_be_generated_is_refused(policy):
    """Several greedy samples, a negative temperature, an empty nucleus, a prompt that fills the window."""
    for wrong in ({"samples": 2}, {"temperature": -1.0}, {"temperature": 1.0, "top_p": 0.0}):
        with pytest.raises(ParamsError, match="do not go together"):
            generate(*policy, PROMPTS, max_new_tokens=4, batch_size=2, **wrong)
    long = [{"role": "user", "content": "When does Marsh open? " * 80}]
    with pytest.raises(ModelError, match="exceed the model's window of 256"):
        generate(*policy, [long], max_new_tokens=4, batch_size=1)


def test_no_prompts_no_answers(policy):
    """An empty list is no error."""
    assert generate(*policy, [], max_new_tokens=4, batch_size=2) == []
