"""The training mix: plain stories, and conversations in which a story is read and asked about.

A conversation is an ordinary one: the user gives a story with a question, the assistant answers with the bare answer,
more questions follow; or the user asks for the story again, a sentence of it, a summary, the mood, a dialogue, a
translation. Questions follow the same
rules in every split.
"""

import re
from collections.abc import Iterator
from itertools import count
from random import Random

from pydantic import Field

from smidgen.config import Config
from smidgen.data.documents import Document
from smidgen.data.village.tale import Tale, tell
from smidgen.data.village.words import Split
from smidgen.tokenizers.chat import Message


class VillageConfig(Config):
    """What the village corpus is made of; the shares need not add up to 1."""

    seed: int = 0
    """Seed of the world: another seed is another, equally endless corpus."""
    stories: float = Field(default=0.12, ge=0)
    """Share of documents that are plain stories of two or three episodes, rich in description."""
    questions: float = Field(default=0.75, ge=0)
    """Share of documents that are a short story and questions about it, with exact answers."""
    recitals: float = Field(default=0.05, ge=0)
    """Share of documents that ask for a story again, or for the first sentence with a word in it: finding and copying,
    which answering is made of."""
    summaries: float = Field(default=0.02, ge=0)
    """Share of documents that ask for a story in one sentence."""
    sentiments: float = Field(default=0.02, ge=0)
    """Share of documents that ask how the story ends for its hero: positive, negative or neutral."""
    dialogues: float = Field(default=0.02, ge=0)
    """Share of documents that ask for the story as a dialogue."""
    translations: float = Field(default=0.02, ge=0)
    """Share of documents that ask for translations to or from Tavi."""
    questions_per_story: int = Field(default=10, ge=1)
    """The most questions asked about one story."""
    scenes: float = Field(default=0.5, ge=0, le=1)
    """Share of the question documents that are about a scene (who is where with what) instead of a whole short tale."""
    story_detail: float = Field(default=0.45, ge=0, le=1)
    """Descriptive sentences per event in plain stories."""
    chat_detail: float = Field(default=0.03, ge=0, le=1)
    """Descriptive sentences per event in stories that are asked about."""


def documents(
    config: VillageConfig, split: Split = "train", n_documents: int | None = None, n_bytes: int | None = None
) -> Iterator[Document]:
    """Yield documents 0, 1, 2, ... of a split: endless, or until `n_documents` or `n_bytes` of UTF-8 are reached."""
    total = 0
    for index in count():
        if (n_documents is not None and index >= n_documents) or (n_bytes is not None and total >= n_bytes):
            return
        document = make_document(config, split, index)
        total += len(document.text) + sum(len(m.content) for m in document.messages)  # the corpus is ASCII
        yield document


def make_document(config: VillageConfig, split: Split, index: int) -> Document:
    """Make document `index` of a split, a pure function of its arguments."""
    rng = Random(f"{config.seed}/{split}/{index}/document")
    kinds = ("stories", "questions", "recitals", "summaries", "sentiments", "dialogues", "translations")
    shares = (
        config.stories,
        config.questions,
        config.recitals,
        config.summaries,
        config.sentiments,
        config.dialogues,
        config.translations,
    )
    kind = rng.choices(kinds, shares)[0]
    if kind == "stories":
        tale = tell(config.seed, split, index, episodes=2 + (rng.random() < 0.5), detail=config.story_detail)
        return Document(text=tale.text, source=f"village:{split}:{index}")
    scene = kind in ("questions", "recitals") and rng.random() < config.scenes
    tale = tell(config.seed, split, index, episodes=0 if scene else 1, detail=config.chat_detail)
    if kind == "questions" and tale.questions:
        turns = question_turns(tale, config.questions_per_story)
    else:
        turns = _exercise(kind, tale, rng)
    messages = [Message("user" if at % 2 == 0 else "assistant", turn) for at, turn in enumerate(turns)]
    return Document(messages=tuple(messages), source=f"village:{split}:{index}")


def question_turns(tale: Tale, limit: int) -> list[str]:
    """Return the turns of a conversation about a tale: story and question, answer, question, answer, ..."""
    turns: list[str] = []
    for question in spread(tale, limit):
        opening = question_prompt(tale.text, question.question) if not turns else question.question
        turns += [opening, question.answer]
    return turns


def question_prompt(story: str, question: str) -> str:
    """Return the user's first message: the story, an empty line, the question."""
    return f"{story}\n\n{question}"


def spread(tale: Tale, limit: int):
    """Return up to `limit` questions of different kinds, in the tale's random order."""
    seen: set[str] = set()
    chosen = []
    for question in tale.questions:
        if question.kind not in seen:
            seen.add(question.kind)
            chosen.append(question)
    return chosen[:limit]


_SUMMARY = ("Tell this story in one sentence.", "Summarize the story.", "What is the story about, in one sentence?")
_SENTIMENT = (
    "How does the story end for its hero: positive, negative or neutral?",
    "Is the ending positive, negative or neutral?",
)
_DIALOGUE = ("Tell this story as a dialogue.", "Turn the story into a dialogue.")


_AGAIN = ("Tell it again.", "Tell the same story again.", "Again, please.")


def recital_turns(tale: Tale, rng: Random) -> list[str]:
    """Return the turns of a recital: the whole story again, or the first sentence in which a word stands, for words."""
    if rng.random() < 0.4:
        return [f"{tale.text}\n\n{rng.choice(_AGAIN)}", tale.text]
    words = {person.name for person in tale.world.people} | {thing.word.text for thing in tale.world.things}
    first: dict[str, str] = {}
    for sentence in _SENTENCE_END.split(tale.text):
        said = set(_WORD.findall(sentence))
        first |= {word: sentence for word in sorted(words & said) if word not in first}
    asked = rng.sample(sorted(first), min(4, len(first)))
    turns = [turn for word in asked for turn in (f"Read the first sentence with the word {word}.", first[word])]
    return [question_prompt(tale.text, turns[0]), *turns[1:]]


_SENTENCE_END = re.compile(r'(?<=[.!?]) (?=[A-Z"])|(?<=[.!?]") (?=[A-Z"])')
_WORD = re.compile(r"[A-Za-z-]+")


def _exercise(kind: str, tale: Tale, rng: Random) -> list[str]:
    if kind == "recitals":
        return recital_turns(tale, rng)
    if kind == "translations" and tale.translations:
        turns: list[str] = []
        for pair in tale.translations[:6]:
            if rng.random() < 0.7:
                turns += [f"Translate into Tavi: {pair.english}", pair.tavi]
            else:
                turns += [f"Translate into English: {pair.tavi}", pair.english]
        return turns
    if kind == "sentiments":
        return [f"{tale.text}\n\n{rng.choice(_SENTIMENT)}", tale.sentiment]
    if kind == "dialogues":
        return [f"{tale.text}\n\n{rng.choice(_DIALOGUE)}", tale.dialogue]
    return [f"{tale.text}\n\n{rng.choice(_SUMMARY)}", tale.summary]
