"""What Ask shows before it stores a question that may identify a patient: which kinds, and two ways to go on.

Nothing is stored while it stands there. The text that somebody was warned about stays in their browser, so that
agreeing to it agrees to nothing that was written afterwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from medx_core.data.identifiers import MASK
from web.markup import escape, tag

MASKED, AS_IT_IS = "Ask masked", "Ask as it is"
# Whoever asked by keyboard goes on by keyboard, at the safer choice. A frame later, for it is only then to be seen.
FOCUS = (
    "() => { requestAnimationFrame(() => requestAnimationFrame(() => { "
    "const first = document.getElementById('medx-masked'); "
    "if (first && first.offsetParent !== null) first.focus(); })); return []; }"
)


@dataclass(frozen=True)
class IdentifierWarning:
    """The parts of the warning."""

    row: gr.Row
    sentence: gr.HTML
    masked: gr.Button
    as_it_is: gr.Button
    warned_of: gr.Textbox

    @property
    def shown(self) -> list[Any]:
        """What `raised` and `put_away` fill."""
        return [self.row, self.sentence, self.warned_of]


def build_warning() -> IdentifierWarning:
    """Build the warning, not to be seen yet, inside the blocks that are open."""
    with gr.Row(visible=False, elem_classes="medx-confirm", elem_id="medx-identifiers") as row:
        sentence = gr.HTML(elem_classes="medx-inline")
        masked = gr.Button(MASKED, variant="primary", scale=0, min_width=130, elem_id="medx-masked")
        as_it_is = gr.Button(AS_IT_IS, scale=0, min_width=130, elem_id="medx-as-it-is")
    return IdentifierWarning(row, sentence, masked, as_it_is, gr.Textbox(visible="hidden"))


def warning_sentence(kinds: Sequence[str]) -> str:
    """Say what a question may hold, that nothing is stored yet, and what masking does."""
    listed = " and ".join(part for part in (", ".join(kinds[:-1]), kinds[-1]) if part)
    return f"This question may hold {listed}. Nothing is stored yet. Masking puts {MASK} in place of each."


def raised(text: str, kinds: Sequence[str]) -> tuple[Any, ...]:
    """Return the updates that show the warning about `text`."""
    sentence = tag("p", escape(warning_sentence(kinds)), "medx-lead", role="alert")
    return gr.update(visible=True), sentence, text


def put_away() -> tuple[Any, ...]:
    """Return the updates that hide it and forget its text."""
    return gr.update(visible=False), "", ""
