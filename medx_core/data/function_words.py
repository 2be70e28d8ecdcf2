"""Words that join others: around them a name begins or ends."""


def word_set(*lines: str) -> frozenset[str]:
    """Return the words of all lines."""
    return frozenset(" ".join(lines).split())


FUNCTION_WORDS = word_set(
    "a an the its their each every both either and or but nor of in on at by for from to with into onto over under above",
    "below near behind beneath between among through during before after against across within without along around",
    "via than as is are was were be been has have had can may does do did which that who where when while because it",
    "whose upon toward towards per only also then called named termed",
)
