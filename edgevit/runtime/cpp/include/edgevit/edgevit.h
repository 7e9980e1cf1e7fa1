/* edgevit: a bundle inside an application, by a C interface that never throws.
 *
 * Ownership
 * - What a function writes through an `edgevit_engine **` is the caller's, who frees it with edgevit_close().
 * - Every `const char *` that a function returns, or that stands in a struct which it fills, belongs to the engine and
 *   lives as long as it; the texts of edgevit_last_message() and edgevit_last_hint() belong to the calling thread and
 *   live until its next call.
 * - Pixels and results lie in the caller's memory. Nothing keeps a pointer to them after the call has returned.
 *
 * Errors
 * - What can fail returns an edgevit_status. Where it is not EDGEVIT_OK, nothing was opened, and results are not valid;
 *   edgevit_last_message() says in one sentence what happened, edgevit_last_hint() what to do about it.
 * - No function ends the process; NULL for an engine is EDGEVIT_ARGUMENT, and edgevit_close(NULL) does nothing.
 *
 * Growth
 * - A struct with a `struct_size` may get further fields at its end. Whoever fills it writes sizeof of the struct there,
 *   and the library reads and writes no more than that; zeros stand for what is usual.
 *
 * Threads
 * - An engine may be used by several threads at a time; each call takes a free request or waits for one.
 * - edgevit_close() may not run beside another call of the same engine.
 */
#ifndef EDGEVIT_EDGEVIT_H
#define EDGEVIT_EDGEVIT_H

#include <stddef.h>
#include <stdint.h>

/* Of this header; edgevit_abi_version() tells the library's. It rises where a program has to be compiled again. */
#define EDGEVIT_ABI_VERSION 1

#if defined(_WIN32)
#define EDGEVIT_API __declspec(dllexport)
#else
#define EDGEVIT_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* What a call came to. The names are those of `EdgevitError.code` in Python; docs/bundle.md says when each is given. */
typedef enum edgevit_status {
  EDGEVIT_OK = 0,
  EDGEVIT_ERROR = 1,
  EDGEVIT_ARGUMENT = 2,
  EDGEVIT_NOT_A_BUNDLE = 3,
  EDGEVIT_MANIFEST = 4,
  EDGEVIT_SCHEMA = 5,
  EDGEVIT_UNSAFE = 6,
  EDGEVIT_DAMAGED = 7,
  EDGEVIT_SIGNATURE = 8,
  EDGEVIT_PORTABLE = 9,
  EDGEVIT_LIBRARY = 10,
  EDGEVIT_DEVICE = 11,
  EDGEVIT_CANARY = 12,
  EDGEVIT_IMAGE = 13
} edgevit_status;

/* How the bytes of an image are laid out. */
typedef enum edgevit_format {
  EDGEVIT_RGB = 0,
  EDGEVIT_BGR = 1,
  EDGEVIT_RGBA = 2, /* alpha is dropped */
  EDGEVIT_BGRA = 3,
  EDGEVIT_GREY = 4,
  EDGEVIT_NV12 = 5, /* planes: luma, then U and V interleaved at half the size; ITU-R BT.601, limited range */
  EDGEVIT_I420 = 6  /* planes: luma, U, V; otherwise as NV12 */
} edgevit_format;

/* An image in the caller's memory. */
typedef struct edgevit_image {
  const uint8_t *data;   /* first byte of the first row */
  int32_t width;         /* pixels */
  int32_t height;        /* pixels */
  ptrdiff_t stride;      /* bytes from a row to the next; 0: rows lie without gaps. May be negative but for planes */
  edgevit_format format;
  const uint8_t *planes[2]; /* NV12: {UV, NULL}; I420: {U, V}; NULL: they follow the luma's rows without gaps */
  ptrdiff_t plane_stride;   /* bytes of a row of the planes; 0: without gaps */
} edgevit_image;

/* Whether an engine first answers the bundle's canary, three images at most; docs/bundle.md has the rule. */
typedef enum edgevit_check {
  EDGEVIT_CHECK_AUTO = 0,   /* where the place is another than at the build, and has not passed before */
  EDGEVIT_CHECK_ALWAYS = 1, /* at every opening */
  EDGEVIT_CHECK_NEVER = 2
} edgevit_check;

