/* From a JPEG or PNG file to upright 8-bit RGB, with the very bytes that edgevit in Python makes of it. A PNG
 * that is cut short is refused also where only what follows its last pixel is lost, which Python takes. */
#ifndef DECODE_H
#define DECODE_H

#include <stddef.h>
#include <stdint.h>

#include <edgevit/edgevit.h>

#ifdef __cplusplus
extern "C" {
#endif

/* An image and its memory, which the next one uses again. Begin with zeros: `picture photo = {0};` */
typedef struct picture {
  uint8_t *bytes;
  size_t room;
  edgevit_image image; /* what lies in `bytes`, as edgevit takes it */
} picture;

/* 0, or -1 with a sentence in `why`. */
int decode_file(const char *path, picture *photo, char *why, size_t why_size);

/* The same of a file's content, such as a frame of a camera that gives JPEG. */
int decode_bytes(const uint8_t *bytes, size_t size, picture *photo, char *why, size_t why_size);

/* Room for this many bytes; 0, or -1 where there is none. */
int picture_reserve(picture *photo, size_t size);

void picture_free(picture *photo);

#ifdef __cplusplus
}
#endif

#endif
