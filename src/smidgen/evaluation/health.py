"""Is the model well? Plain verdicts on generated text: does it loop, is it monotonous, does it recite, did it overfit.

Each number is judged beside the same number of held-out text, because children's stories repeat more than encyclopedias
and a small world shares more phrases than a large one. This file reads texts only; who generated them, and how, is
said by the caller.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from smidgen.evaluation.overlap import Overlap, longest_overlaps

Verdict = Literal["good", "watch", "bad", "unknown"]

_WORD = re.compile(r"[\u0e00-\u0eff\u3040-\u9fff\uac00-\ud7af]|\w+|[^\w\s]")
"""Words and marks; in scripts written without spaces (Thai, Lao, Chinese, Japanese, Korean) each character."""

_REPETITION_WATCH, _REPETITION_BAD = 0.05, 0.20
"""Repeated 4-grams beyond held-out text. Gopher drops web pages whose repeated 5-grams exceed 15%, and most of those
are still readable. Source: Rae et al. 2021, arXiv 2112.11446, table A1."""
_DISTINCT_WATCH, _DISTINCT_BAD = 0.75, 0.5
"""Distinct bigrams as a share of what held-out text of the same length has."""
_RECITED_CHARACTERS = 200
"""About 50 tokens: the usual length from which a verbatim passage counts as memorised.
Source: Carlini et al. 2022, arXiv 2202.07646."""
_GAP_WATCH, _GAP_BAD = 0.05, 0.15
"""Validation over training bits per byte, as a share of the latter."""


@dataclass(frozen=True)
class Finding:
    """One judged number."""

    name: str
    verdict: Verdict
    value: float | None
    reference: float | None
    """The same number of held-out text, where there is one."""
    unit: Literal["share", "characters", "bits per byte"]
    reason: str
    """The verdict in a plain sentence, numbers included."""
    evidence: str = ""
    """The passage that shows it, if one does."""


@dataclass(frozen=True)
class Health:
    """All findings over some generated texts."""

    findings: tuple[Finding, ...]
    texts: int
    words: int

    @property
    def verdict(self) -> Verdict:
        """The worst of the findings."""
        order: tuple[Verdict, ...] = ("bad", "watch", "good", "unknown")
        return next(verdict for verdict in order if any(finding.verdict == verdict for finding in self.findings))

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for `metrics.json`."""
        return asdict(self) | {"verdict": self.verdict, "findings": [asdict(finding) for finding in self.findings]}


def split_words(text: str) -> list[str]:
    """Return words and punctuation marks in lower case, the units repetition is counted in."""
    return _WORD.findall(text.lower())


def repetition_rate(texts: Iterable[str], n: int = 4) -> float:
    """Return the share of n-grams that occurred before in the same text, over all texts; 0 without any n-gram."""
    total = repeated = 0
    for text in texts:
        grams = _ngrams(split_words(text), n)
        total += len(grams)
        repeated += len(grams) - len(set(grams))
    return repeated / total if total else 0.0


def distinct_share(texts: Iterable[str], n: int = 2) -> float:
    """Return distinct n-grams over all n-grams, counted across the texts together; falls with the amount of text.

    Source: Li et al. 2016, arXiv 1510.03055 (distinct-n).
    """
    grams = [gram for text in texts for gram in _ngrams(split_words(text), n)]
    return len(set(grams)) / len(grams) if grams else 0.0


def check_health(
    samples: Sequence[str],
    references: Sequence[str],
    training: Iterable[str],
    train_bits_per_byte: float | None = None,
    validation_bits_per_byte: float | None = None,
) -> Health:
    """Judge generated texts beside held-out ones; the training texts are streamed by once.

    Samples are what the model wrote, prompts taken off. References are cut to the lengths of the samples, so that both
    sides are compared at the same length; the training text must not hold them.
    """
    samples = [text for text in samples if split_words(text)]
    references = _match_lengths(references, samples)
    overlaps = longest_overlaps({"samples": samples, "references": references}, training)
    findings = (
        _judge_repetition(samples, references),
        _judge_variety(samples, references),
        _judge_recital(overlaps["samples"], overlaps["references"], samples),
        _judge_gap(train_bits_per_byte, validation_bits_per_byte),
    )
    return Health(findings, len(samples), sum(len(split_words(text)) for text in samples))


