"""What the model cannot see: orders of patches and pixels, and the weights that undo them."""

import pytest
import torch

from mixer import MixerConfig, MlpMixer
from mixer.lessons import analysis

# 4 × 6 patches
CONFIG = MixerConfig(4, 3, 24, 10, 32, num_classes=7, image_size=(16, 24))
PATCHES = analysis.random_order(24, 2)
PIXELS = analysis.random_order(16, 3)


def trained_like(dtype: torch.dtype = torch.float64) -> MlpMixer:
    """A model with no zero and no symmetric weight left, as after training."""
    torch.manual_seed(0)
    model = MlpMixer(CONFIG).to(dtype)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def images(dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.rand(3, 3, 16, 24, generator=torch.Generator().manual_seed(1), dtype=dtype) * 2 - 1


def test_patches_move_whole_and_pixels_inside_them() -> None:
    x = images()
    order = analysis.patch_order((16, 24), 4, PATCHES, PIXELS)
    moved = analysis.permute_pixels(x, order)
    only_patches = analysis.permute_pixels(x, analysis.patch_order((16, 24), 4, PATCHES))
    only_pixels = analysis.permute_pixels(x, analysis.patch_order((16, 24), 4, pixels=PIXELS))
    for place, source in enumerate(PATCHES.tolist()):
        new, old = (
            (
                ...,
                slice(patch // 6 * 4, patch // 6 * 4 + 4),
                slice(patch % 6 * 4, patch % 6 * 4 + 4),
            )
            for patch in (place, source)
        )
        assert torch.equal(only_patches[new], x[old])
        assert torch.equal(only_pixels[new].flatten(2), x[new].flatten(2)[..., PIXELS])
        assert torch.equal(moved[new].flatten(2), x[old].flatten(2)[..., PIXELS])
    assert torch.equal(analysis.patch_order((16, 24), 4), torch.arange(16 * 24))


def test_random_orders() -> None:
    assert torch.equal(PATCHES.sort().values, torch.arange(24))
    assert torch.equal(PATCHES, analysis.random_order(24, 2))
    assert not torch.equal(PATCHES, analysis.random_order(24, 3))


def test_an_order_is_split_into_the_two_that_made_it() -> None:
    split = analysis.split_order(analysis.patch_order((16, 24), 4, PATCHES, PIXELS), (16, 24), 4)
    assert split is not None
    assert torch.equal(split[0], PATCHES) and torch.equal(split[1], PIXELS)


@pytest.mark.parametrize(
    ("move", "undone"),
    [
        (lambda place: place.flip(1), True),
        (lambda place: place.flip(0, 1), True),
        (lambda place: place.roll(8, 1), True),
        (lambda place: place.roll(4, 0), True),
        (lambda place: place.roll(2, 1), False),
        (lambda place: place.roll(2, 0), False),
    ],
)
def test_which_moves_are_undone(move, undone) -> None:
    order = move(torch.arange(16 * 24).view(16, 24)).flatten()
    split = analysis.split_order(order, (16, 24), 4)
    assert (split is not None) == undone
    if split is not None:
        model, x = trained_like(), images()
        again = analysis.permute_tokens(model, *split)(analysis.permute_pixels(x, order))
        torch.testing.assert_close(again, model(x))


def test_pixels_that_move_in_one_patch_only_are_not_undone() -> None:
    order = torch.arange(16 * 24)
    order[[0, 1]] = order[[1, 0]]
    assert analysis.split_order(order, (16, 24), 4) is None


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
@pytest.mark.parametrize("pixels", [None, PIXELS])
def test_permuted_weights_undo_the_shuffle(
    dtype: torch.dtype, tolerance: float, pixels: torch.Tensor | None
) -> None:
    model, x = trained_like(dtype), images(dtype)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    moved = analysis.permute_pixels(x, analysis.patch_order((16, 24), 4, PATCHES, pixels))
    logits, undone = model(x), analysis.permute_tokens(model, PATCHES, pixels)
    scale = logits.abs().max()
    assert (undone(moved) - logits).abs().max() / scale < tolerance
    assert (model(moved) - logits).abs().max() / scale > 1e-2
    # The logits would not tell whether the bias has moved; the tokens do.
    expected = model.block_outputs(x)[-1][:, PATCHES]  # (B, S, C)
    torch.testing.assert_close(undone.block_outputs(moved)[-1], expected)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_shuffled_shows_the_model_other_pixels() -> None:
    model, x = trained_like(), images()
    order = analysis.shuffle_order("all pixels", (16, 24), 4, seed=4)
    shuffled = analysis.Shuffled(model, order)
    assert torch.equal(shuffled(x), model(analysis.permute_pixels(x, order)))
    assert shuffled.config is model.config
    assert set(shuffled.state_dict()) == {f"model.{name}" for name in model.state_dict()}


def test_the_three_kinds_of_shuffle() -> None:
    size = ((16, 24), 4)
    orders = {kind: analysis.shuffle_order(kind, *size, seed=4) for kind in analysis.SHUFFLES}
    assert torch.equal(orders["original"], torch.arange(16 * 24))
    assert torch.equal(orders["all pixels"], analysis.random_order(16 * 24, 4))
    patches, pixels = analysis.random_order(24, 4), analysis.random_order(16, 5)
    inside = analysis.patch_order(*size, patches, pixels)
    assert torch.equal(orders["patches and pixels inside"], inside)
    default = analysis.shuffle_order("all pixels", *size)
    assert torch.equal(default, analysis.random_order(16 * 24, 0))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: analysis.permute_pixels(images(), torch.arange(9)), "order"),
        (lambda: analysis.permute_pixels(images(), torch.arange(384).view(1, -1)), "order"),
        (lambda: analysis.patch_order((16, 24), 4, torch.zeros(24, dtype=torch.int64)), "patches"),
        (lambda: analysis.patch_order((16, 24), 4, pixels=torch.arange(15)), "pixels"),
        (lambda: analysis.permute_tokens(trained_like(), torch.arange(25)), "patches"),
        (lambda: analysis.permute_tokens(trained_like(), PATCHES, torch.arange(9)), "pixels"),
        (lambda: analysis.shuffle_order("rows", (16, 24), 4), "kind"),
    ],
)
def test_bad_input_is_named(call, name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: expected"):
        call()
