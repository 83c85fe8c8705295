/* placeholder until the tracer lands */
int mematlas_trace_placeholder;
