"""What the command line prints of an answer."""

from medx_core.cli.ask import WENT_ON, answer_lines
from medx_core.questions import Answer, Arm


def written(text: str) -> list[str]:
    answer = Answer(
        arm=Arm.UNSTEERED, model="m", model_sha256="a5", prompt_version="text-v1", seconds=1.0, text=text
    )
    return answer_lines(answer)


def test_a_steered_answer_is_shown_with_its_dose():
    answer = Answer(
        Arm.STEERED,
        "m",
        "a5",
        "p",
        1.0,
        text="x",
        vector="triage v1",
        layer=2,
        alpha=2,
        dose=0.0512,
        recipe="r1",
    )
    assert "  m · recipe r1 · triage v1, layer 2, alpha 2, dose 0.051 · 1.00 s" in answer_lines(answer)


def test_a_model_that_goes_on_with_questions_of_its_own_is_said_to_do_so():
    went_on = written(" Asthma narrows the airways.\n\nQuestion: What is a cold?\nAnswer: A virus.")
    assert f"  {WENT_ON}" in went_on
    assert f"  {WENT_ON}" not in written(" Asthma narrows the airways. Question your doctor about it.")
