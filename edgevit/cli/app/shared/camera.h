/* Frames, one after the other: of a V4L2 camera, or of a folder of images that are played as one. */
#ifndef CAMERA_H
#define CAMERA_H

#include "decode.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct camera camera;

/* `source` is a device such as /dev/video0, or a folder. NULL, with a sentence in `why`. */
camera *camera_open(const char *source, char *why, size_t why_size);

/* Waits for a frame, which is copied into `frame`. 1; 0 where there are no more; -1 with a sentence in `why`. */
int camera_next(camera *from, picture *frame, char *why, size_t why_size);

void camera_close(camera *from);

/* From YUYV, two bytes a pixel, to NV12, whose colours are those of two rows. `width` is even. */
void convert_yuyv(const uint8_t *from, size_t stride, int32_t width, int32_t height, uint8_t *luma, uint8_t *colours);

#ifdef __cplusplus
}
#endif

#endif
