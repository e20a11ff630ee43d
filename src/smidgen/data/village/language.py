"""Tavi, the second language of the village: a small regular grammar over the same clauses.

    verb  subject  object  receiver  place.          Vedotak Mira kemunil rosail Tomash.

* The verb comes first: root + `-ta` (past) + agreement with the subject, `-k` for a woman, `-s` for a man.
* Nouns and names take a case suffix: object `-il`, receiver and goal `-ash`, source `-or`, place `-en`; a name that is
  the subject has none. Before a suffix that begins with a vowel, a final vowel of the root falls away.
* Things that come in numbers take the plural `-ur` before the case; the number word follows the noun, unchanged.
* An adjective follows its noun and takes the same endings. There is no article.

Roots are made by rule: the CRC-32 of the English word picks syllables; should two words meet, the later one in the
order of the word lists moves on to the next free root. Names stay as they are, less a final vowel before a suffix.
"""

import zlib
from dataclasses import dataclass
from functools import cache

from smidgen.data.village.clauses import FRAMES, Clause, Phrase, clause, english
from smidgen.data.village.words import NUMBERS, THING_KINDS, lists, vocabulary
from smidgen.data.village.world import World

CASES = {"object": "il", "to": "ash", "goal": "ash", "from": "or", "at": "en"}
_ONSETS = ("k", "t", "m", "n", "s", "l", "r", "v", "d", "b", "p", "g", "h", "z", "f", "sh")
_VOWELS = ("a", "e", "i", "o", "u")
_CODAS = ("", "n", "m", "l", "r", "k", "s", "t")


@dataclass(frozen=True, slots=True)
class Translation:
    """One sentence in both languages."""

    english: str
    """The sentence in English."""
    tavi: str
    """The sentence in Tavi."""


@cache
def roots() -> dict[str, str]:
    """Return the root of every verb, noun, adjective and number, in a fixed order, no two alike."""
    words = vocabulary()
    adjectives = lists("cast.txt")
    ordered = [verb for verb, _ in FRAMES.values()]
    ordered += [w.text for table in (words.things, words.places) for group in table.values() for w in group]
    ordered += [adjective for kind in THING_KINDS for adjective in adjectives[kind]]
    ordered += NUMBERS
    table: dict[str, str] = {}
    taken: set[str] = set()
    for word in ordered:
        if word not in table:
            root, salt = _root(word, 0), 0
            while root in taken:
                salt += 1
                root = _root(word, salt)
            table[word] = root
            taken.add(root)
    return table


def _root(word: str, salt: int) -> str:
    code = zlib.crc32(f"{word}{salt or ''}".encode())
    syllables = []
    for _ in range(2):
        code, onset = divmod(code, len(_ONSETS))
        code, vowel = divmod(code, len(_VOWELS))
        syllables.append(_ONSETS[onset] + _VOWELS[vowel])
    return "".join(syllables) + _CODAS[code % len(_CODAS)]


def inflect(stem: str, *endings: str) -> str:
    """Attach endings; a final vowel falls away before an ending that begins with a vowel."""
    for ending in endings:
        if ending and ending[0] in "aeiou" and stem[-1] in "aeiou":
            stem = stem[:-1]
        stem += ending
    return stem


def tavi(said: Clause) -> str:
    """Translate a clause, with capital and full stop."""
    verb = inflect(roots()[said.verb], "ta", "k" if said.subject.female else "s")
    order = ("object", "to", "from", "goal", "at")
    phrases = sorted(said.phrases, key=lambda phrase: order.index(phrase.role))
    words = [verb.capitalize(), said.subject.name, *(_phrase(phrase) for phrase in phrases)]
    return " ".join(words) + "."


def _phrase(phrase: Phrase) -> str:
    case = CASES[phrase.role]
    if phrase.word.role == "person":
        return inflect(phrase.word.text, case)
    endings = ("ur", case) if phrase.word.group == "many" else (case,)
    words = [inflect(roots()[phrase.word.text], *endings)]
    if phrase.adjective:
        words.append(inflect(roots()[phrase.adjective], *endings))
    if phrase.number:
        words.append(roots()[NUMBERS[phrase.number]])
    return " ".join(words)


def translations(world: World) -> list[Translation]:
    """Return the tale's simple clauses in both languages, each once, in the order they happened."""
    pairs: dict[str, str] = {}
    for act in world.log:
        said = clause(act, adjective=True)
        if said:
            pairs[english(said) + "."] = tavi(said)
    return [Translation(text, translated) for text, translated in pairs.items()]
