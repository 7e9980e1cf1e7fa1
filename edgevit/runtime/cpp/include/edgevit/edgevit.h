/* edgevit: a bundle inside an application, by a C interface that never throws.
 *
 * Ownership
 * - What a function writes through an `edgevit_engine **` is the caller's, who frees it with edgevit_close().
 * - Every `const char *` that a function returns, or that stands in a struct which it fills, belongs to the engine and
 *   lives as long as it; the texts of edgevit_last_message() and edgevit_last_hint() belong to the calling thread and
 *   live until its next call.
 * - Pixels and results lie in the caller's memory. Nothing keeps a pointer to them after the call has returned.
 *
 * Threads
 * - An engine may be used by several threads at a time; each call takes a free request or waits for one.
 * - edgevit_close() may not run beside another call of the same engine.
 */
#ifndef EDGEVIT_EDGEVIT_H
#define EDGEVIT_EDGEVIT_H

#include <stddef.h>
#include <stdint.h>

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

#ifdef __cplusplus
}
#endif

#endif /* EDGEVIT_EDGEVIT_H */
