"""The architecture in one drawing, for the README and notebook 3."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mixer.config import MixerConfig, get_config
from mixer.drawing import bare
from mixer.lessons.plots.shapes import (
    CHANNEL,
    INK,
    SIDE,
    SOFT,
    TOKEN,
    draw_arrow,
    draw_box,
    draw_card,
    draw_mlp,
    draw_pieces_above,
    draw_pieces_beside,
    draw_skip,
    draw_table,
    draw_words,
    landscape,
)


def architecture(name: str) -> Figure:
    """The model in one drawing: shapes at every arrow, skip connections, transposes.

    The upper part is the whole model, the two rows below open one Mixer block. A token table has a
    row for each token and a column for each channel: token mixing reads it by columns, channel
    mixing by rows.

    Args:
        name: the model of ``MODELS`` whose numbers stand in the drawing, such as ``"Mixer-B_16"``.

    Raises:
        ValueError: an unknown name.
    """
    config = get_config(name)
    fig = Figure(figsize=(9.0, 7.6))
    # The ground is a white card with round corners, so that it sits well on a dark page.
    fig.patch.set_alpha(0.0)
    ax = bare(fig.add_axes((0, 0, 1, 1)))
    ax.patch.set_alpha(0.0)
    draw_card(ax, 2, 2, 896, 756, "white", "#D0D0D0", round_by=16, zorder=0)
    _draw_model(ax, config)
    _draw_token_mixing(ax, config)
    _draw_channel_mixing(ax, config)
    height, width = config.image_hw
    numbers = f"numbers of {name} at {height} × {width} pixels"
    letters = "S tokens, C channels, P pixels a side of a patch; 9 patches and 8 channels drawn"
    draw_words(ax, 450, 741, f"{letters}; {numbers}", size=9, color=SOFT)
    # Downwards, and a unit is a pixel of the README.
    ax.set(xlim=(0, 900), ylim=(760, 0), aspect="equal")
    return fig


def _draw_model(ax: Axes, config: MixerConfig) -> None:
    patch, tokens, channels = config.patch_size, config.num_tokens, config.hidden_dim
    (height, width), pixels = config.image_hw, patch * patch * config.in_channels
    y, under = 120.0, 199.0
    side, gap, left, top = 36.0, 3.0, 24.0, 63.0
    for index, piece in enumerate(landscape()):
        at_x, at_y = left + index % SIDE * (side + gap), top + index // SIDE * (side + gap)
        ax.imshow(
            piece, extent=(at_x, at_x + side, at_y + side, at_y), interpolation="bilinear", zorder=2
        )
    draw_words(ax, left + 57, 40, "image", weight="bold")
    draw_words(
        ax,
        left + 57,
        under,
        f"{height} × {width} × {config.in_channels}\n{patch} × {patch} pixels a patch",
    )
    draw_arrow(ax, 146, 182, y, "cut")
    draw_pieces_beside(ax, 188, y)
    draw_words(ax, 195, 40, "patches", weight="bold")
    draw_words(ax, 195, under, f"S × 3P²\n{tokens} × {pixels}")
    draw_arrow(ax, 206, 225, y)
    draw_box(ax, 227, y, 74, f"Linear\n(stem)\n{pixels} → {channels}\nsame for\nall patches")
    draw_arrow(ax, 303, 321, y)
    draw_pieces_beside(ax, 324, y)
    draw_table(ax, 341, y, column=2, row=6)
    draw_words(ax, 393, 40, "token table", weight="bold")
    draw_words(ax, 393, under, f"S × C\n{tokens} × {channels}")
    draw_words(ax, 449, y - 31, "one channel", color=TOKEN, ha="left", size=8.5)
    draw_words(ax, 449, y + 27, "one token", color=CHANNEL, ha="left", size=8.5)
    draw_arrow(ax, 449, 527, y, "S × C")
    for offset in (8, 4, 0):
        draw_card(
            ax, 529 + offset, y - 46 - offset, 88, 92, "#FFF4CC", "#A67C00", zorder=3 - offset / 10
        )
    draw_words(ax, 573, y, f"{config.num_blocks} ×\nMixer\nblock", size=12, weight="bold")
    draw_arrow(ax, 627, 667, y, "S × C")
    draw_box(ax, 669, y, 24, "LayerNorm", rotation=90)
    draw_arrow(ax, 695, 735, y, "S × C")
    draw_box(ax, 737, y, 38, "mean over\nthe tokens", rotation=90)
    draw_arrow(ax, 777, 813, y, "C", str(channels))
    draw_box(ax, 815, y, 24, "Linear (head)", rotation=90)
    draw_arrow(ax, 841, 872, y)
    draw_words(ax, 836, under, f"scores of\n{config.num_classes:,} classes")
    ax.fill(
        [529, 617, 884, 16],
        [y + 47, y + 47, 236, 236],
        color="#FFF4CC",
        alpha=0.5,
        linewidth=0,
        zorder=0.5,
    )
    draw_card(ax, 16, 226, 868, 500, "#FFFCF0", "#A67C00", zorder=0.6)
    draw_words(ax, 450, 246, "Inside one Mixer block", size=12, weight="bold")


def _draw_token_mixing(ax: Axes, config: MixerConfig) -> None:
    tokens, channels = config.num_tokens, config.hidden_dim
    y, under = 378.0, 454.0
    draw_words(ax, 32, 272, "1  Token mixing", color=TOKEN, size=12, weight="bold", ha="left")
    draw_words(
        ax,
        200,
        272,
        "looks at one channel of all tokens at a time",
        color=TOKEN,
        size=10,
        ha="left",
    )
    draw_pieces_beside(ax, 34, y)
    draw_table(ax, 51, y, column=2)
    draw_words(ax, 103, under, f"S × C = {tokens} × {channels}")
    draw_arrow(ax, 158, 212, y, "   S × C")
    draw_box(ax, 214, y, 24, "LayerNorm", rotation=90)
    draw_arrow(ax, 240, 282, y, "S × C")
    draw_box(ax, 284, y, 24, "transpose", rotation=90)
    draw_arrow(ax, 310, 352, y, "C × S")
    draw_pieces_above(ax, 356, y)
    draw_table(ax, 356, y, row=2, turned=True)
    draw_words(ax, 415, under, f"C × S = {channels} × {tokens}")
    draw_arrow(ax, 477, 519, y, "C × S")
    draw_mlp(ax, 523, y, ("S", "$D_S$", "S"), (tokens, config.tokens_mlp_dim), TOKEN)
    draw_words(ax, 585, 312, "MLP 1", color=TOKEN, weight="bold", size=10.5)
    draw_words(ax, 585, under + 16, f"the same for all {channels} channels", color=TOKEN)
    draw_arrow(ax, 651, 693, y, "C × S")
    draw_box(ax, 695, y, 24, "transpose", rotation=90)
    draw_arrow(ax, 721, 771, y, "S × C")
    draw_skip(ax, 166, 783, y, 291)
    ax.plot(
        [793, 866, 866, 24, 24],
        [y, y, 488, 488, 608],
        color=INK,
        linewidth=1.3,
        solid_joinstyle="round",
    )
    draw_words(ax, 829, y - 13, "S × C", size=8.2)


def _draw_channel_mixing(ax: Axes, config: MixerConfig) -> None:
    tokens, channels = config.num_tokens, config.hidden_dim
    y, under = 608.0, 684.0
    draw_words(ax, 40, 510, "2  Channel mixing", color=CHANNEL, size=12, weight="bold", ha="left")
    draw_words(
        ax,
        230,
        510,
        "looks at all channels of one token at a time",
        color=CHANNEL,
        size=10,
        ha="left",
    )
    draw_arrow(ax, 24, 34, y)
    draw_pieces_beside(ax, 38, y)
    draw_table(ax, 55, y, row=6)
    draw_words(ax, 107, under, f"S × C = {tokens} × {channels}")
    draw_arrow(ax, 162, 242, y, "S × C")
    draw_box(ax, 244, y, 24, "LayerNorm", rotation=90)
    draw_arrow(ax, 270, 352, y, "S × C")
    draw_mlp(ax, 357, y, ("C", "$D_C$", "C"), (channels, config.channels_mlp_dim), CHANNEL)
    draw_words(ax, 419, 544, "MLP 2", color=CHANNEL, weight="bold", size=10.5)
    draw_words(ax, 419, under + 16, f"the same for all {tokens} tokens", color=CHANNEL)
    draw_arrow(ax, 486, 566, y, "S × C")
    draw_skip(ax, 170, 578, y, 528)
    draw_arrow(ax, 589, 660, y, "S × C")
    draw_pieces_beside(ax, 666, y)
    draw_table(ax, 683, y)
    draw_words(ax, 735, under, f"S × C = {tokens} × {channels}")
    draw_arrow(ax, 791, 870, y, "S × C", "next block")
