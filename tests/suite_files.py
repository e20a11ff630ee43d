"""A few rows of every set of the tiny suite, with the columns of the published files and what is awkward in them."""

from pathlib import Path
from typing import Any

from task_files import write_rows

LETTERS = ("A", "B", "C", "D", "E")


def labelled(*texts: str) -> dict[str, list[str]]:
    return {"text": list(texts), "label": list(LETTERS[: len(texts)])}


ROWS: dict[str, list[dict[str, Any]]] = {
    "blimp/adjunct_island": [
        {"sentence_good": "Who had Ann's cat left while thinking?", "sentence_bad": "Who had Ann's cat thought while?"},
        {"sentence_good": 'A "dog" slept.', "sentence_bad": 'A "dog" sleeped.'},
    ],
    "blimp/passive_1": [{"sentence_good": "Amy is seen.", "sentence_bad": "Amy is slept."}],
    "arc_easy/test": [
        {"question": "What is wet?", "choices": labelled("ice", "water", "sand", "air"), "answerKey": "B"},
        {
            "question": "Two\nlines, {{braces}} and a back\\slash ",
            "choices": {"text": ["1", "2.5 \u00b0C", "'quoted'"], "label": ["1", "2", "3"]},
            "answerKey": "3",
        },
    ],
    "arc_challenge/test": [
        {"question": "Which?", "choices": labelled("this", "that", "none", "both", "either"), "answerKey": "E"}
    ],
    "hellaswag/validation": [
        {
            "activity_label": "Removing ice",
            "ctx_a": "[header] How to melt it [title] Warm up. [step] Take  care  of   it.",
            "ctx_b": "tHE Man",
            "endings": [" pours.", "waits [substeps] and  waits.", "[step] goes", "sings [title] Songs"],
            "label": "2",
        },
        {
            "activity_label": "Pole vault",
            "ctx_a": "A sport.",
            "ctx_b": "",
            "endings": ["a", "b", "c", "d"],
            "label": "0",
        },
    ],
    "winogrande/validation": [
        {"sentence": "Ann likes Mary because _ is kind .", "option1": "Ann", "option2": "Mary", "answer": "2"},
        {"sentence": "_ fits, so the box  is big.", "option1": "The ball", "option2": "the box", "answer": "1"},
    ],
    "piqa/validation": [
        {"goal": "How to boil an egg?", "sol1": "In water. ", "sol2": " In  air", "label": 0},
        {"goal": "dresser", "sol1": 'use "pins"', "sol2": "use 'tape' \\ {% raw %}", "label": 1},
    ],
    "openbookqa/test": [
        {
            "question_stem": "The sun is the source of",
            "choices": labelled("cold", "puppies", "energy", "rain"),
            "answerKey": " C",
        },
        {"question_stem": "1969", "choices": labelled("moon", "sun", "a", "b"), "answerKey": "A"},
    ],
    "boolq/validation": [
        {"passage": "Ice floats -- it is light.\n", "question": "does ice float", "answer": True, "label": 1},
        {"passage": "Lead sinks.", "question": "does lead float", "answer": False, "label": 0},
    ],
    "sciq/test": [
        {
            "question": "What melts?",
            "support": "\n Ice melts. ",
            "correct_answer": "ice",
            **{f"distractor{n}": f"stone {n}" for n in (1, 2, 3)},
        },
        {"question": "Who?", "support": "", "correct_answer": "a", **{f"distractor{n}": "b" * n for n in (1, 2, 3)}},
    ],
    "copa/validation": [
        {
            "premise": " It rained. ",
            "choice1": "The road got wet.",
            "choice2": "I slept.",
            "question": "effect",
            "label": 0,
        },
        {"premise": "I fell.", "choice1": "It was late.", "choice2": "Ice!", "question": "cause", "label": 1},
        {"premise": "I ran.", "choice1": "the same", "choice2": "The same", "question": "cause", "label": 1},
    ],
    "lambada_openai/test": [
        {"text": 'Give me a minute.\n\n"No need," he said  to \u201cShane\u201d'},
        {"text": "one two"},
        {"text": "alone"},
    ],
    "commonsense_qa/validation": [
        {"question": " Where is a bank? ", "choices": labelled("city", "sea ", "sky", "tree", "1"), "answerKey": "D"}
    ],
    "sst2/validation": [
        {"sentence": "it 's a charming journey . ", "label": 1},
        {"sentence": "bleak and desperate ", "label": 0},
    ],
    "gsm8k/train": [
        {"question": f"Tom has {n} apples.\nHow many?", "answer": f"He has {n}+0=<<{n}+0={n}>>{n}.\n#### {n}"}
        for n in range(12)
    ],
    "gsm8k/test": [
        {"question": "How much is  it? ", "answer": "It is $1,234.\n#### 1,234"},
        {"question": "And now?", "answer": "Less.\n#### -5"},
        {"question": "In parts?", "answer": "Half.\n#### 0.5"},
    ],
}
"""Rows by folder and split."""


def make_suite_files(folder: Path) -> Path:
    """Write them, some packed, some not."""
    for number, (name, rows) in enumerate(ROWS.items()):
        write_rows(folder / f"{name}.jsonl{'.gz' if number % 2 else ''}", rows)
    return folder
