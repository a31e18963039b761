"""What the model cannot see: orders of patches and pixels, and the weights that undo them."""

import pytest
import torch

from mixer import MixerConfig, MlpMixer
from mixer.lessons import analysis

# 4 x 6 patches
CONFIG = MixerConfig(4, 3, 24, 10, 32, num_classes=7, image_size=(16, 24))


def trained_like(dtype: torch.dtype = torch.float64) -> MlpMixer:
    """A model with no zero and no symmetric weight left, as after training."""
    torch.manual_seed(0)
    model = MlpMixer(CONFIG).to(dtype)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def images(dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.rand(3, 3, 16, 24, generator=torch.Generator().manual_seed(1), dtype=dtype) * 2 - 1


PATCHES = analysis.random_order(24, 2)
PIXELS = analysis.random_order(16, 3)


def test_patches_are_moved_whole() -> None:
    x = images()
    moved = analysis.permute_patches(x, PATCHES, 4)
    for place, source in enumerate(PATCHES.tolist()):
        (row, column), (from_row, from_column) = divmod(place, 6), divmod(source, 6)
        got = moved[..., row * 4 : row * 4 + 4, column * 4 : column * 4 + 4]
        assert torch.equal(
            got, x[..., from_row * 4 : from_row * 4 + 4, from_column * 4 : from_column * 4 + 4]
        )


def test_pixels_stay_inside_their_patch() -> None:
    x = images()
    moved = analysis.permute_within_patches(x, PIXELS, 4)
    for top in range(0, 16, 4):
        for left in range(0, 24, 4):
            before = x[..., top : top + 4, left : left + 4].flatten(2)
            assert torch.equal(
                moved[..., top : top + 4, left : left + 4].flatten(2), before[..., PIXELS]
            )


def test_colours_of_a_pixel_stay_together() -> None:
    x = images()
    order = analysis.random_order(16 * 24, 5)
    moved = analysis.permute_pixels(x, order)
    assert torch.equal(moved[:, :, 2, 3], x[:, :, order[2 * 24 + 3] // 24, order[2 * 24 + 3] % 24])


def test_tokens_are_numbered_as_the_model_numbers_them() -> None:
    model, x = trained_like(), images()
    moved = model.embed(analysis.permute_patches(x, PATCHES, 4))
    assert torch.equal(moved, model.embed(x)[:, PATCHES])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
@pytest.mark.parametrize("pixels", [None, PIXELS])
def test_permuted_weights_undo_the_shuffle(
    dtype: torch.dtype, tolerance: float, pixels: torch.Tensor | None
) -> None:
    model, x = trained_like(dtype), images(dtype)
    shuffled = analysis.permute_pixels(x, analysis.patch_order((16, 24), 4, PATCHES, pixels))
    logits = model(x)
    scale = logits.abs().max()
    again = analysis.permute_tokens(model, PATCHES, pixels)(shuffled)
    assert (again - logits).abs().max() / scale < tolerance
    # The shuffle matters to the model as it was
    assert (model(shuffled) - logits).abs().max() / scale > 1e-2


@pytest.mark.parametrize(
    "forgotten", ["token_mixing.fc1.weight", "token_mixing.fc2.weight", "token_mixing.fc2.bias"]
)
def test_each_of_the_three_is_needed_for_the_same_tokens(forgotten: str) -> None:
    model, x = trained_like(), images()
    moved = analysis.permute_patches(x, PATCHES, 4)
    permuted = analysis.permute_tokens(model, PATCHES)
    expected = model.block_outputs(x)[-1][:, PATCHES]  # (B, S, C)
    assert (permuted.block_outputs(moved)[-1] - expected).abs().max() < 1e-13
    for name, parameter in permuted.named_parameters():
        if name.endswith(forgotten):
            parameter.data.copy_(model.get_parameter(name))
    assert (permuted.block_outputs(moved)[-1] - expected).abs().max() > 1e-3


def test_the_second_token_mixing_bias_never_reaches_the_logits() -> None:
    # It adds one number to all channels of a token, and every LayerNorm after it takes that out
    # again.
    model, x = trained_like(), images()
    logits, tokens = model(x), model.block_outputs(x)[-1]
    for block in model.blocks:
        torch.nn.init.normal_(block.token_mixing.fc2.bias)
    assert (model.block_outputs(x)[-1] - tokens).abs().max() > 1e-1
    assert (model(x) - logits).abs().max() < 1e-13


def test_the_model_given_is_left_alone() -> None:
    model = trained_like()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    analysis.permute_tokens(model, PATCHES, PIXELS)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_orders_compose_and_undo() -> None:
    x = images()
    moved = analysis.permute_patches(x, PATCHES, 4)
    assert not torch.equal(moved, x)
    assert torch.equal(analysis.permute_patches(moved, PATCHES.argsort(), 4), x)


def test_training_on_shuffled_images_is_training_permuted_weights() -> None:
    x, y = images(), torch.tensor([0, 3, 5])
    order = analysis.patch_order((16, 24), 4, PATCHES, PIXELS)
    plain = trained_like()
    twin = analysis.Shuffled(analysis.permute_tokens(plain, PATCHES, PIXELS), order)
    losses: list[list[float]] = []
    for model in (plain, twin):
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        losses.append([])
        for _ in range(5):
            loss = torch.nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[-1].append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)
    assert losses[0][0] > losses[0][-1] > 0


def test_shuffled_shows_the_model_other_pixels() -> None:
    model, x = trained_like(), images()
    order = analysis.shuffle_order("all pixels", (16, 24), 4, seed=4)
    assert torch.equal(analysis.Shuffled(model, order)(x), model(analysis.permute_pixels(x, order)))
    assert set(analysis.Shuffled(model, order).state_dict()) == {
        f"model.{name}" for name in model.state_dict()
    }


@pytest.mark.parametrize("kind", analysis.SHUFFLES)
def test_kinds_of_shuffle(kind: str) -> None:
    order = analysis.shuffle_order(kind, (16, 24), 4, seed=4)
    assert torch.equal(order.sort().values, torch.arange(16 * 24))
    assert torch.equal(order, analysis.shuffle_order(kind, (16, 24), 4, seed=4))
    if kind == "original":
        assert torch.equal(order, torch.arange(16 * 24))
        return
    assert not torch.equal(order, analysis.shuffle_order(kind, (16, 24), 4, seed=5))
    patch_of = torch.arange(16 * 24).view(16, 24) // 24 // 4 * 6 + torch.arange(24) // 4
    groups = patch_of.flatten()[order].view(4, 4, 6, 4).permute(0, 2, 1, 3).reshape(24, 16)
    # Do pixels of a patch still share a patch?
    together = bool((groups == groups[:, :1]).all())
    assert together == (kind == "patches and pixels inside")


@pytest.mark.parametrize("pixels", [-3, 0, 2])
def test_shifted_images(pixels: int) -> None:
    x = images()
    shifted = analysis.shift_images(x, pixels)
    for column in range(24):
        assert torch.equal(shifted[..., column], x[..., min(max(column - pixels, 0), 23)])


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: analysis.permute_pixels(images(), torch.arange(9)), "order"),
        (
            lambda: analysis.permute_patches(images(), torch.zeros(24, dtype=torch.int64), 4),
            "patches",
        ),
        (lambda: analysis.permute_within_patches(images(), torch.arange(15), 4), "pixels"),
        (lambda: analysis.permute_patches(images(), PATCHES, 5), "image"),
        (lambda: analysis.permute_tokens(trained_like(), torch.arange(25)), "patches"),
        (lambda: analysis.permute_tokens(trained_like(), PATCHES, torch.arange(9)), "pixels"),
        (lambda: analysis.shuffle_order("rows", (16, 24), 4), "kind"),
        (lambda: analysis.shift_images(images(), 24), "pixels"),
    ],
)
def test_bad_input_is_named(call: object, name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: expected"):
        call()  # type: ignore[operator]
