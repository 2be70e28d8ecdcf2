"""The names of strategies and readings; without torch, so that a command refuses a wrong one at once."""

MEAN_DIFFERENCE = "mean_difference"  # the paper's: mean state of correct minus that of incorrect traces
PCA = "pca"  # first principal component of correct minus incorrect traces
GATED = "gated"  # pushes towards TRUE or FALSE by what a read-out of the state says; made for verdicts, not for text
AMPLIFY = "amplify"  # makes what the state says along the mean difference louder
PROJECT = "project"  # takes a share of what the state says along the mean difference away
CLAMP = "clamp"  # sets what the state says along the mean difference to a target
RANDOM = "random"  # control: a random vector as long as the mean difference
SHUFFLED = "shuffled"  # control: the mean difference after the labels were shuffled
IMPORTED = "imported"  # a control vector made by another program
BUILDABLE = (MEAN_DIFFERENCE, PCA, GATED, AMPLIFY, PROJECT, CLAMP, RANDOM, SHUFFLED)
STRATEGIES = (*BUILDABLE, IMPORTED)
# All others add the same vector whatever the state, as other programs can too.
INPUT_DEPENDENT = (GATED, AMPLIFY, PROJECT, CLAMP)
# What these do hangs on a number that was read from states at one layer under one prompt.
FITTED_TO_STATES = (GATED, AMPLIFY, CLAMP)

ANSWER_WORD = "answer_word"
STATEMENT = "statement"
MODEL_RIGHT = "model_right"
FULL_TRACE = "full_trace"
READINGS = (ANSWER_WORD, STATEMENT, MODEL_RIGHT, FULL_TRACE)

ON_STATEMENTS = "statements"
ON_TWINS = "twins"
