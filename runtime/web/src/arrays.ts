/** Array types. Everything lies in plain memory of its own, so that it can go to a worker without a copy. */

export type Bytes = Uint8Array<ArrayBuffer>;
export type Floats = Float32Array<ArrayBuffer>;
export type Ints = Int32Array<ArrayBuffer>;

/** Numbers in rows: the last axis of `shape` is the one that moves fastest. */
export interface Tensor {
  readonly data: Floats;
  readonly shape: readonly number[];
}

/** What the image encoder makes of a photo: the embedding `(1, C, H/16, W/16)`, then the family's further features. */
export type Features = readonly Tensor[];

/** A photo: three bytes a pixel, RGB, row by row. */
export interface Photo {
  readonly width: number;
  readonly height: number;
  readonly data: Bytes;
}

/** A mask of the photo's size: a byte a pixel, row by row, 1 inside the object and 0 outside. */
export interface Mask {
  readonly width: number;
  readonly height: number;
  readonly data: Bytes;
}

/** What the mask decoder returns for B prompts. */
export interface Decoded {
  /** `(B, 4, H/4, W/4)` logits; 0 is the single mask, 1, 2, 3 are whole, part, subpart. */
  readonly lowRes: Floats;
  /** `(B, 4)`, the model's estimate of each mask's IoU. */
  readonly iou: Floats;
  /** `(B)` logits, above 0 where the prompt has an object; null where the model has none. */
  readonly objectScores: Floats | null;
}

/** Height and width in pixels. */
export interface Size {
  readonly height: number;
  readonly width: number;
}