/* How a bundle is opened. `edgevit_options options = {0}; options.struct_size = sizeof options;` is what is usual. */
typedef struct edgevit_options {
  size_t struct_size;
  const char *const *settings; /* "key=value" texts that override the bundle's own, such as "hint=throughput" */
  size_t setting_count;
  int32_t threads;          /* on a CPU; 0: chosen on the device, or by the bundle. The same as the setting */
  int32_t skip_hashes;      /* 1: presence and sizes of the files are checked, and not what they hold */
  const char *public_key;   /* PEM text: the bundle must be signed by it; NULL: no signature is asked for */
  edgevit_check check;
  const char *cache_folder; /* for passes of the canary and what was compiled; NULL: as $EDGEVIT_CACHE says; "": none */
} edgevit_options;

/* An opened bundle. */
typedef struct edgevit_engine edgevit_engine;

/* One class of an image. */
typedef struct edgevit_class {
  const char *label;  /* its name, or its index as text; the engine's */
  int32_t index;      /* its place among the outputs */
  double probability; /* among all classes or, where each label is by itself, that it is there; NaN for a regression */
  double value;       /* the output itself */
} edgevit_class;

/* Where a tensor lies. */
typedef enum edgevit_memory {
  EDGEVIT_HOST = 0,
  EDGEVIT_CUDA = 1,    /* device memory of the engine's GPU, for TensorRT */
  EDGEVIT_OPENVINO = 2 /* `data` is an `ov::Tensor *`, such as an `ov::RemoteTensor` of a GPU */
} edgevit_memory;

/* A tensor in the caller's memory, contiguous. */
typedef struct edgevit_buffer {
  void *data;
  size_t size_bytes; /* as much as lies there; at least what the tensor needs */
  edgevit_memory memory;
} edgevit_buffer;

/* What an opened bundle is. Texts are the engine's. */
typedef struct edgevit_info {
  size_t struct_size;
  const char *name;
  const char *task; /* "classify", "embed", "features", or of a whole model "map", "depth", "segment", "detect", "pose" */
  const char *target;
  const char *precision; /* "fp32", "fp16", "bf16", "int8", "fp8" */
  const char *backend;   /* "openvino", "onnxruntime", "tensorrt", "tensorrt_rtx" */
  const char *backend_version;
  const char *device;  /* the library's name of it */
  const char *scores;  /* of classify: "softmax", "sigmoid", or "identity" for numbers */
  const char *figures; /* what the build measured: JSON text */
  int32_t input_height;
  int32_t input_width;
  int32_t batch_least; /* images that the engine takes at a time; calls take any number of them */
  int32_t batch_best;
  int32_t batch_largest;
  int32_t classes;    /* 0 for another task than classify */
  int32_t has_labels; /* 0: edgevit_label() gives the index as text */
  int32_t output_count;
  int32_t setting_count;
  int32_t difference_count;
  int32_t streams; /* calls that are computed side by side; further ones wait */
} edgevit_info;

/* One output of an engine: float32. */
typedef struct edgevit_output {
  size_t struct_size;
  const char *name;
  const int64_t *shape; /* of one image, without the batch; the engine's */
  int32_t rank;
  size_t values; /* numbers of one image */
} edgevit_output;

/* What was done about the bundle's canary, and what came of it. Figures are NaN where there are none. */
typedef struct edgevit_canary {
  size_t struct_size;
  const char *status;      /* "passed", "remembered", "same place", "not checked", or "none": the bundle has none */
  double sqnr_db;          /* of the answers here against the float model's; infinite where they are equal */
  double built_db;         /* the same at the build */
  double least_db;         /* what is asked */
  double against_build_db; /* of the answers here against those at the build */
  int32_t inferences;      /* calls of the engine that it took */
} edgevit_canary;

/* ---- Opening ---- */

/* Opens a bundle, a folder or a packed `.edgevit` file. It checks manifest, signature, hashes and device before it loads
 * anything. `options` may be NULL. `*engine` is NULL where it fails. */
EDGEVIT_API edgevit_status edgevit_open(const char *path, const edgevit_options *options, edgevit_engine **engine);

/* Frees an engine. */
EDGEVIT_API void edgevit_close(edgevit_engine *engine);

/* ---- Answers to images ---- */

/* The `k` most probable classes of an image, best first; of a model of numbers, the largest of these. `classes` has room
 * for `k`; `*count` becomes how many there are: k, or all that the model has. */
