/* Standard output: what is printed must not steer the terminal, and must not be lost in silence. */
#ifndef OUTPUT_H
#define OUTPUT_H

#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Before anything is opened: no file is to take the place of a stream that is closed, as `>&-` leaves it. */
void output_begin(void);

/* Text that may hold anything, as a label, in UTF-8. A terminal obeys control characters, and some turn the direction of
 * writing around, so they are written as escapes: \n, \x1b, \u202e. */
void output_text(const char *text);

/* 0; -1, with two lines on standard error, where something of standard output could not be written. */
int output_end(void);

#ifdef __cplusplus
}
#endif

#endif
