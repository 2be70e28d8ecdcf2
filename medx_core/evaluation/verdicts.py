"""Verdicts on an arm, and the reasons why a figure or a verdict is missing, with the sentence of each.

Code compares the members; people read the sentences. Nothing recognises a verdict by its words.
"""

from enum import StrEnum


class Verdict(StrEnum):
    """What the decision rule says of one arm."""

    HELPS = "helps"
    CONTROL_NOT_BEATEN = "control_not_beaten"
    LUCK_AMONG_MANY = "luck_among_many"
    NOT_RUN = "not_run"
    ONE_ANSWER_ONLY = "one_answer_only"
    CONTROLS_NOT_RUN = "controls_not_run"
    WORDING_NOT_RULED_OUT = "wording_not_ruled_out"
    PLAUSIBILITY_NOT_RULED_OUT = "plausibility_not_ruled_out"
    FITTED_ON_TEST_ITEMS = "fitted_on_test_items"

    @property
    def helps(self) -> bool | None:
        """True: the arm helps. False: it is not shown to help. None: nobody can say."""
        if self is Verdict.HELPS:
            return True
        return False if self in (Verdict.CONTROL_NOT_BEATEN, Verdict.LUCK_AMONG_MANY) else None

    def because(self, **details: object) -> str:
        """Return the reason as the end of a sentence, with its details filled in."""
        return _VERDICTS[self].format(**details)


_VERDICTS = {
    Verdict.HELPS: "it beats every control, also where wording gives nothing away",
    Verdict.CONTROL_NOT_BEATEN: "it does not beat {controls}",
    Verdict.LUCK_AMONG_MANY: "among so many arms this may be luck",
    Verdict.NOT_RUN: "the declared arm {arm} was not run",
    Verdict.ONE_ANSWER_ONLY: "the test set holds TRUE or FALSE statements only; both are needed",
    Verdict.CONTROLS_NOT_RUN: "needed to judge it and not run: {controls}",
    Verdict.WORDING_NOT_RULED_OUT: "wording cannot be ruled out: {why}",
    Verdict.PLAUSIBILITY_NOT_RULED_OUT: "plausibility cannot be told from truth: {why}",
    Verdict.FITTED_ON_TEST_ITEMS: (
        "{shared:,} of {items:,} test statements have a twin or a near copy in the training part"
    ),
}


class Reason(StrEnum):
    """Why a figure is null or the wording-free part is not valid; `{...}` is filled in with `str.format`."""

    ONE_ANSWER_ONLY = "both TRUE and FALSE statements are needed"
    NO_FALSE_STATEMENT = "no statement is FALSE"
    NO_HARM_LABEL = "no statement has a harm label (none, mild, moderate or severe)"
    NO_VERIFIER = "no verifier was validated"
    NO_LANGUAGE_MODEL = "this arm has no language model"
    ANSWER_WORDS_NOT_RECORDED = "only the scores of its two answer words were recorded"
    NO_MAP = "no map from score to probability was fitted for this arm"
    NOT_COMPUTABLE = "it cannot be computed on these statements"
    IS_UNSTEERED = "this is the unsteered arm"
    UNSTEERED_NOT_RUN = "unsteered was not run"
    NO_WORDING_FREE_PART = "there is no wording-free part"
    NOT_TWINS = "the wording-free part is not made of twins"
    NO_ASSOCIATION_CONTROL = "the file has no swaps of FALSE statements"
    TOO_SMALL_ASSOCIATION_CONTROL = (
        "the file has too few swaps of FALSE statements ({n}; {needed} are needed)"
    )
    TOO_FEW_OF_SAME_KINDS = "too few twins exchange a kind of word that swaps of FALSE statements exchange too ({n}; {needed} are needed)"
    ALL_OF_SAME_KINDS = (
        "the kinds of word that the twins exchange all appear in the control too, or none is named"
    )
    TOO_LITTLE_TO_READ_WORDING = (
        "the file has {n} labelled statements outside the test set; to fit readers of wording, {needed} TRUE and "
        "{needed} FALSE ones are needed at the very least"
    )
    NO_MATCH = "where wording puts them there are never both TRUE and FALSE test statements"
    WEAK_READERS = "the readers of wording were fitted on {n:,} statements; below {needed:,} they are too weak to rule wording out"
    WORDING_LEFT = "wording still tells TRUE from FALSE among the matched statements (AUROC of {readers}; at most {most} is allowed)"
    TWINS_READ_BY_WORDING = (
        "readers of wording alone rank these twins right ({readers}); they are not symmetric swaps"
    )
    TWINS_NOT_READ = "whether wording tells these twins apart was not checked: {why}"
    NOT_IN_ITEMS = "the items hold the test statements alone"
