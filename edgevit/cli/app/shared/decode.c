/* libjpeg-turbo and libpng, and not stb_image: every Linux distribution has both, and Python's Pillow decodes with
 * them, so that an image has the same bytes here as where the bundle was judged. stb_image rounds differently.
 *
 * As in Python: EXIF's orientation is applied, transparency is dropped, CMYK is converted without a profile, 16 bits
 * become 8, and a file that is cut short or damaged is refused. Not as there: WebP and BMP are refused, and an
 * orientation that stands in XMP only is not seen. */
#define _POSIX_C_SOURCE 200809L
#include "decode.h"

#include <errno.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <jpeglib.h> /* after stdio.h, which it needs */
#include <jerror.h>
#include <png.h>

#define MOST_PIXELS 89478485 /* as in Python: a quarter of a GiB as RGB */
#define MOST_BYTES (256L << 20)

static int refuse(char *why, size_t why_size, const char *reason) {
  snprintf(why, why_size, "%s", reason);
  return -1;
}

int picture_reserve(picture *photo, size_t size) {
  if (size > photo->room) {
    free(photo->bytes);
    photo->bytes = malloc(size);
    photo->room = photo->bytes ? size : 0;
  }
  return photo->bytes ? 0 : -1;
}

void picture_free(picture *photo) {
  free(photo->bytes);
  memset(photo, 0, sizeof *photo);
}

/* ---- EXIF's orientation ---- */

static unsigned read_number(const uint8_t *at, int bytes, int little) {
  unsigned value = 0;
  for (int i = 0; i < bytes; i++) value = value << 8 | at[little ? bytes - 1 - i : i];
  return value;
}

/* 1 to 8; 1, upright, where a TIFF header and its first directory say nothing that can be read. */
static int read_orientation(const uint8_t *exif, size_t size) {
  if (size < 8 || (memcmp(exif, "II*\0", 4) && memcmp(exif, "MM\0*", 4))) return 1;
  const int little = exif[0] == 'I';
  const size_t directory = read_number(exif + 4, 4, little);
  if (directory > size - 2) return 1;
  const size_t entries = read_number(exif + directory, 2, little);
  for (size_t i = 0; i < entries; i++) {
    const size_t at = directory + 2 + 12 * i;
    if (at + 12 > size) return 1;
    const uint8_t *entry = exif + at;
    if (read_number(entry, 2, little) != 0x0112) continue;
    const unsigned kind = read_number(entry + 2, 2, little), value = read_number(entry + 8, kind == 4 ? 4 : 2, little);
    return (kind == 3 || kind == 4) && value >= 1 && value <= 8 ? (int)value : 1;
  }
  return 1;
}

/* From pixels as they lie in the file to upright ones. */
static int turn(picture *photo, int orientation) {
  if (orientation == 1) return 0;
  const int32_t wide = photo->image.width, high = photo->image.height;
  const int32_t columns = orientation > 4 ? high : wide, rows = orientation > 4 ? wide : high;
  picture upright = {0};
  if (picture_reserve(&upright, (size_t)wide * (size_t)high * 3)) return -1;
  uint8_t *to = upright.bytes;
  for (int32_t y = 0; y < rows; y++) {
    for (int32_t x = 0; x < columns; x++, to += 3) {
      int32_t column = orientation > 4 ? y : x, row = orientation > 4 ? x : y;
      if (orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8) column = wide - 1 - column;
      if (orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7) row = high - 1 - row;
      memcpy(to, photo->bytes + ((size_t)row * (size_t)wide + (size_t)column) * 3, 3);
    }
  }
  picture_free(photo);
  *photo = upright;
  photo->image = (edgevit_image){upright.bytes, columns, rows, 0, EDGEVIT_RGB, {NULL, NULL}, 0};
  return 0;
}

/* Room for RGB pixels, and what they are. */
static const char *begin_picture(picture *photo, unsigned long width, unsigned long height) {
  if (width == 0 || height == 0) return "no pixels";
  if (width > MOST_PIXELS / height) return "more than 89 megapixels";
  if (picture_reserve(photo, width * height * 3)) return "not enough memory";
  photo->image = (edgevit_image){photo->bytes, (int32_t)width, (int32_t)height, 0, EDGEVIT_RGB, {NULL, NULL}, 0};
  return NULL;
}

/* ---- JPEG ---- */

