/* The sample's camera.c with a driver of the tests' own below it: /dev/double gives the frames that a test fills in. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <linux/videodev2.h>

#define DEVICE "/dev/double"
#define ROOM (1 << 16)
#define MOST 4

struct driver {
  uint32_t capabilities, format; /* the only one that it has */
  uint32_t width, height, stride; /* what it gives, whatever is asked for */
  int32_t frames, sizes[MOST], damaged[MOST];
  uint8_t content[MOST][ROOM];
  /* what camera.c did */
  int32_t given, queued, mapped, streams;
};

struct driver driver;
static uint8_t buffers[MOST][ROOM];
static uint32_t queue[64], queue_first, queue_last;

static int fake_stat(const char *path, struct stat *facts) {
  if (strcmp(path, DEVICE)) return stat(path, facts);
  memset(facts, 0, sizeof *facts);
  facts->st_mode = S_IFCHR;
  return 0;
}

static int fake_open(const char *path, int flags) { return open(strcmp(path, DEVICE) ? path : "/dev/zero", flags); }

static int fail(int number) {
  errno = number;
  return -1;
}

static int fake_ioctl(int device, unsigned long request, void *argument) {
  struct v4l2_buffer *buffer = argument;
  (void)device;
  switch (request) {
    case VIDIOC_QUERYCAP:
      ((struct v4l2_capability *)argument)->capabilities = driver.capabilities;
      queue_first = queue_last = 0;
      return 0;
    case VIDIOC_S_FMT: {
      struct v4l2_pix_format *wanted = &((struct v4l2_format *)argument)->fmt.pix;
      wanted->pixelformat = driver.format;
      wanted->width = driver.width;
      wanted->height = driver.height;
      wanted->bytesperline = driver.stride;
      return 0;
    }
    case VIDIOC_REQBUFS:
      return 0;
    case VIDIOC_QUERYBUF:
      buffer->length = ROOM;
      buffer->m.offset = buffer->index * ROOM;
      return 0;
    case VIDIOC_QBUF:
      driver.queued++;
      queue[queue_last++ % 64] = buffer->index;
      return 0;
    case VIDIOC_DQBUF:
      if (driver.given == driver.frames) return fail(ENODEV);
      if (queue_first == queue_last || !driver.streams) return fail(EINVAL);
      buffer->index = queue[queue_first++ % 64];
      buffer->bytesused = (uint32_t)driver.sizes[driver.given];
      buffer->flags = driver.damaged[driver.given] ? V4L2_BUF_FLAG_ERROR : 0;
      memcpy(buffers[buffer->index], driver.content[driver.given++], ROOM);
      return 0;
    case VIDIOC_STREAMON:
      driver.streams++;
      return 0;
    case VIDIOC_STREAMOFF:
      driver.streams--;
      return 0;
    default:
      return fail(ENOTTY);
  }
}

static void *fake_mmap(off_t offset) {
  driver.mapped++;
  return buffers[offset / ROOM];
}

#define stat(path, facts) fake_stat(path, facts)
#define open(path, flags) fake_open(path, flags)
#define ioctl(device, request, argument) fake_ioctl(device, request, argument)
#define mmap(at, size, protection, flags, device, offset) fake_mmap(offset)
#define munmap(at, size) ((void)(at), (void)(size), driver.mapped--)
#include "camera.c"
