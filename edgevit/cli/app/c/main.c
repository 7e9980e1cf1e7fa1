/* An application around a bundle of edgevit: images in, answers and milliseconds out.
 *
 *   build/app bundle photo.jpg another.png
// [[ camera
 *   build/app bundle --camera /dev/video0
 *   build/app bundle --camera FOLDER       the images of a folder, as a camera would give them
// ]]
 *
 * How images are resized, what classes are called and how the engine is opened stands in the bundle, so nothing of it
 * stands here. Exit status: 0 done, 1 some image has no answer, 2 the bundle cannot be opened, answers cannot be written,
 * or bad usage. */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
// [[ camera
#include <pthread.h>
#include <signal.h>
// ]]
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <edgevit/edgevit.h>

// [[ camera
#include "camera.h"
// ]]
#include "decode.h"
// [[ camera
#include "frame_queue.h"
// ]]
#include "output.h"

/* An opened bundle, and memory for one image's way through it. */
typedef struct application {
  edgevit_engine *engine;
  edgevit_info info;
  uint8_t *pixels; /* the engine's input */
  size_t pixels_size;
  edgevit_buffer *outputs; /* info.output_count of them, float32 in host memory */
} application;

static double now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return 1e3 * (double)now.tv_sec + 1e-6 * (double)now.tv_nsec;
}

static edgevit_output get_output(const application *app, int32_t index) {
  edgevit_output output = {.struct_size = sizeof output};
  edgevit_get_output(app->engine, index, &output);
  return output;
}

/* What the last call of edgevit has to say, after what it was about. */
static void print_error(const char *about) {
  fprintf(stderr, "error: %s%s%s\n", about ? about : "", about ? ": " : "", edgevit_last_message());
  if (*edgevit_last_hint()) fprintf(stderr, "hint: %s\n", edgevit_last_hint());
}

// [[ classify
/* This bundle classifies: the best classes, each with index, probability, the engine's own number and name. */
static int print_classes(const application *app, int32_t most) {
  edgevit_class found[5];
  int32_t count = 0;
  if (edgevit_rank(app->engine, app->outputs[0].data, most, found, &count)) return -1;
  for (int32_t i = 0; i < count; i++) {
    if (isnan(found[i].probability)) { /* the outputs are numbers, as of a regression */
      printf("  %5d  %12.7g  ", found[i].index, found[i].value);
    } else {
      printf("  %5d  %8.4f %%  %12.7g  ", found[i].index, 100 * found[i].probability, found[i].value);
    }
    output_text(found[i].label);
    putchar('\n');
  }
  return 0;
}

// ]]
// [[ embed
/* This bundle gives embeddings: how long the vector is, and how it begins. */
static void print_embedding(const application *app) {
  const float *values = app->outputs[0].data;
  const size_t count = get_output(app, 0).values;
  double squares = 0;
  for (size_t i = 0; i < count; i++) squares += (double)values[i] * values[i];
  printf("  %zu numbers, norm %.6g:", count, sqrt(squares));
  for (size_t i = 0; i < count && i < 8; i++) printf(" %.6g", values[i]);
  printf("%s\n", count > 8 ? " ..." : "");
}

// ]]
// [[ features
/* This bundle gives feature maps: of each its name, its shape and its mean. */
static void print_features(const application *app) {
  for (int32_t index = 0; index < app->info.output_count; index++) {
    const edgevit_output output = get_output(app, index);
    const float *values = app->outputs[index].data;
    double sum = 0;
    for (size_t i = 0; i < output.values; i++) sum += values[i];
    printf("  ");
    output_text(output.name);
    printf("%*s", strlen(output.name) < 10 ? 10 - (int)strlen(output.name) : 0, "");
    for (int32_t i = 0; i < output.rank; i++) printf("%s%lld", i ? " x " : "", (long long)output.shape[i]);
    printf("  mean %.6g\n", sum / (double)output.values);
  }
}

// ]]
static int print_answer(const application *app, int32_t most) {
  int status = 0;
  // [[ classify
  status = print_classes(app, most);
  // ]]
  // [[ embed
  print_embedding(app);
  // ]]
  // [[ features
  print_features(app);
  // ]]
  (void)most;
  return status;
}

