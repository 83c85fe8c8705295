/* Marks: moments that the program names. */
#ifndef MEMATLAS_TRACER_MARK_H
#define MEMATLAS_TRACER_MARK_H

/* To be called for a munmap() of length 0, from its hook. Records the mark that `start` may be, and waits for
 * the account of that moment, not for ever. `frame`: of the hook. */
void trace_unmapped_nothing(const void *start, const void *frame);

#endif
