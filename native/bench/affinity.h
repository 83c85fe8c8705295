#ifndef MEMATLAS_BENCH_AFFINITY_H
#define MEMATLAS_BENCH_AFFINITY_H

/* Restrict the calling thread to one CPU. cpu -1: leave the affinity as it is. Returns 0; -EINVAL:
 * no such CPU, or the cpuset excludes the CPU; or -ENOMEM. */
int affinity_set_cpu(int cpu);

#endif
