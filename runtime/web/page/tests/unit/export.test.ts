import { toCutout } from "@sam-edge/runtime";
import { inflateSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { cropped } from "../../src/export/files.ts";
import { cocoJson, escaped, imageId, sa1bJson, svgText } from "../../src/export/records.ts";
import { fromMask, toMask } from "../../src/masks/runs.ts";
import { withFound, type Layer } from "../../src/photo/layers.ts";
import { stemOf } from "../../src/photo/picture.ts";

const photo = { name: "sa_12.jpg", width: 3, height: 2 };
const layer: Layer = {
  id: 1,
  name: "cat",
  colour: "#0091d5",
  // .##
  // .#.
  mask: fromMask({ width: 3, height: 2, data: Uint8Array.of(0, 1, 1, 0, 1, 0) }),
  predictedIou: 0.9,
  stabilityScore: 1,
  points: [[1.5, 0.5]],
  visible: true,
};

describe("records", () => {
  it("COCO: boxes of pixel edges, a category a name", () => {
    const record = JSON.parse(cocoJson(photo, [layer, { ...layer, name: "" }, layer])) as Record<string, unknown>;
    expect(record).toEqual({
      images: [{ id: 1, file_name: "sa_12.jpg", width: 3, height: 2 }],
      categories: [
        { id: 1, name: "cat" },
        { id: 2, name: "object" },
      ],
      annotations: [1, 2, 3].map((id) => ({
        id,
        image_id: 1,
        category_id: id === 2 ? 2 : 1,
        segmentation: { size: [2, 3], counts: "231" },
        area: 3,
        bbox: [1, 0, 2, 2],
        iscrowd: 0,
      })),
    });
  });

  it("SA-1B: the image id of the name, boxes as SAM counts them", () => {
    const record = JSON.parse(sa1bJson(photo, [layer])) as Record<string, unknown>;
    expect(record).toEqual({
      image: { image_id: 12, width: 3, height: 2, file_name: "sa_12.jpg", orientation: "upright" },
      annotations: [
        {
          segmentation: { size: [2, 3], counts: "231" },
          area: 3,
          bbox: [1, 0, 1, 1],
          predicted_iou: 0.9,
          point_coords: [[1.5, 0.5]],
          stability_score: 1,
          crop_box: [0, 0, 3, 2],
          sam_edge: { name: "cat" },
          id: 12 * 65536,
        },
      ],
    });
    expect(imageId("cat.jpg")).toBe(0);
  });

  it("SVG: one path a layer, and names stay text", () => {
    const text = svgText(photo, [{ ...layer, name: '</title><script>alert("1")</script>' }]);
    expect(text).toContain('viewBox="0 0 3 2"');
    expect(text).toContain('d="M1 0L3 0L3 1L2 1L2 2L1 2Z"');
    expect(text).toContain("<title>&lt;/title&gt;&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;</title>");
    expect(text).not.toContain("<script>");
    expect(escaped("a\u0000b&")).toBe("a b&amp;");
  });
});

describe("a cut-out", () => {
  it("has the photo's pixels inside the mask, and nothing outside", async () => {
    const data = Uint8Array.from({ length: 18 }, (_, i) => i + 1);
    const box = { x0: 1, y0: 0, x1: 3, y1: 2 };
    const photo = cropped({ width: 3, height: 2, data }, 3, box);
    expect(photo).toEqual({ width: 2, height: 2, data: Uint8Array.of(4, 5, 6, 7, 8, 9, 13, 14, 15, 16, 17, 18) });
    const file = Buffer.from(await (await toCutout(cropped(toMask(layer.mask), 1, box), photo)).arrayBuffer());
    const content = file.indexOf("IDAT");
    const lines = inflateSync(file.subarray(content + 4, content + 4 + file.readUInt32BE(content - 4)));
    expect([...lines]).toEqual([0, 4, 5, 6, 255, 7, 8, 9, 255, 0, 13, 14, 15, 255, 0, 0, 0, 0]);
  });
});

describe("names of files", () => {
  it("have no folders, endings and forbidden characters", () => {
    expect([stemOf("../a/b:c?.tar.gz"), stemOf(".jpg"), stemOf("x".repeat(300)).length]).toEqual([
      "b_c_.tar",
      "photo",
      100,
    ]);
  });
});

describe("layers", () => {
  it("take what was found, except masks that are there already", () => {
    const found = [
      { mask: layer.mask, predictedIou: 0.8, stabilityScore: 0.9, point: [1, 1] as const },
      {
        mask: fromMask({ width: 3, height: 2, data: Uint8Array.of(1, 0, 0, 1, 0, 0) }),
        predictedIou: 0.7,
        stabilityScore: 0.8,
        point: [0.5, 0.5] as const,
      },
    ];
    const layers = withFound([layer], found);
    expect(layers.map(({ id, predictedIou }) => [id, predictedIou])).toEqual([
      [1, 0.9],
      [2, 0.7],
    ]);
  });
});
