/* A stand-in for libnvidia-ml.so.1, scripted from a text file: real pynvml and Ray's own GPU detection run on it.
 *
 * Knows nothing of Python. Everything it answers follows from the script and CLOCK_MONOTONIC alone, so all
 * processes of a host see the same counters. The script is named by NVML_STUB_SCRIPT and read again whenever the
 * file changes (replace it by rename). Without the variable nvmlInit answers "driver not loaded".
 *
 *     cc -shared -fPIC -O1 -o libnvidia-ml.so.1 libnvidia-ml.c -lpthread
 *
 * One statement a line, `#` begins a comment; N is a device from 0, seconds are of CLOCK_MONOTONIC:
 *     driver VERSION                     devices COUNT                   tick_ms MS (0: the counter moves always)
 *     jitter_ms MS (each tick is late by 0 to MS, the same in every process)
 *     device N uuid GPU-...              device N name WORDS             device N temperature CELSIUS
 *     device N counter MJ (constant)     device N watts SECONDS WATTS    (from then on; the counter integrates)
 *     device N offset MJ                 device N reset SECONDS          (the counter begins again from 0)
 *     device N power MW                  device N utilization PERCENT    device N memory USED TOTAL
 *     device N limit MW                  device N process|graphics PID MEMORY SM_PERCENT|- [INSTANCE]
 *     device N phase MS (of its ticks)   device N gain FACTOR (of the counter against the power, 1e-6 steps)
 *     device N stuck SECONDS SECONDS     (the counter stands still between, and goes on from there)
 *     device N glitch SECONDS SECONDS MJ (the counter answers MJ between)
 *     device N scopes gpu|module|both|none (of the instant power field)  device N module_power MW
 *     device N mig SLOTS                 device N instance UUID GI CI SLICES USED TOTAL (its number: order of lines)
 *     error CALL N|* CODE [SECONDS [SECONDS]]      CALL without its _v2; from, until
 * A file whose first statement is two numbers is a truth file: `devices tick_ms`, then `device seconds watts`.
 * One file, so that one compiler call builds it.
 * A fault in the script is printed to stderr once and every call answers 999 (unknown error).
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum { OK = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6,
       INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9, UNKNOWN = 999 };
enum { MAX_DEVICES = 64, MAX_PROCESSES = 256, MAX_RESETS = 32, MAX_WINDOWS = 8, MAX_INSTANCES = 8,
       MAX_ERRORS = 256, NAME_BYTES = 96 };
#define PJ_PER_MJ ((__int128)1000000000)
#define NS_PER_S 1000000000LL
#define NS_PER_MS 1000000LL
#define FOREVER INT64_MAX

typedef unsigned long long ull;
typedef void *handle_t;
typedef struct { int64_t at_ns, power_mw; __int128 before_pj; } phase_t;
typedef struct { unsigned pid; ull memory; int sm, instance; bool graphics; } process_t;
typedef struct { int64_t from_ns, until_ns; ull shown_mj; } window_t;
typedef struct { char uuid[NAME_BYTES]; unsigned gpu_instance, compute_instance, slices; ull used, total; } instance_t;
typedef struct { char call[64]; int device, code; int64_t from_ns, until_ns; } fault_t;
typedef struct {
    char uuid[NAME_BYTES], name[NAME_BYTES];
    bool constant;
    ull counter_mj, offset_mj, used, total;
    int64_t power_mw, module_mw, phase_ns, gain_ppm;
    int no_gpu_scope, no_module_scope, stuck_count, glitch_count, mig_slots, instance_count;
    window_t stuck[MAX_WINDOWS], glitches[MAX_WINDOWS];
    instance_t instances[MAX_INSTANCES];
    unsigned utilization, temperature, limit_mw;
    phase_t *phases;
    size_t phase_count;
    int64_t resets[MAX_RESETS];
    int reset_count, process_count;
    process_t processes[MAX_PROCESSES];
} device_t;
typedef struct {
    char driver[NAME_BYTES];
    int device_count, fault_count;
    int64_t tick_ns, jitter_ns;
    bool broken;
    device_t devices[MAX_DEVICES];
    fault_t faults[MAX_ERRORS];
} script_t;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static script_t script;
static char loaded_path[4096];
static struct stat loaded;
static int users;
static unsigned set_limits_mw[MAX_DEVICES]; /* power limits set by this process; 0: none */

/* ---- the script ---- */

static int64_t scaled(const char *text, long double factor, bool *good) {
    char *end;
    long double value = strtold(text, &end) * factor;
    if (*end || end == text || value < 0) *good = false;
    return (int64_t)(value + 0.5L);
}

