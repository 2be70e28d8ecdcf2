"""The check of a model: made at the first load and kept by identity; what it finds decides how the model is asked."""

import copy
import json
import re
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Regex, normalizers
from typer.testing import CliRunner

from medx_core.cli.app import app
from medx_core.errors import ModelUnavailable
from medx_core.model_check import Can, Check, ModelCheck
from medx_core.models.devices import choose_placement
from medx_core.models.generation import GreedyWriting
from medx_core.models.loading import load_model
from medx_core.models.prefix_cache import SharedPrefix
from medx_core.models.prompting import prompt_ids
from medx_core.prompts import STATEMENT_PROMPT, VerdictPrompt
from medx_core.traces.checking import KEPT, checked, checked_anew
from medx_core.traces.prompt_checks import LONG_TEXT, hold_prompts
from tests.architectures import ARCHITECTURES, saved_model
from tests.language_models import VOCABULARY, byte_tokenizer, saved_tiny_model, tiny_model, word_tokenizer

TURNS = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"


def loaded(folder, memory):
    return load_model(str(folder), models_folder=memory, placement=choose_placement("cpu", "float32"))


def test_a_model_that_does_all_is_found_to_do_all(tmp_path):
    folder = saved_tiny_model(tmp_path)
    (folder / "chat_template.jinja").write_text(TURNS, encoding="utf-8")
    found = checked_anew(loaded(folder, tmp_path))
    assert found.ok, found.faults
    assert found.can == Can()
    assert [check.name for check in found.checks] == [
        "weights", "prompt", "chat template", "control tokens", "reading order", "attention", "English", "batch", "shared prefix", "answer words",
        "longer words", "chat verdicts", "shared arms", "steering", "written answers",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("architecture", "cannot"),
    [
        ("gemma3n_text", {"shared_arms", "steer", "chat_verdict"}),
        pytest.param("mamba", {"shared_prefix", "shared_arms", "chat_verdict"}, marks=pytest.mark.slow),
        ("recurrent_gemma", {"text", "batch", "shared_prefix", "shared_arms", "chat_verdict", "long_words"}),
    ],
)
def test_what_an_architecture_cannot_do_is_found(tmp_path, architecture, cannot):
    found = checked_anew(loaded(saved_model(architecture, tmp_path / architecture), tmp_path))
    assert {name for name, can in found.can.model_dump().items() if not can} == cannot
    if "long_words" in cannot:
        model = replace(loaded(tmp_path / architecture, tmp_path), check=found)
        with pytest.raises(ModelUnavailable, match="answer words of several tokens"):
            SharedPrefix(model, VerdictPrompt("long", "{}", " Incorrect", " Correct"))
    assert found.ok == cannot.isdisjoint({"steer", "text"}), found.faults


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["mistral", "gemma3_text"])
def test_a_wide_window_is_tried_on_a_tiny_model(tmp_path, architecture, monkeypatch):
    wide = {**ARCHITECTURES[architecture], "sliding_window": 4096, "max_position_embeddings": 8192}
    monkeypatch.setitem(ARCHITECTURES, architecture, wide)
    model = loaded(saved_model(architecture, tmp_path / architecture), tmp_path)
    found = checked_anew(model)
    assert found.ok, found.faults
    assert "also beyond its window of 4,096 tokens" in next(
        check.detail for check in found.checks if check.name == "batch"
    )


def test_the_outcome_is_kept_by_identity_and_made_again_when_the_model_changes(tmp_path):
    folder, memory = saved_tiny_model(tmp_path), tmp_path / "models"
    first = checked(loaded(folder, memory), memory_folder=memory).check
    kept = json.loads((memory / KEPT).read_text("utf-8"))
    (key,) = kept
    assert key.startswith(first.identity_sha256)
    kept[key]["can"]["batch"] = False  # what is kept is what counts
    (memory / KEPT).write_text(json.dumps(kept), encoding="utf-8")
    assert checked(loaded(folder, memory), memory_folder=memory).check.can == Can(
        batch=False, chat_verdict=False
    )
    assert checked(loaded(folder, memory), memory_folder=memory, anew=True).check == first
    (folder / "chat_template.jinja").write_text("{{ messages[-1].content }}", encoding="utf-8")
    again = checked(loaded(folder, memory), memory_folder=memory).check
    assert again.identity_sha256 != first.identity_sha256
    assert again.model_sha256 == first.model_sha256
    assert len(json.loads((memory / KEPT).read_text("utf-8"))) == 2


