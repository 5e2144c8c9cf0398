"""Single sentences whose published figures a sound instrument must give again on GPT-2."""

import math

import pytest

from claimlens.circuits import Head, logit_diff, loss, standing, zero_values

ABSTRACT = (
    "Natural language processing tasks, such as question answering, machine translation, reading "
    "comprehension, and summarization, are typically approached with supervised learning on "
    "taskspecific datasets."
)
"""The first sentence of the abstract of Radford et al. 2019, as the demo spells it."""
DESCRIPTION = (
    "## Loading Models\n\n"
    "HookedTransformer comes loaded with >40 open source GPT-style models. You can load any of "
    "them in with `HookedTransformer.from_pretrained(MODEL_NAME)`. See my explainer for "
    "documentation of all supported models, and this table for hyper-parameters and the name used "
    "to load them. Each model is loaded into the consistent HookedTransformer architecture, "
    "designed to be clean, consistent and interpretability-friendly. \n\n"
    "For this demo notebook we'll look at GPT-2 Small, an 80M parameter model. To try the model "
    "the model out, let's find the loss on this paragraph!"
)
"""The demo's own paragraph, word for word: its loss was measured on this spelling."""
CLAIRE = "Claire and Mary went to the shops, then Mary gave a bottle of milk to"
IOI = "After John and Mary went to the store, {} gave a bottle of milk to"
SARAH = "Then, Sarah and Arthur had a lot of fun at the hospital. Arthur gave a bone to"
ABLATED = Head(0, 8)


@pytest.mark.claim(
    "demo/loss-on-a-text",
    kind="behaviour",
    source="TransformerLens main demo (seed 002), loss",
)
def test_a_plain_text_is_predicted(model, sentence, measure):
    """A plain text costs at least a nat per token less than guessing evenly would."""
    text = (
        "When Mary and Tom went to the store, Tom gave a book to Mary. The color of the cat is red."
    )
    nats = measure(lambda p: loss(model, p.clean), on=sentence(text), unit="nats/token", exact=True)
    assert nats <= math.log(model.cfg.d_vocab) - 1.0


@pytest.mark.claim(
    "demo/loss-on-running-text",
    kind="behaviour",
    finding="copy/base-loss",
    expected={"planted": "refuted"},
)
def test_running_text_is_predicted(model, running_text, measure):
    """Running text costs at least a nat per token less than guessing evenly would.

    The published 4.31 is of web text that is not given again here: another text, another figure.
    """
    nats = measure(lambda p: loss(model, p.clean), on=running_text(), unit="nats/token")
    assert nats <= math.log(model.cfg.d_vocab) - 1.0


@pytest.mark.claim(
    "demo/loss-of-the-description", kind="behaviour", finding="demo/loss-description"
)
def test_the_loss_on_the_demos_paragraph_is_the_published_one(model, sentence, measure):
    """On the demo's own paragraph about loading models the loss is the published 4.165, within
    .05."""
    nats = measure(
        lambda p: loss(model, p.clean), on=sentence(DESCRIPTION), unit="nats/token", exact=True
    )
    assert nats >= 4.115
    assert nats <= 4.215


@pytest.mark.claim("demo/loss-of-the-abstract", kind="behaviour", finding="demo/loss-abstract")
def test_the_loss_on_the_abstract_is_the_published_one(model, sentence, measure):
    """On the first sentence of GPT-2's abstract the loss is the published 4.00, within .05."""
    nats = measure(
        lambda p: loss(model, p.clean), on=sentence(ABSTRACT), unit="nats/token", exact=True
    )
    assert nats >= 3.95
    assert nats <= 4.05


@pytest.mark.claim(
    "demo/loss-without-head-values", kind="behaviour", finding="demo/loss-ablate-v-0.8"
)
def test_ablating_the_values_of_head_0_8_costs_what_is_published(model, sentence, measure):
    """Without the values of head 0.8 that sentence costs .118 nats per token more, within .02."""
    text = sentence(ABSTRACT)
    clean = measure(lambda p: loss(model, p.clean), on=text, unit="nats/token", exact=True)
    ablated = measure(
        lambda p: loss(zero_values(model, ABLATED), p.clean),
        on=text,
        unit="nats/token",
        exact=True,
    )
    assert ablated - clean >= 0.098
    assert ablated - clean <= 0.138


@pytest.mark.claim("demo/ioi-sentence", kind="behaviour", finding="demo/ioi-logit-diff-clean")
def test_the_ioi_sentence_of_the_demo(model, sentence, measure):
    """After the demo's own sentence John is ahead of Mary by a logit or more when Mary gives, and
    behind when John does."""
    mary = sentence(IOI.format("Mary"), "John", "Mary")
    john = sentence(IOI.format("John"), "John", "Mary")
    clean = measure(lambda p: logit_diff(model, p.clean), on=mary, unit="logits", exact=True)
    swapped = measure(lambda p: logit_diff(model, p.clean), on=john, unit="logits", exact=True)
    assert clean >= 1.0
    assert swapped <= -1.0


@pytest.mark.claim("demo/the-after-the-mat", kind="behaviour", finding="demo/cat-the")
def test_a_new_sentence_begins_with_the(model, sentence, measure):
    """After "The cat sat on the mat." " The" has the published probability of .12, within .02."""
    cat = sentence("The cat sat on the mat.", "The")
    probability = measure(
        lambda p: standing(model, p.clean).probability, on=cat, unit="probability", exact=True
    )
    assert probability >= 0.10
    assert probability <= 0.14


@pytest.mark.claim("demo/sarah", kind="behaviour", finding="copy/sarah")
def test_sarah_gets_the_bone(model, sentence, measure):
    """Sarah is the likeliest next token, with the published probability of .47 (within .05), more
    than a logit ahead of Arthur."""
    text = sentence(SARAH, "Sarah", "Arthur")
    rank = measure(lambda p: standing(model, p.clean).rank, on=text, unit="rank", exact=True)
    probability = measure(
        lambda p: standing(model, p.clean).probability, on=text, unit="probability", exact=True
    )
    ahead = measure(lambda p: logit_diff(model, p.clean), on=text, unit="logits", exact=True)
    assert rank <= 0
    assert probability >= 0.42
    assert probability <= 0.52
    assert ahead >= 1.0


@pytest.mark.claim("demo/claire-with-and-without-bos", kind="behaviour", finding="demo/prepend-bos")
def test_without_bos_claire_is_less_expected(model, sentence, measure):
    """Claire, whose name begins the sentence, is ahead of Mary by the published 6.75 logits with
    BOS and by 2.78 without, each within .1."""
    claire = sentence(CLAIRE, "Claire", "Mary")
    given = measure(lambda p: logit_diff(model, p.clean), on=claire, unit="logits", exact=True)
    bare = measure(
        lambda p: logit_diff(model, p.without_bos().clean), on=claire, unit="logits", exact=True
    )
    assert given >= 6.654
    assert given <= 6.854
    assert bare >= 2.682
    assert bare <= 2.882
