/* V4L2 with mapped buffers, which needs no library: NV12 where the camera has it, otherwise YUYV or JPEG.
 *
 * No colour space is asked for: edgevit takes NV12 as ITU-R BT.601 of limited range, which is what webcams give. */
#define _GNU_SOURCE
#include "camera.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <linux/videodev2.h>

#define WIDTH 640 /* asked for; the camera may give another size */
#define HEIGHT 480
#define BUFFERS 4
#define PATIENCE_MS 5000
#define FRAMES_PER_SECOND 30 /* of a folder */

struct camera {
  int device; /* -1: a folder */
  uint32_t format;
  int32_t width, height;
  size_t stride;
  int buffer_count;
  void *buffers[BUFFERS];
  size_t sizes[BUFFERS];
  struct dirent **names; /* of a folder, sorted */
  int name_count, next_name;
  char *folder;
  struct timespec due;
};

static int call(int device, unsigned long request, void *argument) {
  int status;
  do status = ioctl(device, request, argument);
  while (status < 0 && errno == EINTR);
  return status;
}

static int refuse(char *why, size_t why_size, const char *what) {
  snprintf(why, why_size, "%s: %s", what, strerror(errno));
  return -1;
}

/* ---- A device ---- */

/* The first of our formats that the camera takes. */
static int choose_format(camera *from, char *why, size_t why_size) {
  static const uint32_t ours[] = {V4L2_PIX_FMT_NV12, V4L2_PIX_FMT_YUYV, V4L2_PIX_FMT_MJPEG, V4L2_PIX_FMT_JPEG};
  for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
    struct v4l2_format wanted = {.type = V4L2_BUF_TYPE_VIDEO_CAPTURE};
    wanted.fmt.pix.width = WIDTH;
    wanted.fmt.pix.height = HEIGHT;
    wanted.fmt.pix.pixelformat = ours[i];
    if (call(from->device, VIDIOC_S_FMT, &wanted) || wanted.fmt.pix.pixelformat != ours[i]) continue;
    from->format = ours[i];
    from->width = (int32_t)wanted.fmt.pix.width;
    from->height = (int32_t)wanted.fmt.pix.height;
    from->stride = wanted.fmt.pix.bytesperline;
    if (from->stride == 0) from->stride = wanted.fmt.pix.width * (ours[i] == V4L2_PIX_FMT_YUYV ? 2 : 1);
    return 0;
  }
  snprintf(why, why_size, "the camera gives none of NV12, YUYV and JPEG; v4l2-ctl --list-formats shows what it has");
  return -1;
}

static int start_device(camera *from, char *why, size_t why_size) {
  struct v4l2_capability able = {0};
  if (call(from->device, VIDIOC_QUERYCAP, &able)) return refuse(why, why_size, "not a V4L2 device");
  const uint32_t flags = able.capabilities & V4L2_CAP_DEVICE_CAPS ? able.device_caps : able.capabilities;
  if (!(flags & V4L2_CAP_VIDEO_CAPTURE) || !(flags & V4L2_CAP_STREAMING)) {
    snprintf(why, why_size, "the device gives no video in one plane; a camera often has several, as /dev/video2");
    return -1;
  }
  if (choose_format(from, why, why_size)) return -1;
  struct v4l2_requestbuffers wanted = {
      .count = BUFFERS, .type = V4L2_BUF_TYPE_VIDEO_CAPTURE, .memory = V4L2_MEMORY_MMAP};
  if (call(from->device, VIDIOC_REQBUFS, &wanted)) return refuse(why, why_size, "no buffers");
  for (uint32_t i = 0; i < wanted.count && i < BUFFERS; i++) {
    struct v4l2_buffer buffer = {.index = i, .type = V4L2_BUF_TYPE_VIDEO_CAPTURE, .memory = V4L2_MEMORY_MMAP};
    if (call(from->device, VIDIOC_QUERYBUF, &buffer)) return refuse(why, why_size, "no buffer");
    void *at = mmap(NULL, buffer.length, PROT_READ | PROT_WRITE, MAP_SHARED, from->device, buffer.m.offset);
    if (at == MAP_FAILED) return refuse(why, why_size, "a buffer cannot be mapped");
    from->buffers[i] = at;
    from->sizes[i] = buffer.length;
    from->buffer_count++;
    if (call(from->device, VIDIOC_QBUF, &buffer)) return refuse(why, why_size, "a buffer is not taken");
  }
  int type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
  return call(from->device, VIDIOC_STREAMON, &type) ? refuse(why, why_size, "the camera does not start") : 0;
}

void convert_yuyv(const uint8_t *from, size_t stride, int32_t width, int32_t height, uint8_t *luma, uint8_t *colours) {
  for (int32_t y = 0; y < height; y++) {
    const uint8_t *row = from + (size_t)y * stride;
    for (int32_t x = 0; x < width; x++) *luma++ = row[2 * x];
    if (y % 2) continue;
    const uint8_t *below = y + 1 < height ? row + stride : row;
    for (int32_t x = 0; x < width; x++) *colours++ = (uint8_t)((row[2 * x + 1] + below[2 * x + 1] + 1) / 2);
  }
}

