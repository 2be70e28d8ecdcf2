"""How the pages look: system fonts, one accent colour, and the stylesheet and script under `assets/`."""

from gradio.themes import Base
from gradio.themes.utils import colors, sizes

SANS = (
    "ui-sans-serif",
    "system-ui",
    "-apple-system",
    "Segoe UI",
    "Roboto",
    "Helvetica Neue",
    "Arial",
    "sans-serif",
)
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")

HEAD = (
    '<meta name="color-scheme" content="light dark"><script src="/assets/event_stream.js"></script>'
    '<script src="/assets/medx.js" defer></script>'
)


def theme() -> Base:
    """Return the theme Gradio's own parts are drawn with."""
    made = Base(
        primary_hue=colors.teal,
        neutral_hue=colors.slate,
        radius_size=sizes.radius_md,
        text_size=sizes.text_md,
        spacing_size=sizes.spacing_md,
        font=SANS,
        font_mono=MONO,
    )
    return made.set(
        body_background_fill="#f8fafb",
        body_background_fill_dark="#0f1518",
        background_fill_primary_dark="#161e22",
        background_fill_secondary_dark="#1b252a",
        block_background_fill="white",
        block_background_fill_dark="#161e22",
        block_border_width="1px",
        block_border_color="#dde4e8",
        block_border_color_dark="#2b383f",
        border_color_primary="#dde4e8",
        border_color_primary_dark="#2b383f",
        block_shadow="none",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_label_border_width="0px",
        block_title_text_weight="600",
        block_title_text_color="#24343c",
        block_title_text_color_dark="#d5dfe3",
        block_info_text_color="#51626c",
        block_info_text_color_dark="#9fb0b9",
        block_info_text_size="13px",
        input_background_fill="white",
        input_background_fill_dark="#121a1e",
        input_border_color="#b8c4cb",
        input_border_color_dark="#3d4d56",
        input_border_color_focus="#0f766e",
        input_border_color_focus_dark="#2dd4bf",
        input_border_width="1px",
        button_border_width="1px",
        checkbox_label_background_fill="transparent",
        checkbox_label_background_fill_dark="transparent",
        checkbox_label_background_fill_hover="transparent",
        checkbox_label_background_fill_hover_dark="transparent",
        checkbox_label_background_fill_selected="transparent",
        checkbox_label_background_fill_selected_dark="transparent",
        checkbox_label_border_width="0px",
        checkbox_label_border_width_dark="0px",
        checkbox_label_border_color="transparent",
        checkbox_label_border_color_dark="transparent",
        checkbox_label_padding="6px 2px",
        checkbox_label_shadow="none",
        checkbox_background_color_dark="#121a1e",
        checkbox_background_color_selected="#0f766e",
        checkbox_background_color_selected_dark="#14b8a6",
        checkbox_border_color="#8fa0a9",
        checkbox_border_color_dark="#5b6d77",
        button_primary_background_fill="#0f766e",
        button_primary_background_fill_hover="#115e59",
        button_primary_background_fill_dark="#0f766e",
        button_primary_background_fill_hover_dark="#0d9488",
        button_primary_text_color="white",
        button_primary_text_color_dark="white",
        button_secondary_background_fill="white",
        button_secondary_background_fill_dark="#1b252a",
        button_secondary_border_color="#b8c4cb",
        button_secondary_border_color_dark="#3d4d56",
        button_large_text_weight="600",
        table_odd_background_fill_dark="#121a1e",
        table_even_background_fill_dark="#121a1e",
        link_text_color="#0f766e",
        link_text_color_dark="#5eead4",
        link_text_color_hover="#115e59",
        link_text_color_hover_dark="#99f6e4",
    )
