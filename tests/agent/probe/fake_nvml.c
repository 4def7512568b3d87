/*
 * A stand-in for libnvidia-ml.so.1 with as many GPUs as FAKE_NVML_GPUS says.
 *
 * FAKE_NVML_INIT     what nvmlInitWithFlags returns.
 * FAKE_NVML_BROKEN   "INDEX:CODE": what this GPU's memory query returns.
 * FAKE_NVML_MODELS   "A|B": models of the first GPUs; others are "Fake A100".
 * FAKE_NVML_XIDS     A file of lines "INDEX XID", each told once, to whoever registered for that GPU.
 * FAKE_NVML_MINOR    What is added to an index to be the number of its device.
 * FAKE_NVML_LOST     "INDEX": this GPU is lost once the file FAKE_NVML_SWITCH exists.
 * Built with -DWITHOUT_UTILIZATION it lacks nvmlDeviceGetUtilizationRates.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define INVALID_ARGUMENT 2
#define NOT_SUPPORTED 3
#define TIMEOUT 10
#define GPU_IS_LOST 15
#define XID_CRITICAL_ERROR 8ULL

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
    const char *models = getenv("FAKE_NVML_MODELS");
    unsigned long left = (unsigned long)device - 1;
    while (models && left--) {
        models = strchr(models, '|');
        if (models) models++;
    }
    snprintf(name, length, "%.*s", (int)(models ? strcspn(models, "|") : 9), models ? models : "Fake A100");
    return 0;
}

int nvmlDeviceGetMinorNumber(void *device, unsigned int *minor) {
    *minor = (unsigned int)(unsigned long)device - 1 + number("FAKE_NVML_MINOR");
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

#ifndef WITHOUT_EVENTS
struct event { void *device; unsigned long long type, data; unsigned int gpu_instance, compute_instance; };

static unsigned long long registered[64];
static long told;

int nvmlEventSetCreate(void **set) { *set = &told; return 0; }
int nvmlEventSetFree(void *set) { (void)set; return 0; }

int nvmlDeviceRegisterEvents(void *device, unsigned long long types, void *set) {
    if (set != &told) return INVALID_ARGUMENT;
    registered[(unsigned long)device % 64] |= types;
    return 0;
}

int nvmlEventSetWait_v2(void *set, struct event *event, unsigned int timeout_ms) {
    const char *path = getenv("FAKE_NVML_XIDS");
    FILE *file = path ? fopen(path, "r") : NULL;
    unsigned long index;
    int code = TIMEOUT;
    (void)timeout_ms;
    if (set != &told) return INVALID_ARGUMENT;
    if (!file) return code;
    fseek(file, told, SEEK_SET);
    while (code == TIMEOUT && fscanf(file, "%lu %llu\n", &index, &event->data) == 2) {
        told = ftell(file);
        if (!(registered[(index + 1) % 64] & XID_CRITICAL_ERROR)) continue;
        event->device = (void *)(index + 1);
        event->type = XID_CRITICAL_ERROR;
        event->gpu_instance = event->compute_instance = 0xFFFFFFFF;
        code = 0;
    }
    fclose(file);
    return code;
}
#endif
