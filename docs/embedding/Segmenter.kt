import android.graphics.Bitmap
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.FloatBuffer
import kotlin.math.abs
import kotlin.math.max
import kotlin.math.min
import org.tensorflow.lite.Interpreter

const val SIDE = 512                 // manifest.json: input_side
const val CHANNELS = 256             //                embedding_channels
const val SLOTS = 10                 //                capacity.points
const val GRID = SIDE / 16
const val CELLS = SIDE / 4
const val DECODER = "prompts_1"      // "serving_default" where the bundle was exported for one number of prompts
val MEAN = floatArrayOf(123.675f, 116.28f, 103.53f)

class Click(val x: Float, val y: Float, val inside: Boolean)
class Box(val x0: Float, val y0: Float, val x1: Float, val y1: Float)
class Prediction(val lowRes: FloatBuffer, val iou: FloatBuffer)  // (1, 4, S/4, S/4) and (1, 4)

fun floats(count: Int): FloatBuffer =
    ByteBuffer.allocateDirect(4 * count).order(ByteOrder.nativeOrder()).asFloatBuffer()

/** Bilinear with antialias, as Pillow does it: [outputs] columns instead of [width]. The picture comes back transposed. */
fun resample(rgb: IntArray, width: Int, height: Int, outputs: Int): IntArray {
    val scale = width.toDouble() / outputs
    val reach = max(scale, 1.0)
    val out = IntArray(outputs * height * 3)
    for (i in 0 until outputs) {
        val centre = (i + 0.5) * scale
        val first = max(0, (centre - reach + 0.5).toInt())
        val end = min(width, (centre + reach + 0.5).toInt())
        val weights = DoubleArray(end - first) { max(0.0, 1 - abs(first + it + 0.5 - centre) / reach) }
        val total = weights.sum()
        for (y in 0 until height) for (c in 0 until 3) {
            var sum = 0.0
            for (k in weights.indices) sum += weights[k] * rgb[(y * width + first + k) * 3 + c]
            out[(i * height + y) * 3 + c] = (sum / total + 0.5).toInt()
        }
    }
    return out
}

/** For each photo pixel of one axis the four mask cells that make it, and their weights. */
class Taps(resized: Int, original: Int) {
    val cell = IntArray(4 * original)
    val weight = FloatArray(4 * original)

    init {
        for (i in 0 until original) {
            val (a, b, t) = between(i, resized, original)                    // photo -> resized photo
            for ((k, pixel, share) in listOf(Triple(0, a, 1 - t), Triple(2, b, t))) {
                val (c, d, u) = between(pixel, CELLS, SIDE)                  // frame -> mask
                cell[4 * i + k] = c
                cell[4 * i + k + 1] = d
                weight[4 * i + k] = (share * (1 - u)).toFloat()
                weight[4 * i + k + 1] = (share * u).toFloat()
            }
        }
    }

    private fun between(i: Int, inputs: Int, outputs: Int): Triple<Int, Int, Double> {
        val at = max(0.0, (i + 0.5) * inputs / outputs - 0.5)
        val low = min(at.toInt(), inputs - 1)
        return Triple(low, min(low + 1, inputs - 1), at - low)
    }
}

class Segmenter(encoder: ByteBuffer, decoder: ByteBuffer, threads: Int = 4) : AutoCloseable {
    private val options = Interpreter.Options().setNumThreads(threads)
    private val encoder = Interpreter(encoder, options)
    private val decoder = Interpreter(decoder, options)
    private val embeddings = floats(GRID * GRID * CHANNELS)
    private var width = 0
    private var height = 0
    private var newWidth = 0
    private var newHeight = 0

    /** The encoder's input (1, S, S, 3). */
    fun image(photo: Bitmap): FloatBuffer {
        width = photo.width
        height = photo.height
        val scale = SIDE.toDouble() / max(width, height)
        newWidth = (width * scale + 0.5).toInt()
        newHeight = (height * scale + 0.5).toInt()
        val argb = IntArray(width * height)
        photo.getPixels(argb, 0, width, 0, 0, width, height)
        val rgb = IntArray(3 * argb.size) { argb[it / 3] shr (16 - 8 * (it % 3)) and 255 }
        val small = resample(resample(rgb, width, height, newWidth), height, newWidth, newHeight) // each transposes it
        val image = floats(SIDE * SIDE * 3)
        for (y in 0 until SIDE) for (x in 0 until SIDE) for (c in 0 until 3) {
            val inside = y < newHeight && x < newWidth
            image.put(if (inside) small[(y * newWidth + x) * 3 + c].toFloat() else MEAN[c])
        }
        image.rewind()
        return image
    }

    /** Once a photo. */
    fun setPhoto(photo: Bitmap) {
        embeddings.rewind()
        encoder.runSignature(mapOf("image" to image(photo)), mapOf("image_embeddings" to embeddings), "serving_default")
    }

    /** Once a tap: all four outputs. */
    fun predict(clicks: List<Click>, box: Box? = null): Prediction {
        val points = clicks.map { Triple(it.x, it.y, if (it.inside) 1f else 0f) }.toMutableList()
        if (box != null) points += listOf(Triple(box.x0, box.y0, 2f), Triple(box.x1, box.y1, 3f))
        else points += Triple(0f, 0f, -1f)
        require(points.size <= SLOTS) { "the decoder has $SLOTS slots" }
        val coords = floats(SLOTS * 2)
        val labels = floats(SLOTS)
        for (slot in 0 until SLOTS) {
            val (x, y, label) = points.getOrElse(slot) { Triple(0f, 0f, -2f) }
            coords.put(x * newWidth / width).put(y * newHeight / height)
            labels.put(label)
        }
        val inputs = mapOf(
            "image_embeddings" to embeddings, "point_coords" to coords, "point_labels" to labels,
            "mask_input" to floats(CELLS * CELLS), "has_mask_input" to floats(1),
        )
        val prediction = Prediction(floats(4 * CELLS * CELLS), floats(4))
        inputs.values.forEach { it.rewind() }
        decoder.runSignature(inputs, mapOf("low_res_masks" to prediction.lowRes, "iou_predictions" to prediction.iou), DECODER)
        return prediction
    }

    /** Whether each pixel of the photo is inside output number [output]. */
    fun mask(lowRes: FloatBuffer, output: Int): BooleanArray {
        val rows = Taps(newHeight, height)
        val columns = Taps(newWidth, width)
        val mask = BooleanArray(width * height)
        val line = FloatArray(CELLS)
        for (y in 0 until height) {
            for (x in 0 until CELLS) {
                line[x] = 0f
                for (k in 4 * y until 4 * y + 4)
                    line[x] += rows.weight[k] * lowRes.get((output * CELLS + rows.cell[k]) * CELLS + x)
            }
            for (x in 0 until width) {
                var logit = 0f
                for (k in 4 * x until 4 * x + 4) logit += columns.weight[k] * line[columns.cell[k]]
                mask[y * width + x] = logit > 0
            }
        }
        return mask
    }

    override fun close() {
        encoder.close()
        decoder.close()
    }
}
