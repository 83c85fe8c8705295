/* Between the Python allocator hooks and the recorder. */
#ifndef MEMATLAS_TRACER_PYTHON_TRACE_H
#define MEMATLAS_TRACER_PYTHON_TRACE_H

/* Wraps the interpreter's allocators. */
void trace_hook_python(void);

#endif
