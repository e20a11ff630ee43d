"""Health: numbers by hand, verdicts relative to held-out text, and a plain sentence for each."""

import json

import pytest

from smidgen.evaluation.health import Health, check_health, distinct_share, repetition_rate, split_words

STORY = "Mira went to the old mill with her brother Tom. They wanted flour, but the miller had left for the coast."
OTHER = "A heron stood in the shallow water and waited. When evening came it had caught two fish and a very small frog."
LOOP = "the cat sat. " * 30


def verdicts(health: Health) -> dict[str, str]:
    return {finding.name: finding.verdict for finding in health.findings}


def test_rates_by_hand() -> None:
    assert repetition_rate(["a b c d a b c d"]) == pytest.approx(1 / 5)
    assert repetition_rate(["a b c d", "a b c d"]) == 0
    assert repetition_rate(["too short"]) == 0
    assert distinct_share(["a b a b"]) == pytest.approx(2 / 3)
    assert distinct_share(["a b", "a b"]) == pytest.approx(1 / 2)
    assert distinct_share([]) == 0


def test_words_are_found_in_scripts_without_spaces() -> None:
    assert split_words("Don't STOP!") == ["don", "'", "t", "stop", "!"]
    assert split_words("東京へ行く") == list("東京へ行く")


def test_good_text_gets_good_verdicts() -> None:
    health = check_health([STORY], [OTHER], ["Nothing of the kind was ever written down here."], 1.0, 1.02)
    assert set(verdicts(health).values()) == {"good"}
    assert health.verdict == "good"


def test_a_loop_is_called_one_and_shown() -> None:
    health = check_health([STORY, LOOP], [OTHER, OTHER * 3], [], 1.0, 1.0)
    finding = health.findings[0]
    assert finding.verdict == "bad"
    assert finding.evidence.startswith("the cat sat")
    assert "4-grams" in finding.reason
    assert f"{finding.value:.0%}" in finding.reason
    assert health.verdict == "bad"


def test_data_that_repeats_itself_excuses_a_model_that_does() -> None:
    chorus = "row row row your boat gently down the stream " * 8
    health = check_health([chorus], [chorus], [])
    assert verdicts(health)["repetition"] == "good"
    assert verdicts(health)["variety"] == "good"


def test_reciting_is_told_from_sharing_the_usual_phrases() -> None:
    passage = " ".join(f"word{i}" for i in range(60))
    recited = check_health([passage], [OTHER], [STORY, f"x {passage} y"])
    assert verdicts(recited)["verbatim overlap"] == "bad"
    assert recited.findings[2].evidence == passage[:400]
    # Held-out text that shares as long a passage shows that the data itself is formulaic.
    usual = check_health([passage[:250]], [passage[:250]], [f"x {passage} y"])
    assert verdicts(usual)["verbatim overlap"] == "watch"


@pytest.mark.parametrize(("validation", "verdict"), [(1.01, "good"), (1.08, "watch"), (1.5, "bad"), (None, "unknown")])
def test_the_gap(validation: float | None, verdict: str) -> None:
    assert verdicts(check_health([STORY], [], [], 1.0, validation))["train-validation gap"] == verdict


@pytest.mark.parametrize("samples", [[], ["", "  "]])
def test_nothing_to_judge_is_unknown_not_good(samples: list[str]) -> None:
    health = check_health(samples, [OTHER], [STORY])
    assert set(verdicts(health).values()) == {"unknown"}
    assert health.verdict == "unknown"


def test_it_is_plain_json() -> None:
    health = check_health([STORY, LOOP], [OTHER], [STORY], 1.0, 1.2)
    stored = json.loads(json.dumps(health.as_dict()))
    assert stored["verdict"] == "bad"
    assert len(stored["findings"]) == 4
