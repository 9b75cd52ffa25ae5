"""RepViT: a MobileNet whose blocks mix positions first and channels second; RepViT-M1 is EdgeTAM's trunk.

Source: RepViT (https://arxiv.org/abs/2307.09283, section 3, figure 3) and EdgeTAM (https://arxiv.org/abs/2501.07256,
section 3.1). Positions are mixed by a depthwise convolution with two parallel branches, as in RepVGG
(https://arxiv.org/abs/2101.03697, section 3.2): `norms.without_batch_norms` makes one convolution of the three.
Parameter names and shapes are those of EdgeTAM's checkpoint, below `image_encoder.trunk`. RepViT-SAM's encoder has the
same blocks (`repvit_sam_encoder`).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .tiny_vit import ConvNorm

WIDTHS = (48, 96, 192, 384)
DEPTHS = (2, 2, 14, 2)
EXPANSION = 2
SQUEEZE = 4  # channels of a block, divided by those of its squeeze-and-excitation, before rounding
ROUNDING = 8


class BranchedConv(nn.Module):
    """A depthwise 3 x 3 convolution, beside a depthwise 1 x 1 convolution and the input itself.

    Attributes:
        conv: the 3 x 3 convolution; after `norms.fold_batch_norms`, all three.
        conv1: the 1 x 1 convolution; None after `norms.fold_batch_norms`.
        bn: normalizes the sum, where the 1 x 1 convolution has no normalization; None elsewhere and after
            `norms.fold_batch_norms`.
    """

    def __init__(self, channels: int, *, norm_behind: bool = False) -> None:
        super().__init__()
        self.conv = ConvNorm(channels, channels, 3, groups=channels)
        self.conv1: nn.Conv2d | ConvNorm | None = (
            nn.Conv2d(channels, channels, kernel_size=1, groups=channels)
            if norm_behind
            else ConvNorm(channels, channels, 1, groups=channels)
        )
        self.bn = nn.BatchNorm2d(channels) if norm_behind else None

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to the same shape."""
        out: Tensor = self.conv(x)
        if self.conv1 is not None:
            out = out + self.conv1(x) + x
        return out if self.bn is None else self.bn(out)


class SqueezeExcite(nn.Module):
    """Scales each channel by a number in 0..1, computed of all channels' means (https://arxiv.org/abs/1709.01507)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = (channels // SQUEEZE + ROUNDING // 2) // ROUNDING * ROUNDING
        self.fc1 = nn.Conv2d(channels, hidden, kernel_size=1)
        self.fc2 = nn.Conv2d(hidden, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to the same shape."""
        scales: Tensor = self.fc2(self.fc1(x.mean(dim=(2, 3), keepdim=True)).relu())
        return x * scales.sigmoid()


class ChannelMixer(nn.Module):
    """Two 1 x 1 convolutions with a GELU between them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(channels, EXPANSION * channels, 1)
        self.conv2 = ConvNorm(EXPANSION * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to the same shape."""
        out: Tensor = self.conv2(F.gelu(self.conv1(x)))
        return out


class RepViTBlock(nn.Module):
    """Mixes positions, then channels; `squeeze` scales channels in between."""

    def __init__(self, channels: int, *, squeeze: bool, norm_behind: bool = False) -> None:
        super().__init__()
        self.token_mixer = BranchedConv(channels, norm_behind=norm_behind)
        self.se = SqueezeExcite(channels) if squeeze else None
        self.channel_mixer = ChannelMixer(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to the same shape."""
        x = self.token_mixer(x)
        if self.se is not None:
            x = self.se(x)
        out: Tensor = x + self.channel_mixer(x)
        return out


class Downsample(nn.Module):
    """Between two stages: the resolution divided by `stride`, and the next stage's channels."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 2, *, pre_block: bool = True) -> None:
        super().__init__()
        self.pre_block = RepViTBlock(channels_in, squeeze=False) if pre_block else None
        self.spatial_downsample = ConvNorm(channels_in, channels_in, 3, stride, groups=channels_in)
        self.channel_downsample = ConvNorm(channels_in, channels_out, 1)
        self.ffn = ChannelMixer(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, channels_in, H, W)` to `(B, channels_out, H/stride, W/stride)`."""
        if self.pre_block is not None:
            x = self.pre_block(x)
        x = self.channel_downsample(self.spatial_downsample(x))
        out: Tensor = x + self.ffn(x)
        return out


def squeezes(place: int, depth: int) -> bool:
    """Whether a stage's block at `place` of `depth` scales its channels: every second does, but not the last."""
    return place % 2 == 0 and place < depth - 1


class Stage(nn.Module):
    """Blocks of one width, of which every second scales its channels; before them `downsample`, but in the first."""

    def __init__(self, index: int) -> None:
        super().__init__()
        width = WIDTHS[index]
        self.downsample = Downsample(WIDTHS[index - 1], width) if index else None
        self.blocks = nn.ModuleList(
            RepViTBlock(width, squeeze=squeezes(place, DEPTHS[index])) for place in range(DEPTHS[index])
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map the output of the stage before to `(B, C, H, W)` of this stage's width and resolution."""
        if self.downsample is not None:
            x = self.downsample(x)
        for block in self.blocks:
            x = block(x)
        return x


class Stem(nn.Module):
    """Two strided convolutions: a quarter of the resolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(3, channels // 2, 3, 2)
        self.conv2 = ConvNorm(channels // 2, channels, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, 3, H, W)` to `(B, channels, H/4, W/4)`."""
        out: Tensor = self.conv2(F.gelu(self.conv1(x)))
        return out


class RepViT(nn.Module):
    """Normalized photo `(B, 3, H, W)` to the outputs of the four stages, at strides 4, 8, 16 and 32.

    Attributes:
        widths: channels of the four outputs.
    """

    def __init__(self) -> None:
        super().__init__()
        self.widths: tuple[int, ...] = WIDTHS
        stages = {f"stages_{index}": Stage(index) for index in range(len(WIDTHS))}
        self.body = nn.ModuleDict({"stem": Stem(WIDTHS[0]), **stages})

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Encode photos whose sides are multiples of 32.

        Returns:
            Four maps `(B, widths[i], H/s, W/s)` with s = 4, 8, 16, 32.
        """
        stem, *stages = self.body.values()
        x = stem(x)
        outputs = []
        for stage in stages:
            x = stage(x)
            outputs.append(x)
        return tuple(outputs)
