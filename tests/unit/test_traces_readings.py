"""Each reading takes the states it says it takes: compared with plain passes, one text at a time."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from medx_core.data.labelled_statements import LabelledStatement
from medx_core.errors import BadInput, VectorRefused
from medx_core.fitting.readings import read_traces, written_answer
from medx_core.prompts import STATEMENT_PROMPT
from medx_core.steering.contrast import mean_difference
from medx_core.steering.hooks import recorded
from medx_core.steering.names import ANSWER_WORD, FULL_TRACE, MODEL_RIGHT, READINGS, STATEMENT
from medx_core.traces.running import FinishedBatches
from medx_core.traces.statement_runner import StatementRunner
from tests.language_models import ARCHITECTURES, tiny_model

TEXTS = [
    "The heart pumps blood.",
    "The kidneys make urine in the body.",
    "Insulin raises the glucose",
    "Is blood",
]
STATEMENTS = [LabelledStatement(text, answer=i % 2 == 0, group=str(i)) for i, text in enumerate(TEXTS)]
LAYER = 1


def sides_at(runner, statements, reading, layers):
    """The correct and the incorrect states by layer."""
    return {layer: traces.sides for layer, traces in read_traces(runner, statements, reading, layers).items()}


def plain_states(runner, text, continuation):
    """All tokens' states after the layer, in one pass over the whole text without cache; and how many are the prompt's."""
    prompt = runner.prompt.filled(text)
    tokens = [runner.model.tokenizer(part)["input_ids"] for part in (prompt, prompt + continuation)]
    kept = []
    layer = runner.model.network.get_submodule("model.layers.1")
    handle = layer.register_forward_hook(
        lambda _m, _i, output: kept.append(output[0] if isinstance(output, tuple) else output)
    )
    with torch.inference_mode():
        runner.model.network(input_ids=torch.tensor([tokens[1]]), use_cache=False)
    handle.remove()
    return kept[0][0], len(tokens[0])


@pytest.fixture(scope="module")
def runner():
    return StatementRunner(tiny_model(), STATEMENT_PROMPT)


def test_answer_word_reads_the_state_at_the_right_and_at_the_wrong_word(runner):
    traces = read_traces(runner, STATEMENTS, ANSWER_WORD, [LAYER])[LAYER]
    correct, incorrect = traces.sides
    for row, statement in enumerate(STATEMENTS):
        right, _ = plain_states(runner, statement.text, STATEMENT_PROMPT.word(statement.answer))
        wrong, _ = plain_states(runner, statement.text, STATEMENT_PROMPT.word(not statement.answer))
        torch.testing.assert_close(correct[row], right[-1], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(incorrect[row], wrong[-1], atol=1e-5, rtol=1e-4)
    assert traces.paired


def test_full_trace_is_the_mean_over_the_written_answer_alone():
    prompt = replace(
        STATEMENT_PROMPT, true_word=" Yes the", false_word=" No the"
    )  # words that survive a full stop
    runner = StatementRunner(tiny_model(), prompt)
    correct, incorrect = sides_at(runner, STATEMENTS, FULL_TRACE, [LAYER])[LAYER]
    for row, statement in enumerate(STATEMENTS):
        for side, truth in ((correct, statement.answer), (incorrect, not statement.answer)):
            answer = written_answer(prompt, statement.text, truth)
            states, before = plain_states(runner, statement.text, answer)
            torch.testing.assert_close(side[row], states[before:].mean(dim=0), atol=1e-5, rtol=1e-4)
    assert (correct - incorrect).norm() > 1e-3
    assert (
        written_answer(STATEMENT_PROMPT, "Bones grow.", truth=False)
        == " No. The statement is incorrect: Bones grow."
    )


def test_statement_and_model_right_divide_the_same_states_differently(runner):
    true, _ = sides_at(runner, STATEMENTS, STATEMENT, [LAYER])[LAYER]
    torch.testing.assert_close(
        true,
        torch.stack([plain_states(runner, TEXTS[i], "")[0][-1] for i in (0, 2)]),
        atol=1e-5,
        rtol=1e-4,
    )
    said = runner.scores(TEXTS).scores >= 0
    gold = np.array([statement.answer for statement in STATEMENTS])
    if (said == gold).all() or (said != gold).all():
        pytest.fail("the tiny model must be right on some statements and wrong on others")
    judged_right, _ = sides_at(runner, STATEMENTS, MODEL_RIGHT, [LAYER])[LAYER]
    wanted = [
        plain_states(runner, text, "")[0][-1]
        for text, right in zip(TEXTS, said == gold, strict=True)
        if right
    ]
    torch.testing.assert_close(judged_right, torch.stack(wanted), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_reading_works_on_every_architecture_alone_as_in_a_batch(architecture):
    model = tiny_model(architecture)
    many, single = (
        StatementRunner(model, STATEMENT_PROMPT),
        StatementRunner(model, STATEMENT_PROMPT, batch_rows=1),
    )
    for reading in (ANSWER_WORD, STATEMENT, FULL_TRACE):
        together = read_traces(many, STATEMENTS, reading, [0, 2])
        alone = read_traces(single, STATEMENTS, reading, [0, 2])
        for layer in (0, 2):
            sides = (traces[layer].sides[0] for traces in (together, alone))
            torch.testing.assert_close(*sides, atol=1e-4, rtol=1e-3)
            # The tiny tokenizer knows no full stop after an answer word: both written answers read alike to it.
            assert reading == FULL_TRACE or mean_difference(together[layer]).norm() > 0


def test_a_trace_read_from_cached_prompts_is_the_trace_of_whole_passes(runner):
    whole = StatementRunner(runner.model, STATEMENT_PROMPT)
    whole.__dict__["resumes"] = False  # what is found out for networks whose cache cannot be cut back
    for reading in (ANSWER_WORD, FULL_TRACE):
        cached, plain = (read_traces(each, STATEMENTS, reading, [LAYER])[LAYER] for each in (runner, whole))
        torch.testing.assert_close(cached.states, plain.states, atol=1e-5, rtol=1e-4)


def test_hooks_are_gone_afterwards_and_progress_ends_at_all_texts(runner):
    told = []
    read_traces(runner, STATEMENTS, ANSWER_WORD, [LAYER], lambda done, total: told.append((done, total)))
    assert told[-1] == (4, 4)
    assert not any(module._forward_hooks for module in runner.model.network.modules())


def test_an_unknown_reading_and_a_missing_side_are_refused_in_words(runner):
    with pytest.raises(BadInput, match=", ".join(READINGS)):
        read_traces(runner, STATEMENTS, "aloud", [LAYER])
    with pytest.raises(VectorRefused, match="needs both"):
        sides_at(runner, STATEMENTS[::2], STATEMENT, [LAYER])


def test_an_interrupted_run_goes_on_where_it_was(tmp_path):
    model = tiny_model()
    finished = FinishedBatches(tmp_path / "traces")
    runner = StatementRunner(model, STATEMENT_PROMPT, batch_rows=1, finished=finished)

    class Stopped(Exception):
        pass

    def stop_after_two(done, _total):
        if done == 2:
            raise Stopped

    with pytest.raises(Stopped):
        read_traces(runner, STATEMENTS, ANSWER_WORD, [LAYER], stop_after_two)
    assert len(list(finished.folder.iterdir())) == 2

    passes = []
    handle = model.network.get_submodule("model.layers.0").register_forward_hook(lambda *_: passes.append(1))
    going_on = StatementRunner(model, STATEMENT_PROMPT, batch_rows=1, finished=finished)
    again = read_traces(going_on, STATEMENTS, ANSWER_WORD, [LAYER])[LAYER]
    resumed_passes = len(passes)
    passes.clear()
    anew = StatementRunner(model, STATEMENT_PROMPT, batch_rows=1)
    fresh = read_traces(anew, STATEMENTS, ANSWER_WORD, [LAYER])[LAYER]
    handle.remove()
    assert torch.equal(again.states, fresh.states)
    assert resumed_passes < len(passes)
    finished.forget()
    assert not finished.folder.exists()


def test_a_damaged_batch_file_is_computed_anew(tmp_path):
    finished = FinishedBatches(tmp_path)
    runner = StatementRunner(tiny_model(), STATEMENT_PROMPT, finished=finished)
    first = runner.scores(TEXTS)
    (path,) = tmp_path.iterdir()
    path.write_bytes(b"cut off")
    np.testing.assert_array_equal(runner.scores(TEXTS).scores, first.scores)


def test_recorded_states_are_those_of_a_plain_recording(runner):
    kept = runner.recorded(TEXTS, [0, 2])
    for row, text in enumerate(TEXTS):
        with recorded(runner.model.network, [0, 2]) as plain:
            runner.prefix.last_states([runner.prefix.encoded(text)])
        torch.testing.assert_close(kept.states[0][row], plain[0][0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(kept.states[2][row], plain[2][0], atol=1e-5, rtol=1e-4)
    np.testing.assert_allclose(kept.scores, runner.scores(TEXTS).scores, atol=1e-6)
