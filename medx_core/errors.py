"""Every error a person may meet, as one tree.

The message of a `MedxError` is one sentence that says what was wrong, where, and what to do. Doors (a command, a
page, a task) show that sentence; the traceback goes to the log.
"""


class MedxError(Exception):
    """The root: a fault whose message its reader can act on."""


class BadInput(MedxError):
    """What was handed in cannot be used: a file, a question, a choice."""


class SettingsFault(MedxError):
    """A setting is missing or contradicts another one."""


class ModelUnavailable(MedxError):
    """The language model, the router's encoder or their device cannot be used."""


class VectorRefused(MedxError):
    """A steering vector does not fit the model it was asked to steer, or is not sound."""


class RecipeUnusable(MedxError):
    """The recipe that was promoted cannot answer here, and no other one answers in its place.

    `recipe` is its id, `name` its name, `reason` why, as a part of a sentence.
    """

    def __init__(self, recipe: str, name: str, reason: str) -> None:
        self.recipe = recipe
        self.name = name
        self.reason = reason
        super().__init__(
            f"The recipe in use, {name} ({recipe}), cannot answer, and no other one answers in its place: {reason}; "
            "promote another one (`medx recipes promote`) or go back to the one before it (`medx recipes rollback`)."
        )


class RouterUnavailable(MedxError):
    """No trained router head fits the encoder at hand."""


class NotFound(MedxError):
    """There is nothing under that id, or it is not for this person."""


class NotAllowed(MedxError):
    """This person's role does not reach that far."""


class StorageFault(MedxError):
    """The database cannot be reached or is not at the version this program needs."""


class QueueUnavailable(MedxError):
    """The broker cannot be reached; submitted work stays in the database and is sent later."""


class LeaseLost(MedxError):
    """Another worker holds the item by now; this result is dropped."""


class Cancelled(MedxError):
    """The work was cancelled before it finished."""