/* Everything after decoding, in two steps that are timed. */
// [[ classify
/* An app that does not want to know the times calls edgevit_classify(). */
// ]]
// [[ embed
/* An app that does not want to know the times calls edgevit_embed(). */
// ]]
// [[ features
/* An app that does not want to know the times calls edgevit_features(). */
// ]]
static int compute(const application *app, const edgevit_image *image, double *resize_ms, double *engine_ms) {
  const double begin = now_ms();
  if (edgevit_preprocess(app->engine, image, app->pixels, app->pixels_size)) return -1;
  const double resized = now_ms();
  const edgevit_buffer input = {app->pixels, app->pixels_size, EDGEVIT_HOST};
  if (edgevit_run(app->engine, &input, 1, app->outputs, app->info.output_count)) return -1;
  *resize_ms = resized - begin;
  *engine_ms = now_ms() - resized;
  return 0;
}

static int answer_images(const application *app, char **paths) {
  int status = 0;
  char why[256];
  picture photo = {0};
  for (; *paths && !ferror(stdout); paths++) {
    double resize_ms, engine_ms;
    const double begin = now_ms();
    if (decode_file(*paths, &photo, why, sizeof why)) {
      fprintf(stderr, "error: %s: %s\n", *paths, why);
      status = 1;
      continue;
    }
    const double decode_ms = now_ms() - begin;
    if (compute(app, &photo.image, &resize_ms, &engine_ms)) { /* such as of an image of one pixel's height */
      print_error(*paths);
      status = 1;
      continue;
    }
    printf("%s  %d x %d  decode %.3f ms  resize %.3f ms  engine %.3f ms\n", *paths, photo.image.width,
           photo.image.height, decode_ms, resize_ms, engine_ms);
    if (print_answer(app, 5)) {
      print_error(*paths);
      status = 1;
    }
  }
  picture_free(&photo);
  return status;
}

// [[ camera
static volatile sig_atomic_t stopped = 0;

static void stop(int signal) {
  (void)signal;
  stopped = 1;
}

/* What the thread of the camera works with. */
typedef struct capture {
  camera *from;
  frame_queue queue;
  long taken;
  char problem[256];
} capture;

static void *take_frames(void *argument) {
  capture *work = argument;
  picture frame = {0};
  int status = 1;
  while (!stopped && (status = camera_next(work->from, &frame, work->problem, sizeof work->problem)) > 0) {
    work->taken++;
    queue_push(&work->queue, &frame);
  }
  if (status >= 0) work->problem[0] = '\0';
  picture_free(&frame);
  queue_close(&work->queue);
  return NULL;
}

/* One thread takes frames from the camera and never waits for the engine, which answers the newest ones in this one. */
static int answer_camera(const application *app, const char *source) {
  capture work = {0};
  pthread_t thread;
  picture frame = {0};
  long answered = 0;
  int status = 0;
  work.from = camera_open(source, work.problem, sizeof work.problem);
  if (!work.from) {
    fprintf(stderr, "error: %s\nhint: name a device such as /dev/video0, or a folder of images\n", work.problem);
    return 2;
  }
  queue_init(&work.queue);
  signal(SIGINT, stop);
  signal(SIGTERM, stop);
  if (pthread_create(&thread, NULL, take_frames, &work)) {
    fprintf(stderr, "error: no thread for the camera\n");
    camera_close(work.from);
    return 2;
  }
  const double begin = now_ms();
  while (queue_pop(&work.queue, &frame)) {
    double resize_ms, engine_ms;
    if (compute(app, &frame.image, &resize_ms, &engine_ms)) {
      print_error(NULL);
      status = 1;
      break;
    }
    answered++;
    printf("frame %ld  %.1f frames/s  %ld dropped  resize %.3f ms  engine %.3f ms\n", answered,
           1e3 * (double)answered / (now_ms() - begin), queue_dropped(&work.queue), resize_ms, engine_ms);
    if (print_answer(app, 1)) {
      print_error(NULL);
      status = 1;
      break;
    }
    if (fflush(stdout)) break;
  }
  stopped = 1;
  pthread_join(thread, NULL);
  printf("%ld frames: %ld answered, %ld dropped\n", work.taken, answered, queue_dropped(&work.queue));
  if (work.problem[0]) {
    fprintf(stderr, "error: %s\nhint: check the camera, or the images of the folder\n", work.problem);
    status = 1;
  }
  picture_free(&frame);
  queue_free(&work.queue);
  camera_close(work.from);
  return status;
}

