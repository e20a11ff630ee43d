"""What single documents are judged by: characters, pages, noise, prose, languages, abuse."""

import textwrap

import numpy as np
import pytest

from smidgen.data.cleaning.garbage import Garbage, GarbageConfig
from smidgen.data.cleaning.html import Html, HtmlConfig
from smidgen.data.cleaning.language import Language, LanguageConfig
from smidgen.data.cleaning.offensive import Offensive, OffensiveConfig
from smidgen.data.cleaning.quality import C4, C4Config, FineWeb, FineWebConfig, Gopher, GopherConfig
from smidgen.data.cleaning.repair import Repair, RepairConfig
from smidgen.data.cleaning.repetition import Repetition, RepetitionConfig
from smidgen.data.cleaning.step import Dropped, Kept
from smidgen.data.cleaning.unwrap import unwrap

PROSE = (
    "The mill stood where two rivers met, and the water that came down in spring was loud enough to wake the child. "
    "Her father said that it had to be so; a river that does not talk is a river that has gone away. "
    "They ate bread and looked at the boats with the fishermen of the town until it was dark.\n\n"
    "In winter the wheel stood still. Ice hung from it like the teeth of an old saw, and nobody came to have corn "
    "ground. It was then that her grandmother told stories of the sea, to be believed or not, as one liked."
)


@pytest.mark.parametrize("wrong", ["cp1252", "latin-1"])
@pytest.mark.parametrize("times", [1, 2])
def test_mojibake_is_undone(wrong: str, times: int):
    broken = text = "The café’s owner – José – paid 5 € in Zürich."
    for _ in range(times):
        broken = broken.encode().decode(wrong)
    assert Repair(RepairConfig())(broken) == Kept(text, {"repair:mojibake": 1})


def test_characters_are_put_in_order():
    messy = "ca\u0301fe\u00a0au\u200b lait\r\nzero\x00 \x1bwidth  \u2028end \n\n\n\n\nof\tit"
    assert Repair(RepairConfig())(messy) == Kept(
        "cáfe au lait\nzero width\nend\n\nof it", {"repair:control": 2, "repair:invisible": 1}
    )


def test_joiners_that_spell_words_stay():
    assert Repair(RepairConfig())("می\u200cخواهم") == Kept("می\u200cخواهم")


def test_a_sentence_that_lost_a_character_goes_and_the_others_stay():
    text = "It is whole. This one is br\ufffdken. And so is this."
    assert Repair(RepairConfig())(text) == Kept("It is whole. And so is this.", {"repair:lost_sentence": 1})
    assert Repair(RepairConfig(lost="keep"))(text) == Kept(text)
    assert Repair(RepairConfig())("All is l\ufffdst.") == Dropped("repair:lost_characters", "1 sentences")


@pytest.mark.parametrize("width", [50, 65, 78])
def test_wrapped_prose_is_joined_again(width: int):
    text = "\n\n".join([PROSE.replace("\n\n", " ")] * 3)
    wrapped = "\n\n".join(textwrap.fill(paragraph, width) for paragraph in text.split("\n\n"))
    joined, breaks = unwrap(wrapped)
    assert joined == text
    assert breaks == wrapped.count("\n") - 4


def test_a_word_split_at_the_margin_is_whole_again():
    lines = [
        "the water that came down in spring was loud enough to",
        "wake the child and she would look out of the win-",
    ]
    text = "\n".join([*lines * 5, "dow until it was dark"])
    assert "the window until it was dark" in unwrap(text)[0]


def test_verse_lists_and_paragraphs_keep_their_lines():
    verse = "\n".join(
        ["Tyger Tyger, burning bright, in the forests of", "What immortal hand or eye could ever frame it"] * 6
    )
    listed = "\n".join(f"- a thing that is listed here for the {n}th time" for n in range(20))
    for text in (verse, listed, PROSE):
        assert unwrap(text) == (text, 0)


