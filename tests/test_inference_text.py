"""Laws of text as it is generated: pieces join to the whole, stop texts end it wherever symbols happen to be cut."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.errors import ConfigError, DataError
from smidgen.inference import ChatSession, Engine, SamplingParams, prepare_for_decoding
from smidgen.inference.sequence import AnswerText
from smidgen.tokenizers.bytes import ByteTokenizer
from smidgen.tokenizers.chat import Message, encode_chat
from test_inference_engine import make


@settings(max_examples=200, deadline=None)
@given(st.text("abü✓", max_size=12), st.lists(st.text("abü✓", min_size=1, max_size=3), max_size=2), st.integers(1, 5))
def test_stop_texts_cut_wherever_symbols_are_cut(text, stops, size):
    answer, read = AnswerText(ByteTokenizer(), stops), ""
    ids = list(text.encode())
    for start in range(0, len(ids), size):
        if not answer.stopped:
            answer.feed(ids[start : start + size])
            assert answer.text.startswith(read)
            read = answer.text
    answer.finish()
    assert answer.text.startswith(read)
    assert answer.stopped == any(stop in text for stop in stops)
    assert not any(stop in answer.text for stop in stops)
    if answer.stopped:
        assert any(text.startswith(answer.text + stop) for stop in stops)
    else:
        assert answer.text == text


def test_streamed_pieces_join_to_the_text():
    engine = Engine(make("plain"), ByteTokenizer())
    params = SamplingParams(temperature=1.0, max_symbols=60, stop_ids=frozenset())
    [sequence] = engine.generate(["Once"], params)
    assert "".join(engine.stream("Once", params)) == sequence.text == ByteTokenizer().decode(sequence.symbols)


def test_a_stop_text_ends_the_answer_and_is_not_part_of_it():
    engine = Engine(make("plain"), ByteTokenizer())
    params = SamplingParams(max_symbols=20, stop_ids=frozenset())
    [free] = engine.generate([[65, 66]], params)
    text = free.text
    stop = text[3:5]
    [stopped] = engine.generate([[65, 66]], params.model_copy(update={"stop": (stop,)}))
    assert (stopped.done, stopped.text) == ("stop", text[: text.find(stop)])
    assert free.symbols[: len(stopped.symbols)] == stopped.symbols


def test_a_stop_symbol_ends_the_answer_and_is_among_its_symbols():
    engine = Engine(make("plain"), ByteTokenizer())
    [free] = engine.generate([[65, 66]], SamplingParams(max_symbols=8, stop_ids=frozenset()))
    [stopped] = engine.generate([[65, 66]], SamplingParams(max_symbols=8, stop_ids=frozenset({free.symbols[3]})))
    assert stopped.done == "stop"
    assert stopped.symbols == free.symbols[: free.symbols.index(free.symbols[3]) + 1]


def test_closing_a_stream_cancels_it():
    engine = Engine(make("plain"), ByteTokenizer())
    pieces = engine.stream("a", SamplingParams(temperature=1.0, max_symbols=80, stop_ids=frozenset()))
    next(pieces)
    pieces.close()
    assert not engine.running


def test_an_engine_without_tokenizer_has_no_text():
    [sequence] = Engine(make("plain")).generate([[1]], SamplingParams(max_symbols=2))
    with pytest.raises(ConfigError, match="no tokenizer"):
        _ = sequence.text


def test_a_chat_runs_only_what_is_new_and_answers_as_if_it_were_all():
    params = SamplingParams(temperature=0.8, max_symbols=12, stop_ids=frozenset({256}), top_k=60)
    engine = Engine(make("plain"), ByteTokenizer(), max_len=600)
    session = ChatSession(engine, params, system="You are a tiny model, and you know it well.")
    first = "".join(session.reply("Who are you?"))
    ran = engine.prefilled_symbols
    history = list(session.messages)
    assert [m.role for m in history] == ["system", "user", "assistant"]
    assert history[-1].content == first
    second = "".join(session.reply("And where?"))
    prompt = encode_chat(ByteTokenizer(), [*history, Message("user", "And where?")], add_generation_prompt=True)
    assert engine.prefilled_symbols - ran < len(prompt) - ran + 16
    [alone] = Engine(make("plain"), ByteTokenizer(), max_len=600).generate(
        [prompt], params.model_copy(update={"seed": 1})
    )
    assert alone.text == second


def test_a_full_context_forgets_the_oldest_turns_and_says_so(caplog):
    engine = Engine(make("plain"), ByteTokenizer(), max_len=300)
    session = ChatSession(engine, SamplingParams(max_symbols=20, stop_ids=frozenset()), system="Be brief.")
    for n in range(6):
        "".join(session.reply(f"This is message number {n}."))
    assert session.forgotten_messages > 0
    assert session.messages[0].content == "Be brief."
    assert session.messages[1].role == "user"
    assert "oldest 2 messages are forgotten" in caplog.text
    kept = list(session.messages)
    with pytest.raises(DataError, match="at most 280 leave room"):
        "".join(session.reply("x" * 400))
    assert session.messages[0] == kept[0]


def test_bf16_prepared_models_stay_close_to_fp32():
    model = make("best")
    prepared = prepare_for_decoding(model, torch.bfloat16)
    ids = torch.randint(0, 264, (2, 30), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        exact, close = model(ids).log_softmax(-1), prepared(ids).log_softmax(-1)
    assert (exact - close).abs().mean() < 0.05
