/* Stands in for the CUDA runtime's, cuBLAS's and cuDNN's calls that onnxruntime makes before it places nodes, so that it
   tells its placement on a machine without a GPU. Nothing can be computed with it: see cuda_placement.py.

   gcc -shared -fPIC -o no_gpu.so no_gpu.c, then LD_PRELOAD=no_gpu.so
   gcc -shared -fPIC -Wl,-soname,libcuda.so.1 -o libcuda.so.1 no_gpu.c -DDRIVER, on LD_LIBRARY_PATH */

#include <stdlib.h>
#include <string.h>

#ifdef DRIVER
int cuTensorMapEncodeTiled(void) { return 100; }
#else

static char handle[65536]; /* streams, events and libraries all get this one */
#define SUCCESS { return 0; }
#define GIVES_HANDLE { *found = handle; return 0; }

int cudaSetDevice(int device) SUCCESS
int cudaGetDevice(int *device) { *device = 0; return 0; }
int cudaGetDeviceCount(int *count) { *count = 1; return 0; }
int cudaDeviceGetAttribute(int *value, int attribute, int device) { *value = attribute == 75 ? 9 : attribute != 76; return 0; }
int cudaDriverGetVersion(int *version) { *version = 13000; return 0; }
int cudaRuntimeGetVersion(int *version) { *version = 13000; return 0; }

/* cudaDeviceProp of CUDA 12 and 13, the fields that are read; compute capability 9.0 */
int cudaGetDeviceProperties(char *p, int device) {
  memset(p, 0, 1008);
  strcpy(p, "no GPU");
  *(size_t *)(p + 288) = (size_t)80 << 30; /* totalGlobalMem */
  *(size_t *)(p + 296) = 49152;            /* sharedMemPerBlock */
  *(int *)(p + 304) = 65536;               /* regsPerBlock */
  *(int *)(p + 308) = 32;                  /* warpSize */
  *(int *)(p + 320) = 1024;                /* maxThreadsPerBlock */
  for (int i = 0; i < 3; i++) {
    *(int *)(p + 324 + 4 * i) = 1024;      /* maxThreadsDim */
    *(int *)(p + 336 + 4 * i) = 65535;     /* maxGridSize */
  }
  *(int *)(p + 360) = 9;                   /* major */
  return 0;
}

int cudaMemGetInfo(size_t *available, size_t *total) { *available = *total = (size_t)80 << 30; return 0; }
int cudaMalloc(void **found, size_t size) { *found = calloc(1, size + 256); return 0; }
int cudaMallocHost(void **found, size_t size) { *found = calloc(1, size + 256); return 0; }
int cudaHostAlloc(void **found, size_t size, unsigned flags) { *found = calloc(1, size + 256); return 0; }
int cudaFree(void *p) { free(p); return 0; }
int cudaFreeHost(void *p) { free(p); return 0; }
int cudaMemcpy(void *to, const void *from, size_t size, int kind) { memcpy(to, from, size); return 0; }
int cudaMemcpyAsync(void *to, const void *from, size_t size, int kind, void *stream) { memcpy(to, from, size); return 0; }
int cudaMemset(void *to, int value, size_t size) { memset(to, value, size); return 0; }
int cudaMemsetAsync(void *to, int value, size_t size, void *stream) { memset(to, value, size); return 0; }
int cudaPointerGetAttributes(void *attributes, const void *p) { memset(attributes, 0, 32); return 0; }
int cudaStreamCreate(void **found) GIVES_HANDLE
int cudaStreamCreateWithFlags(void **found, unsigned flags) GIVES_HANDLE
int cudaStreamDestroy(void *stream) SUCCESS
int cudaStreamSynchronize(void *stream) SUCCESS
int cudaStreamWaitEvent(void *stream, void *event, unsigned flags) SUCCESS
int cudaEventCreate(void **found) GIVES_HANDLE
int cudaEventCreateWithFlags(void **found, unsigned flags) GIVES_HANDLE
int cudaEventDestroy(void *event) SUCCESS
int cudaEventRecord(void *event, void *stream) SUCCESS
int cudaEventSynchronize(void *event) SUCCESS
int cudaDeviceSynchronize(void) SUCCESS
int cudaGetLastError(void) SUCCESS
int cudaPeekAtLastError(void) SUCCESS
int cublasCreate_v2(void **found) GIVES_HANDLE
int cublasDestroy_v2(void *library) SUCCESS
int cublasSetStream_v2(void *library, void *stream) SUCCESS
int cublasSetMathMode(void *library, int mode) SUCCESS
int cublasSetWorkspace_v2(void *library, void *space, size_t size) SUCCESS
int cublasLtCreate(void **found) GIVES_HANDLE
int cublasLtDestroy(void *library) SUCCESS
int cudnnCreate(void **found) GIVES_HANDLE
int cudnnDestroy(void *library) SUCCESS
int cudnnSetStream(void *library, void *stream) SUCCESS
#endif