static void default_devices(int count) {
    script.device_count = count;
    for (int i = 0; i < count; i++) {
        device_t *d = &script.devices[i];
        if (!d->uuid[0]) snprintf(d->uuid, NAME_BYTES, "GPU-00000000-0000-0000-0000-%012d", i);
        if (!d->name[0]) snprintf(d->name, NAME_BYTES, "NVIDIA H100 80GB HBM3");
        if (!d->total) d->total = 80ULL << 30;
        if (!d->temperature) d->temperature = 40;
        if (!d->limit_mw) d->limit_mw = 700000;
        if (!d->gain_ppm) d->gain_ppm = 1000000;
    }
}

static bool add_phase(device_t *d, const char *seconds, const char *watts) {
    bool good = true;
    phase_t next = {scaled(seconds, NS_PER_S, &good), scaled(watts, 1000, &good), 0};
    if (d->phase_count) {
        phase_t *last = &d->phases[d->phase_count - 1];
        if (next.at_ns < last->at_ns) return false;
        next.before_pj = last->before_pj + (__int128)(next.at_ns - last->at_ns) * last->power_mw;
    }
    if ((d->phase_count & (d->phase_count - 1)) == 0) {
        size_t room = d->phase_count ? 2 * d->phase_count : 1;
        d->phases = realloc(d->phases, room * sizeof(phase_t));
    }
    d->phases[d->phase_count++] = next;
    return good;
}

static bool add_process(device_t *d, char **words, int count) {
    if (count < 4 || d->process_count == MAX_PROCESSES) return false;
    process_t *p = &d->processes[d->process_count++];
    p->graphics = !strcmp(words[0], "graphics");
    p->pid = strtoul(words[1], NULL, 10);
    p->memory = strtoull(words[2], NULL, 10);
    p->sm = strcmp(words[3], "-") ? atoi(words[3]) : -1;
    p->instance = count > 4 ? atoi(words[4]) : -1;
    return true;
}

static bool add_window(window_t *windows, int *count, const char *from, const char *until, const char *mj) {
    bool good = *count < MAX_WINDOWS;
    if (good) windows[(*count)++] = (window_t){scaled(from, NS_PER_S, &good), scaled(until, NS_PER_S, &good),
                                               mj ? strtoull(mj, NULL, 10) : 0};
    return good;
}

static bool add_instance(device_t *d, char **words, int count) {
    if (count < 7 || d->instance_count == MAX_INSTANCES) return false;
    instance_t *i = &d->instances[d->instance_count++];
    snprintf(i->uuid, NAME_BYTES, "%s", words[1]);
    i->gpu_instance = strtoul(words[2], NULL, 10);
    i->compute_instance = strtoul(words[3], NULL, 10);
    i->slices = strtoul(words[4], NULL, 10);
    i->used = strtoull(words[5], NULL, 10);
    i->total = strtoull(words[6], NULL, 10);
    return true;
}

static bool set_scopes(device_t *d, const char *value) {
    d->no_gpu_scope = !strcmp(value, "module") || !strcmp(value, "none");
    d->no_module_scope = !strcmp(value, "gpu") || !strcmp(value, "none");
    return d->no_gpu_scope || d->no_module_scope || !strcmp(value, "both");
}

/* `words` begins behind `device N`; `count` words in all, `rest` is the line behind the key. */
static bool device_statement(device_t *d, char **words, int count, const char *rest) {
    bool good = count >= 2;
    if (!good) return false;
    const char *key = words[0], *value = words[1];
    if (!strcmp(key, "uuid")) snprintf(d->uuid, NAME_BYTES, "%s", value);
    else if (!strcmp(key, "name")) snprintf(d->name, NAME_BYTES, "%s", rest);
    else if (!strcmp(key, "counter")) { d->constant = true; d->counter_mj = strtoull(value, NULL, 10); }
    else if (!strcmp(key, "offset")) d->offset_mj = strtoull(value, NULL, 10);
    else if (!strcmp(key, "power")) d->power_mw = scaled(value, 1, &good);
    else if (!strcmp(key, "utilization")) d->utilization = atoi(value);
    else if (!strcmp(key, "temperature")) d->temperature = atoi(value);
    else if (!strcmp(key, "limit")) d->limit_mw = strtoul(value, NULL, 10);
    else if (!strcmp(key, "phase")) d->phase_ns = scaled(value, NS_PER_MS, &good);
    else if (!strcmp(key, "gain")) d->gain_ppm = scaled(value, 1000000, &good);
    else if (!strcmp(key, "module_power")) d->module_mw = scaled(value, 1, &good);
    else if (!strcmp(key, "scopes")) good = set_scopes(d, value);
    else if (!strcmp(key, "mig")) d->mig_slots = atoi(value);
    else if (!strcmp(key, "instance")) good = add_instance(d, words, count);
    else if (!strcmp(key, "stuck") && count >= 3) good = add_window(d->stuck, &d->stuck_count, value, words[2], NULL);
    else if (!strcmp(key, "glitch") && count >= 4)
        good = add_window(d->glitches, &d->glitch_count, value, words[2], words[3]);
    else if (!strcmp(key, "watts") && count >= 3) good = add_phase(d, value, words[2]);
    else if (!strcmp(key, "reset") && d->reset_count < MAX_RESETS)
        d->resets[d->reset_count++] = scaled(value, NS_PER_S, &good);
    else if (!strcmp(key, "memory") && count >= 3) {
        d->used = strtoull(value, NULL, 10);
        d->total = strtoull(words[2], NULL, 10);
    } else if (!strcmp(key, "process") || !strcmp(key, "graphics")) good = add_process(d, words, count);
    else good = false;
    return good;
}