// ]]
/* Whether the bundle is one of those that this app was made for; another one may be put in place of it. */
static int check_task(const application *app, const char *task) {
  if (strcmp(app->info.task, task) == 0) return 0;
  fprintf(stderr, "error: this app is for bundles of the task %s, and this one is for %s\n", task, app->info.task);
  return -1;
}

/* Opens the bundle and makes room for one image. */
static int begin(application *app, const char *bundle) {
  edgevit_options options = {.struct_size = sizeof options};
  /* options.threads = 2;            on a CPU; by default what was fastest when the bundle was measured */
  /* options.public_key = pem_text;  refuse a bundle that was not signed with this key */
  app->info.struct_size = sizeof app->info;
  if (edgevit_open(bundle, &options, &app->engine) || edgevit_get_info(app->engine, &app->info)) {
    print_error(NULL);
    return -1;
  }
  // [[ classify
  if (check_task(app, "classify")) return -1;
  // ]]
  // [[ embed
  if (check_task(app, "embed")) return -1;
  // ]]
  // [[ features
  if (check_task(app, "features")) return -1;
  // ]]
  for (int32_t i = 0; i < app->info.difference_count; i++) {
    fprintf(stderr, "note: %s\n", edgevit_difference(app->engine, i));
  }
  app->pixels_size = (size_t)app->info.input_height * (size_t)app->info.input_width * 3;
  app->pixels = calloc(1, app->pixels_size);
  app->outputs = calloc((size_t)app->info.output_count, sizeof *app->outputs);
  if (!app->pixels || !app->outputs) return -1;
  for (int32_t i = 0; i < app->info.output_count; i++) {
    const size_t size = get_output(app, i).values * sizeof(float);
    app->outputs[i] = (edgevit_buffer){malloc(size), size, EDGEVIT_HOST};
    if (!app->outputs[i].data) return -1;
  }
  const edgevit_buffer input = {app->pixels, app->pixels_size, EDGEVIT_HOST};
  /* The first call is slower: it allocates what the others use again. */
  if (edgevit_run(app->engine, &input, 1, app->outputs, app->info.output_count)) {
    print_error(NULL);
    return -1;
  }
  return 0;
}

static void end(application *app) {
  for (int32_t i = 0; app->outputs && i < app->info.output_count; i++) free(app->outputs[i].data);
  free(app->outputs);
  free(app->pixels);
  edgevit_close(app->engine);
}

int main(int count, char **arguments) {
  application app = {0};
  int status = 2, usable = count >= 3;
  // [[ camera
  const int live = count == 4 && strcmp(arguments[2], "--camera") == 0;
  // ]]
  output_begin();
  for (int i = 1; i < count; i++) {
    // [[ camera
    if (live && i == 2) continue;
    // ]]
    if (arguments[i][0] == '-') usable = 0;
  }
  if (!usable) {
    // [[ !camera
    fprintf(stderr, "usage: %s BUNDLE IMAGE...\n", arguments[0]);
    // ]]
    // [[ camera
    fprintf(stderr, "usage: %s BUNDLE IMAGE... | --camera DEVICE_OR_FOLDER\n", arguments[0]);
    // ]]
    return status;
  }
  if (begin(&app, arguments[1]) == 0) {
    // [[ !camera
    status = answer_images(&app, arguments + 2);
    // ]]
    // [[ camera
    status = live ? answer_camera(&app, arguments[3]) : answer_images(&app, arguments + 2);
    // ]]
  }
  end(&app);
  return output_end() ? 2 : status;
}
