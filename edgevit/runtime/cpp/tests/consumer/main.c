/* Classifies a grey image. */
#include <stdio.h>
#include <string.h>

#include "edgevit/edgevit.h"

static unsigned char pixels[300 * 200 * 3];

int main(int count, char **arguments) {
  edgevit_options options = {0};
  edgevit_engine *engine = NULL;
  edgevit_class classes[2];
  edgevit_image image = {0};
  int found = 0, i;
  options.struct_size = sizeof options;
  options.check = EDGEVIT_CHECK_NEVER;
  memset(pixels, 128, sizeof pixels);
  image.data = pixels;
  image.width = 300;
  image.height = 200;
  if (edgevit_open(count > 1 ? arguments[1] : "", &options, &engine) != EDGEVIT_OK ||
      edgevit_classify(engine, &image, 2, classes, &found) != EDGEVIT_OK) {
    printf("%s: %s\n%s\n", edgevit_status_name(edgevit_last_status()), edgevit_last_message(), edgevit_last_hint());
    edgevit_close(engine);
    return 2;
  }
  for (i = 0; i < found; ++i) printf("%d %.6f\n", classes[i].index, classes[i].value);
  edgevit_close(engine);
  return 0;
}