static bool error_statement(char **words, int count) {
    if (count < 4 || script.fault_count == MAX_ERRORS) return false;
    bool good = true;
    fault_t *f = &script.faults[script.fault_count++];
    snprintf(f->call, sizeof f->call, "%s", words[1]);
    f->device = strcmp(words[2], "*") ? atoi(words[2]) : -1;
    f->code = atoi(words[3]);
    f->from_ns = count > 4 ? scaled(words[4], NS_PER_S, &good) : 0;
    f->until_ns = count > 5 ? scaled(words[5], NS_PER_S, &good) : FOREVER;
    return good;
}

static device_t *device_named(const char *word) {
    char *end;
    long index = strtol(word, &end, 10);
    return *end || index < 0 || index >= script.device_count ? NULL : &script.devices[index];
}

static bool set_devices(const char *word) {
    int count = atoi(word);
    if (count < 0 || count > MAX_DEVICES) return false;
    default_devices(count);
    return true;
}

static bool statement(char *line, bool first, bool *truth) {
    char copy[1024], *words[16], *rest = line, *save = NULL;
    int count = 0;
    bool good = true;
    snprintf(copy, sizeof copy, "%s", line);
    for (char *w = strtok_r(copy, " \t", &save); w && count < 16; w = strtok_r(NULL, " \t", &save)) words[count++] = w;
    if (first) *truth = count == 2 && isdigit((unsigned char)words[0][0]);
    if (*truth && first) {
        script.tick_ns = scaled(words[1], NS_PER_MS, &good);
        return set_devices(words[0]) && good;
    }
    if (*truth) {
        device_t *d = count == 3 ? device_named(words[0]) : NULL;
        return d && add_phase(d, words[1], words[2]);
    }
    if (count >= 2 && !strcmp(words[0], "devices")) return set_devices(words[1]);
    if (count >= 2 && !strcmp(words[0], "driver")) { snprintf(script.driver, NAME_BYTES, "%s", words[1]); return true; }
    if (count >= 2 && !strcmp(words[0], "tick_ms")) { script.tick_ns = scaled(words[1], NS_PER_MS, &good); return good; }
    if (count >= 2 && !strcmp(words[0], "jitter_ms")) {
        script.jitter_ns = scaled(words[1], NS_PER_MS, &good);
        return good;
    }
    if (!strcmp(words[0], "error")) return error_statement(words, count);
    device_t *d = count >= 4 && !strcmp(words[0], "device") ? device_named(words[1]) : NULL;
    for (int skipped = 0; skipped < 3; skipped++) { /* rest: the line behind `device N key` */
        rest += strcspn(rest, " \t");
        rest += strspn(rest, " \t");
    }
    return d && device_statement(d, words + 2, count - 2, rest);
}

static void clear_script(void) {
    for (int i = 0; i < MAX_DEVICES; i++) free(script.devices[i].phases);
    memset(&script, 0, sizeof script);
    snprintf(script.driver, NAME_BYTES, "570.86.15");
    script.tick_ns = 20 * NS_PER_MS;
}

static void read_script(const char *path) {
    char line[1024];
    bool first = true, truth = false;
    int number = 0;
    FILE *file = fopen(path, "re");
    clear_script();
    script.broken = !file;
    while (file && !script.broken && fgets(line, sizeof line, file)) {
        number++;
        line[strcspn(line, "#\r\n")] = 0;
        char *start = line + strspn(line, " \t");
        if (!*start) continue;
        if (!statement(start, first, &truth)) {
            fprintf(stderr, "nvml stub: %s line %d cannot be understood: %s\n", path, number, start);
            script.broken = true;
        }
        first = false;
    }
    if (file) fclose(file);
}