typedef struct jpeg_reader {
  struct jpeg_decompress_struct file;
  struct jpeg_error_mgr errors;
  jmp_buf failed;
  uint8_t *row; /* of CMYK */
  char reason[JMSG_LENGTH_MAX];
} jpeg_reader;

static void fail_jpeg(j_common_ptr file) {
  jpeg_reader *reader = file->client_data;
  reader->errors.format_message(file, reader->reason);
  longjmp(reader->failed, 1);
}

/* libjpeg goes on with grey where a file is cut short; here it is refused. */
static void hear_jpeg(j_common_ptr file, int level) {
  if (level < 0 && file->err->msg_code == JWRN_JPEG_EOF) fail_jpeg(file);
}

static void convert_cmyk(const uint8_t *from, uint8_t *to, size_t pixels) {
  for (; pixels > 0; pixels--, from += 4, to += 3) {
    for (int i = 0; i < 3; i++) { /* as Adobe writes them: 255 is no ink */
      const unsigned product = (255u - from[i]) * from[3] + 128;
      const int ink = (int)((product + (product >> 8)) >> 8), value = from[3] - ink;
      to[i] = (uint8_t)(value < 0 ? 0 : value);
    }
  }
}

static int decode_jpeg(const uint8_t *bytes, size_t size, picture *photo, char *why, size_t why_size) {
  static const uint8_t mark[6] = {'E', 'x', 'i', 'f', 0, 0};
  jpeg_reader *reader = calloc(1, sizeof *reader); /* on the heap: what changes after setjmp() keeps its value */
  if (!reader) return refuse(why, why_size, "not enough memory");
  reader->file.err = jpeg_std_error(&reader->errors);
  reader->file.client_data = reader;
  reader->errors.error_exit = fail_jpeg;
  reader->errors.emit_message = hear_jpeg;
  if (setjmp(reader->failed)) {
    refuse(why, why_size, reader->reason);
    jpeg_destroy_decompress(&reader->file);
    free(reader->row);
    free(reader);
    return -1;
  }
  jpeg_create_decompress(&reader->file);
  jpeg_mem_src(&reader->file, bytes, (unsigned long)size);
  jpeg_save_markers(&reader->file, JPEG_APP0 + 1, 0xFFFF);
  jpeg_read_header(&reader->file, TRUE);
  const int inks = reader->file.num_components == 4;
  reader->file.out_color_space = inks ? JCS_CMYK : JCS_RGB; /* of grey too */
  const char *reason = begin_picture(photo, reader->file.image_width, reader->file.image_height);
  const size_t width = reader->file.image_width;
  if (inks && !reason && !(reader->row = malloc(width * 4))) reason = "not enough memory";
  if (reason) {
    snprintf(reader->reason, sizeof reader->reason, "%s", reason);
    longjmp(reader->failed, 1);
  }
  jpeg_start_decompress(&reader->file);
  while (reader->file.output_scanline < reader->file.output_height) {
    uint8_t *to = photo->bytes + reader->file.output_scanline * width * 3;
    JSAMPROW row = inks ? reader->row : to;
    jpeg_read_scanlines(&reader->file, &row, 1);
    if (inks) convert_cmyk(row, to, width);
  }
  int orientation = 1;
  for (jpeg_saved_marker_ptr at = reader->file.marker_list; at; at = at->next) {
    if (at->data_length > 6 && memcmp(at->data, mark, 6) == 0) {
      orientation = read_orientation(at->data + 6, at->data_length - 6);
      break;
    }
  }
  jpeg_finish_decompress(&reader->file);
  jpeg_destroy_decompress(&reader->file);
  free(reader->row);
  free(reader);
  return turn(photo, orientation) ? refuse(why, why_size, "not enough memory") : 0;
}

/* ---- PNG ---- */

typedef struct png_reader {
  png_structp file;
  png_infop info;
  png_bytepp rows;
  const uint8_t *at;
  size_t left;
  char reason[128];
} png_reader;

static void fail_png(png_structp file, png_const_charp reason) {
  png_reader *reader = png_get_error_ptr(file);
  snprintf(reader->reason, sizeof reader->reason, "%s", reason);
  png_longjmp(file, 1);
}

static void hear_png(png_structp file, png_const_charp warning) {
  (void)file;
  (void)warning;
}

static void read_png(png_structp file, png_bytep to, size_t size) {
  png_reader *reader = png_get_io_ptr(file);
  if (size > reader->left) png_error(file, "the file is cut short");
  memcpy(to, reader->at, size);
  reader->at += size;
  reader->left -= size;
}

