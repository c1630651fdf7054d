"""Shape legend: B images, H height, W width, C channels."""

import dataclasses

import pytest
import torch

from trainables.augmentation import STRONGEST, Augmentation, Draw, distort, draw

IDENTITY_23 = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def images(batch: int = 3, size: int = 16, channels: int = 1, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, size, size, channels), dtype=torch.uint8, generator=generator)


def one(affine_23=IDENTITY_23, gamma=1.0, contrast=1.0, brightness=0.0) -> Draw:
    return Draw(
        torch.as_tensor(affine_23, dtype=torch.float32)[None],
        torch.tensor([gamma]),
        torch.tensor([contrast]),
        torch.tensor([brightness]),
    )


def test_no_change_gives_the_image_back():
    images_BHWC = images()
    drawn = draw(Augmentation(), 3, torch.Generator().manual_seed(0))
    torch.testing.assert_close(distort(images_BHWC, drawn), images_BHWC.float(), atol=1e-3, rtol=0)
    assert Augmentation().changes_nothing
    assert not Augmentation(shift=0.1).changes_nothing


def test_a_shift_by_whole_pixels_moves_the_image_and_leaves_black_behind():
    image_1HWC = images(batch=1)
    # Column j shows what was at j + 3: a shift of 3 / 16 of the side, 2 * 3 / 16 in places from -1 to 1.
    moved_HW = distort(image_1HWC, one([[1, 0, 2 * 3 / 16], [0, 1, 0]]))[0, :, :, 0]
    torch.testing.assert_close(moved_HW[:, :13], image_1HWC[0, :, 3:, 0].float(), atol=1e-2, rtol=0)
    assert (moved_HW[:, 13:].abs() < 1e-2).all()


def test_a_quarter_turn_is_the_quarter_turn_of_the_array():
    image_1HWC = images(batch=1)
    turned_HWC = distort(image_1HWC, one([[0, -1, 0], [1, 0, 0]]))[0]
    # The new right (x = 1, y = 0) shows the old bottom (x = 0, y = 1), counted downwards.
    torch.testing.assert_close(
        turned_HWC, torch.rot90(image_1HWC[0], k=1, dims=(0, 1)).float(), atol=1e-2, rtol=0
    )


def test_intensities_by_hand():
    # Gray values 0.2 and 0.6 of the range, half of the pixels each; mean 0.4.
    image_1HWC = torch.tensor([51, 153], dtype=torch.uint8).repeat(8, 4)[None, :, :, None]

    def values(**change) -> list[float]:
        return sorted(
            {round(value, 3) for value in (distort(image_1HWC, one(**change)) / 255).flatten().tolist()}
        )

    assert values(gamma=2.0) == [0.04, 0.36]
    assert values(contrast=1.5) == [0.1, 0.7]
    assert values(brightness=0.1) == [0.3, 0.7]
    assert values(contrast=8.0) == [0.0, 1.0]


@pytest.mark.parametrize("side", [1, -1])
def test_draws_stay_within_their_ranges_and_reach_for_them(side):
    augmentation = Augmentation(rotation=10, shift=0.05, scale=0.5, gamma=1, contrast=2, brightness=0.1)
    drawn = draw(augmentation, 4000, torch.Generator().manual_seed(1))
    zoom_B = 1 / drawn.affine_B23[:, :, 0].norm(dim=1)
    angle_B = torch.atan2(drawn.affine_B23[:, 1, 0], drawn.affine_B23[:, 0, 0]).rad2deg()
    shift_B = drawn.affine_B23[:, 0, 2] / 2
    for value_B, limit in [
        (angle_B, 10),
        (shift_B, 0.05),
        (zoom_B.log2(), 0.5),
        (drawn.gamma_B.log2(), 1),
        (drawn.contrast_B.log2(), 2),
        (drawn.brightness_B, 0.1),
    ]:
        assert 0.98 * limit < (side * value_B).max() <= limit * 1.0001


def test_rotation_and_scale_do_not_shear():
    drawn = draw(Augmentation(rotation=30, scale=0.5), 100, torch.Generator().manual_seed(0))
    columns_B22 = drawn.affine_B23[:, :, :2]
    assert (columns_B22[:, :, 0] * columns_B22[:, :, 1]).sum(1).abs().max() < 1e-6
    torch.testing.assert_close(columns_B22[:, :, 0].norm(dim=1), columns_B22[:, :, 1].norm(dim=1))


def test_images_are_never_upside_down_and_mirrored_only_when_asked():
    drawn = draw(STRONGEST, 1000, torch.Generator().manual_seed(0))
    assert (drawn.affine_B23[:, 0, 0] > 0).all()
    assert (drawn.affine_B23[:, 1, 1] > 0).all()
    mirrored = draw(Augmentation(horizontal_flip=True), 1000, torch.Generator().manual_seed(0))
    assert 400 < (mirrored.affine_B23[:, 0, 0] < 0).sum() < 600
    assert (mirrored.affine_B23[:, 1, 1] > 0).all()
    image_1HWC = images(batch=1)
    flipped_1HWC = distort(image_1HWC, mirrored[(mirrored.affine_B23[:, 0, 0] < 0).nonzero()[0]])
    torch.testing.assert_close(flipped_1HWC, image_1HWC.flip(2).float(), atol=1e-2, rtol=0)


def test_strength_scales_every_range():
    half = STRONGEST.scaled(0.5)
    assert dataclasses.asdict(half) == pytest.approx(
        {"rotation": 5, "shift": 0.025, "scale": 0.075, "gamma": 0.2, "contrast": 0.2, "brightness": 0.05}
        | {"horizontal_flip": False}
    )
    assert STRONGEST.scaled(0).changes_nothing
    assert dataclasses.replace(STRONGEST, horizontal_flip=True).scaled(0.1).horizontal_flip


def test_the_same_seed_gives_the_same_images_and_the_next_draw_others():
    images_BHWC = images()
    first, second = (torch.Generator().manual_seed(5) for _ in range(2))
    one_BHWC = distort(images_BHWC, draw(STRONGEST, 3, first))
    assert torch.equal(one_BHWC, distort(images_BHWC, draw(STRONGEST, 3, second)))
    assert not torch.equal(one_BHWC, distort(images_BHWC, draw(STRONGEST, 3, first)))


def test_images_are_distorted_one_by_one():
    images_BHWC = images(batch=5)
    drawn = draw(STRONGEST, 5, torch.Generator().manual_seed(2))
    whole_BHWC = distort(images_BHWC, drawn)
    parts = [distort(images_BHWC[i : i + 2], drawn[i : i + 2]) for i in range(0, 5, 2)]
    torch.testing.assert_close(torch.cat(parts), whole_BHWC, atol=1e-3, rtol=0)


def test_a_gray_image_is_distorted_like_the_same_image_in_rgb():
    gray_BHWC = images()
    drawn = draw(STRONGEST, 3, torch.Generator().manual_seed(3))
    rgb_BHWC = distort(gray_BHWC.expand(-1, -1, -1, 3), drawn)
    torch.testing.assert_close(rgb_BHWC, distort(gray_BHWC, drawn).expand(-1, -1, -1, 3), atol=1e-3, rtol=0)
    assert rgb_BHWC.min() >= 0 and rgb_BHWC.max() <= 255


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_a_range_that_is_none_is_refused(value):
    with pytest.raises(ValueError, match="shift must be finite and at least 0"):
        Augmentation(shift=value)
