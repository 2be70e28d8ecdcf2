"""The strategies by name: what each one is, in words, and what it can be used for."""

from dataclasses import dataclass

MEAN_DIFFERENCE = "mean_difference"
PCA = "pca"
GATED = "gated"
AMPLIFY = "amplify"
RANDOM = "random"
SHUFFLED = "shuffled"
IMPORTED = "imported"


@dataclass(frozen=True)
class Strategy:
    """One way of changing activations.

    `constant`: the same vector is added whatever the state, so that other programs can use it. `for_text`: it may
    steer written answers without being asked for. `needs_traces`: it is read from contrast traces, in one of the
    readings; the others read the last prompt token alone.
    """

    name: str
    words: str
    constant: bool = True
    for_text: bool = True
    needs_traces: bool = True


STRATEGIES: dict[str, Strategy] = {
    one.name: one
    for one in (
        Strategy(MEAN_DIFFERENCE, "the paper's: mean state of correct minus that of incorrect traces"),
        Strategy(PCA, "first principal component of correct minus incorrect traces"),
        Strategy(
            GATED,
            "input-dependent: pushes towards TRUE or FALSE by what a read-out of the state says",
            constant=False,
            for_text=False,
            needs_traces=False,
        ),
        Strategy(AMPLIFY, "makes what the state says along the mean difference louder", constant=False),
        Strategy(RANDOM, "control: a random vector as long as the mean difference"),
        Strategy(SHUFFLED, "control: the mean difference after the labels were shuffled"),
        Strategy(IMPORTED, "a control vector made by another program", needs_traces=False),
    )
}
BUILDABLE = tuple(name for name in STRATEGIES if name != IMPORTED)
