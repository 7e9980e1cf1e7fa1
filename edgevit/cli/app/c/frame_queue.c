#include "frame_queue.h"

#include <string.h>

static void trade(picture *one, picture *other) {
  const picture kept = *one;
  *one = *other;
  *other = kept;
}

void queue_init(frame_queue *queue) {
  memset(queue, 0, sizeof *queue);
  pthread_mutex_init(&queue->lock, NULL);
  pthread_cond_init(&queue->filled, NULL);
}

void queue_push(frame_queue *queue, picture *frame) {
  pthread_mutex_lock(&queue->lock); /* held by the reader for no longer than a trade takes */
  if (queue->count == QUEUE_LENGTH) {
    queue->first = (queue->first + 1) % QUEUE_LENGTH;
    queue->count--;
    queue->dropped++;
  }
  trade(&queue->frames[(queue->first + queue->count) % QUEUE_LENGTH], frame);
  queue->count++;
  pthread_cond_signal(&queue->filled);
  pthread_mutex_unlock(&queue->lock);
}

int queue_pop(frame_queue *queue, picture *frame) {
  pthread_mutex_lock(&queue->lock);
  while (queue->count == 0 && !queue->closed) pthread_cond_wait(&queue->filled, &queue->lock);
  const int found = queue->count > 0;
  if (found) {
    trade(&queue->frames[queue->first], frame);
    queue->first = (queue->first + 1) % QUEUE_LENGTH;
    queue->count--;
  }
  pthread_mutex_unlock(&queue->lock);
  return found;
}

void queue_close(frame_queue *queue) {
  pthread_mutex_lock(&queue->lock);
  queue->closed = 1;
  pthread_cond_broadcast(&queue->filled);
  pthread_mutex_unlock(&queue->lock);
}

long queue_dropped(frame_queue *queue) {
  pthread_mutex_lock(&queue->lock);
  const long dropped = queue->dropped;
  pthread_mutex_unlock(&queue->lock);
  return dropped;
}

void queue_free(frame_queue *queue) {
  for (int i = 0; i < QUEUE_LENGTH; i++) picture_free(&queue->frames[i]);
  pthread_cond_destroy(&queue->filled);
  pthread_mutex_destroy(&queue->lock);
}