def test_a_page_becomes_its_text():
    page = (
        "<!DOCTYPE html><html><head><title>T</title><script>var a = 1;</script></head><body><p>The caf&eacute; is "
        "<b>open</b>&nbsp;today.</p><p>Come in &amp; sit.</p></body></html>"
    )
    verdict = Html(HtmlConfig())(page)
    assert verdict == Kept("The café is open today.\n\nCome in & sit.", {"html:page": 1})
    assert Html(HtmlConfig())("<html><body><script>x</script></body></html>").__class__ is Dropped


def test_text_about_html_is_no_page():
    text = "Write <b>bold</b> for bold text, said the teacher; 3 < 4 and 5 > 2. " + PROSE
    assert Html(HtmlConfig())(text) == Kept(text)
    assert Html(HtmlConfig())("fish &amp; chips") == Kept("fish & chips", {"html:entities": 1})


def noise(kind: str) -> str:
    generator = np.random.default_rng(0)
    data = generator.bytes(900)
    if kind == "base64":
        import base64

        return base64.b64encode(data).decode()
    if kind == "hex":
        return " ".join(f"{byte:02x}" for byte in data)
    if kind == "symbols":
        return "".join(generator.choice(list("{}()<>|/\\*&^%$#@!~ "), 900))
    spoiled = list(PROSE)
    for at in generator.choice(len(spoiled), len(spoiled) // 10, replace=False):
        spoiled[at] = chr(generator.integers(1, 9)) if kind == "control" else chr(generator.integers(0x180, 0x2FF))
    return "".join(spoiled)


@pytest.mark.parametrize("kind", ["base64", "hex", "symbols", "control", "letters"])
def test_noise_is_garbage(kind: str):
    assert isinstance(Garbage(GarbageConfig())(noise(kind)), Dropped)


@pytest.mark.parametrize(
    "text",
    [
        PROSE,
        "एक बार की बात है, एक छोटी लड़की नदी के किनारे रहती थी। वह रोज़ पानी लाती थी।",
        "昔々、川のそばに小さな女の子が住んでいました。毎日水を汲みに行きました。",
        "See https://www.example.com/a/very/long/address/that/goes/on/and/on-2016-11-22.html for the rest of it.",
        "Ngày xửa ngày xưa, có một cô bé sống bên bờ sông. Mỗi ngày cô đi lấy nước.",
    ],
)
def test_language_of_any_script_is_not_garbage(text: str):
    assert Garbage(GarbageConfig())(text) == Kept(text)


LINE = "the women of that country have to be with others and "


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("of the words", "gopher:too_short"),
        (LINE * 10_001, "gopher:too_long"),
        ("a b c d e of to the " * 20, "gopher:mean_word_length"),
        ("the of extraordinarily internationalization misunderstandings " * 20, "gopher:mean_word_length"),
        (("# # " + LINE) * 12, "gopher:symbols"),
        (("- " + LINE + "\n") * 12, "gopher:bullets"),
        ((LINE + "more\n") * 6 + (LINE + "more …\n") * 4, "gopher:ellipses"),
        (("the of 1234 4567 7890 town 1234 98 ") * 20, "gopher:alphabetic_words"),
        ("alpha beta gamma delta " * 20, "gopher:stop_words"),
    ],
)
def test_gophers_rules(text: str, reason: str):
    verdict = Gopher(GopherConfig())(text)
    assert isinstance(verdict, Dropped)
    assert verdict.reason == reason


