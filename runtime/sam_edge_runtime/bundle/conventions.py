"""What differs between families of models, as data: further tensors, how photos enter the frame, how masks are chosen.

The defaults are those of SAM 1, whose bundles do not name them. Runtimes read the fields, and know no family by name
but for the thresholds of automatic masks.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

from .fields import Fields

MOST_FEATURES = 8
LARGEST_FEATURE_CHANNELS = 4096
FEATURE_STRIDES = (1, 2, 4, 8, 16, 32)  # frame pixels per cell
MOST_SLOTS = 64
IMAGE_STRIDES = (1, 2)

# Names of the contract's other tensors.
_TAKEN = frozenset(
    {
        "image",
        "image_embeddings",
        "point_coords",
        "point_labels",
        "mask_input",
        "has_mask_input",
        "text_embeddings",
        "has_text",
    }
)
# Fields of format 4. A manifest names one only where it differs from the default, and is of format 4 then.
_LATER = ("antialiased", "bicubic_masks", "background_points", "mask_prompts", "slots", "image_stride")
_OF_TEXT = ("text_channels",)  # of format 5, likewise
LARGEST_TEXT = 4096  # numbers of a text embedding


class FeatureMap(NamedTuple):
    """A map that the image encoder returns beside the embedding: `(1, channels, H/stride, W/stride)`.

    The mask decoder takes it as an input of the same name. It depends on the photo alone.
    """

    name: str
    channels: int
    stride: int


@dataclass(frozen=True)
class Conventions:
    """How a family of models takes photos and returns masks.

    Attributes:
        features: what the image encoder returns beside the embedding, in order.
        stretched: whether a photo is resized to the frame's height and width, in float and with antialiasing, and
            loses its aspect ratio. Else it keeps it, and padding fills the frame.
        object_score: whether the decoder also returns `object_score_logits (B, 1)`; above 0 the prompt has an object.
        bounded_iou: whether IoU predictions are from 0 to 1.
        stability_fallback: whether a single mask is output 0 only where it is stable, else the best of 1, 2, 3
            (`decoding.select_masks`).
        hq_token_only: whether all four outputs are SAM-HQ's HQ mask alone, instead of its sums with SAM's masks.
        best_only: whether three masks are never returned, but the one with the highest IoU prediction of them.
        logit_limit: low-resolution logits are returned within this distance of 0; None: unlimited. Masks of the
            photo's size are made of the unlimited ones.
        antialiased: whether photos are resized with antialiasing; only photos that are stretched can be without.
        bicubic_masks: whether masks are resized to the photo bicubically, else bilinearly. Automatic masks are always
            resized bilinearly.
        background_points: whether the decoder knows points outside the object, label 0.
        mask_prompts: whether the decoder takes mask prompts; else it lacks the inputs `mask_input` and
            `has_mask_input`.
        slots: number of slots that each prompt has, in use or not: the model was trained to see those that are not in
            use. None: any number, and those not in use have no effect.
        image_stride: frame pixels per pixel of the encoder's image: with 2, photos are resized and padded to half of
            the frame's height and width. Prompts and masks are those of the frame.
        text_channels: numbers D of a text embedding, where the decoder takes `text_embeddings (B, D)` and
            `has_text (B)`; None: it takes no text.
    """

    features: tuple[FeatureMap, ...] = ()
    stretched: bool = False
    object_score: bool = False
    bounded_iou: bool = False
    stability_fallback: bool = False
    best_only: bool = False
    hq_token_only: bool = False
    logit_limit: float | None = None
    antialiased: bool = True
    bicubic_masks: bool = False
    background_points: bool = True
    mask_prompts: bool = True
    slots: int | None = None
    image_stride: int = 1
    text_channels: int | None = None

    @property
    def format_version(self) -> int:
        """The oldest format of manifests that can hold these."""
        if self._differing(_OF_TEXT):
            return 5
        if self._differing(_LATER):
            return 4
        return 1 if self == SAM else 3

    def _differing(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Those of the fields `names` that differ from their defaults."""
        defaults = {each.name: each.default for each in fields(self) if each.name in names}
        return {name: getattr(self, name) for name, default in defaults.items() if getattr(self, name) != default}

    @property
    def described(self) -> tuple[str, ...]:
        """What differs from SAM 1, for people; empty where nothing does."""
        facts = {
            "photos are stretched to the frame": self.stretched,
            f"the decoder also takes {', '.join(each.name for each in self.features)}": bool(self.features),
            "a single mask is chosen by stability": self.stability_fallback,
            "of three masks the best is returned": self.best_only,
            "masks are the HQ token's alone": self.hq_token_only,
            "scores tell whether there is an object": self.object_score,
            "there are no points outside the object": not self.background_points,
            "there are no mask prompts": not self.mask_prompts,
            f"a prompt has at most {self.slots} slots": self.slots is not None,
            "photos are resized to half of the frame": self.image_stride == 2,
            "the decoder takes text": self.text_channels is not None,
        }
        return tuple(text for text, holds in facts.items() if holds)

    def to_json(self) -> dict[str, Any]:
        """The fields, as the manifest has them."""
        later = (*_LATER, *_OF_TEXT)
        first = {name: value for name, value in asdict(self).items() if name not in later}
        return {**first, "features": [each._asdict() for each in self.features], **self._differing(later)}

    @classmethod
    def read(cls, section: Fields) -> Conventions:
        """The conventions in a manifest's section.

        Raises:
            BundleError: a field is missing or of the wrong type.
        """
        features = tuple(
            FeatureMap(
                each.name("name"),
                each.integer("channels", most=LARGEST_FEATURE_CHANNELS),
                each.choice("stride", FEATURE_STRIDES),
            )
            for each in section.sections("features", MOST_FEATURES)
        )
        names = [each.name for each in features]
        if len({*names, *_TAKEN}) < len(names) + len(_TAKEN):
            raise section.error("features", "names that no other tensor has are expected")
        return cls(
            features=features,
            stretched=section.flag("stretched"),
            object_score=section.flag("object_score"),
            bounded_iou=section.flag("bounded_iou"),
            stability_fallback=section.flag("stability_fallback"),
            best_only=section.flag("best_only"),
            hq_token_only=section.flag("hq_token_only"),
            logit_limit=section.optional_positive("logit_limit"),
            antialiased=section.flag("antialiased", default=True),
            bicubic_masks=section.flag("bicubic_masks", default=False),
            background_points=section.flag("background_points", default=True),
            mask_prompts=section.flag("mask_prompts", default=True),
            slots=section.optional_integer("slots", most=MOST_SLOTS),
            image_stride=section.choice("image_stride", IMAGE_STRIDES) if "image_stride" in section.mapping else 1,
            text_channels=section.optional_integer("text_channels", most=LARGEST_TEXT),
        )


SAM = Conventions()
# SAM-HQ's predictor returns one mask (segment_anything_hq 0.3, predictor.py).
SAM_HQ = Conventions(features=(FeatureMap("hq_features", 32, 4),), best_only=True)
# SAM 2's image predictor and model (facebookresearch/sam2, sam2_image_predictor.py, modeling/sam/mask_decoder.py).
SAM_2 = Conventions(
    features=(FeatureMap("high_res_features_0", 32, 4), FeatureMap("high_res_features_1", 64, 8)),
    stretched=True,
    object_score=True,
    bounded_iou=True,
    stability_fallback=True,
    logit_limit=32.0,
)
# EfficientSAM's model and its examples (yformer/EfficientSAM, efficient_sam/efficient_sam.py).
EFFICIENT_SAM = Conventions(
    stretched=True, antialiased=False, bicubic_masks=True, background_points=False, mask_prompts=False, slots=6
)
# EfficientViT-SAM's L models (mit-han-lab/efficientvit, efficientvit/models/efficientvit/sam.py).
EFFICIENTVIT_SAM = Conventions(image_stride=2)
