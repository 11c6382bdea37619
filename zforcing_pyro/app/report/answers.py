"""The two questions that everyone asks, answered from what was measured."""

from __future__ import annotations

from html import escape

from ...analysis.evaluation import KL_IN_USE, VARIANCE_IN_USE
from .findings import Findings
from .html import element, paragraph

COLLAPSED = 0.1
"""Nats of KL a sequence below which latents carry nothing."""


NOTICED = 0.005
"""Rise of an R^2 that is worth a sentence."""


def ahead(horizon: int) -> str:
    """How far in the future, in words.

    Example:
        >>> ahead(0), ahead(1), ahead(2)
        ('at its own step', '1 step ahead', '2 steps ahead')
    """
    return "at its own step" if horizon == 0 else f"{horizon} step{'s' * (horizon > 1)} ahead"


def answers(found: Findings) -> str:
    """Whether the posterior can be trusted, and whether z means anything; as two boxes."""
    if found.latents is None:
        return box(
            "fair", "No latents", "The model has none: its bound is the exact log-likelihood."
        )
    return element("div", trusted(found), meaningful(found), class_="answers")


def box(kind: str, title: str, *lines: str) -> str:
    """A coloured box; the words say what the colour does."""
    said = element("strong", escape(title)), *map(paragraph, lines)
    return element("div", *said, class_=f"answer {kind}")


def trusted(found: Findings) -> str:
    """Can the posterior be trusted?"""
    them = found.latents
    high, particles = them.high_pareto_k, len(them.importance.log_weight)
    exact = them.calibration.calibrated
    if high <= 0.1 and exact:
        kind, verdict = "good", "yes, as far as these tests see"
    elif high <= 0.5:
        kind, verdict = "fair", "with care"
    else:
        kind, verdict = "bad", "no"
    test = "passes" if exact else "fails"
    return box(
        kind,
        f"Can the posterior be trusted? {verdict}",
        f"Pareto k-hat is above 0.7 in {high:.0%} of {len(found.data)} sequences, of which neither "
        f"bounds nor weighted averages can be relied on. The effective sample size is "
        f"{them.importance.ess.mean():.1f} of {particles} on average.",
        f"The guide {test} calibration on data that the model generated, at level "
        f"{them.calibration.level:g}.",
    )


def meaningful(found: Findings) -> str:
    """Does z mean anything?"""
    them = found.latents
    kl, in_use, num = them.kl.per_sequence.mean(), int(them.kl.in_use.sum()), len(them.kl.in_use)
    if kl < COLLAPSED:
        kind, verdict = "bad", "hardly: the latents have collapsed"
    elif not in_use:
        kind, verdict = "fair", "not clear"
    elif kl < 1:
        kind, verdict = "fair", "a little"
    else:
        kind, verdict = "good", "yes"
    lines = [f"The latents carry {kl:.2f} nats a sequence (KL), and {in_use} of {num} are in use."]
    if kl >= COLLAPSED and not in_use:
        lines.append(
            f"No latent has a KL above {KL_IN_USE:g} nats a step and a variance of (posterior mean "
            f"- prior mean) above {VARIANCE_IN_USE:g}: either the KL is spread over many latents, "
            "or it is much the same whatever the data are."
        )
    if future := them.best_future():
        # Below 0 a prediction is worse than the mean, and explains nothing.
        rows = [(horizon, max(past, 0.0), max(past + gain, 0.0)) for horizon, past, gain in future]
        horizon, past, both = max(rows, key=lambda row: row[2] - row[1])
        if both - past >= NOTICED:
            lines.append(
                f"Of x, {ahead(horizon)}, a linear map explains {past:.1%} from the state "
                f"before z, and {both:.1%} with z."
            )
        else:
            lines.append("A linear map predicts x no better with z than without, however far.")
    if probes := [probe for probe in them.probes if probe.source == "z"]:
        best = max(probes, key=lambda probe: probe.accuracy - probe.chance)
        is_read = best.accuracy > best.chance + 2 * best.standard_error
        lines.append(
            f"A linear map reads the {best.label} off z "
            + ("" if is_read else "no better than chance, ")
            + f"in {best.accuracy:.0%} of sequences (chance {best.chance:.0%})."
        )
    return box(kind, f"Does z mean anything? {verdict}", *lines)
