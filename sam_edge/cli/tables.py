"""Tables that more than one command prints."""

from __future__ import annotations

from rich.table import Table

from sam_edge_runtime.agreement import Agreement, bounds_for
from sam_edge_runtime.manifest import Manifest


def agreement_table(manifest: Manifest, reference: str, agreement: Agreement) -> Table:
    """Figures of a bundle beside their bounds."""
    bounds = bounds_for(manifest.target, manifest.precision)
    caption = (
        f"photos {len(agreement.photos)}, prompts {len(agreement.prompts)}; weights {manifest.checkpoint.described}"
    )
    table = Table(
        title=f"{manifest.variant} {manifest.target} {manifest.precision} against {reference}",
        title_justify="left",
        caption=caption,
        caption_justify="left",
    )
    table.add_column("figure")
    table.add_column("measured", justify="right", no_wrap=True)
    table.add_column("bound", justify="right", no_wrap=True)
    photo, prompt = agreement.worst
    rows = (
        ("mask mIoU", f"{agreement.mask_miou:.6f}", f">= {bounds.mask_miou}", agreement.mask_miou >= bounds.mask_miou),
        ("boundary mIoU", f"{agreement.boundary_miou:.6f}", "", True),
        (f"lowest mask IoU: {prompt.prompt}, {photo.photo}", f"{min(prompt.mask_iou):.6f}", "", True),
        (
            "largest difference of an IoU prediction",
            f"{agreement.iou_prediction_error:.1e}",
            f"<= {bounds.iou_prediction_error:.0e}",
            agreement.iou_prediction_error <= bounds.iou_prediction_error,
        ),
        (
            "embedding SNR, worst photo",
            f"{agreement.embedding_snr_db:.1f} dB",
            f">= {bounds.embedding_snr_db:.0f} dB",
            agreement.embedding_snr_db >= bounds.embedding_snr_db,
        ),
        (
            "mask logit SNR, worst prompt",
            f"{agreement.logit_snr_db:.1f} dB",
            f">= {bounds.logit_snr_db:.0f} dB",
            agreement.logit_snr_db >= bounds.logit_snr_db,
        ),
    )
    for figure, measured, bound, holds in rows:
        table.add_row(figure, f"[green]{measured}[/green]" if holds else f"[red]{measured}[/red]", bound)
    return table