/* Read the script again if its path or file changed. Returns an NVML code. */
static int refresh(void) {
    const char *path = getenv("NVML_STUB_SCRIPT");
    struct stat now;
    if (!path || !*path || stat(path, &now)) return DRIVER_NOT_LOADED;
    bool same = !strcmp(path, loaded_path) && now.st_ino == loaded.st_ino && now.st_size == loaded.st_size &&
                now.st_mtim.tv_sec == loaded.st_mtim.tv_sec && now.st_mtim.tv_nsec == loaded.st_mtim.tv_nsec;
    if (!same) {
        read_script(path);
        snprintf(loaded_path, sizeof loaded_path, "%s", path);
        loaded = now;
    }
    return script.broken ? UNKNOWN : OK;
}

/* ---- time and energy ---- */

static int64_t monotonic_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * NS_PER_S + t.tv_nsec;
}

/* How late tick `number` is: the same for every process, 0 to jitter_ns. */
static int64_t lateness_ns(int64_t number) {
    uint64_t z = (uint64_t)number + 0x9e3779b97f4a7c15ULL;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return script.jitter_ns ? (int64_t)((z ^ (z >> 31)) % (uint64_t)script.jitter_ns) : 0;
}

static int64_t last_tick_ns(const device_t *d) {
    int64_t now = monotonic_ns();
    if (script.tick_ns <= 0) return now;
    int64_t number = (now - d->phase_ns) / script.tick_ns;
    int64_t at = d->phase_ns + number * script.tick_ns + lateness_ns(number);
    return at <= now ? at : at - lateness_ns(number) - script.tick_ns + lateness_ns(number - 1);
}

/* The phase in force at `at_ns`, NULL before the first. */
static const phase_t *phase_at(const device_t *d, int64_t at_ns) {
    size_t low = 0, high = d->phase_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (d->phases[middle].at_ns <= at_ns) low = middle + 1;
        else high = middle;
    }
    return low ? &d->phases[low - 1] : NULL;
}

static __int128 energy_pj(const device_t *d, int64_t at_ns) {
    const phase_t *p = phase_at(d, at_ns);
    return p ? p->before_pj + (__int128)(at_ns - p->at_ns) * p->power_mw : 0;
}

/* What the counter took in until `at_ns`: all energy but that of the time in which it stood still. */
static __int128 counted_pj(const device_t *d, int64_t at_ns) {
    __int128 counted = energy_pj(d, at_ns);
    for (int i = 0; i < d->stuck_count; i++) {
        const window_t *w = &d->stuck[i];
        int64_t until = at_ns < w->until_ns ? at_ns : w->until_ns;
        if (until > w->from_ns) counted -= energy_pj(d, until) - energy_pj(d, w->from_ns);
    }
    return counted;
}

static ull counter_mj(const device_t *d) {
    int64_t now = monotonic_ns();
    for (int i = 0; i < d->glitch_count; i++)
        if (d->glitches[i].from_ns <= now && now < d->glitches[i].until_ns) return d->glitches[i].shown_mj;
    if (d->constant) return d->counter_mj;
    int64_t at_ns = last_tick_ns(d), since = -1;
    for (int i = 0; i < d->reset_count; i++)
        if (d->resets[i] <= at_ns && d->resets[i] > since) since = d->resets[i];
    __int128 counted = counted_pj(d, at_ns) - (since < 0 ? 0 : counted_pj(d, since));
    return (since < 0 ? d->offset_mj : 0) + (ull)(counted * d->gain_ppm / (PJ_PER_MJ * 1000000));
}

static unsigned power_mw(const device_t *d) {
    const phase_t *p = phase_at(d, last_tick_ns(d));
    return d->power_mw ? (unsigned)d->power_mw : p ? (unsigned)p->power_mw : 0;
}

/* ---- entering and leaving a call ---- */

static int scripted_error(const char *call, int device) {
    int64_t now = monotonic_ns();
    for (int i = 0; i < script.fault_count; i++) {
        const fault_t *f = &script.faults[i];
        bool here = f->device < 0 || f->device == device;
        if (here && !strcmp(f->call, call) && f->from_ns <= now && now < f->until_ns) return f->code;
    }
    return OK;
}

static int leave(int code) {
    pthread_mutex_unlock(&lock);
    return code;
}

static int enter(const char *call) {
    pthread_mutex_lock(&lock);
    if (!users) return UNINITIALIZED;
    int code = refresh();
    return code ? code : scripted_error(call, -1);
}

