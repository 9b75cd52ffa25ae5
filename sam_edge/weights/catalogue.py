"""The weights that sam-edge knows: the official releases to download, and those inside the package.

Trust rests on the hash, not on the server: any mirror with these bytes is as good. Sizes and hashes are those of the
files that the authors published. A changed release would get a row of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from sam_edge_runtime.errors import UsageError

from .licences import restriction


@dataclass(frozen=True)
class Release:
    """One published file of weights.

    Attributes:
        variant: name of the architecture, as `--model` takes it.
        family: the family of models that it belongs to.
        url: where the authors serve the file; http or https. Empty for a file of this project's source (`in_source`).
        file: name of the file in the cache, the same as its authors'.
        size: bytes; None where no public source states them, and the hash alone decides.
        sha256: 64 lowercase hexadecimal digits; empty where no public source states it, and names, shapes and numbers
            are all that is checked.
        licence: SPDX identifier of the weights' licence.
        parameters: trainable numbers of the model; buffers such as running statistics are not counted. SAM 2's files
            hold more: the parts for videos, which are not loaded.
        input_side: side of the square frame that the weights were trained for, in pixels.
        source: the paper that describes the weights.
        note: a description for users, in one line.
        terms: where the licence can be read; needed of one that restricts more than credit.
        in_source: whether the file is in the folder `weights` of this project's source, and not in the package.

    Raises:
        UsageError: a field is malformed.
    """

    variant: str
    family: str
    url: str
    file: str
    size: int | None
    sha256: str
    licence: str
    parameters: int
    input_side: int
    source: str
    note: str
    terms: str = ""
    in_source: bool = False

    def __post_init__(self) -> None:
        """Check the fields that a download depends on."""
        address = urlsplit(self.url)
        has_none = self.in_source and not self.url
        if not has_none and (address.scheme not in ("http", "https") or not address.hostname):
            raise UsageError(
                f"{self.variant}: {self.url!r} is no http or https URL; weights are fetched over these only"
            )
        if self.file in ("", ".", "..") or PurePosixPath(self.file).name != self.file or "\\" in self.file:
            raise UsageError(f"{self.variant}: {self.file!r} is not a plain file name; leave out folders")
        if not re.fullmatch(r"([0-9a-f]{64})?", self.sha256):
            raise UsageError(f"{self.variant}: {self.sha256!r} is not a sha256; write 64 lowercase hexadecimal digits")
        if min(1 if self.size is None else self.size, self.parameters, self.input_side) <= 0:
            raise UsageError(f"{self.variant}: size, parameters and input_side must be above zero")
        if restriction(self.licence) is not None and not self.terms:
            raise UsageError(f"{self.variant}: {self.licence} restricts its users: say in `terms` where it can be read")

    @property
    def about_bytes(self) -> int:
        """The size of the file; an estimate where it is unknown: the parameters in fp32."""
        return 4 * self.parameters if self.size is None else self.size

    @property
    def origin(self) -> str:
        """Where the file is, for users: its address, or its place in this project's source."""
        return self.url or f"{SOURCE_FOLDER.name}/{self.file} in the source of sam-edge"


SOURCE_FOLDER = Path(__file__).parents[2] / "weights"  # of a clone; an installed package has no such folder