def test_a_tokenizer_that_loses_the_question_is_found_and_the_model_gives_no_verdict(tmp_path):
    folder = saved_tiny_model(tmp_path)
    for file in folder.glob("token*"):
        file.unlink()
    word_tokenizer().save_pretrained(folder)  # it knows none of the question's words
    model = checked(loaded(folder, tmp_path), memory_folder=tmp_path)
    assert not model.check.ok
    assert not model.can.verdict
    with pytest.raises(
        ModelUnavailable, match=r"gives no verdicts here\. The prompt .* does not hold the question"
    ):
        model.require("verdict")


def retold(model, *forms):
    """The model with a tokenizer that changes texts before it reads them."""
    tokenizer = copy.deepcopy(byte_tokenizer())
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence(list(forms))
    return replace(model, tokenizer=tokenizer)


@pytest.mark.parametrize(
    ("lost", "put", "words"),
    [
        (" not ", " ", "'not'"),
        (Regex("[<>]"), "", "'<', '>'"),
        (Regex("[.]"), "", "'3.5', '5.5'"),
        (Regex("[0-9]+[.]"), "0.", "'3.5', '5.5'"),
    ],
)
def test_a_tokenizer_that_loses_a_not_or_a_sign_is_refused_and_named(tmp_path, lost, put, words):
    model = retold(loaded(saved_tiny_model(tmp_path), tmp_path), normalizers.Replace(lost, put))
    with pytest.raises(AssertionError, match=re.escape(f"loses part of what it is given: {words}")):
        hold_prompts(model)


def test_a_sign_that_a_tokenizer_does_not_read_is_named_and_other_forms_of_a_letter_are_no_loss(tmp_path):
    model = loaded(saved_tiny_model(tmp_path), tmp_path)
    assert "does not read" not in hold_prompts(model)
    forms = normalizers.NFKC(), normalizers.Lowercase(), normalizers.Replace("≥", "")
    assert hold_prompts(retold(model, *forms)).endswith("The tokenizer does not read: ≥.")


def test_a_tokenizer_that_draws_is_made_to_draw_no_more_and_a_template_that_does_is_refused(tmp_path):
    folder = saved_tiny_model(tmp_path)
    file = folder / "tokenizer.json"
    stored = json.loads(file.read_text("utf-8"))
    stored["model"]["dropout"] = 0.5
    file.write_text(json.dumps(stored), encoding="utf-8")
    model = loaded(folder, tmp_path)
    assert len({tuple(prompt_ids(model.tokenizer, LONG_TEXT)) for _ in range(20)}) == 1
    hold_prompts(model)
    model.tokenizer.chat_template = (
        "{{ range(99) | random }} {% for m in messages %}{{ m.content }} {% endfor %}"
    )
    with pytest.raises(AssertionError, match="the tokenizer or the chat template draws at random"):
        hold_prompts(model)


def found_by(check, name):
    return next(each for each in check.checks if each.name == name)


def test_words_without_weights_are_counted_and_refused(tmp_path):
    model = loaded(saved_tiny_model(tmp_path), tmp_path)
    model.tokenizer.add_tokens([f"<picture {number}>" for number in range(300)])
    assert checked_anew(model).ok, "a text holds no control token, so that these are never asked with"
    model.tokenizer.add_tokens(["metformin", "heparin"])
    found = checked_anew(model)
    assert "has 2 words that the network has no weights for ('heparin', 'metformin')" in found.faults
    assert not any(found.can.model_dump().values())


def test_a_model_that_scores_every_statement_alike_gives_no_verdicts(tmp_path):
    folder = saved_tiny_model(tmp_path)
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights["lm_head.weight"][:1].repeat(VOCABULARY, 1)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    found = checked_anew(loaded(folder, tmp_path))
    assert not found.ok
    assert not found.can.verdict
    assert "gives every statement the same score" in found.faults


def test_whether_a_model_reads_english_is_said_and_nothing_refused(tmp_path):
    model = loaded(saved_tiny_model(tmp_path), tmp_path)
    bias = torch.zeros(VOCABULARY)
    ids = torch.tensor(prompt_ids(model.tokenizer, LONG_TEXT))
    bias[ids] = 20.0  # it knows which tokens English is made of
    for shift, says in ((0, "better than by guessing (loss per token "), (1, "no better than by guessing")):
        handle = model.network.get_output_embeddings().register_forward_hook(
            lambda _head, _given, logits, shift=shift: logits + bias.roll(shift * 7)
        )
        found = checked_anew(model)
        handle.remove()
        assert says in found_by(found, "English").detail
        assert found_by(found, "English").ok


