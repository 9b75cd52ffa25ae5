"""Small graphs to export."""

from __future__ import annotations

from torch import Tensor, nn

from tests.model.builders import seed


class OneLayer(nn.Module):
    """`x (B, 64)` to `y (B, width)`."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.layer = nn.Linear(64, width)
        seed(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class Crashing(OneLayer):
    """Fails with an error of two lines."""

    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("the cause\nand more of it")
