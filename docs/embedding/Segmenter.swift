import CoreGraphics
import CoreML
import CoreVideo
import Foundation

struct Click { var x, y: Float; var inside: Bool }
struct Box { var x0, y0, x1, y1: Float }
struct Prediction { var lowRes, iou: [Float] }  // (1, 4, S/4, S/4) and (1, 4)

enum SegmenterError: Error { case missingModel(String), noPhoto, tooManyPoints, noPicture }

let side = 512            // manifest.json: input_side
let slots = 10            //                capacity.points
let pictureInput = false  //                picture_input
let cells = side / 4
let mean: [Float] = [123.675, 116.28, 103.53]

/// Bilinear with antialias, as Pillow does it: `outputs` columns instead of `width`. The picture comes back transposed.
func resample(_ rgb: [UInt8], width: Int, height: Int, outputs: Int) -> [UInt8] {
    let scale = Double(width) / Double(outputs), reach = max(scale, 1)
    var out = [UInt8](repeating: 0, count: outputs * height * 3)
    for i in 0..<outputs {
        let centre = (Double(i) + 0.5) * scale
        let first = max(0, Int(centre - reach + 0.5)), end = min(width, Int(centre + reach + 0.5))
        let weights = (first..<end).map { max(0, 1 - abs(Double($0) + 0.5 - centre) / reach) }
        let total = weights.reduce(0, +)
        for y in 0..<height {
            for c in 0..<3 {
                var sum = 0.0
                for k in 0..<weights.count { sum += weights[k] * Double(rgb[(y * width + first + k) * 3 + c]) }
                out[(i * height + y) * 3 + c] = UInt8(sum / total + 0.5)
            }
        }
    }
    return out
}

/// For each photo pixel of one axis the four mask cells that make it, and their weights.
func taps(resized: Int, original: Int) -> [[(cell: Int, weight: Float)]] {
    func between(_ i: Int, _ inputs: Int, _ outputs: Int) -> (low: Int, high: Int, share: Double) {
        let at = max(0, (Double(i) + 0.5) * Double(inputs) / Double(outputs) - 0.5), low = min(Int(at), inputs - 1)
        return (low, min(low + 1, inputs - 1), at - Double(low))
    }
    return (0..<original).map { i in
        let photo = between(i, resized, original)  // photo -> resized photo
        return [(photo.low, 1 - photo.share), (photo.high, photo.share)].flatMap { pixel, share in
            let frame = between(pixel, cells, side)  // frame -> mask
            return [(cell: frame.low, weight: Float(share * (1 - frame.share))),
                    (cell: frame.high, weight: Float(share * frame.share))]
        }
    }
}

/// Use it from one queue at a time.
final class Segmenter {
    private let encoder, decoder: MLModel
    private var embeddings: MLMultiArray?
    private var width = 0, height = 0, newWidth = 0, newHeight = 0

    init(units: MLComputeUnits = .all) throws {
        encoder = try Segmenter.load("encoder", units)
        decoder = try Segmenter.load("decoder", units)
    }

    private static func load(_ name: String, _ units: MLComputeUnits) throws -> MLModel {
        guard let url = Bundle.main.url(forResource: name, withExtension: "mlmodelc") else {
            throw SegmenterError.missingModel(name)
        }
        let configuration = MLModelConfiguration()
        configuration.computeUnits = units
        return try MLModel(contentsOf: url, configuration: configuration)
    }

    /// The resized photo, upright, RGB without padding: (h, w, 3).
    private func resize(_ photo: CGImage) throws -> [UInt8] {
        (width, height) = (photo.width, photo.height)
        let scale = Double(side) / Double(max(width, height))
        newWidth = Int(Double(width) * scale + 0.5)
        newHeight = Int(Double(height) * scale + 0.5)
        var rgba = [UInt8](repeating: 0, count: width * height * 4)
        try rgba.withUnsafeMutableBytes { bytes in
            guard let space = CGColorSpace(name: CGColorSpace.sRGB),
                  let context = CGContext(data: bytes.baseAddress, width: width, height: height, bitsPerComponent: 8,
                                          bytesPerRow: 4 * width, space: space,
                                          bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue)
            else { throw SegmenterError.noPicture }
            context.draw(photo, in: CGRect(x: 0, y: 0, width: width, height: height))
        }
        var rgb = [UInt8](repeating: 0, count: width * height * 3)
        for i in 0..<width * height { for c in 0..<3 { rgb[3 * i + c] = rgba[4 * i + c] } }
        let turned = resample(rgb, width: width, height: height, outputs: newWidth)
        return resample(turned, width: height, height: newWidth, outputs: newHeight)
    }

