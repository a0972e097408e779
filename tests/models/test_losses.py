"""The decoupling loss and its prototypes, against their definition written out."""

import pytest
import torch
import torch.nn.functional as F

from models.losses import MomentumPrototypes, decoupling_loss, state_means, token_labels


def unit_rows(seed: int, *shape: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_a_token_has_the_label_of_its_nearest_pixel():
    masks = torch.zeros(1, 6, 6, dtype=torch.bool)
    masks[0, 2, 4] = True  # the pixel that stands for row 1, column 2 on a grid of three
    masks[0, 5, 5] = True  # stands for none
    assert token_labels(masks, 3)[0].nonzero().ravel().tolist() == [5]


def test_means_are_taken_over_all_tokens_of_the_batch():
    tokens = unit_rows(0, 2, 4, 3)
    anomalous = torch.tensor([[True, False, False, True], [False, False, True, False]])
    vn, va = state_means(tokens, anomalous)
    expected = (tokens[0, 0] + tokens[0, 3] + tokens[1, 2]) / 3
    assert torch.allclose(va, expected / expected.norm())
    expected = (tokens[0, 1] + tokens[0, 2] + tokens[1, 0] + tokens[1, 1] + tokens[1, 3]) / 5
    assert torch.allclose(vn, expected / expected.norm())


@pytest.mark.parametrize("anomalous", [True, False])
def test_tokens_of_one_kind_have_no_means(anomalous):
    assert state_means(unit_rows(0, 2, 4, 3), torch.full((2, 4), anomalous)) is None


def test_each_state_is_compared_with_the_others_prototype():
    (vn, va), (pn, pa) = means, prototypes = unit_rows(1, 2, 5), unit_rows(2, 2, 5)
    assert float(decoupling_loss(means, None)) == pytest.approx(float(va @ vn) ** 2)
    expected = (float(va @ pn) ** 2 + float(vn @ pa) ** 2) / 2
    assert float(decoupling_loss(means, prototypes)) == pytest.approx(expected)


def test_prototypes_start_as_the_first_means_and_follow_the_last():
    first, second, third = (unit_rows(seed, 2, 5) for seed in (1, 2, 3))
    prototypes = MomentumPrototypes(0.9)
    prototypes.update()
    assert prototypes.values is None
    prototypes.see(first)
    prototypes.see(second)  # of another tap
    assert torch.equal(prototypes.values, first)
    prototypes.update()
    once = F.normalize(0.9 * first + 0.1 * second, dim=-1)
    assert torch.allclose(prototypes.values, once)
    prototypes.see(third)
    assert torch.allclose(prototypes.values, once)
    prototypes.update()
    assert torch.allclose(prototypes.values, F.normalize(0.9 * once + 0.1 * third, dim=-1))


@pytest.mark.parametrize("repeat_update", [True, False])
def test_a_batch_without_both_kinds_repeats_the_last_update_in_released_fidelity_only(repeat_update):
    prototypes = MomentumPrototypes(0.9, repeat_update=repeat_update)
    prototypes.see(unit_rows(1, 2, 5))
    prototypes.see(unit_rows(2, 2, 5))
    prototypes.update()
    before = prototypes.values
    prototypes.update()
    assert torch.equal(prototypes.values, before) != repeat_update


def test_prototypes_take_no_gradients():
    means = unit_rows(1, 2, 5).requires_grad_()
    prototypes = MomentumPrototypes(0.9)
    prototypes.see(means)
    prototypes.update()
    assert not prototypes.values.requires_grad


def test_prototypes_go_on_from_their_state():
    one, other = (MomentumPrototypes(0.9, repeat_update=True) for _ in range(2))
    one.see(unit_rows(1, 2, 5))
    one.see(unit_rows(2, 2, 5))
    other.load_state_dict(one.state_dict())
    one.update()
    other.update()
    assert torch.equal(one.values, other.values)
