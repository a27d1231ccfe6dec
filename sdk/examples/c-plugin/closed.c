/* A plugin in C: whoever dials `closed` is told that the office is closed, and the log says so.
 *
 *     cc -shared -fPIC -I../../include -o libclosed.so closed.c
 *
 * Copy the library into the host's plugin directory; `switchyard plugin list` shows it.
 */
#include <stdlib.h>
#include <string.h>

#include "switchyard.h"

#define TEXT(literal) ((sy_str){(const uint8_t *)(literal), sizeof(literal) - 1})

/* One per engine, used on that engine's thread only. */
typedef struct instance {
    const sy_host_table *host;
    void *context;
    const sy_call_v1 *call;
    const sy_log_v1 *log;
} instance;

static void *create(const sy_host_table *host, void *context) {
    if (host->abi_version != SY_ABI_VERSION || host->size < sizeof *host) {
        return NULL;
    }
    instance *self = calloc(1, sizeof *self);
    if (self == NULL) {
        return NULL;
    }
    self->host = host;
    self->context = context;
    self->call = host->extension(context, TEXT(SY_CALL_V1_ID));
    self->log = host->extension(context, TEXT(SY_LOG_V1_ID));
    /* Both are declared below, so a host that lacks them is none we can work with. */
    if (self->call == NULL || self->log == NULL) {
        free(self);
        return NULL;
    }
    return self;
}

static void destroy(void *self) {
    free(self);
}

static int32_t on_event(void *pointer, const sy_event *event) {
    instance *self = pointer;
    switch (event->kind) {
    case SY_EVENT_OFFER:
        self->log->log(self->context, event->flow, SY_LOG_LEVEL_INFO, TEXT("somebody came too late"));
        self->call->refuse(self->context, event->flow, TEXT("{\"code\":35103,\"text\":\"the office is closed\"}"));
        self->host->flow_end(self->context, event->flow, SY_FLOW_END_DONE, TEXT(""));
        break;
    case SY_EVENT_CANCEL_FLOW:
    case SY_EVENT_RESUME:
        /* It parks no calls, and its flows end with the offer that starts them. */
        self->host->flow_end(self->context, event->flow, SY_FLOW_END_CANCELLED, TEXT(""));
        break;
    default:
        break;
    }
    return SY_STATUS_TAKEN;
}

static const char MANIFEST[] =
    "{ \"description\": \"Says that the office is closed\", \"services\": [\"closed\"],"
    "  \"extensions\": [\"switchyard.call/1\", \"switchyard.log/1\"] }";

const sy_plugin_entry switchyard_plugin = {
    .magic = SY_MAGIC,
    .abi_version = SY_ABI_VERSION,
    .size = sizeof(sy_plugin_entry),
    .name = {(const uint8_t *)"closed", 6},
    .version = {(const uint8_t *)"0.1.0", 5},
    .manifest = {(const uint8_t *)MANIFEST, sizeof MANIFEST - 1},
    .unwinds = 1,
    .create = create,
    .destroy = destroy,
    .event = on_event,
};
