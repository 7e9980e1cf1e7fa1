/* A few frames between a camera and an engine. Where the engine is slower, the oldest frame is dropped: the camera
 * never waits, and what is answered is never older than the queue is long. */
#ifndef FRAME_QUEUE_H
#define FRAME_QUEUE_H

#include <pthread.h>

#include "decode.h"

#define QUEUE_LENGTH 2

typedef struct frame_queue {
  picture frames[QUEUE_LENGTH];
  int first, count, closed;
  long dropped;
  pthread_mutex_t lock;
  pthread_cond_t filled;
} frame_queue;

void queue_init(frame_queue *queue);

/* Adds a frame and gives back memory for the next one in its place; never waits for the reader. */
void queue_push(frame_queue *queue, picture *frame);

/* Waits for the oldest frame and trades it for `frame`, whose memory is used again. 0 once the queue is closed and
 * empty. */
int queue_pop(frame_queue *queue, picture *frame);

/* No more frames will come. */
void queue_close(frame_queue *queue);

long queue_dropped(frame_queue *queue);

void queue_free(frame_queue *queue);

#endif
