/* A plugin that is wrong in one way, chosen by macros: for the tests of the loader. */
#include <stddef.h>

#include "switchyard.h"

#ifndef ODD_MAGIC
#define ODD_MAGIC SY_MAGIC
#endif
#ifndef ODD_ABI
#define ODD_ABI SY_ABI_VERSION
#endif
#ifndef ODD_SIZE
#define ODD_SIZE sizeof(sy_plugin_entry)
#endif
#ifndef ODD_UNWINDS
#define ODD_UNWINDS 1
#endif
#ifndef ODD_NAME
#define ODD_NAME "odd"
#endif
#ifndef ODD_VERSION
#define ODD_VERSION "0.1.0"
#endif
#ifndef ODD_NOT_CREATED
#define ODD_NOT_CREATED 0
#endif
#ifndef ODD_MANIFEST
#define ODD_MANIFEST "{ \"kinds\": [\"odd\"] }"
#endif

#define TEXT(literal) {(const uint8_t *)(literal), sizeof(literal) - 1}

static int one;
static const sy_host_table *the_host;
static void *the_context;

static void *create(const sy_host_table *host, void *context) {
    the_host = host;
    the_context = context;
    return ODD_NOT_CREATED ? NULL : &one;
}

static void destroy(void *instance) {
    (void)instance;
}

/* Rests until it is drained; its version is the message of each flow's end. */
static int32_t on_event(void *instance, const sy_event *event) {
    static uint64_t open;
    sy_str version = TEXT(ODD_VERSION);
    (void)instance;
    if (event->kind == SY_EVENT_OFFER || event->kind == SY_EVENT_RESUME) {
        open = event->flow;
    } else if (event->kind == SY_EVENT_DRAIN) {
        the_host->flow_end(the_context, open, SY_FLOW_END_RESTED, version);
    } else if (event->kind == SY_EVENT_CANCEL_FLOW) {
        the_host->flow_end(the_context, event->flow, SY_FLOW_END_CANCELLED, version);
    }
    return SY_STATUS_TAKEN;
}

const sy_plugin_entry switchyard_plugin = {
    .magic = ODD_MAGIC,
    .abi_version = ODD_ABI,
    .size = ODD_SIZE,
    .name = TEXT(ODD_NAME),
    .version = TEXT(ODD_VERSION),
    .manifest = TEXT(ODD_MANIFEST),
    .unwinds = ODD_UNWINDS,
    .create = create,
    .destroy = destroy,
    .event = on_event,
};