static int decode_png(const uint8_t *bytes, size_t size, picture *photo, char *why, size_t why_size) {
  png_reader *reader = calloc(1, sizeof *reader);
  if (!reader) return refuse(why, why_size, "not enough memory");
  reader->at = bytes;
  reader->left = size;
  reader->file = png_create_read_struct(PNG_LIBPNG_VER_STRING, reader, fail_png, hear_png);
  if (!reader->file) {
    free(reader);
    return refuse(why, why_size, "not enough memory");
  }
  if (setjmp(png_jmpbuf(reader->file))) {
    refuse(why, why_size, reader->reason);
    png_destroy_read_struct(&reader->file, &reader->info, NULL);
    free(reader->rows);
    free(reader);
    return -1;
  }
  reader->info = png_create_info_struct(reader->file);
  if (!reader->info) png_error(reader->file, "not enough memory");
  png_set_read_fn(reader->file, reader, read_png);
  png_set_crc_action(reader->file, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT); /* damage anywhere is refused */
  png_read_info(reader->file, reader->info);
  const png_uint_32 width = png_get_image_width(reader->file, reader->info);
  const png_uint_32 height = png_get_image_height(reader->file, reader->info);
  const char *reason = begin_picture(photo, width, height);
  if (!reason && !(reader->rows = malloc(height * sizeof *reader->rows))) reason = "not enough memory";
  if (reason) png_error(reader->file, reason);
  for (png_uint_32 y = 0; y < height; y++) reader->rows[y] = photo->bytes + (size_t)y * width * 3;

  const int colour = png_get_color_type(reader->file, reader->info);
  if (png_get_bit_depth(reader->file, reader->info) == 16) {
    if (colour == PNG_COLOR_TYPE_GRAY) {
      png_set_scale_16(reader->file); /* rounded, as in Python; its Pillow takes the upper half of other colours */
    } else {
      png_set_strip_16(reader->file);
    }
  }
  png_set_expand(reader->file); /* palettes, and grey of fewer than 8 bits */
  if (!(colour & PNG_COLOR_MASK_COLOR)) png_set_gray_to_rgb(reader->file);
  png_set_strip_alpha(reader->file);
  png_set_interlace_handling(reader->file);
  png_read_update_info(reader->file, reader->info);
  if (png_get_rowbytes(reader->file, reader->info) != (size_t)width * 3) png_error(reader->file, "not 8-bit RGB");
  png_read_image(reader->file, reader->rows);
  png_read_end(reader->file, reader->info);
  int orientation = 1;
#ifdef PNG_eXIf_SUPPORTED
  png_uint_32 exif_size = 0;
  png_bytep exif = NULL;
  if (png_get_eXIf_1(reader->file, reader->info, &exif_size, &exif)) orientation = read_orientation(exif, exif_size);
#endif
  png_destroy_read_struct(&reader->file, &reader->info, NULL);
  free(reader->rows);
  free(reader);
  return turn(photo, orientation) ? refuse(why, why_size, "not enough memory") : 0;
}

/* ---- Both ---- */

int decode_bytes(const uint8_t *bytes, size_t size, picture *photo, char *why, size_t why_size) {
  if (size > 3 && bytes[0] == 0xFF && bytes[1] == 0xD8 && bytes[2] == 0xFF) {
    return decode_jpeg(bytes, size, photo, why, why_size);
  }
  if (size > 8 && !png_sig_cmp(bytes, 0, 8)) return decode_png(bytes, size, photo, why, why_size);
  return refuse(why, why_size, "not a JPEG or PNG image");
}

int decode_file(const char *path, picture *photo, char *why, size_t why_size) {
  struct stat facts;
  if (stat(path, &facts)) return refuse(why, why_size, strerror(errno));
  if (!S_ISREG(facts.st_mode)) return refuse(why, why_size, "not a file"); /* reading a pipe may wait for ever */
  if (facts.st_size > MOST_BYTES) return refuse(why, why_size, "more than 256 MiB");
  const size_t size = (size_t)facts.st_size;
  FILE *file = fopen(path, "rb");
  if (!file) return refuse(why, why_size, strerror(errno));
  uint8_t *bytes = malloc(size + 1);
  const int whole = bytes && fread(bytes, 1, size, file) == size;
  fclose(file);
  const int status = whole ? decode_bytes(bytes, size, photo, why, why_size)
                           : refuse(why, why_size, bytes ? "cannot be read" : "not enough memory");
  free(bytes);
  return status;
}
