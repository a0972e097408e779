"""The switches have the settings that their names promise, for each system its own."""

from dataclasses import fields

import pytest

from models.fidelity import Fidelity

CLIP_AD = {"taps_share_buffers", "gelu_when_resized", "unshuffled_training"}
DP_CLIP = {"gelu_always", "grn_over_batch", "resume_starts_anew", "repeated_prototype_update"}


@pytest.mark.parametrize("system, switches", [("clip_ad", CLIP_AD), ("dp_clip", DP_CLIP)])
def test_released_turns_on_the_switches_of_its_system(system, switches):
    released = Fidelity.named("released", system)
    assert {field.name for field in fields(Fidelity) if getattr(released, field.name)} == switches
    assert Fidelity.named("corrected", system) == Fidelity()


def test_every_switch_belongs_to_a_system():
    assert {field.name for field in fields(Fidelity)} == CLIP_AD | DP_CLIP