# The parameter counts are computed, not quoted: for the ViTs, the sum over `parameters()` of the reference package's
# models; for TinyViT, the sum over the float entries of mobile_sam.pt without the running statistics. All leave out the
# 256 numbers of `prompt_encoder.pe_layer.positional_encoding_gaussian_matrix`, a buffer. The prompt encoder (6,220) and
# the mask decoder (4,058,340) are the same in all; the rest is the image encoder. SAM-HQ adds to the decoder:
#   vit_b 89,670,912, vit_l 308,278,272, vit_h 637,026,048
#   tiny_vit 6,065,532, of which 321,640 are a classification head (norm_head, head) that no mask depends on.
#   sam_hq_vit_b 1,071,104, sam_hq_vit_l 1,333,248, sam_hq_vit_h 1,595,392, light_hq 448,512 in the decoder.
# SAM 2.1's and EdgeTAM's numbers are those of the image path: the image encoder and 4,221,585 in the other parts. The
# parts for videos have 7,521,777 more, EdgeTAM's 4,775,153. Addresses are those of the projects' READMEs: EdgeTAM's
# file is in its repository. Sizes and hashes were found alike in several other projects' lists of these files.
# EfficientSAM's authors keep the larger file in a ZIP archive; the address is that of a project that serves it plain.
# Its size is that of another project's list (SAMJ). For its hash there is no second public source.
# small's weights are this project's own, and have no public address yet.
RELEASES: dict[str, Release] = {
    "small": Release(
        variant="small",
        family="nano",
        url="",
        file="small.safetensors",
        size=8_207_136,
        sha256="488f3a7e3f3faa2df908163bb45c4a77e550b0be3253271b471c21f3d9a133af",
        licence="Apache-2.0",
        parameters=4_085_004,
        input_side=768,
        source="sam_edge/weights/shipped/nano.md",
        note="nano with further blocks in the encoder, trained by this project on 2,280 photos",
        in_source=True,
    ),
    "vit_b": Release(
        variant="vit_b",
        family="SAM",
        url="https://dl.fbaipublicfiles.com/segment_anything/sam_vit_b_01ec64.pth",
        file="sam_vit_b_01ec64.pth",
        size=375_042_383,
        sha256="ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        licence="Apache-2.0",
        parameters=93_735_472,
        input_side=1024,
        source="Segment Anything, https://arxiv.org/abs/2304.02643",
        note="SAM with ViT-B: the smallest of the original three",
    ),
    "vit_l": Release(
        variant="vit_l",
        family="SAM",
        url="https://dl.fbaipublicfiles.com/segment_anything/sam_vit_l_0b3195.pth",
        file="sam_vit_l_0b3195.pth",
        size=1_249_524_607,
        sha256="3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        licence="Apache-2.0",
        parameters=312_342_832,
        input_side=1024,
        source="Segment Anything, https://arxiv.org/abs/2304.02643",
        note="SAM with ViT-L: close to ViT-H at half its size",
    ),
    "vit_h": Release(
        variant="vit_h",
        family="SAM",
        url="https://dl.fbaipublicfiles.com/segment_anything/sam_vit_h_4b8939.pth",
        file="sam_vit_h_4b8939.pth",
        size=2_564_550_879,
        sha256="a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        licence="Apache-2.0",
        parameters=641_090_608,
        input_side=1024,
        source="Segment Anything, https://arxiv.org/abs/2304.02643",
        note="SAM with ViT-H: the most accurate, above 2 GB in fp32",
    ),
    "tiny_vit": Release(
        variant="tiny_vit",
        family="MobileSAM",
        url="https://github.com/ChaoningZhang/MobileSAM/raw/master/weights/mobile_sam.pt",
        file="mobile_sam.pt",
        size=40_728_226,
        sha256="6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
        licence="Apache-2.0",
        parameters=10_130_092,
        input_side=1024,
        source="MobileSAM, https://arxiv.org/abs/2306.14289",
        note="MobileSAM: a distilled TinyViT-5M encoder before SAM's own mask decoder",
    ),
    "sam_hq_vit_b": Release(
        variant="sam_hq_vit_b",
        family="SAM-HQ",
        url="https://huggingface.co/lkeab/hq-sam/resolve/main/sam_hq_vit_b.pth",
        file="sam_hq_vit_b.pth",
        size=379_335_069,
        sha256="14a9d662cd6f5a9c2dba6d40ab0058d88d287e4a18fd6fdc6ad5fb1a3fdeaa57",
        licence="Apache-2.0",
        parameters=94_806_576,
        input_side=1024,
        source="Segment Anything in High Quality, https://arxiv.org/abs/2306.01567",
        note="SAM-HQ with ViT-B: sharper outlines from early features of the encoder",
    ),
    "sam_hq_vit_l": Release(
        variant="sam_hq_vit_l",
        family="SAM-HQ",
        url="https://huggingface.co/lkeab/hq-sam/resolve/main/sam_hq_vit_l.pth",
        file="sam_hq_vit_l.pth",
        size=1_254_865_805,
        sha256="e1a6c385d62bf005ded91a54d5ec55c985cfc4103ef89c08d90f39f04934c343",
        licence="Apache-2.0",
        parameters=313_676_080,
        input_side=1024,
        source="Segment Anything in High Quality, https://arxiv.org/abs/2306.01567",
        note="SAM-HQ with ViT-L",
    ),
    "sam_hq_vit_h": Release(
        variant="sam_hq_vit_h",
        family="SAM-HQ",
        url="https://huggingface.co/lkeab/hq-sam/resolve/main/sam_hq_vit_h.pth",
        file="sam_hq_vit_h.pth",
        size=2_570_940_653,
        sha256="a7ac14a085326d9fa6199c8c698c4f0e7280afdbb974d2c4660ec60877b45e35",
        licence="Apache-2.0",
        parameters=642_686_000,
        input_side=1024,
        source="Segment Anything in High Quality, https://arxiv.org/abs/2306.01567",
        note="SAM-HQ with ViT-H, above 2 GB in fp32",
    ),
    "light_hq": Release(
        variant="light_hq",
        family="SAM-HQ",
        url="https://huggingface.co/lkeab/hq-sam/resolve/main/sam_hq_vit_tiny.pth",
        file="sam_hq_vit_tiny.pth",
        size=42_526_881,
        sha256="0f32c075ccdd870ae54db2f7630e7a0878ede5a2b06d05d6fe02c65a82fb7196",
        licence="Apache-2.0",
        parameters=10_578_604,
        input_side=1024,
        source="Segment Anything in High Quality, https://arxiv.org/abs/2306.01567",
        note="Light-HQ: SAM-HQ on MobileSAM's TinyViT-5M encoder",
    ),
    "sam2.1_hiera_tiny": Release(
        variant="sam2.1_hiera_tiny",
        family="SAM 2.1",
        url="https://dl.fbaipublicfiles.com/segment_anything_2/092824/sam2.1_hiera_tiny.pt",
        file="sam2.1_hiera_tiny.pt",
        size=156_008_466,
        sha256="7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69",
        licence="Apache-2.0",
        parameters=31_440_721,
        input_side=1024,
        source="SAM 2, https://arxiv.org/abs/2408.00714",
        note="SAM 2.1 for images with the smallest Hiera",
    ),
    "sam2.1_hiera_small": Release(
        variant="sam2.1_hiera_small",
        family="SAM 2.1",
        url="https://dl.fbaipublicfiles.com/segment_anything_2/092824/sam2.1_hiera_small.pt",
        file="sam2.1_hiera_small.pt",
        size=184_416_285,
        sha256="6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38",
        licence="Apache-2.0",
        parameters=38_538_577,
        input_side=1024,
        source="SAM 2, https://arxiv.org/abs/2408.00714",
        note="SAM 2.1 for images with a deeper Hiera of the same width",
    ),
    "sam2.1_hiera_base_plus": Release(
        variant="sam2.1_hiera_base_plus",
        family="SAM 2.1",
        url="https://dl.fbaipublicfiles.com/segment_anything_2/092824/sam2.1_hiera_base_plus.pt",
        file="sam2.1_hiera_base_plus.pt",
        size=323_606_802,
        sha256="a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5",
        licence="Apache-2.0",
        parameters=73_328_401,
        input_side=1024,
        source="SAM 2, https://arxiv.org/abs/2408.00714",
        note="SAM 2.1 for images with Hiera-B+",
    ),
    "sam2.1_hiera_large": Release(
        variant="sam2.1_hiera_large",
        family="SAM 2.1",
        url="https://dl.fbaipublicfiles.com/segment_anything_2/092824/sam2.1_hiera_large.pt",
        file="sam2.1_hiera_large.pt",
        size=898_083_611,
        sha256="2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318",
        licence="Apache-2.0",
        parameters=216_924_865,
        input_side=1024,
        source="SAM 2, https://arxiv.org/abs/2408.00714",
        note="SAM 2.1 for images with Hiera-L: the most accurate",
    ),
    "edgetam": Release(
        variant="edgetam",
        family="EdgeTAM",
        url="https://github.com/facebookresearch/EdgeTAM/raw/main/checkpoints/edgetam.pt",
        file="edgetam.pt",
        size=56_116_523,
        sha256="ed2d4850b8792c239689b043c47046ec239b6e808a3d9b6ae676c803fd8780df",
        licence="Apache-2.0",
        parameters=9_120_641,
        input_side=1024,
        source="EdgeTAM, https://arxiv.org/abs/2501.07256",
        note="EdgeTAM for images: SAM 2's mask decoder behind RepViT-M1, made for phones",
    ),
    "repvit_sam": Release(
        variant="repvit_sam",
        family="RepViT-SAM",
        url="https://github.com/THU-MIG/RepViT/releases/download/v1.0/repvit_sam.pt",
        file="repvit_sam.pt",
        size=None,
        sha256="1fd2867cf669e6d89b1c91d0eb883d83ef4bcc590143dd2ca35e2705b21a4f2f",
        licence="Apache-2.0",
        parameters=27_223_480,
        input_side=1024,
        source="RepViT-SAM, https://arxiv.org/abs/2312.05760",
        note="RepViT-SAM: RepViT-M2.3 before SAM's own mask decoder, made for phones",
    ),
    "efficient_sam_vitt": Release(
        variant="efficient_sam_vitt",
        family="EfficientSAM",
        url="https://github.com/yformer/EfficientSAM/raw/main/weights/efficient_sam_vitt.pt",
        file="efficient_sam_vitt.pt",
        size=40_982_470,
        sha256="dff858b19600a46461cbb7de98f796b23a7a888d9f5e34c0b033f7d6eb9e4e6a",
        licence="Apache-2.0",
        parameters=10_223_204,
        input_side=1024,
        source="EfficientSAM, https://arxiv.org/abs/2312.00863",
        note="EfficientSAM with ViT-Tiny, for points inside the object and boxes",
    ),
    "efficient_sam_vits": Release(
        variant="efficient_sam_vits",
        family="EfficientSAM",
        url="https://huggingface.co/Adapter/DragonDiffusion/resolve/main/model/efficient_sam_vits.pt",
        file="efficient_sam_vits.pt",
        size=105_742_022,
        sha256="339376940b92351ae26dd1162e2305a1cc6f5cde735105e91286251abd9a6b65",
        licence="Apache-2.0",
        parameters=26_413_028,
        input_side=1024,
        source="EfficientSAM, https://arxiv.org/abs/2312.00863",
        note="EfficientSAM with ViT-Small, for points inside the object and boxes",
    ),
    "efficientvit_sam_l0": Release(
        variant="efficientvit_sam_l0",
        family="EfficientViT-SAM",
        url="https://huggingface.co/mit-han-lab/efficientvit-sam/resolve/main/efficientvit_sam_l0.pt",
        file="efficientvit_sam_l0.pt",
        size=None,
        sha256="c4f994b01a16d48bcf2fbbb089448cfbf58fae5811edfa8113c953b8b8cc64b8",
        licence="Apache-2.0",
        parameters=34_792_784,
        input_side=1024,
        source="EfficientViT-SAM, https://arxiv.org/abs/2402.05008",
        note="EfficientViT-SAM L0: the smallest; it sees photos at 512 pixels",
    ),
    "efficientvit_sam_l1": Release(
        variant="efficientvit_sam_l1",
        family="EfficientViT-SAM",
        url="https://huggingface.co/mit-han-lab/efficientvit-sam/resolve/main/efficientvit_sam_l1.pt",
        file="efficientvit_sam_l1.pt",
        size=None,
        sha256="fa151df2b9b96896accd505470755cdd293a4c50cdabac95478f3fbd86d9152b",
        licence="Apache-2.0",
        parameters=47_650_128,
        input_side=1024,
        source="EfficientViT-SAM, https://arxiv.org/abs/2402.05008",
        note="EfficientViT-SAM L1: deeper; it sees photos at 512 pixels",
    ),
    "efficientvit_sam_l2": Release(
        variant="efficientvit_sam_l2",
        family="EfficientViT-SAM",
        url="https://huggingface.co/mit-han-lab/efficientvit-sam/resolve/main/efficientvit_sam_l2.pt",
        file="efficientvit_sam_l2.pt",
        size=None,
        sha256="d4bfd842224cbb99de09acc3325e81ac5b7e8725c8fbdab152305e5d934bfe4a",
        licence="Apache-2.0",
        parameters=61_328_592,
        input_side=1024,
        source="EfficientViT-SAM, https://arxiv.org/abs/2402.05008",
        note="EfficientViT-SAM L2: the deepest that sees photos at 512 pixels",
    ),
    "efficientvit_sam_xl0": Release(
        variant="efficientvit_sam_xl0",
        family="EfficientViT-SAM",
        url="https://huggingface.co/mit-han-lab/efficientvit-sam/resolve/main/efficientvit_sam_xl0.pt",
        file="efficientvit_sam_xl0.pt",
        size=None,
        sha256="9bc2f87bd23d6e6d1f7b5beff910f98835c7c333fac73e695bac0bec685968f8",
        licence="Apache-2.0",
        parameters=116_957_904,
        input_side=1024,
        source="EfficientViT-SAM, https://arxiv.org/abs/2402.05008",
        note="EfficientViT-SAM XL0: it sees photos at 1024 pixels",
    ),
    "efficientvit_sam_xl1": Release(
        variant="efficientvit_sam_xl1",
        family="EfficientViT-SAM",
        url="https://huggingface.co/mit-han-lab/efficientvit-sam/resolve/main/efficientvit_sam_xl1.pt",
        file="efficientvit_sam_xl1.pt",
        size=None,
        sha256="10f42277679427c1183dcff19758e536aa86bcc4304e4b387ff48865784be05c",
        licence="Apache-2.0",
        parameters=203_346_128,
        input_side=1024,
        source="EfficientViT-SAM, https://arxiv.org/abs/2402.05008",
        note="EfficientViT-SAM XL1: the most accurate of the five",
    ),
}