def test_c4_cuts_the_lines_of_the_page_and_not_its_paragraphs():
    text = f"Please enable Javascript to go on.\n\n{PROSE}\n\nWe use cookies. Read our privacy policy [1].\n\nMill[2]"
    assert C4(C4Config())(text) == Kept(f"{PROSE}\n\nMill", {"c4:citation": 2, "c4:javascript": 1, "c4:policy": 1})
    about = "A cookie policy is a text. " + "It says what is kept of those who come to a page, and for how long. " * 5
    assert C4(C4Config())(about) == Kept(about)
    assert C4(C4Config())("Lorem ipsum dolor sit amet. A. B. C.") == Dropped("c4:placeholder", "lorem ipsum")
    assert C4(C4Config())("One. Two.") == Dropped("c4:sentences", "2, under 3")
    assert C4(C4Config(curly=True))("{" + PROSE) == Dropped("c4:curly_bracket")
    assert C4(C4Config(terminal_punctuation=True))("Heading\n" + PROSE) == Kept(PROSE, {"c4:terminal_punctuation": 1})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("\n".join(f"line {n} of this menu without an end" for n in range(20)), "fineweb:punctuation"),
        ("\n".join(f"Short {n}." for n in range(20)), "fineweb:short_lines"),
        ("\n".join([PROSE.replace("\n\n", " ")] * 2), "fineweb:duplicate_lines"),
    ],
)
def test_finewebs_rules(text: str, reason: str):
    verdict = FineWeb(FineWebConfig())(text)
    assert isinstance(verdict, Dropped)
    assert verdict.reason == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("\n".join(["A line that comes again."] * 5), "gopher:duplicate_lines"),
        (
            "A line.\n" + "\n".join([PROSE.split("\n")[0]] * 2 + [f"L {n}." for n in range(9)]),
            "gopher:duplicate_line_characters",
        ),
        ("lucid dreaming " * 50, "gopher:top_2_gram"),
        (PROSE + " " + PROSE.replace("\n\n", " "), "gopher:repeated_5_grams"),
    ],
)
def test_repetition_is_found(text: str, reason: str):
    verdict = Repetition(RepetitionConfig())(text)
    assert isinstance(verdict, Dropped)
    assert verdict.reason == reason


def test_repeated_characters_are_counted_once():
    words = [f"w{n:03}" for n in range(100)]
    text = " ".join([*words, *words[:12]])  # 12 of 112 words stood before: 10.7%, over the limit for ten words alone
    verdict = Repetition(RepetitionConfig())(text)
    assert verdict == Dropped("gopher:repeated_10_grams", "11% of the characters")


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Il était une fois une petite fille qui vivait au bord de la rivière avec son père et sa grand-mère.", "fr"),
        ("एक बार की बात है, एक छोटी लड़की नदी के किनारे रहती थी। वह रोज़ पानी लाती थी।", "hi"),
        ("Hapo zamani za kale palikuwa na msichana mdogo aliyeishi karibu na mto pamoja na baba yake.", "sw"),
    ],
)
def test_other_languages_go_and_single_paragraphs_are_cut(text: str, language: str):
    verdict = Language(LanguageConfig())(text)
    assert isinstance(verdict, Dropped)
    assert verdict.reason == f"language:{language}"
    mixed = Language(LanguageConfig())(PROSE + "\n\n" + text)
    assert mixed == Kept(PROSE, {"language:paragraph": 1})
    assert Language(LanguageConfig(keep=("en", language)))(text) == Kept(text)


def test_control_characters_do_not_stop_the_language_step():
    assert Language(LanguageConfig())(PROSE + "\x00\x08\x1b\ufffe") == Kept(PROSE + "\x00\x08\x1b\ufffe")


def test_abuse_is_cut_masked_or_dropped_and_its_words_alone_are_not_abuse():
    abuse = "You are a stupid fucking idiot and a moron."
    text = PROSE + "\n\n" + abuse
    assert Offensive(OffensiveConfig())(text) == Kept(PROSE, {"offensive:cut": 1})
    masked = Offensive(OffensiveConfig(action="mask"))(text)
    assert masked == Kept(PROSE + "\n\nYou are a *** *** *** and a ***.", {"offensive:masked": 1})
    assert isinstance(Offensive(OffensiveConfig(action="drop"))(text), Dropped)
    assert isinstance(Offensive(OffensiveConfig())(abuse), Dropped)
    harmless = "The parable speaks of hell as a place outside the city, where garbage was burned."
    assert Offensive(OffensiveConfig())(harmless) == Kept(harmless)