/* A handle is the device's number + 1, of an instance with (its number + 1) << 16 added. `*instance`: NULL of a GPU. */
static int enter_part(const char *call, handle_t handle, device_t **device, instance_t **instance) {
    pthread_mutex_lock(&lock);
    int index = (int)((uintptr_t)handle & 0xffff) - 1, part = (int)((uintptr_t)handle >> 16) - 1;
    if (!users) return UNINITIALIZED;
    int code = refresh();
    if (code) return code;
    if (index < 0 || index >= script.device_count) return INVALID_ARGUMENT;
    *device = &script.devices[index];
    if (part >= (*device)->instance_count) return INVALID_ARGUMENT;
    *instance = part < 0 ? NULL : &(*device)->instances[part];
    return scripted_error(call, index);
}

/* Of an instance NVML tells hardly anything: most calls want a GPU. */
static int enter_device(const char *call, handle_t handle, device_t **device) {
    instance_t *instance = NULL;
    int code = enter_part(call, handle, device, &instance);
    return code ? code : instance ? NOT_SUPPORTED : OK;
}

static int copy_text(char *to, unsigned length, const char *from) {
    if (strlen(from) + 1 > length) return INSUFFICIENT_SIZE;
    strcpy(to, from);
    return OK;
}

#define DEVICE_CALL(name, arguments, body)                                                                            \
    int name arguments {                                                                                              \
        device_t *d = NULL;                                                                                           \
        int code = enter_device(#name, h, &d);                                                                        \
        if (code) return leave(code);                                                                                 \
        body;                                                                                                         \
        return leave(code);                                                                                           \
    }
#define PART_CALL(name, arguments, body)                                                                              \
    int name arguments {                                                                                              \
        device_t *d = NULL;                                                                                           \
        instance_t *part = NULL;                                                                                      \
        int code = enter_part(#name, h, &d, &part);                                                                   \
        if (code) return leave(code);                                                                                 \
        body;                                                                                                         \
        return leave(code);                                                                                           \
    }
#define NUMBER_OF(d) ((unsigned)((d) - script.devices))
#define ALIAS(name, arguments, original, ...) \
    int name arguments { return original(__VA_ARGS__); }

/* ---- the library ---- */

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    pthread_mutex_lock(&lock);
    int code = refresh();
    if (!code) code = scripted_error("nvmlInit", -1);
    if (!code) users++;
    return leave(code);
}
ALIAS(nvmlInit_v2, (void), nvmlInitWithFlags, 0)
ALIAS(nvmlInit, (void), nvmlInitWithFlags, 0)

int nvmlShutdown(void) {
    pthread_mutex_lock(&lock);
    if (!users) return leave(UNINITIALIZED);
    users--;
    return leave(OK);
}

const char *nvmlErrorString(int code) {
    switch (code) {
        case OK: return "Success";
        case NOT_SUPPORTED: return "Not Supported";
        case NO_PERMISSION: return "Insufficient Permissions";
        case DRIVER_NOT_LOADED: return "Driver Not Loaded";
        case 15: return "GPU is lost";
        default: return "Scripted Error";
    }
}

int nvmlSystemGetDriverVersion(char *text, unsigned length) {
    int code = enter("nvmlSystemGetDriverVersion");
    return leave(code ? code : copy_text(text, length, script.driver));
}

int nvmlSystemGetNVMLVersion(char *text, unsigned length) {
    int code = enter("nvmlSystemGetNVMLVersion");
    return leave(code ? code : copy_text(text, length, "12.570.86.15"));
}

int nvmlSystemGetCudaDriverVersion_v2(int *version) {
    int code = enter("nvmlSystemGetCudaDriverVersion");
    *version = 12080;
    return leave(code);
}
ALIAS(nvmlSystemGetCudaDriverVersion, (int *version), nvmlSystemGetCudaDriverVersion_v2, version)

int nvmlDeviceGetCount_v2(unsigned *count) {
    int code = enter("nvmlDeviceGetCount");
    if (!code) *count = (unsigned)script.device_count;
    return leave(code);
}
ALIAS(nvmlDeviceGetCount, (unsigned *count), nvmlDeviceGetCount_v2, count)

int nvmlDeviceGetHandleByIndex_v2(unsigned index, handle_t *handle) {
    device_t *d = NULL;
    int code = enter_device("nvmlDeviceGetHandleByIndex", (handle_t)(uintptr_t)(index + 1), &d);
    if (!code) *handle = (handle_t)(uintptr_t)(index + 1);
    return leave(code);
}
ALIAS(nvmlDeviceGetHandleByIndex, (unsigned index, handle_t *handle), nvmlDeviceGetHandleByIndex_v2, index, handle)

int nvmlDeviceGetHandleByUUID(const char *uuid, handle_t *handle) {
    int code = enter("nvmlDeviceGetHandleByUUID");
    uintptr_t found = 0;
    for (int i = 0; !code && i < script.device_count; i++) {
        const device_t *d = &script.devices[i];
        if (!strcmp(d->uuid, uuid)) found = (uintptr_t)i + 1;
        for (int part = 0; d->mig_slots && part < d->instance_count; part++)
            if (!strcmp(d->instances[part].uuid, uuid)) found = ((uintptr_t)i + 1) | ((uintptr_t)part + 1) << 16;
    }
    if (!code && !found) code = NOT_FOUND;
    if (!code) *handle = (handle_t)found;
    return leave(code);
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *bus, handle_t *handle) {
    int code = enter("nvmlDeviceGetHandleByPciBusId");
    unsigned index = strlen(bus) > 11 ? (unsigned)strtoul(bus + strlen(bus) - 7, NULL, 16) - 1 : MAX_DEVICES;
    if (!code && index >= (unsigned)script.device_count) code = NOT_FOUND;
    if (!code) *handle = (handle_t)(uintptr_t)(index + 1);
    return leave(code);
}

PART_CALL(nvmlDeviceGetUUID, (handle_t h, char *text, unsigned length),
          code = copy_text(text, length, part ? part->uuid : d->uuid))
DEVICE_CALL(nvmlDeviceGetName, (handle_t h, char *text, unsigned length), code = copy_text(text, length, d->name))
DEVICE_CALL(nvmlDeviceGetIndex, (handle_t h, unsigned *index), *index = NUMBER_OF(d))
DEVICE_CALL(nvmlDeviceGetMinorNumber, (handle_t h, unsigned *minor), *minor = NUMBER_OF(d))
DEVICE_CALL(nvmlDeviceGetTotalEnergyConsumption, (handle_t h, ull *mj), *mj = counter_mj(d))
DEVICE_CALL(nvmlDeviceGetPowerUsage, (handle_t h, unsigned *mw), *mw = power_mw(d))
DEVICE_CALL(nvmlDeviceGetPersistenceMode, (handle_t h, unsigned *mode), *mode = 1)
DEVICE_CALL(nvmlDeviceGetPowerManagementMode, (handle_t h, unsigned *mode), *mode = 1)

/* ---- instances (MIG) ---- */

typedef struct {
    unsigned multiprocessors, copy, decoder, encoder, jpeg, ofa, gpu_slices, compute_slices;
    ull memory_mb;
} attributes_t;
DEVICE_CALL(nvmlDeviceGetMigMode, (handle_t h, unsigned *now, unsigned *next),
            if (d->mig_slots) *now = *next = 1; else code = NOT_SUPPORTED)
DEVICE_CALL(nvmlDeviceGetMaxMigDeviceCount, (handle_t h, unsigned *count), *count = (unsigned)d->mig_slots)
DEVICE_CALL(nvmlDeviceGetMigDeviceHandleByIndex, (handle_t h, unsigned i, handle_t *mig),
            if (i >= (unsigned)d->instance_count) code = NOT_FOUND;
            else *mig = (handle_t)((uintptr_t)(NUMBER_OF(d) + 1) | (uintptr_t)(i + 1) << 16))
PART_CALL(nvmlDeviceGetAttributes_v2, (handle_t h, attributes_t *a),
          if (!part) code = NOT_SUPPORTED;
          else *a = ((attributes_t){.multiprocessors = 16 * part->slices, .gpu_slices = part->slices,
                                    .compute_slices = part->slices, .memory_mb = part->total >> 20}))
PART_CALL(nvmlDeviceGetGpuInstanceId, (handle_t h, unsigned *id),
          if (!part) code = NOT_SUPPORTED; else *id = part->gpu_instance)
PART_CALL(nvmlDeviceGetComputeInstanceId, (handle_t h, unsigned *id),
          if (!part) code = NOT_SUPPORTED; else *id = part->compute_instance)
PART_CALL(nvmlDeviceGetDeviceHandleFromMigDeviceHandle, (handle_t h, handle_t *parent),
          if (!part) code = INVALID_ARGUMENT; else *parent = (handle_t)(uintptr_t)(NUMBER_OF(d) + 1))
PART_CALL(nvmlDeviceIsMigDeviceHandle, (handle_t h, unsigned *is), (void)d; *is = part != NULL)

/* ---- figures to show ---- */

typedef struct { unsigned gpu, memory; } utilization_t;
DEVICE_CALL(nvmlDeviceGetUtilizationRates, (handle_t h, utilization_t *u),
            if (d->mig_slots) code = NOT_SUPPORTED; u->gpu = d->utilization; u->memory = d->utilization / 2)

typedef struct { ull total, free, used; } memory_t;
typedef struct { unsigned version; ull total, reserved, free, used; } memory_v2_t;
PART_CALL(nvmlDeviceGetMemoryInfo, (handle_t h, memory_t *m),
          ull total = part ? part->total : d->total; ull used = part ? part->used : d->used;
          *m = ((memory_t){total, total - used, used}))

int nvmlDeviceGetMemoryInfo_v2(handle_t h, memory_v2_t *m) {
    memory_t first;
    int code = nvmlDeviceGetMemoryInfo(h, &first);
    if (code) return code;
    *m = (memory_v2_t){m->version, first.total, 0, first.free, first.used};
    return OK;
}

DEVICE_CALL(nvmlDeviceGetTemperature, (handle_t h, int sensor, unsigned *celsius), (void)sensor; *celsius = d->temperature)
typedef struct { unsigned version; int sensor, celsius; } temperature_t;
int nvmlDeviceGetTemperatureV(handle_t h, temperature_t *t) {
    return nvmlDeviceGetTemperature(h, t->sensor, (unsigned *)&t->celsius);
}

/* ---- power limits ---- */

static unsigned limit_of(const device_t *d) {
    unsigned set = set_limits_mw[NUMBER_OF(d)];
    return set ? set : d->limit_mw;
}

DEVICE_CALL(nvmlDeviceGetPowerManagementLimit, (handle_t h, unsigned *mw), *mw = limit_of(d))
DEVICE_CALL(nvmlDeviceGetEnforcedPowerLimit, (handle_t h, unsigned *mw), *mw = limit_of(d))
DEVICE_CALL(nvmlDeviceGetPowerManagementDefaultLimit, (handle_t h, unsigned *mw), *mw = d->limit_mw)
DEVICE_CALL(nvmlDeviceGetPowerManagementLimitConstraints, (handle_t h, unsigned *low, unsigned *high),
            *low = d->limit_mw / 4; *high = d->limit_mw)
DEVICE_CALL(nvmlDeviceSetPowerManagementLimit, (handle_t h, unsigned mw),
            if (mw < d->limit_mw / 4 || mw > d->limit_mw) code = INVALID_ARGUMENT;
            else set_limits_mw[NUMBER_OF(d)] = mw)

/* ---- processes ---- */

typedef struct { unsigned pid; ull memory; } process_v1_t;
typedef struct { unsigned pid; ull memory; unsigned gpu_instance, compute_instance; } process_v2_t;
typedef struct { unsigned pid; ull at_us; unsigned sm, memory, encoder, decoder; } sample_t;
typedef struct { ull at_us; unsigned pid, sm, memory, encoder, decoder, jpeg, flow; } sample_info_t;
typedef struct { unsigned version, count; ull seen_us; sample_info_t *samples; } samples_t;

/* With both arrays NULL only `count` is answered. */
static int list_processes(const device_t *d, const instance_t *part, bool graphics, unsigned *count,
                          process_v1_t *v1, process_v2_t *v2) {
    unsigned room = *count, found = 0;
    for (int i = 0; i < d->process_count; i++) {
        const process_t *p = &d->processes[i];
        const instance_t *own = p->instance >= 0 && p->instance < d->instance_count ? &d->instances[p->instance] : NULL;
        if (p->graphics != graphics || (part && own != part)) continue;
        if (found < room && v1) v1[found] = (process_v1_t){p->pid, p->memory};
        if (found < room && v2)
            v2[found] = (process_v2_t){p->pid, p->memory, own ? own->gpu_instance : ~0u,
                                       own ? own->compute_instance : ~0u};
        found++;
    }
    *count = found;
    return found && (room < found || (!v1 && !v2)) ? INSUFFICIENT_SIZE : OK;
}

static int compute(handle_t handle, unsigned *count, process_v1_t *v1, process_v2_t *v2) {
    device_t *d = NULL;
    instance_t *part = NULL;
    int code = enter_part("nvmlDeviceGetComputeRunningProcesses", handle, &d, &part);
    return leave(code ? code : list_processes(d, part, false, count, v1, v2));
}

static int graphics(handle_t handle, unsigned *count, process_v1_t *v1, process_v2_t *v2) {
    device_t *d = NULL;
    instance_t *part = NULL;
    int code = enter_part("nvmlDeviceGetGraphicsRunningProcesses", handle, &d, &part);
    return leave(code ? code : list_processes(d, part, true, count, v1, v2));
}

ALIAS(nvmlDeviceGetComputeRunningProcesses, (handle_t h, unsigned *n, process_v1_t *p), compute, h, n, p, NULL)
ALIAS(nvmlDeviceGetComputeRunningProcesses_v2, (handle_t h, unsigned *n, process_v2_t *p), compute, h, n, NULL, p)
ALIAS(nvmlDeviceGetComputeRunningProcesses_v3, (handle_t h, unsigned *n, process_v2_t *p), compute, h, n, NULL, p)
ALIAS(nvmlDeviceGetGraphicsRunningProcesses, (handle_t h, unsigned *n, process_v1_t *p), graphics, h, n, p, NULL)
ALIAS(nvmlDeviceGetGraphicsRunningProcesses_v2, (handle_t h, unsigned *n, process_v2_t *p), graphics, h, n, NULL, p)
ALIAS(nvmlDeviceGetGraphicsRunningProcesses_v3, (handle_t h, unsigned *n, process_v2_t *p), graphics, h, n, NULL, p)

static ull wall_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (ull)t.tv_sec * 1000000 + (ull)t.tv_nsec / 1000;
}