    /// The encoder's input (1, 3, S, S), for a package without --picture-input.
    func tensor(_ photo: CGImage) throws -> MLFeatureValue {
        let small = try resize(photo)
        var image = [Float](repeating: 0, count: 3 * side * side)
        for c in 0..<3 {
            for y in 0..<side {
                for x in 0..<side {
                    let inside = y < newHeight && x < newWidth
                    image[(c * side + y) * side + x] = inside ? Float(small[(y * newWidth + x) * 3 + c]) : mean[c]
                }
            }
        }
        return MLFeatureValue(multiArray: MLMultiArray(MLShapedArray(scalars: image, shape: [1, 3, side, side])))
    }

    /// The same as a picture, for a package with --picture-input; its padding is rounded to integers.
    func picture(_ photo: CGImage) throws -> MLFeatureValue {
        let small = try resize(photo)
        var buffer: CVPixelBuffer?
        CVPixelBufferCreate(nil, side, side, kCVPixelFormatType_32BGRA, nil, &buffer)
        guard let buffer else { throw SegmenterError.noPicture }
        CVPixelBufferLockBaseAddress(buffer, [])
        defer { CVPixelBufferUnlockBaseAddress(buffer, []) }
        guard let base = CVPixelBufferGetBaseAddress(buffer) else { throw SegmenterError.noPicture }
        let stride = CVPixelBufferGetBytesPerRow(buffer), bytes = base.assumingMemoryBound(to: UInt8.self)
        for y in 0..<side {
            for x in 0..<side {
                let pixel = bytes + y * stride + 4 * x, inside = y < newHeight && x < newWidth
                for c in 0..<3 { pixel[2 - c] = inside ? small[(y * newWidth + x) * 3 + c] : UInt8(mean[c].rounded()) }
                pixel[3] = 255
            }
        }
        return MLFeatureValue(pixelBuffer: buffer)
    }

    /// Once a photo.
    func setPhoto(_ photo: CGImage) throws {
        let image = try pictureInput ? picture(photo) : tensor(photo)
        let outputs = try encoder.prediction(from: MLDictionaryFeatureProvider(dictionary: ["image": image]))
        embeddings = outputs.featureValue(for: "image_embeddings")?.multiArrayValue
    }

    /// Once a tap: all four outputs.
    func predict(_ clicks: [Click], box: Box? = nil) throws -> Prediction {
        guard let embeddings else { throw SegmenterError.noPhoto }
        var points = clicks.map { ($0.x, $0.y, Float($0.inside ? 1 : 0)) }
        if let box {
            points += [(box.x0, box.y0, 2), (box.x1, box.y1, 3)]
        } else {
            points.append((0, 0, -1))
        }
        guard points.count <= slots else { throw SegmenterError.tooManyPoints }
        while points.count < slots { points.append((0, 0, -2)) }
        let toFrame = (Float(newWidth) / Float(width), Float(newHeight) / Float(height))
        let coords = points.flatMap { [$0.0 * toFrame.0, $0.1 * toFrame.1] }
        func array(_ scalars: [Float], _ shape: [Int]) -> MLMultiArray {
            MLMultiArray(MLShapedArray(scalars: scalars, shape: shape))
        }
        let outputs = try decoder.prediction(from: MLDictionaryFeatureProvider(dictionary: [
            "image_embeddings": embeddings,
            "point_coords": array(coords, [1, slots, 2]),
            "point_labels": array(points.map { $0.2 }, [1, slots]),
            "mask_input": array([Float](repeating: 0, count: cells * cells), [1, 1, cells, cells]),
            "has_mask_input": array([0], [1]),
        ]))
        func scalars(_ name: String) -> [Float] {  // row by row, whatever strides Core ML has chosen
            outputs.featureValue(for: name)?.multiArrayValue.map { MLShapedArray<Float>($0).scalars } ?? []
        }
        return Prediction(lowRes: scalars("low_res_masks"), iou: scalars("iou_predictions"))
    }

    /// Whether each pixel of the photo is inside output number `output`.
    func mask(_ lowRes: [Float], output: Int) -> [Bool] {
        let rows = taps(resized: newHeight, original: height), columns = taps(resized: newWidth, original: width)
        var mask = [Bool](repeating: false, count: width * height), line = [Float](repeating: 0, count: cells)
        for y in 0..<height {
            for x in 0..<cells {
                line[x] = rows[y].reduce(0) { $0 + $1.weight * lowRes[(output * cells + $1.cell) * cells + x] }
            }
            for x in 0..<width {
                mask[y * width + x] = columns[x].reduce(0) { $0 + $1.weight * line[$1.cell] } > 0
            }
        }
        return mask
    }
}
