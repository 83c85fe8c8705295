/* Between the Python allocator hooks and the recorder. */
#ifndef MEMATLAS_TRACER_PYTHON_TRACE_H
#define MEMATLAS_TRACER_PYTHON_TRACE_H

/* Tells the wrappers of the interpreter's allocators whom to call. */
void trace_register_python(void);

#endif
