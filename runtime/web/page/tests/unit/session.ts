/** A `session.json` of a static site with one bundle. */
export const SESSION = {
  format: "sam-edge-session",
  api: 1,
  version: "0.2.0",
  server: false,
  mode: "photo",
  engine: "browser",
  bundles: [
    {
      name: "nano",
      title: "nano",
      url: "bundles/nano/",
      variant: "nano",
      target: "onnx",
      precision: "fp32",
      input_side: 1024,
      bytes: 5,
      random_weights: false,
      engines: ["browser", "server"],
      words: ["cat"],
    },
  ],
  limits: { upload_bytes: 1, photo_pixels: 2, prompts: 3, photos: 8 },
};
