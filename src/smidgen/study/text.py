"""The text of a study: prepared once for all runs that read the same with the same tokenizer, and held out alike."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from smidgen.checkpoint import load_model
from smidgen.journey.material import Material, make_material, open_source
from smidgen.journey.screen import Screen
from smidgen.study.layout import StudyDirectory
from smidgen.study.plan import Arm


@dataclass(frozen=True)
class HeldOut:
    """The text finished models are measured on, as one tokenizer writes it."""

    documents: list[list[int]]
    bytes: int
    digest: str
    """Hash of its bytes: variants of equal digests are measured on the same text."""


def hold_out(material: Material, max_bytes: int) -> HeldOut:
    """Choose the held-out documents of a study: by content and bytes alone, so that tokenizers do not matter."""
    documents = material.held_out(max_bytes)
    contents = [material.tokenizer.decode_bytes(ids) for ids in documents]
    digest = hashlib.blake2b(digest_size=8)
    for content in contents:
        digest.update(len(content).to_bytes(8, "big") + content)
    return HeldOut(documents, sum(map(len, contents)), digest.hexdigest())


def prepare_texts(
    arms: Sequence[Arm], directory: StudyDirectory, validation_bytes: int, screen: Screen
) -> dict[str, HeldOut]:
    """Prepare every distinct text, or open what is there; return what each holds out.

    Says so where variants do not hold out the same bytes, because those cannot be compared.
    """
    held: dict[str, HeldOut] = {}
    names: dict[str, str] = {}
    for arm in arms:
        if arm.text not in held:
            held[arm.text] = hold_out(_prepare(arm, directory, screen), validation_bytes)
        names.setdefault(held[arm.text].digest, arm.name)
    if len(names) > 1:
        told = ", ".join(repr(name) for name in names.values())
        screen.say(
            f"These variants are measured on different held-out texts and will not be compared: {told}. "
            "Give all the same [data]; data.prepare.max_symbols means other text to another tokenizer."
        )
    return held


def _prepare(arm: Arm, directory: StudyDirectory, screen: Screen) -> Material:
    place, recipe = directory.text(arm.text), arm.recipe
    if not place.has_data:
        screen.say(f"Preparing the text as {arm.name!r} reads it ...")
    given = load_model(recipe.start_from).tokenizer if recipe.start_from else None
    return make_material(recipe, open_source(recipe), place, screen, given)
