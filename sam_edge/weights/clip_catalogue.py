"""The official weights of the text encoders that sam-edge knows: OpenAI's CLIP, TinyCLIP and SigLIP 2.

OpenAI's hashes are those in its code, which are part of the addresses. The SHA-256 of `siglip2_base_16_224` is stated
with its size in the lists of other projects, and the size agrees with the number of parameters. No public source states
the others'. Such a file is checked in another way: it must hold the variant's names and shapes, every number finite,
and loading it runs no code. Whoever has a file's hash from elsewhere can compare it with the one that `sam-edge info`
prints.

MobileCLIP is not in the list: its weights are under Apple's AMLR licence, for research only.
"""

from __future__ import annotations

from dataclasses import dataclass

from sam_edge_runtime.errors import UsageError

from .catalogue import Release, release_of

_OPENAI = "https://openaipublic.azureedge.net/clip/models"
_TINYCLIP = "https://github.com/wkcn/TinyCLIP-model-zoo/releases/download/checkpoints"
_HUB = "https://huggingface.co"
_CLIP_PAPER = "Learning Transferable Visual Models From Natural Language Supervision, https://arxiv.org/abs/2103.00020"
_TINYCLIP_PAPER = "TinyCLIP, https://arxiv.org/abs/2309.12314"
_SIGLIP2_PAPER = "SigLIP 2, https://arxiv.org/abs/2502.14786"


def _tinyclip(variant: str, name: str, parameters: int, note: str) -> Release:
    return Release(
        variant=variant,
        family="TinyCLIP",
        url=f"{_TINYCLIP}/{name}.pt",
        file=f"{name}.pt",
        size=None,
        sha256="",
        licence="MIT",
        parameters=parameters,
        input_side=224,
        source=_TINYCLIP_PAPER,
        note=note,
    )


def _siglip2(
    variant: str, side: int, parameters: int, size: int | None = None, sha256: str = "", revision: str = "main"
) -> Release:
    name = f"siglip2-base-patch{variant.split('_')[2]}-{side}"
    return Release(
        variant=variant,
        family="SigLIP 2",
        url=f"{_HUB}/google/{name}/resolve/{revision}/model.safetensors",
        file=f"{name}.safetensors",
        size=size,
        sha256=sha256,
        licence="Apache-2.0",
        parameters=parameters,
        input_side=side,
        source=_SIGLIP2_PAPER,
        note=f"SigLIP 2 base for words of many languages, images of {side} pixels",
    )


CLIP_RELEASES: dict[str, Release] = {
    release.variant: release
    for release in (
        _tinyclip(
            "tinyclip_vit_8m_16",
            "TinyCLIP-ViT-8M-16-Text-3M-YFCC15M",
            23_446_017,
            "TinyCLIP, the smallest text encoder here",
        ),
        _tinyclip(
            "tinyclip_vit_39m_16",
            "TinyCLIP-ViT-39M-16-Text-19M-YFCC15M",
            83_101_185,
            "TinyCLIP with patches of 16 pixels: half of CLIP ViT-B/16's size",
        ),
        _tinyclip(
            "tinyclip_vit_40m_32",
            "TinyCLIP-ViT-40M-32-Text-19M-LAION400M",
            84_205_569,
            "TinyCLIP with patches of 32 pixels: the fastest of its size",
        ),
        _tinyclip(
            "tinyclip_vit_61m_32",
            "TinyCLIP-ViT-61M-32-Text-29M-LAION400M",
            115_382_145,
            "TinyCLIP with patches of 32 pixels, wider and deeper",
        ),
        Release(
            variant="clip_vit_b_32",
            family="CLIP",
            url=f"{_OPENAI}/40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af/ViT-B-32.pt",
            file="ViT-B-32.pt",
            size=None,
            sha256="40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
            licence="MIT",
            parameters=151_277_313,
            input_side=224,
            source=_CLIP_PAPER,
            note="OpenAI's CLIP ViT-B/32",
        ),
        Release(
            variant="clip_vit_l_14_336",
            family="CLIP",
            url=f"{_OPENAI}/3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02/ViT-L-14-336px.pt",
            file="ViT-L-14-336px.pt",
            size=None,
            sha256="3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02",
            licence="MIT",
            parameters=427_944_193,
            input_side=336,
            source=_CLIP_PAPER,
            note="OpenAI's CLIP ViT-L/14@336px: the embeddings of \"Segment Anything\"'s text prompts",
        ),
        _siglip2("siglip2_base_32_256", 256, 376_856_066),
        _siglip2(
            "siglip2_base_16_224",
            224,
            375_187_970,
            1_500_800_904,
            "612923381c76ec5a9bed335d1c48827e3f2e506ac31b044b63b2031fadee6a0b",
            "75de2d55ec2d0b4efc50b3e9ad70dba96a7b2fa2",
        ),
        _siglip2("siglip2_base_16_256", 256, 375_234_050),
        _siglip2("siglip2_base_16_384", 384, 375_479_810),
        _siglip2("siglip2_base_16_512", 512, 375_823_874),
    )
}


@dataclass(frozen=True)
class TokenizerFile:
    """A family's `tokenizer.json`, as its authors publish it on the Hub.

    Attributes:
        release: address, size and SHA-256, as several projects list them alike.
        families: whose texts it reads.
    """

    release: Release
    families: tuple[str, ...]


def _tokenizer(name: str, repository: str, size: int, sha256: str, licence: str, source: str) -> Release:
    return Release(
        variant=f"{name} tokenizer",
        family=name,
        url=f"{_HUB}/{repository}/resolve/main/tokenizer.json",
        file=f"{name}_tokenizer.json",
        size=size,
        sha256=sha256,
        licence=licence,
        parameters=1,
        input_side=1,
        source=source,
        note=f"the vocabulary of {name}",
    )


# TinyCLIP has OpenAI's vocabulary.
TOKENIZERS = (
    TokenizerFile(
        _tokenizer(
            "clip",
            "openai/clip-vit-base-patch32",
            2_224_041,
            "b556ac8c99757ffb677208af34bc8c6721572114111a6e0aaf5fa69ff0b8d842",
            "MIT",
            _CLIP_PAPER,
        ),
        ("CLIP", "TinyCLIP"),
    ),
    TokenizerFile(
        _tokenizer(
            "siglip2",
            "google/siglip2-base-patch16-224",
            34_363_039,
            "cb9140fae3ac5122c972d37adf83e1248471a38147ad76f8215c8872c6fd8322",
            "Apache-2.0",
            _SIGLIP2_PAPER,
        ),
        ("SigLIP 2",),
    ),
)


def tokenizer_of(family: str) -> Release:
    """The tokenizer file of a family."""
    return next(each.release for each in TOKENIZERS if family in each.families)


def downloads_of(variant: str) -> tuple[Release, ...]:
    """What `sam-edge download` fetches for a variant of SAM or of a text encoder, whose tokenizer comes with it.

    Raises:
        UsageError: nothing of that name can be downloaded.
    """
    if variant in CLIP_RELEASES:
        release = CLIP_RELEASES[variant]
        return release, tokenizer_of(release.family)
    try:
        return (release_of(variant),)
    except UsageError as error:
        raise UsageError(f"{error.original}, or a text encoder: {', '.join(CLIP_RELEASES)}") from error
