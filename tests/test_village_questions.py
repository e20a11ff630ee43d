"""Answers are checked by a second reader of the log that shares no code with the questions, and against the text."""

import re
from collections import Counter
from functools import cache

from smidgen.data.village import tell
from smidgen.data.village.words import NUMBERS, vocabulary

GETS = {"find", "find_in", "take", "make", "bake", "win", "catch", "buy", "steal", "pick"}
PASSES = {"give", "lend", "hand", "give_back", "reward", "ask_repair"}
DROPS = {"put_down", "leave_behind", "hide"}
GONE = {"eat", "share", "snatch"}
MOVES = {"go", "shelter", "guide"}


def replay(tale):
    """Who has what and who is where at the end, from the log alone."""
    holder, lies, where, first = {}, {}, {}, tale.world.log[0]
    where[first.a.name] = first.place.text
    for act in tale.world.log:
        a, x = act.a.name, act.x and act.x.noun
        b = act.b and act.b.name
        where.setdefault(a, act.place.text)
        if act.kind in MOVES:
            where[a] = act.l.text
            if act.kind == "guide":
                where[b] = act.l.text
        elif act.kind == "follow":
            where[a] = where[b]
        elif b and act.kind not in ("quarrel",):
            where.setdefault(b, where[a])
        if act.kind in GETS | {"keep", "carry"}:
            holder[x], lies[x] = a, None
        elif act.kind in PASSES:
            holder[x], lies[x] = b, None
        elif act.kind == "trade":
            holder[x], holder[act.y.noun] = b, a
        elif act.kind in DROPS:
            holder[x], lies[x] = None, where[a]
        elif act.kind in ("blow_away", "run_off"):
            holder[x], lies[x] = None, act.l.text
        elif act.kind in ("tell_where", "remember"):
            lies[x] = act.l.text
        elif act.kind in ("notice", "shut_in"):
            lies[x] = act.place.text
        elif act.kind in GONE:
            holder[x] = lies[x] = None
        elif act.kind == "feed":
            holder[act.y.noun] = None
    return holder, lies, where


@cache
def all_tales():
    short = [tell(11, split, index) for split in ("train", "validation", "test") for index in range(400)]
    return [*short, *(tell(11, "train", index, episodes=2) for index in range(200))]


def test_final_states_are_rederived_from_the_log():
    checked = Counter()
    for tale in all_tales():
        holder, lies, where = replay(tale)
        for q in tale.questions:
            thing = next((w for w in q.about if vocabulary().by_text[w].role == "thing"), None)
            if q.kind == "who_has":
                assert q.answer == holder[thing], (q, tale.text)
            elif q.kind == "where_thing":
                place = where[holder[thing]] if holder.get(thing) else lies[thing]
                assert q.answer == f"the {place}", (q, tale.text)
            elif q.kind == "where_person":
                assert q.answer == f"the {where[q.about[0]]}", (q, tale.text)
            elif q.kind == "yes_no":
                assert (q.answer == "yes") == (holder[thing] == q.question.split()[1]), (q, tale.text)
            else:
                continue
            checked[q.kind] += 1
    assert min(checked.values()) > 150


def test_answers_stand_in_the_text():
    for tale in all_tales():
        for q in tale.questions:
            if q.kind in ("yes_no", "how_many_left"):
                continue
            bare = q.answer.removeprefix("the ").removeprefix("a ")
            assert re.search(rf"\b{re.escape(bare)}\b", tale.text, re.IGNORECASE), (q, tale.text)


def test_what_a_question_names_stands_in_the_text():
    table = vocabulary().by_text
    for tale in all_tales():
        for q in tale.questions:
            for word in re.findall(r"[A-Za-z]+", q.question):
                if word in table:
                    assert re.search(rf"\b{word}\b", tale.text), (q, tale.text)


def test_the_same_question_has_one_answer():
    for tale in all_tales():
        answers = {}
        for q in tale.questions:
            assert answers.setdefault(q.question, q.answer) == q.answer, (q, tale.text)


def test_left_is_what_was_picked_less_what_went():
    seen = 0
    for tale in all_tales():
        for q in tale.questions:
            if q.kind == "how_many_left":
                acts = [e for e in tale.world.log if e.x and e.x.noun == q.about[1] and e.n]
                left = sum(e.n if e.kind == "pick" else -e.n for e in acts)
                assert q.answer == NUMBERS[left]
                seen += 1
    assert seen > 50


def test_most_kinds_of_question_occur_in_every_split():
    kinds = {split: Counter() for split in ("train", "test")}
    for split, counter in kinds.items():
        for index in range(1000):
            counter.update(q.kind for q in tell(2, split, index).questions)
    assert len(kinds["train"]) >= 40
    assert kinds["test"].keys() <= kinds["train"].keys()
    assert len(kinds["test"]) >= 0.85 * len(kinds["train"])
