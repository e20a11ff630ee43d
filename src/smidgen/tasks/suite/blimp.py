"""BLiMP: which of two sentences is grammatical? Pairs that differ in as little as possible, in 67 paradigms.

Source: Warstadt et al. 2019, arXiv 1912.00582.
"""

from collections.abc import Iterator, Mapping
from functools import partial

from smidgen.errors import DataError
from smidgen.tasks.choice import ChoiceItem, ChoiceTask
from smidgen.tasks.suite.build import ACCURACY, source_of
from smidgen.tasks.suite.row import among
from smidgen.tasks.suite.shelf import OpenedSplit, PublishedSet, Shelf

PARADIGMS = (
    "adjunct_island",
    "anaphor_gender_agreement",
    "anaphor_number_agreement",
    "animate_subject_passive",
    "animate_subject_trans",
    "causative",
    "complex_NP_island",
    "coordinate_structure_constraint_complex_left_branch",
    "coordinate_structure_constraint_object_extraction",
    "determiner_noun_agreement_1",
    "determiner_noun_agreement_2",
    "determiner_noun_agreement_irregular_1",
    "determiner_noun_agreement_irregular_2",
    "determiner_noun_agreement_with_adj_2",
    "determiner_noun_agreement_with_adj_irregular_1",
    "determiner_noun_agreement_with_adj_irregular_2",
    "determiner_noun_agreement_with_adjective_1",
    "distractor_agreement_relational_noun",
    "distractor_agreement_relative_clause",
    "drop_argument",
    "ellipsis_n_bar_1",
    "ellipsis_n_bar_2",
    "existential_there_object_raising",
    "existential_there_quantifiers_1",
    "existential_there_quantifiers_2",
    "existential_there_subject_raising",
    "expletive_it_object_raising",
    "inchoative",
    "intransitive",
    "irregular_past_participle_adjectives",
    "irregular_past_participle_verbs",
    "irregular_plural_subject_verb_agreement_1",
    "irregular_plural_subject_verb_agreement_2",
    "left_branch_island_echo_question",
    "left_branch_island_simple_question",
    "matrix_question_npi_licensor_present",
    "npi_present_1",
    "npi_present_2",
    "only_npi_licensor_present",
    "only_npi_scope",
    "passive_1",
    "passive_2",
    "principle_A_c_command",
    "principle_A_case_1",
    "principle_A_case_2",
    "principle_A_domain_1",
    "principle_A_domain_2",
    "principle_A_domain_3",
    "principle_A_reconstruction",
    "regular_plural_subject_verb_agreement_1",
    "regular_plural_subject_verb_agreement_2",
    "sentential_negation_npi_licensor_present",
    "sentential_negation_npi_scope",
    "sentential_subject_island",
    "superlative_quantifiers_1",
    "superlative_quantifiers_2",
    "tough_vs_raising_1",
    "tough_vs_raising_2",
    "transitive",
    "wh_island",
    "wh_questions_object_gap",
    "wh_questions_subject_gap",
    "wh_questions_subject_gap_long_distance",
    "wh_vs_that_no_gap",
    "wh_vs_that_no_gap_long_distance",
    "wh_vs_that_with_gap",
    "wh_vs_that_with_gap_long_distance",
)
"""The paradigms in the harness's order; locally each is a file, `blimp/PARADIGM.jsonl`."""

_PAIRS = 1000
_TOLD = 3
"""Missing paradigms that are named."""
_PUBLISHED = PublishedSet("blimp", "train", _PAIRS * len(PARADIGMS), "nyu-mll/blimp")


def make_blimp(shelf: Shelf) -> ChoiceTask:
    """Make the task of all paradigms there are; which are missing is said and noted."""
    splits = _local(shelf) or _from_hub(shelf)
    missing = [paradigm for paradigm in PARADIGMS if paradigm not in splits]
    if missing:
        told = ", ".join(missing[:_TOLD]) + (f" and {len(missing) - _TOLD} more" if len(missing) > _TOLD else "")
        shelf.say(f"task blimp: {len(missing)} of {len(PARADIGMS)} paradigms are not here: {told}.")
    return ChoiceTask(
        name="blimp",
        version="2.0",
        source=source_of("blimp/_blimp.yaml"),
        metrics=ACCURACY,
        main="accuracy",
        published=_PUBLISHED.rows,
        read=partial(_read, splits),
        notes=(f"{len(splits)} of {len(PARADIGMS)} paradigms",) if missing else (),
    )


def _local(shelf: Shelf) -> dict[str, OpenedSplit]:
    files = {paradigm: shelf.seek("blimp", paradigm) for paradigm in PARADIGMS}
    return {paradigm: OpenedSplit(f"blimp/{paradigm}", (path,)) for paradigm, path in files.items() if path}


def _from_hub(shelf: Shelf) -> dict[str, OpenedSplit]:
    folder = shelf.download("blimp", _PUBLISHED, "blimp/PARADIGM.jsonl")
    files = {paradigm: tuple(sorted(folder.glob(f"{paradigm}/train/*.parquet"))) for paradigm in PARADIGMS}
    splits = {paradigm: OpenedSplit(f"blimp/{paradigm}", paths) for paradigm, paths in files.items() if paths}
    if not splits:
        raise DataError(f"task blimp: {_PUBLISHED.hub} on the hub has no split train.")
    return splits


def _read(splits: Mapping[str, OpenedSplit]) -> Iterator[ChoiceItem]:
    for paradigm, split in splits.items():
        for row in split.rows():
            pair = [row.text("sentence_good"), row.text("sentence_bad")]
            yield among(row, "", pair, right=0, kind=paradigm)