@pytest.mark.parametrize(
    ("architecture", "name"), [("llama", "max_position_embeddings"), ("gpt2", "n_positions")]
)
def test_a_model_that_reads_no_more_than_the_prompt_answers_nothing(
    tmp_path, monkeypatch, architecture, name
):
    monkeypatch.setitem(ARCHITECTURES, architecture, {**ARCHITECTURES[architecture], name: 64})
    found = checked_anew(loaded(saved_model(architecture, tmp_path / architecture), tmp_path))
    assert "tokens with a short question, and this model reads no more than 64" in found.faults
    assert not any(found.can.model_dump().values())


def test_a_network_in_which_padding_reaches_the_tokens_is_answered_apart(tmp_path):
    model = loaded(saved_model("gpt2", tmp_path / "gpt2"), tmp_path)

    def forget_positions(_network, args, given):
        return args, {**given, "position_ids": None}  # so that it counts from the padding on

    model.network.base_model.register_forward_pre_hook(forget_positions, with_kwargs=True)
    found = checked_anew(model)
    assert found.ok, found.faults
    assert not found.can.batch


def test_rows_of_unequal_length_are_written_apart_where_padding_is_wrong():
    model = tiny_model("qwen2")
    cannot = ModelCheck(model="m", checks=(Check(name="batch", ok=True, detail=""),), can=Can(batch=False))
    apart = replace(model, check=cannot)
    prompts = [[5, 6, 7, 8, 9], [10, 11], [12, 13]]
    with pytest.raises(ModelUnavailable, match="rows of unequal length only apart"):
        apart.padded(prompts)
    seen = []
    handle = model.network.register_forward_pre_hook(
        lambda _n, _a, given: seen.append(given["input_ids"].shape[0]), with_kwargs=True
    )
    writings = []
    for asked in (model, apart):
        writing = GreedyWriting(asked, prompts, max_new_tokens=3)
        while not writing.finished:
            writing.step()
        writings.append([row.tokens for row in writing.rows])
    handle.remove()
    assert writings[0] == writings[1]
    assert seen == [3, 3, 3, 1, 2, 1, 2, 1, 2]


def test_an_encoder_that_was_loaded_as_a_decoder_answers_nothing(tmp_path):
    model = loaded(saved_tiny_model(tmp_path), tmp_path)
    for layer in model.network.model.layers:
        layer.register_forward_hook(lambda _l, _i, output: output + output.mean(dim=1, keepdim=True))
    found = checked_anew(model)
    assert (found.can.verdict, found.can.text, found.can.steer) == (False, False, False)
    assert "reads tokens that come later, so it is no causal language model" in found.faults


def test_a_template_that_loses_a_long_question_leaves_the_plain_prompts(tmp_path):
    folder = saved_tiny_model(tmp_path)
    cut_off = TURNS.replace("m.content", "m.content[:60]")
    (folder / "chat_template.jinja").write_text(cut_off, encoding="utf-8")
    model = checked(loaded(folder, tmp_path), memory_folder=tmp_path)
    assert model.check.ok, model.check.faults
    assert not model.can.chat_verdict
    with pytest.raises(ModelUnavailable, match="no verdicts in its chat template"):
        SharedPrefix(model, STATEMENT_PROMPT.in_chat())


@pytest.mark.parametrize("broken", [False, True])
def test_the_command_prints_the_check_and_its_status_says_whether_all_works(tiny_home, tmp_path, broken):
    folder = tmp_path / "tiny"
    if broken:
        (folder / "model.safetensors").write_text(
            "version https://git-lfs.github.com/spec/v1\n", encoding="utf-8"
        )
    ran = CliRunner().invoke(app, ["models", "check", str(folder), "--json"])
    found = json.loads(ran.stdout)
    assert ran.exit_code == int(broken)
    assert found["ok"] is not broken
    assert set(found["can"]) == {"verdict", "text", "steer", "batch", "shared_prefix"}
    assert set(found["can"].values()) == {not broken}
    assert all(set(check) == {"name", "ok", "detail"} for check in found["checks"])
    if broken:
        assert "git-lfs pointers" in found["checks"][0]["detail"]


def test_the_makers_repetition_penalty_is_kept():
    model = tiny_model("llama")
    model.network.generation_config.repetition_penalty = 1.7
    prompt = [5, 6, 7, 8, 9]
    ids = torch.tensor([prompt])
    own = model.network.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12)
    writing = GreedyWriting(model, [prompt, [10, 11]], max_new_tokens=12)
    while not writing.finished:
        writing.step()
    ours = writing.rows[0].tokens
    assert ours == own[0, 5 : 5 + len(ours)].tolist()
    plain = GreedyWriting(tiny_model("llama"), [prompt], max_new_tokens=12)
    while not plain.finished:
        plain.step()
    assert plain.rows[0].tokens != ours
