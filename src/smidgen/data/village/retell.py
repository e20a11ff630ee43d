"""The same tale told shorter and told aloud: a one-sentence summary and a dialogue, both from the log."""

from random import Random

from smidgen.data.village.clauses import Clause, clause, english
from smidgen.data.village.grammar import capitalize, expand, grammar
from smidgen.data.village.world import Person, World

# What a tale is about, by weight: the summary tells the two weightiest events in their order.
_WEIGHT = {
    **dict.fromkeys(("give_back", "give", "catch", "repair", "steal", "win", "give_some", "spill"), 3),
    **dict.fromkeys(("find", "find_in", "hide", "drop", "knock_over", "lend", "eat", "take", "buy"), 2),
    **dict.fromkeys(("miss", "blow_away", "run_off", "make", "bake", "pick", "leave_behind", "bandage", "use"), 1),
}


def summarize(world: World) -> str:
    """Return the tale in one sentence: what set it going or weighed most, and how it ended."""
    told = [c for c in (clause(e) for e in world.log) if c]
    weights = [(_WEIGHT.get(c.act.kind, 0), index) for index, c in enumerate(told)]
    first, *rest = (told[index] for index in sorted(index for _, index in sorted(weights)[-2:]))
    sentence = english(first)
    for second in rest:
        repeated = second.subject is first.subject
        ending = english(second, subject="" if repeated else None)
        if second.act.x is first.act.x and second.act.x and second.act.x.word.group != "many":
            ending = ending.replace(f"the {second.act.x.noun}", "it", 1)
        sentence += f" and {ending}" if repeated else f", and {ending}"
    return sentence + "."


def converse(world: World, rng: Random) -> str:
    """Return a dialogue in which the hero tells another of the day, as lines of `Name: words`."""
    hero, *others = world.people
    listener = next((p for p in others if p.placed), others[0])
    told = [c for c in (clause(e) for e in world.log[1:]) if c and c.subject in (hero, *others)]
    lines = [f"{listener.name}: {_say('talk.open', rng)}, {hero.name}. {_say('talk.first', rng)}"]
    for number, said in enumerate(told[:6]):
        if number:
            asked = _question(said, hero, listener, rng)
            lines.append(f"{listener.name}: {asked}")
        lines.append(f"{hero.name}: {_answer(said, hero, listener)}")
    feeling = "good" if hero.mood > 0 else "bad" if hero.mood < 0 else "calm"
    lines.append(f"{listener.name}: {_say('talk.feel', rng)}")
    lines.append(f"{hero.name}: {_say(f'talk.{feeling}', rng)}")
    return "\n".join(lines)


def _answer(said: Clause, hero: Person, listener: Person) -> str:
    subject = "I" if said.subject is hero else "You" if said.subject is listener else said.subject.name
    reason = f" {said.act.r}" if said.act.kind in ("go", "shelter", "want", "use") and said.act.r else ""
    return f"{english(said, subject, me=hero.name, you=listener.name)}{reason}."


def _question(said: Clause, hero: Person, listener: Person, rng: Random) -> str:
    if said.subject is hero:
        return _say("talk.you", rng)
    if said.subject is listener:
        return _say("talk.me", rng)
    return _say("talk.other", rng).replace("NAME", said.subject.name)


def _say(section: str, rng: Random) -> str:
    options = grammar()[section]
    out: list[str] = []
    expand(options[int(rng.random() * len(options))], lambda name: name, rng, out)
    return capitalize("".join(out))
