"""What all models of timm have in common, bare or as the trunk of open_clip's image tower.

Shape legend: B images of a batch, D features.
"""

from __future__ import annotations

from collections.abc import Sequence

from open_clip.timm_model import TimmModel
from timm.models._manipulate import group_with_matcher  # private, read in timm 1.0.31
from torch import Tensor, nn

from cohort.errors import InputError
from vlm.feature_kinds import POOLED, PROJECTED
from vlm.towers.base import Tower


def trunk_of(visual: nn.Module) -> nn.Module:
    """timm's model, without open_clip's projection behind it."""
    return visual.trunk if isinstance(visual, TimmModel) else visual


class TimmTower(Tower):
    @property
    def trunk(self) -> nn.Module:
        return trunk_of(self.visual)

    @property
    def projects(self) -> bool:
        return isinstance(self.visual, TimmModel)

    def _pooled(self, last: Tensor, kinds: Sequence[str]) -> dict[str, list[Tensor]]:
        """`pooled` and `projected` features of what the trunk gives before its head."""
        found = {}
        if not self.projects or self._projects_after_pooling():
            found[POOLED] = [self.trunk.forward_head(last, pre_logits=True)]
        if self.projects and PROJECTED in kinds:
            found[PROJECTED] = [self.visual.head(self.trunk.forward_head(last))]
        return found

    def _projects_after_pooling(self) -> bool:
        """Whether the projection is open_clip's, after the trunk, or the trunk's own classifier."""
        head = self.visual.head
        return not hasattr(head, "pool") and (len(head) > 0 or self.trunk.num_classes > 0)

    def blocks(self) -> tuple[dict[str, int], int]:
        if not hasattr(self.trunk, "group_matcher"):
            raise InputError(
                f"image towers of the class {type(self.trunk).__name__} cannot be fine-tuned: timm does not "
                "number their layers"
            )
        names = [name for name, _ in self.visual.named_parameters()]
        # A name that no pattern matches falls into the group above all blocks.
        above = "?"
        # open_clip's own projection stands above the trunk.
        trunk = [
            name.removeprefix("trunk.") for name in names if not self.projects or name.startswith("trunk.")
        ]
        numbers = group_with_matcher(
            ((name, None) for name in [*trunk, above]), self.trunk.group_matcher(), reverse=True
        )
        top = numbers[above]
        return {name: numbers.get(name.removeprefix("trunk."), top) for name in names}, top
