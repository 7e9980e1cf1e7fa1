#define _POSIX_C_SOURCE 200809L
#include "output.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

void output_begin(void) {
  int opened;
  do opened = open("/dev/null", O_RDONLY); /* the lowest number that is free; writing to it fails, as it should */
  while (opened >= 0 && opened <= STDERR_FILENO);
  if (opened >= 0) close(opened);
}

/* The same as `edgevit run` has, and the tabulator and the end of a line. */
static int is_control(unsigned code) {
  return code < 0x20 || (code >= 0x7f && code <= 0x9f) || code == 0x61c || code == 0x200e || code == 0x200f ||
         (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);
}

void output_text(const char *text) {
  const unsigned char *at = (const unsigned char *)text;
  while (*at) {
    unsigned code = *at < 0x80 ? *at : 0xffff; /* every control character has at most three bytes */
    size_t length = 1;
    if ((at[0] & 0xe0) == 0xc0 && at[1]) {
      code = (at[0] & 0x1fU) << 6 | (at[1] & 0x3fU);
      length = 2;
    } else if ((at[0] & 0xf0) == 0xe0 && at[1] && at[2]) {
      code = (at[0] & 0xfU) << 12 | (at[1] & 0x3fU) << 6 | (at[2] & 0x3fU);
      length = 3;
    }
    if (!is_control(code)) {
      fwrite(at, 1, length, stdout);
    } else if (code == '\n' || code == '\t' || code == '\r') {
      printf("\\%c", code == '\n' ? 'n' : code == '\t' ? 't' : 'r');
    } else {
      printf(code < 0x100 ? "\\x%02x" : "\\u%04x", code);
    }
    at += length;
  }
}

int output_end(void) {
  const int lost = ferror(stdout);
  if (fflush(stdout)) {
    fprintf(stderr, "error: standard output cannot be written: %s\n", strerror(errno));
  } else if (lost) {
    fprintf(stderr, "error: standard output could not be written, and some answers are lost\n");
  } else {
    return 0;
  }
  fprintf(stderr, "hint: make room, or send it elsewhere\n");
  return -1;
}
