// Written by `make generate` from the Python runtime (runtime/web/generate_contract.py). Do not edit it by hand.

/** One input or output of a graph. Letters, some divided by a stride, stand for sizes that the bundle names. */
export interface TensorTemplate {
  readonly name: string;
  readonly shape: readonly (number | string)[];
  readonly dtype: string;
}

/** Tensors of a graph, without the further features of a family. */
export interface GraphTemplate {
  readonly inputs: readonly TensorTemplate[];
  readonly outputs: readonly TensorTemplate[];
}

/** Accuracy bounds of a precision against the fp32 model. */
export interface Bounds {
  readonly maskMiou: number;
  readonly iouPredictionError: number;
  readonly embeddingSnrDb: number;
  readonly logitSnrDb: number;
}

export const Label = {
  "EMPTY": -2,
  "PADDING": -1,
  "BACKGROUND": 0,
  "FOREGROUND": 1,
  "BOX_TOP_LEFT": 2,
  "BOX_BOTTOM_RIGHT": 3
} as const;
export const FORMAT = "sam-edge-bundle" as const;
export const FORMAT_VERSION = 5 as const;
export const MANIFEST_FILE = "manifest.json" as const;
export const GOLDEN_FILE = "golden.npz" as const;
export const REPORT_FILE = "report.json" as const;
export const NOT_NEEDED_FILES = ["golden.npz", "report.json", "search.png"] as const;
export const LARGEST_MANIFEST = 4194304 as const;
export const LARGEST_CAPACITY = 4096 as const;
export const MOST_FRAMES = 16 as const;
export const TARGET = "onnx" as const;
export const TARGETS = ["onnx", "coreml", "tflite"] as const;
export const LAYOUT = "NCHW" as const;
export const INTERFACE = "sam-edge" as const;
export const SUFFIX = ".onnx" as const;
export const PIXEL_MEAN = [123.675, 116.28, 103.53] as const;
export const EMBEDDING_STRIDE = 16 as const;
export const MASK_STRIDE = 4 as const;
export const MASK_OUTPUTS = 4 as const;
export const SINGLE_OUTPUT = 0 as const;
export const FIRST_MULTIMASK = 1 as const;
export const MASK_THRESHOLD = 0.0 as const;
export const OBJECT_SCORE = "object_score_logits" as const;
export const MASK_PROMPT_INPUTS = ["mask_input", "has_mask_input"] as const;
export const TEXT_INPUTS = ["text_embeddings", "has_text"] as const;
export const SMALLEST_SIDE = 256 as const;
export const LARGEST_SIDE = 1024 as const;
export const SIDE_STEP = 64 as const;
export const SMALLEST_SHORT_SIDE = 128 as const;
export const FRAME_STEP = 32 as const;
export const MOST_FEATURES = 8 as const;
export const LARGEST_FEATURE_CHANNELS = 4096 as const;
export const FEATURE_STRIDES = [1, 2, 4, 8, 16, 32] as const;
export const MOST_SLOTS = 64 as const;
export const LARGEST_TEXT = 4096 as const;
export const VOCABULARY = "vocabulary" as const;
export const TOWER = "tower" as const;
export const MOST_TOKENS = 4096 as const;
export const MOST_TOKENIZER_FILES = 8 as const;
export const WORDS_FORMAT = "sam-edge-words" as const;
export const LARGEST_TABLE = 4194304 as const;
export const MOST_WORDS = 65536 as const;
export const LONGEST_WORD = 100 as const;
export const SHOWN_WORDS = 4 as const;
export const NEAR_WORDS = 0.6 as const;
export const IMAGE_STRIDES = [1, 2] as const;
export const CUBIC = -0.75 as const;
export const STABILITY_OFFSET = 0.05 as const;
export const LEAST_STABILITY = 0.98 as const;
export const LARGEST_CHUNK = 16 as const;
export const LARGEST_PHOTO_PIXELS = 134217728 as const;
export const CROP_EDGE_DISTANCE = 20 as const;
export const EMBEDDING_SAMPLING = 4 as const;
export const LOGIT_SAMPLING = 4 as const;
export const LARGEST_GOLDEN = 67108864 as const;
export const MASK_PROMPT_SCALE = 8.0 as const;
export const BOUNDARY_SHARE = 0.02 as const;
export const LARGEST_SNR = 200.0 as const;
export const OUTPUT_MODES = ["binary_mask", "uncompressed_rle", "coco_rle"] as const;
export const ENCODER: GraphTemplate = {
  "inputs": [
    {
      "name": "image",
      "shape": [
        1,
        3,
        "H",
        "W"
      ],
      "dtype": "float32"
    }
  ],
  "outputs": [
    {
      "name": "image_embeddings",
      "shape": [
        1,
        "C",
        "H/16",
        "W/16"
      ],
      "dtype": "float32"
    }
  ]
};
export const DECODER: GraphTemplate = {
  "inputs": [
    {
      "name": "image_embeddings",
      "shape": [
        1,
        "C",
        "H/16",
        "W/16"
      ],
      "dtype": "float32"
    },
    {
      "name": "point_coords",
      "shape": [
        "B",
        "N",
        2
      ],
      "dtype": "float32"
    },
    {
      "name": "point_labels",
      "shape": [
        "B",
        "N"
      ],
      "dtype": "float32"
    },
    {
      "name": "mask_input",
      "shape": [
        "B",
        1,
        "H/4",
        "W/4"
      ],
      "dtype": "float32"
    },
    {
      "name": "has_mask_input",
      "shape": [
        "B"
      ],
      "dtype": "float32"
    },
    {
      "name": "text_embeddings",
      "shape": [
        "B",
        "D"
      ],
      "dtype": "float32"
    },
    {
      "name": "has_text",
      "shape": [
        "B"
      ],
      "dtype": "float32"
    }
  ],
  "outputs": [
    {
      "name": "low_res_masks",
      "shape": [
        "B",
        4,
        "H/4",
        "W/4"
      ],
      "dtype": "float32"
    },
    {
      "name": "iou_predictions",
      "shape": [
        "B",
        4
      ],
      "dtype": "float32"
    },
    {
      "name": "object_score_logits",
      "shape": [
        "B",
        1
      ],
      "dtype": "float32"
    }
  ]
};
export const DEFAULT_CONVENTIONS = {
  "features": [],
  "stretched": false,
  "objectScore": false,
  "boundedIou": false,
  "stabilityFallback": false,
  "bestOnly": false,
  "hqTokenOnly": false,
  "logitLimit": null,
  "antialiased": true,
  "bicubicMasks": false,
  "backgroundPoints": true,
  "maskPrompts": true,
  "slots": null,
  "imageStride": 1,
  "textChannels": null
} as const;
export const BOUNDS: Readonly<Record<string, Bounds>> = {
  "fp32": {
    "maskMiou": 0.999,
    "iouPredictionError": 0.001,
    "embeddingSnrDb": 60.0,
    "logitSnrDb": 60.0
  },
  "fp16": {
    "maskMiou": 0.99,
    "iouPredictionError": 0.01,
    "embeddingSnrDb": 40.0,
    "logitSnrDb": 40.0
  },
  "w8": {
    "maskMiou": 0.98,
    "iouPredictionError": 0.1,
    "embeddingSnrDb": 10.0,
    "logitSnrDb": 10.0
  },
  "dynamic": {
    "maskMiou": 0.98,
    "iouPredictionError": 0.1,
    "embeddingSnrDb": 10.0,
    "logitSnrDb": 10.0
  },
  "w8a8": {
    "maskMiou": 0.98,
    "iouPredictionError": 0.1,
    "embeddingSnrDb": 10.0,
    "logitSnrDb": 10.0
  },
  "w8a16": {
    "maskMiou": 0.98,
    "iouPredictionError": 0.1,
    "embeddingSnrDb": 10.0,
    "logitSnrDb": 10.0
  },
  "w4": {
    "maskMiou": 0.9,
    "iouPredictionError": 0.2,
    "embeddingSnrDb": 5.0,
    "logitSnrDb": 5.0
  },
  "npu": {
    "maskMiou": 0.95,
    "iouPredictionError": 0.1,
    "embeddingSnrDb": 10.0,
    "logitSnrDb": 10.0
  },
  "auto": {
    "maskMiou": 0.98,
    "iouPredictionError": 0.1,
    "embeddingSnrDb": 10.0,
    "logitSnrDb": 10.0
  },
  "custom": {
    "maskMiou": 0.98,
    "iouPredictionError": 0.1,
    "embeddingSnrDb": 10.0,
    "logitSnrDb": 10.0
  }
};
export const AUTOMATIC_DEFAULTS = {
  "pointsPerSide": 32,
  "pointsPerBatch": 64,
  "predIouThresh": 0.88,
  "stabilityScoreThresh": 0.95,
  "stabilityScoreOffset": 1.0,
  "boxNmsThresh": 0.7,
  "cropNLayers": 0,
  "cropNmsThresh": 0.7,
  "cropOverlapRatio": 0.3413333333333333,
  "cropNPointsDownscaleFactor": 1,
  "pointGrids": null,
  "minMaskRegionArea": 0,
  "outputMode": "binary_mask",
  "useM2m": false,
  "multimaskOutput": true
} as const;
export const AUTOMATIC_SHARES = ["boxNmsThresh", "cropNmsThresh", "cropOverlapRatio", "predIouThresh", "stabilityScoreOffset", "stabilityScoreThresh"] as const;
export const AUTOMATIC_RANGES: Readonly<Record<string, readonly [number, number]>> = {
  "predIouThresh": [
    0,
    1
  ],
  "stabilityScoreThresh": [
    0,
    1
  ],
  "boxNmsThresh": [
    0,
    1
  ],
  "cropNmsThresh": [
    0,
    1
  ],
  "cropOverlapRatio": [
    0,
    1
  ],
  "stabilityScoreOffset": [
    0,
    1000000.0
  ],
  "pointsPerSide": [
    1,
    1024
  ],
  "pointsPerBatch": [
    1,
    1024
  ],
  "cropNLayers": [
    0,
    6
  ],
  "cropNPointsDownscaleFactor": [
    1,
    1024
  ],
  "minMaskRegionArea": [
    0,
    1099511627776
  ]
};
export const VARIANT_DEFAULTS: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  "sam2.1_hiera_tiny": {
    "predIouThresh": 0.8
  },
  "sam2.1_hiera_small": {
    "predIouThresh": 0.8
  },
  "sam2.1_hiera_base_plus": {
    "predIouThresh": 0.8
  },
  "sam2.1_hiera_large": {
    "predIouThresh": 0.8
  },
  "edgetam": {
    "predIouThresh": 0.8
  },
  "efficient_sam_vitt": {
    "predIouThresh": 0.7,
    "stabilityScoreThresh": 0.9
  },
  "efficient_sam_vits": {
    "predIouThresh": 0.7,
    "stabilityScoreThresh": 0.9
  },
  "nano": {
    "predIouThresh": 0.45,
    "stabilityScoreThresh": 0.5,
    "stabilityScoreOffset": 0.5,
    "boxNmsThresh": 0.6,
    "minMaskRegionArea": 100
  },
  "small": {
    "predIouThresh": 0.45,
    "stabilityScoreThresh": 0.5,
    "stabilityScoreOffset": 0.5,
    "boxNmsThresh": 0.6,
    "minMaskRegionArea": 100
  }
};