/* One sample of every process whose script line gives its use. */
static int list_samples(const device_t *d, ull seen_us, unsigned *count, sample_t *v1, sample_info_t *v2) {
    unsigned room = *count, found = 0;
    ull now = wall_us();
    if (d->mig_slots) return NOT_SUPPORTED;
    for (int i = 0; seen_us < now && i < d->process_count; i++) {
        const process_t *p = &d->processes[i];
        if (p->sm < 0) continue;
        if (found < room && v1) v1[found] = (sample_t){p->pid, now, (unsigned)p->sm, 0, 0, 0};
        if (found < room && v2) v2[found] = (sample_info_t){now, p->pid, (unsigned)p->sm, 0, 0, 0, 0, 0};
        found++;
    }
    *count = found;
    if (!found) return NOT_FOUND;
    return room < found || (!v1 && !v2) ? INSUFFICIENT_SIZE : OK;
}

DEVICE_CALL(nvmlDeviceGetProcessUtilization, (handle_t h, sample_t *samples, unsigned *count, ull seen_us),
            code = list_samples(d, seen_us, count, samples, NULL))
DEVICE_CALL(nvmlDeviceGetProcessesUtilizationInfo, (handle_t h, samples_t *s),
            code = list_samples(d, s->seen_us, &s->count, NULL, s->samples))

