"""Stage `text`: SAM's text prompt, trained as in the paper, without a single text.

Source: "Segment Anything" (https://arxiv.org/abs/2304.02643, appendix D.5). The first prompt of a session is CLIP's
image embedding of the mask's own crop: the mask's box, enlarged 1 to 2 times and made square, with the background set
to zero half of the time, and CLIP's last attention restricted to the mask. Points follow, as in SAM's own training.
CLIP is frozen. In use, the prompt is CLIP's embedding of a text: the two encoders are aligned, so words reach masks
that no training named.

The paper leaves out masks below 100 x 100 pixels; a recipe's `min_area` does so here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from sam_edge.model import Sam
from sam_edge.model.clip import Clip
from sam_edge.model.graphs import TextDecoderGraph
from sam_edge.model.text_token import add_text_token
from sam_edge.prompting.simulation import PhotoGenerators, TrainingPrompts, tight_boxes
from sam_edge_runtime.bundle.contract import MASK_STRIDE, Label

from .batch import Batch
from .losses import LossRecipe
from .objective import MaskObjective, Purpose, SessionRecipe, seeded_generator

ENLARGE = (1.0, 2.0)  # range of the crop's side, in sides of the box
ZEROED = 0.5  # share of crops whose background is set to zero
SLOTS = 2  # of a first prompt, both empty
OVERSAMPLING = 2  # samples of a crop's pixel along each axis, which are averaged
CHUNK = 64  # crops that CLIP sees at once


@dataclass(frozen=True)
class TextPrompts(TrainingPrompts):
    """Prompts with a text embedding each.

    Attributes:
        text_embeddings: `(B, D)` unit vectors.
        has_text: `(B)` 1 where the embedding counts, else 0.
    """

    text_embeddings: Tensor
    has_text: Tensor

    def __getitem__(self, part: slice) -> TextPrompts:
        return TextPrompts(*(tensor[part] for tensor in self.decoder_inputs))

    @property
    def decoder_inputs(self) -> tuple[Tensor, ...]:  # type: ignore[override]  # two more
        """The decoder's inputs after the embedding, in the contract's order."""
        return *super().decoder_inputs, self.text_embeddings, self.has_text


class TextObjective(MaskObjective):
    """Sessions that begin with CLIP's embedding of the mask.

    The single mask is trained on the text alone, too, because a text is asked for one mask.
    """

    def __init__(self, sam: Sam, clip: Clip, losses: LossRecipe, session: SessionRecipe, seed: int) -> None:
        """Give the model a text token, if it has none.

        Args:
            sam: the model that is trained.
            clip: embeds the crops; it is not changed.
            losses: of the masks.
            session: of prompts.
            seed: of everything random.
        """
        add_text_token(sam, clip.config.dim)
        super().__init__(sam, losses, replace(session, single_always=True), seed)
        self.decoder, self.sharing = TextDecoderGraph(sam), None
        # In a tuple, so that CLIP is no submodule: neither trained, averaged nor saved.
        self._clip = (clip.requires_grad_(requires_grad=False).eval(),)

    def _first_prompts(self, batch: Batch, generators: PhotoGenerators) -> TrainingPrompts:
        """CLIP's embeddings of the masks; `embed` draws the crops."""
        vectors = self.embed(batch)
        count, cells = len(vectors), batch.side // MASK_STRIDE
        return TextPrompts(
            coords=vectors.new_zeros(count, SLOTS, 2),
            labels=vectors.new_full((count, SLOTS), float(Label.EMPTY)),
            mask_input=vectors.new_zeros(count, 1, cells, cells),
            has_mask_input=vectors.new_zeros(count),
            text_embeddings=vectors,
            has_text=vectors.new_ones(count),
        )

    @torch.no_grad()
    def embed(self, batch: Batch) -> Tensor:
        """CLIP's unit vectors `(sum of M, D)` of all masks' crops."""
        (clip,) = self._clip
        clip.to(batch.images.device)
        draws = [seeded_generator(self.seed, Purpose.CROPS, number) for number in batch.numbers]
        vectors = []
        for photo, (masks, draw) in enumerate(zip(batch.masks, draws, strict=True)):
            factors, zeroed = (torch.rand(len(masks), generator=draw).to(masks.device) for _ in range(2))
            factors = ENLARGE[0] + (ENLARGE[1] - ENLARGE[0]) * factors
            for part in torch.split(torch.arange(len(masks)), CHUNK):
                crops, inside = clip_crops(
                    batch.images[photo], batch.valid[photo], masks[part], clip, factors[part], zeroed[part] < ZEROED
                )
                vectors.append(clip.encode_image(crops, inside))
        return torch.cat(vectors).float()


def clip_crops(
    image: Tensor, valid: Tensor, masks: Tensor, clip: Clip, factors: Tensor, zeroed: Tensor
) -> tuple[Tensor, Tensor]:
    """Square crops around masks, normalized for CLIP.

    Args:
        image: `(3, S, S)` RGB in 0..255.
        valid: `(S, S)` bool, true where the frame shows photo; the rest becomes zero.
        masks: `(M, S, S)` bool, none empty.
        clip: says how large crops are, and how they are normalized.
        factors: `(M)` sides of the crops in longer sides of the masks' boxes.
        zeroed: `(M)` bool, whether pixels outside of the mask become zero.

    Returns:
        `(M, 3, side, side)` normalized crops, zero outside of the photo, and `(M, patches)` 1 where a patch has a pixel
        of the mask, else 0.
    """
    config, size = clip.config, image.shape[-1]
    mean, std = (image.new_tensor(each).reshape(3, 1, 1) for each in (config.mean, config.std))
    normalized = (image / 255.0 - mean) / std * valid
    corners = tight_boxes(masks, size).reshape(-1, 2, 2)
    centres = corners.mean(dim=1) + 0.5  # (M, 2) x, y; corners are pixels, and inclusive
    sides = (corners[:, 1] - corners[:, 0] + 1.0).amax(dim=1) * factors
    fine = config.side * OVERSAMPLING
    steps = (torch.arange(fine, device=image.device) + 0.5) / fine - 0.5
    places = centres[:, :, None] + steps * sides[:, None, None]  # (M, 2, fine) x and y of columns and rows
    x, y = (2.0 * places / size - 1.0).unbind(dim=1)
    grid = torch.stack(
        [x[:, None, :].expand(-1, fine, -1), y[:, :, None].expand(-1, -1, fine)], dim=-1
    )  # (M, fine, fine, 2)
    both = torch.cat([normalized.expand(len(masks), -1, -1, -1), masks.unsqueeze(1).float()], dim=1)
    sampled = F.avg_pool2d(F.grid_sample(both, grid, align_corners=False), OVERSAMPLING)
    crops, covered = sampled[:, :3], sampled[:, 3:]
    kept = torch.where(zeroed[:, None, None, None], (covered > 0.5).float(), 1.0)
    inside = (F.max_pool2d(covered, config.patch) > 0).float().flatten(1)
    return crops * kept, inside
