"""Copy suppression: take everything else from a negative head, and its effect stays."""

import pytest

from claimlens.circuits import cspa_kl, cspa_kls, first_over_others, share_kept


@pytest.mark.claim("copy-suppression/cspa", kind="mechanism", finding="copy/cspa-recovered")
@pytest.mark.role("copy_suppression/negative_head")
def test_copy_suppression_is_most_of_what_a_negative_head_does(model, text, head, measure):
    """With everything but copy suppression mean-ablated, a negative head keeps two fifths or more
    of its effect (KL divergence); with only its OV or only its QK side so restricted, half."""

    def kl(preserve):
        return measure(
            lambda p: cspa_kl(model, p.clean, head, preserve, at="PROBE"),
            on=text,
            unit="nats/token",
        )

    mean = kl("nothing")
    assert (mean - kl("copy suppression")) / mean >= 0.4
    assert mean >= 0.002
    assert (mean - kl("ov")) / mean >= 0.5
    assert (mean - kl("qk")) / mean >= 0.5


@pytest.mark.claim("copy-suppression/cspa-top", kind="mechanism", finding="copy/cspa-recovered")
@pytest.mark.role("copy_suppression/negative_head")
def test_copy_suppression_is_less_of_what_any_other_head_does(model, text, heads, measure):
    """Of no head outside the role is as large a share of the effect copy suppression as of the
    first negative head; the next one is behind by a fifth of the effect or more."""

    def margin(p):
        both = cspa_kls(model, p.clean, at="PROBE")
        mean = cspa_kls(model, p.clean, "nothing", at="PROBE")
        return first_over_others(share_kept(both, mean), heads)

    effect = measure(
        lambda p: cspa_kl(model, p.clean, heads[0], "nothing", at="PROBE"),
        on=text,
        unit="nats/token",
    )
    assert effect >= 0.002  # before all heads are tried, which takes long in a large model
    assert measure(margin, on=text, unit="fraction") >= 0.2