/* ---- the rest of what detection asks ---- */

typedef union { double d; unsigned u; unsigned long ul; ull ull_; } value_t;
typedef struct { uint32_t field, scope; int64_t at_us, latency_us; int type, code; value_t value; } field_t;
enum { FIELD_ENERGY = 83, FIELD_POWER_AVERAGE = 185, FIELD_POWER_INSTANT = 186, TYPE_UINT = 1, TYPE_ULL = 3 };

static void answer_field(const device_t *d, field_t *f) {
    f->at_us = (int64_t)wall_us();
    f->code = scripted_error("nvmlDeviceGetFieldValues", (int)NUMBER_OF(d));
    if (f->code) return;
    if (f->field == FIELD_ENERGY) { f->type = TYPE_ULL; f->value.ull_ = counter_mj(d); }
    else if (f->field != FIELD_POWER_INSTANT && f->field != FIELD_POWER_AVERAGE) f->code = NOT_SUPPORTED;
    else if (f->scope > 1 || (f->scope ? d->no_module_scope : d->no_gpu_scope)) f->code = NOT_SUPPORTED;
    else { f->type = TYPE_UINT; f->value.u = f->scope && d->module_mw ? (unsigned)d->module_mw : power_mw(d); }
}

int nvmlDeviceGetFieldValues(handle_t h, int count, field_t *fields) {
    device_t *d = NULL;
    int code = enter_device("", h, &d); /* errors are scripted per field */
    for (int i = 0; !code && i < count; i++) answer_field(d, &fields[i]);
    return leave(code);
}

DEVICE_CALL(nvmlDeviceGetCudaComputeCapability, (handle_t h, int *major, int *minor), *major = 9; *minor = 0)
DEVICE_CALL(nvmlDeviceGetArchitecture, (handle_t h, unsigned *architecture), *architecture = 9)
DEVICE_CALL(nvmlDeviceGetBrand, (handle_t h, unsigned *brand), *brand = 14)

typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } pci_t;
DEVICE_CALL(nvmlDeviceGetPciInfo_v3, (handle_t h, pci_t *pci),
            *pci = ((pci_t){.bus = NUMBER_OF(d) + 1, .id = 0x233010de});
            snprintf(pci->legacy, sizeof pci->legacy, "0000:%02X:00.0", pci->bus);
            snprintf(pci->bus_id, sizeof pci->bus_id, "00000000:%02X:00.0", pci->bus))
ALIAS(nvmlDeviceGetPciInfo_v2, (handle_t h, pci_t *pci), nvmlDeviceGetPciInfo_v3, h, pci)
ALIAS(nvmlDeviceGetPciInfo, (handle_t h, pci_t *pci), nvmlDeviceGetPciInfo_v3, h, pci)
