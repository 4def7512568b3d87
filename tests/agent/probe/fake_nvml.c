/*
 * A stand-in for libnvidia-ml.so.1 with as many GPUs as FAKE_NVML_GPUS says.
 *
 * FAKE_NVML_INIT     what nvmlInitWithFlags returns.
 * FAKE_NVML_BROKEN   "INDEX:CODE": what this GPU's memory query returns.
 * FAKE_NVML_LOST     "INDEX": this GPU is lost once the file FAKE_NVML_SWITCH exists.
 * Built with -DWITHOUT_UTILIZATION it lacks nvmlDeviceGetUtilizationRates.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define INVALID_ARGUMENT 2
#define NOT_SUPPORTED 3
#define GPU_IS_LOST 15

struct memory { unsigned long long total, free, used; };
struct utilization { unsigned int gpu, memory; };

static int number(const char *name) {
    const char *text = getenv(name);
    return text ? atoi(text) : 0;
}

static int is_switched(void) {
    const char *path = getenv("FAKE_NVML_SWITCH");
    return path && access(path, F_OK) == 0;
}

int nvmlInitWithFlags(unsigned int flags) { (void)flags; return number("FAKE_NVML_INIT"); }
int nvmlShutdown(void) { return 0; }

int nvmlDeviceGetCount_v2(unsigned int *count) { *count = number("FAKE_NVML_GPUS"); return 0; }

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) {
    const char *lost = getenv("FAKE_NVML_LOST");
    if (index >= (unsigned int)number("FAKE_NVML_GPUS")) return INVALID_ARGUMENT;
    if (lost && (unsigned int)atoi(lost) == index && is_switched()) return GPU_IS_LOST;
    *device = (void *)(unsigned long)(index + 1);
    return 0;
}

int nvmlDeviceGetUUID(void *device, char *uuid, unsigned int length) {
    snprintf(uuid, length, "GPU-00000000-0000-0000-0000-%012lu", (unsigned long)device - 1);
    return 0;
}

int nvmlDeviceGetName(void *device, char *name, unsigned int length) {
    (void)device;
    snprintf(name, length, "Fake A100");
    return 0;
}

int nvmlDeviceGetMemoryInfo(void *device, struct memory *memory) {
    const char *broken = getenv("FAKE_NVML_BROKEN");
    unsigned long index = (unsigned long)device - 1, broken_index;
    int code;
    if (broken && sscanf(broken, "%lu:%d", &broken_index, &code) == 2 && broken_index == index) return code;
    memory->total = 40960ULL << 20;
    memory->used = (1024ULL * (index + 1)) << 20;
    memory->free = memory->total - memory->used;
    return 0;
}

#ifndef WITHOUT_UTILIZATION
int nvmlDeviceGetUtilizationRates(void *device, struct utilization *utilization) {
    utilization->gpu = 10 * (unsigned int)(unsigned long)device;
    utilization->memory = 1;
    return 0;
}
#endif