def _judge_repetition(samples: Sequence[str], references: Sequence[str]) -> Finding:
    name = "repetition"
    if not samples:
        return Finding(name, "unknown", None, None, "share", "There is no generated text to judge.")
    rate, usual = repetition_rate(samples), repetition_rate(references) if references else None
    excess = rate - (usual or 0.0)
    verdict = _grade(excess, _REPETITION_WATCH, _REPETITION_BAD)
    opening = {"good": "Does not loop", "watch": "Repeats itself at times", "bad": "Repeats itself"}[verdict]
    reason = f"{opening}: {rate:.0%} of 4-grams occurred before in the same text{_beside(usual, '.0%')}."
    worst = max(samples, key=lambda text: repetition_rate([text]))
    return Finding(name, verdict, rate, usual, "share", reason, "" if verdict == "good" else worst[:400])


def _judge_variety(samples: Sequence[str], references: Sequence[str]) -> Finding:
    name = "variety"
    if not samples:
        return Finding(name, "unknown", None, None, "share", "There is no generated text to judge.")
    share, usual = distinct_share(samples), distinct_share(references) if references else None
    if not usual:
        reason = f"{share:.0%} of all bigrams are distinct; no held-out text to compare with."
        return Finding(name, "unknown", share, None, "share", reason)
    verdict = _grade(-share / usual, -_DISTINCT_WATCH, -_DISTINCT_BAD)
    opening = {"good": "Varied", "watch": "Less varied than the data", "bad": "Monotonous"}[verdict]
    reason = f"{opening}: {share:.0%} of all bigrams are distinct{_beside(usual, '.0%')}."
    return Finding(name, verdict, share, usual, "share", reason)


def _judge_recital(ours: Overlap, usual: Overlap, samples: Sequence[str]) -> Finding:
    name = "verbatim overlap"
    if not samples:
        return Finding(name, "unknown", None, None, "characters", "There is no generated text to judge.")
    length, reference = ours.characters, usual.characters if usual.text_index >= 0 else None
    # Twice what unseen text shares by chance is still chance: its own longest passage is one draw of a wide spread.
    limit = max(_RECITED_CHARACTERS, 2 * (reference or 0))
    verdict: Verdict = "bad" if length >= limit else "watch" if length >= limit / 2 else "good"
    opening = {"good": "Writes its own text", "watch": "Quotes in places", "bad": "Recites its training text"}[verdict]
    reason = f"{opening}: {length} characters are the longest passage shared verbatim with it{_beside(reference, 'd')}."
    return Finding(name, verdict, length, reference, "characters", reason, ours.passage[:400])


def _judge_gap(train: float | None, validation: float | None) -> Finding:
    name = "train-validation gap"
    if train is None or validation is None or train <= 0:
        return Finding(name, "unknown", None, None, "bits per byte", "Training and validation were not both measured.")
    gap = validation - train
    verdict = _grade(gap / train, _GAP_WATCH, _GAP_BAD)
    opening = {"good": "Generalises", "watch": "Begins to overfit", "bad": "Overfits"}[verdict]
    numbers = f"{validation:.3f} bits per byte on held-out text, {train:.3f} in training ({gap / train:+.1%})"
    advice = "" if verdict == "good" else " More text, fewer epochs or a smaller model would help."
    reason = f"{opening}: {numbers}.{advice}"
    return Finding(name, verdict, gap, None, "bits per byte", reason)


def _grade(value: float, watch: float, bad: float) -> Literal["good", "watch", "bad"]:
    return "bad" if value >= bad else "watch" if value >= watch else "good"


def _beside(usual: float | None, form: str) -> str:
    return "" if usual is None else f" (held-out text: {usual:{form}})"


def _ngrams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def _match_lengths(references: Sequence[str], samples: Sequence[str]) -> list[str]:
    """Cut as many references as there are samples, each to the length of one in characters."""
    return [reference[: len(sample)] for reference, sample in zip(references, samples, strict=False)]