/* 1, or 0 for a frame that is not whole: webcams begin with some. */
static int copy_frame(const camera *from, const uint8_t *bytes, size_t size, picture *frame) {
  char why[128];
  if (from->format == V4L2_PIX_FMT_MJPEG || from->format == V4L2_PIX_FMT_JPEG) {
    return decode_bytes(bytes, size, frame, why, sizeof why) == 0;
  }
  const int packed = from->format == V4L2_PIX_FMT_YUYV;
  const size_t rows = (size_t)from->height, half = (rows + 1) / 2;
  const size_t stride = packed ? (size_t)from->width : from->stride;
  const size_t needed = stride * (rows + half);
  if (size < (packed ? from->stride * rows : needed) || picture_reserve(frame, needed)) return 0;
  uint8_t *colours = frame->bytes + stride * rows;
  if (packed) {
    convert_yuyv(bytes, from->stride, from->width, from->height, frame->bytes, colours);
  } else {
    memcpy(frame->bytes, bytes, needed);
  }
  frame->image = (edgevit_image){frame->bytes,  from->width,     from->height,     (ptrdiff_t)stride,
                                 EDGEVIT_NV12, {colours, NULL}, (ptrdiff_t)stride};
  return 1;
}

static int next_of_device(camera *from, picture *frame, char *why, size_t why_size) {
  for (;;) {
    struct pollfd ready = {.fd = from->device, .events = POLLIN};
    const int count = poll(&ready, 1, PATIENCE_MS);
    if (count < 0 && errno == EINTR) return 0;
    if (count < 0) return refuse(why, why_size, "waiting for the camera");
    if (count == 0) {
      snprintf(why, why_size, "no frame for %d seconds", PATIENCE_MS / 1000);
      return -1;
    }
    struct v4l2_buffer buffer = {.type = V4L2_BUF_TYPE_VIDEO_CAPTURE, .memory = V4L2_MEMORY_MMAP};
    if (call(from->device, VIDIOC_DQBUF, &buffer)) {
      if (errno == EAGAIN) continue;
      return refuse(why, why_size, "the camera is gone");
    }
    const int usable = !(buffer.flags & V4L2_BUF_FLAG_ERROR) && buffer.index < (uint32_t)from->buffer_count &&
                       copy_frame(from, from->buffers[buffer.index], buffer.bytesused, frame);
    if (call(from->device, VIDIOC_QBUF, &buffer)) return refuse(why, why_size, "the camera is gone");
    if (usable) return 1;
  }
}

/* ---- A folder ---- */

static int is_image(const struct dirent *entry) {
  static const char *const endings[] = {".jpg", ".jpeg", ".png"};
  const char *ending = strrchr(entry->d_name, '.');
  for (size_t i = 0; ending && i < sizeof endings / sizeof *endings; i++) {
    if (strcasecmp(ending, endings[i]) == 0) return 1;
  }
  return 0;
}

static int next_of_folder(camera *from, picture *frame, char *why, size_t why_size) {
  if (from->next_name == from->name_count) return 0;
  if (from->next_name == 0) clock_gettime(CLOCK_MONOTONIC, &from->due);
  clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &from->due, NULL);
  from->due.tv_nsec += 1000000000L / FRAMES_PER_SECOND;
  if (from->due.tv_nsec >= 1000000000L) {
    from->due.tv_nsec -= 1000000000L;
    from->due.tv_sec++;
  }
  const char *name = from->names[from->next_name++]->d_name;
  const size_t room = strlen(from->folder) + strlen(name) + 2;
  char reason[160], *path = malloc(room);
  if (!path) return refuse(why, why_size, name);
  snprintf(path, room, "%s/%s", from->folder, name);
  const int status = decode_file(path, frame, reason, sizeof reason);
  if (status) snprintf(why, why_size, "%s: %s", path, reason);
  free(path);
  return status ? -1 : 1;
}

/* ---- Both ---- */

camera *camera_open(const char *source, char *why, size_t why_size) {
  struct stat facts;
  camera *from = calloc(1, sizeof *from);
  if (!from || stat(source, &facts)) {
    refuse(why, why_size, source);
    free(from);
    return NULL;
  }
  int status = 0;
  from->device = -1;
  if (S_ISDIR(facts.st_mode)) {
    from->folder = strdup(source);
    from->name_count = scandir(source, &from->names, is_image, alphasort);
    if (from->name_count < 0 || !from->folder) {
      from->name_count = 0;
      status = refuse(why, why_size, source);
    } else if (from->name_count == 0) {
      snprintf(why, why_size, "%s has no .jpg or .png files", source);
      status = -1;
    }
  } else if (!S_ISCHR(facts.st_mode)) {
    snprintf(why, why_size, "%s is neither a camera nor a folder", source);
    status = -1;
  } else if ((from->device = open(source, O_RDWR | O_NONBLOCK | O_CLOEXEC)) < 0) {
    status = refuse(why, why_size, source);
  } else {
    status = start_device(from, why, why_size);
  }
  if (status == 0) return from;
  camera_close(from);
  return NULL;
}

int camera_next(camera *from, picture *frame, char *why, size_t why_size) {
  return from->device < 0 ? next_of_folder(from, frame, why, why_size) : next_of_device(from, frame, why, why_size);
}

void camera_close(camera *from) {
  if (!from) return;
  if (from->device >= 0) {
    int type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
    call(from->device, VIDIOC_STREAMOFF, &type);
    for (int i = 0; i < from->buffer_count; i++) munmap(from->buffers[i], from->sizes[i]);
    close(from->device);
  }
  for (int i = 0; i < from->name_count; i++) free(from->names[i]);
  free(from->names);
  free(from->folder);
  free(from);
}