@dataclass(frozen=True)
class Shipped:
    """Weights inside the package; their model card says how they were made.

    Attributes:
        variant: name of the architecture, as `--model` takes it.
        family: the family of models that it belongs to.
        path: the file: safetensors with INT8 kernels (`packed`) and the rest in fp16.
        card: its model card.
        licence: SPDX identifier of the weights' licence.
        parameters: trainable numbers.
        input_side: side of the square frame that the weights were trained for, in pixels.
        note: a description for users, in one line.
    """

    variant: str
    family: str
    path: Path
    card: Path
    licence: str
    parameters: int
    input_side: int
    note: str


_FOLDER = Path(__file__).parent / "shipped"
SHIPPED: dict[str, Shipped] = {
    "nano": Shipped(
        variant="nano",
        family="nano",
        path=_FOLDER / "nano.safetensors",
        card=_FOLDER / "nano.md",
        licence="Apache-2.0",
        parameters=2_954_788,
        input_side=512,
        note="MobileNetV2 and a narrow SAM decoder, trained by this project on 2,280 photos; needs no download",
    ),
}


def release_of(variant: str) -> Release:
    """The official release of `variant`.

    Raises:
        UsageError: there is no official release of that name.
    """
    if variant not in RELEASES:
        raise UsageError(f"there are no official weights of {variant!r}; choose one of {', '.join(RELEASES)}")
    return RELEASES[variant]
