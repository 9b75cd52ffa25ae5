import * as ort from "onnxruntime-web"; // "onnxruntime-web/webgpu" for a GPU

const SIDE = 512, CELLS = SIDE / 4; // manifest.json: input_side
const MEAN = [123.675, 116.28, 103.53];

export type Photo = { data: Uint8Array | Uint8ClampedArray; width: number; height: number }; // RGBA: an ImageData fits
export type Click = { x: number; y: number; inside: boolean };
export type Box = { x0: number; y0: number; x1: number; y1: number };

/** Bilinear with antialias, as Pillow does it: `outputs` columns instead of `width`. The picture comes back transposed. */
function resample(rgb: Uint8Array, width: number, height: number, outputs: number): Uint8Array {
  const scale = width / outputs, reach = Math.max(scale, 1);
  const out = new Uint8Array(outputs * height * 3);
  for (let i = 0; i < outputs; i++) {
    const centre = (i + 0.5) * scale;
    const first = Math.max(0, Math.floor(centre - reach + 0.5)), end = Math.min(width, Math.floor(centre + reach + 0.5));
    const weights: number[] = [];
    for (let x = first; x < end; x++) weights.push(Math.max(0, 1 - Math.abs(x + 0.5 - centre) / reach));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    for (let y = 0; y < height; y++) {
      for (let c = 0; c < 3; c++) {
        let sum = 0;
        for (let k = 0; k < weights.length; k++) sum += weights[k] * rgb[(y * width + first + k) * 3 + c];
        out[(i * height + y) * 3 + c] = Math.floor(sum / total + 0.5);
      }
    }
  }
  return out;
}

/** For each photo pixel of one axis the four mask cells that make it, and their weights. */
function taps(resized: number, original: number): { cell: Int32Array; weight: Float32Array } {
  const between = (i: number, inputs: number, outputs: number): [number, number, number] => {
    const at = Math.max(0, (i + 0.5) * inputs / outputs - 0.5), low = Math.min(Math.floor(at), inputs - 1);
    return [low, Math.min(low + 1, inputs - 1), at - low];
  };
  const cell = new Int32Array(4 * original), weight = new Float32Array(4 * original);
  for (let i = 0; i < original; i++) {
    const [a, b, t] = between(i, resized, original); // photo -> resized photo
    for (const [k, pixel, share] of [[0, a, 1 - t], [2, b, t]]) {
      const [c, d, u] = between(pixel, CELLS, SIDE); // frame -> mask
      cell.set([c, d], 4 * i + k);
      weight.set([share * (1 - u), share * u], 4 * i + k);
    }
  }
  return { cell, weight };
}

export class Segmenter {
  private size = { width: 0, height: 0, newWidth: 0, newHeight: 0 };
  private embeddings?: ort.Tensor;
  private constructor(private encoder: ort.InferenceSession, private decoder: ort.InferenceSession) {}

  static async load(encoder: Uint8Array, decoder: Uint8Array): Promise<Segmenter> {
    const options: ort.InferenceSession.SessionOptions = { executionProviders: ["wasm"] };
    return new Segmenter(await ort.InferenceSession.create(encoder, options), await ort.InferenceSession.create(decoder, options));
  }

  /** The encoder's input (1, 3, S, S). */
  image(photo: Photo): ort.Tensor {
    const { width, height } = photo, scale = SIDE / Math.max(width, height);
    const newWidth = Math.floor(width * scale + 0.5), newHeight = Math.floor(height * scale + 0.5);
    this.size = { width, height, newWidth, newHeight };
    const rgb = new Uint8Array(width * height * 3);
    for (let i = 0; i < width * height; i++) rgb.set(photo.data.subarray(4 * i, 4 * i + 3), 3 * i);
    const small = resample(resample(rgb, width, height, newWidth), height, newWidth, newHeight); // each transposes the picture
    const image = new Float32Array(3 * SIDE * SIDE);
    for (let c = 0; c < 3; c++) {
      image.fill(MEAN[c], c * SIDE * SIDE, (c + 1) * SIDE * SIDE);
      for (let y = 0; y < newHeight; y++)
        for (let x = 0; x < newWidth; x++) image[(c * SIDE + y) * SIDE + x] = small[(y * newWidth + x) * 3 + c];
    }
    return new ort.Tensor("float32", image, [1, 3, SIDE, SIDE]);
  }

  /** Once a photo. */
  async setPhoto(photo: Photo): Promise<ort.Tensor> {
    this.embeddings = (await this.encoder.run({ image: this.image(photo) })).image_embeddings;
    return this.embeddings;
  }

  /** Once a tap: all four outputs. */
  async predict(clicks: Click[], box?: Box): Promise<{ lowRes: Float32Array; iou: Float32Array }> {
    const points = clicks.map(({ x, y, inside }) => [x, y, inside ? 1 : 0]);
    if (box) points.push([box.x0, box.y0, 2], [box.x1, box.y1, 3]);
    else points.push([0, 0, -1]);
    const { width, height, newWidth, newHeight } = this.size;
    const coords = points.flatMap(([x, y]) => [x * newWidth / width, y * newHeight / height]);
    const tensor = (data: number[] | Float32Array, shape: number[]) => new ort.Tensor("float32", Float32Array.from(data), shape);
    const outputs = await this.decoder.run({
      image_embeddings: this.embeddings!,
      point_coords: tensor(coords, [1, points.length, 2]),
      point_labels: tensor(points.map(([, , label]) => label), [1, points.length]),
      mask_input: tensor(new Float32Array(CELLS * CELLS), [1, 1, CELLS, CELLS]),
      has_mask_input: tensor([0], [1]),
    });
    return { lowRes: outputs.low_res_masks.data as Float32Array, iou: outputs.iou_predictions.data as Float32Array };
  }

  /** 1 where the photo's pixel is inside output number `output`. */
  mask(lowRes: Float32Array, output: number): Uint8Array {
    const { width, height, newWidth, newHeight } = this.size;
    const rows = taps(newHeight, height), columns = taps(newWidth, width), line = new Float32Array(CELLS);
    const mask = new Uint8Array(width * height);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < CELLS; x++) {
        line[x] = 0;
        for (let k = 4 * y; k < 4 * y + 4; k++) line[x] += rows.weight[k] * lowRes[(output * CELLS + rows.cell[k]) * CELLS + x];
      }
      for (let x = 0; x < width; x++) {
        let logit = 0;
        for (let k = 4 * x; k < 4 * x + 4; k++) logit += columns.weight[k] * line[columns.cell[k]];
        mask[y * width + x] = logit > 0 ? 1 : 0;
      }
    }
    return mask;
  }
}
