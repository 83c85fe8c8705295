/* Everything Python may call. Plain declarations only: compiled as C and read by cffi.
 * Convention: 0 or a count on success, -errno on failure; out-parameters last. */

/* ABI of this header; native.py checks it against its own. */
int mematlas_abi(void);
