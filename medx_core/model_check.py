"""What a language model was found to do when it was checked, before it answered anything.

The check is made at the first load (`medx_core/traces/checking.py`) and kept by the model's identity. Knows no torch:
pages and commands show it.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from medx_core.errors import ModelUnavailable

Ability = Literal["verdict", "text", "steer"]

PROMISED = ("verdict", "text", "steer", "batch", "shared_prefix")


class Check(BaseModel):
    """One thing that was tried; `detail` is a sentence on what was seen, and on the way round where there is one."""

    model_config = ConfigDict(frozen=True)

    name: str
    ok: bool
    detail: str


class Can(BaseModel):
    """What the model can do here, right, whatever way round it takes.

    Without `chat_verdict`, verdicts are asked for with plain prompts alone; without `long_words`, only with answer words of
    one token. Without `batch`, only prompts of one length share a pass; without `shared_prefix`, every prompt is run whole; without
    `shared_arms`, steered and unsteered are separate passes over the whole prompt.
    """

    model_config = ConfigDict(frozen=True)

    verdict: bool = True
    text: bool = True
    steer: bool = True
    batch: bool = True
    shared_prefix: bool = True
    shared_arms: bool = True
    chat_verdict: bool = True
    long_words: bool = True


class ModelCheck(BaseModel):
    """The outcome of a check on one placement.

    `model_sha256` names the weights, which steering vectors are bound to; `identity_sha256` all that changes an answer.
    `attention` is transformers' name of the implementation in use, `chat_template` whether written answers are asked
    for with the model's own chat template, else with a plain prompt.
    """

    model_config = ConfigDict(frozen=True)

    model: str
    checks: tuple[Check, ...]
    can: Can
    model_sha256: str = ""
    identity_sha256: str = ""
    placement: str = ""
    attention: str = ""
    chat_template: bool = False

    @property
    def ok(self) -> bool:
        """Whether everything that was tried works, if need be by another way."""
        return all(check.ok for check in self.checks)

    def as_json(self) -> dict[str, object]:
        """Return what `medx models check --json` prints of the check itself.

        `can` has the five keys that programs rely on; ways round stand among the checks.
        """
        return {
            "ok": self.ok,
            "checks": [check.model_dump() for check in self.checks],
            "can": self.can.model_dump(include=set(PROMISED)),
        }

    @property
    def faults(self) -> str:
        """What does not work, in sentences; empty where everything does."""
        return " ".join(dict.fromkeys(check.detail for check in self.checks if not check.ok))

    def require(self, ability: Ability) -> None:
        """Refuse to do something with the model that it cannot do right here.

        Raises:
            ModelUnavailable: the check failed there; the message names the model, what it gives not, and why.
        """
        if not getattr(self.can, ability):
            what = {"verdict": "verdicts", "text": "written answers", "steer": "steered answers"}[ability]
            raise ModelUnavailable(f"The model {self.model} gives no {what} here. {self.faults}")