EDGEVIT_API edgevit_status edgevit_classify(edgevit_engine *engine, const edgevit_image *image, int32_t k,
                                            edgevit_class *classes, int32_t *count);

/* The same of several images, which may be of different sizes and formats: those of image i begin at `classes + i * k`. */
EDGEVIT_API edgevit_status edgevit_classify_batch(edgevit_engine *engine, const edgevit_image *images,
                                                  int32_t image_count, int32_t k, edgevit_class *classes,
                                                  int32_t *count);

/* The embedding of an image: as many numbers as the output has; `capacity` is how many fit into `embedding`. */
EDGEVIT_API edgevit_status edgevit_embed(edgevit_engine *engine, const edgevit_image *image, float *embedding,
                                         size_t capacity);

/* The same of several images, one after the other. */
EDGEVIT_API edgevit_status edgevit_embed_batch(edgevit_engine *engine, const edgevit_image *images, int32_t image_count,
                                               float *embeddings, size_t capacity);

/* The feature maps of an image: a buffer in host memory for each output, in the order of edgevit_get_output(). */
EDGEVIT_API edgevit_status edgevit_features(edgevit_engine *engine, const edgevit_image *image,
                                            const edgevit_buffer *outputs, int32_t output_count);

/* The same of several images: each output holds (image_count, …). */
EDGEVIT_API edgevit_status edgevit_features_batch(edgevit_engine *engine, const edgevit_image *images,
                                                  int32_t image_count, const edgevit_buffer *outputs,
                                                  int32_t output_count);

/* ---- The parts of it, for whoever measures or batches by himself ---- */

/* From an image to the engine's input: input_height · input_width · 3 bytes, RGB, as at the build. */
EDGEVIT_API edgevit_status edgevit_preprocess(edgevit_engine *engine, const edgevit_image *image, uint8_t *pixels,
                                              size_t capacity);

/* All outputs of prepared pixels, (image_count, input_height, input_width, 3) bytes, whatever the task: one buffer an
 * output, (image_count, …) float32 each. Nothing is checked for being finite. Memory of a device is taken for batches
 * within the engine's range only, and is used in place. */
EDGEVIT_API edgevit_status edgevit_run(edgevit_engine *engine, const edgevit_buffer *pixels, int32_t image_count,
                                       const edgevit_buffer *outputs, int32_t output_count);

/* The classes of one image's logits, as edgevit_run() gives them; otherwise as edgevit_classify(). */
EDGEVIT_API edgevit_status edgevit_rank(edgevit_engine *engine, const float *logits, int32_t k, edgevit_class *classes,
                                        int32_t *count);

/* ---- What it is ---- */

EDGEVIT_API edgevit_status edgevit_get_info(const edgevit_engine *engine, edgevit_info *info);

/* NULL where there is no such class. */
EDGEVIT_API const char *edgevit_label(const edgevit_engine *engine, int32_t index);

EDGEVIT_API edgevit_status edgevit_get_output(const edgevit_engine *engine, int32_t index, edgevit_output *output);

EDGEVIT_API edgevit_status edgevit_get_canary(const edgevit_engine *engine, edgevit_canary *canary);

/* A setting as used, "key=value"; NULL beyond the last. */
EDGEVIT_API const char *edgevit_setting(const edgevit_engine *engine, int32_t index);

/* What here differs from where the bundle was measured, a sentence each; NULL beyond the last. */
EDGEVIT_API const char *edgevit_difference(const edgevit_engine *engine, int32_t index);

/* ---- Errors and versions ---- */

/* Of the calling thread's last call that has a status. */
EDGEVIT_API edgevit_status edgevit_last_status(void);
EDGEVIT_API const char *edgevit_last_message(void);
EDGEVIT_API const char *edgevit_last_hint(void);

/* "ok", "argument", "not-a-bundle" …; "error" for a number that is none of them. */
EDGEVIT_API const char *edgevit_status_name(edgevit_status status);

EDGEVIT_API const char *edgevit_version(void);
EDGEVIT_API int32_t edgevit_abi_version(void);

/* The engine libraries that were compiled in, such as "openvino,onnxruntime"; empty where there are none. */
EDGEVIT_API const char *edgevit_backends(void);

#ifdef __cplusplus
}
#endif

#endif /* EDGEVIT_EDGEVIT_H */
