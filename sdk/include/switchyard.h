/* switchyard.h: what a Switchyard plugin in C needs.
 *
 * Written from sdk/src/abi.rs by the SDK's tests; not to be edited. Values named `*_json` are JSON; their
 * fields are those of the Rust types named beside them (sdk/src/types.rs, sdk/src/ext/). A missing field has its
 * default, an unknown one is ignored. An example lies in sdk/examples/c-plugin/.
 */
#ifndef SWITCHYARD_H
#define SWITCHYARD_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The C ABI between the host and a plugin library: `#[repr(C)]` types and one entry point.
 *
 * A library exports one symbol, `switchyard_plugin`, a static sy_plugin_entry. No Rust type, panic or
 * allocator crosses: text is borrowed for the length of one call (sy_str), whoever allocates frees. Tables
 * only grow at their end; `size` says how much of one is there. Unless marked otherwise a function is
 * called on the engine's thread only, never re-entered while another function of the same instance runs,
 * and must not block. */

typedef struct sy_str sy_str;
typedef struct sy_plugin_entry sy_plugin_entry;
typedef struct sy_event sy_event;
typedef struct sy_host_table sy_host_table;
typedef struct sy_call_v1 sy_call_v1;
typedef struct sy_orbit_v1 sy_orbit_v1;
typedef struct sy_ringing_v1 sy_ringing_v1;
typedef struct sy_policy_v1 sy_policy_v1;
typedef struct sy_timer_v1 sy_timer_v1;
typedef struct sy_log_v1 sy_log_v1;
typedef struct sy_metrics_v1 sy_metrics_v1;

/* First field of every entry: `SWYARD01` in ASCII, read as a little-endian number. */
#define SY_MAGIC UINT64_C(0x3130445241595753)

/* The version of this ABI. A host refuses a plugin of another version. */
#define SY_ABI_VERSION 1

/* The name of the exported entry. */
#define SY_ENTRY_SYMBOL "switchyard_plugin"

/* Borrowed UTF-8 text, valid for the length of the call that carries it. Not NUL-terminated. */
struct sy_str {
    /* First byte; may be null if `len` is 0. */
    const uint8_t *ptr;
    /* Length in bytes. */
    size_t len;
};

/* What a library exports as `switchyard_plugin`. */
struct sy_plugin_entry {
    /* SY_MAGIC. */
    uint64_t magic;
    /* SY_ABI_VERSION the library was built for. */
    uint32_t abi_version;
    /* `sizeof` this struct when the library was built. */
    uint32_t size;
    /* `call-park`: lower-case letters, digits and hyphens. */
    sy_str name;
    /* Semantic version: `0.1.0`. */
    sy_str version;
    /* The manifest as JSON (manifest::Manifest). */
    sy_str manifest;
    /* 1 if the library unwinds on panic (or never panics), 0 if it aborts; the host refuses the latter. */
    uint32_t unwinds;
    /* Reserved, 0. */
    uint32_t reserved;
    /* Makes an instance. `host` and `context` stay valid until `destroy` returns. Null: could not be made. */
    void *(*create)(const sy_host_table *host, void *context);
    /* Ends an instance. Never called while another function of it runs. */
    void (*destroy)(void *instance);
    /* Delivers an event; `event` is borrowed for the call. Returns SY_STATUS_TAKEN, or a negative number
     * when the plugin broke (SY_STATUS_PANICKED). */
    int32_t (*event)(void *instance, const sy_event *event);
};

/* What happens, from the host to the plugin. */
struct sy_event {
    /* `sizeof` this struct in the host. */
    uint32_t size;
    /* One of SY_EVENT_*. */
    uint32_t kind;
    /* For `ANSWER`: the token the plugin chose. Otherwise 0. */
    uint64_t token;
    /* For `OFFER` and `RESUME`: the new flow. For `CANCEL_FLOW`: the flow. Otherwise 0. */
    uint64_t flow;
    /* For `ANSWER`: 0 for success, else the reason code (350xx). */
    uint32_t code;
    /* For `ANSWER` that is a refusal: the SIP status behind it, or 0. */
    uint32_t sip_status;
    /* Monotonic time in nanoseconds since the host started. */
    uint64_t now_ns;
    /* Wall-clock time in milliseconds since 1970 (UTC). */
    uint64_t now_utc_ms;
    /* JSON: the offer, the record, the answer's value, or a refusal's text as a JSON string. May be empty. */
    sy_str payload;
};

/* Kinds of sy_event. */

/* A call is offered; starts flow `flow`. Payload: types::Offer. */
#define SY_EVENT_OFFER 1
/* A command came to its end. Payload: the command's answer. */
#define SY_EVENT_ANSWER 2
/* A parked call is handed over; starts flow `flow`. Payload: ext::orbit::Resume. */
#define SY_EVENT_RESUME 3
/* Come to rest: end every flow that rests; a newer copy of the plugin takes their records over. */
#define SY_EVENT_DRAIN 4
/* `wake` was called, from whatever thread. */
#define SY_EVENT_WAKE 5
/* End flow `flow` now; its `flow_end` must follow before this event returns. */
#define SY_EVENT_CANCEL_FLOW 6

/* What functions return. */

/* Taken: an answer will follow if the command has a token. */
#define SY_STATUS_TAKEN 0
/* The arguments cannot be read, or a handle is unknown. No answer follows. */
#define SY_STATUS_INVALID (-1)
/* The manifest does not declare this extension, section or hook. No answer follows. */
#define SY_STATUS_NOT_GRANTED (-2)
/* A plugin function panicked; the panic stayed inside. */
#define SY_STATUS_PANICKED (-3)

/* Levels of sy_log_v1.log. */

/* Something broke. */
#define SY_LOG_LEVEL_ERROR 1
/* Something is odd. */
#define SY_LOG_LEVEL_WARNING 2
/* Something happened. */
#define SY_LOG_LEVEL_INFO 3
/* A detail. */
#define SY_LOG_LEVEL_DEBUG 4

/* How a flow ended. */

/* It returned. */
#define SY_FLOW_END_DONE 0
/* It returned an error; the message says which. */
#define SY_FLOW_END_FAILED 1
/* It panicked. */
#define SY_FLOW_END_PANICKED 2
/* It rests and was ended by `DRAIN`: a newer copy goes on from its record. */
#define SY_FLOW_END_RESTED 3
/* It was ended by `CANCEL_FLOW`. */
#define SY_FLOW_END_CANCELLED 4

/* What the host gives each instance. */
struct sy_host_table {
    /* `sizeof` this struct in the host. */
    uint32_t size;
    /* The host's SY_ABI_VERSION. */
    uint32_t abi_version;
    /* Finds an extension's table by id, or null. The pointer stays valid until `destroy` returns. */
    const void *(*extension)(void *context, sy_str id);
    /* Nobody waits for `token` any more. Commands with an effect run to their end all the same, except
     * `ring`, which stops ringing. Unknown tokens are ignored. */
    void (*withdraw)(void *context, uint64_t token);
    /* The flow has ended (SY_FLOW_END_*); what it held is released. `message` is for the log. */
    void (*flow_end)(void *context, uint64_t flow, uint32_t how, sy_str message);
    /* Asks for a `WAKE` event. The only function that may be called from any thread. */
    void (*wake)(void *context);
};

/* A callback through which the host returns text; called at most once, before the function returns. */
typedef void (*sy_sink)(void *user, sy_str text);

/* Extension `switchyard.call/1`. Arguments named `*_json` are the types of ext::call. */
struct sy_call_v1 {
    /* `sizeof` this struct in the host. */
    uint32_t size;
    /* Reserved, 0. */
    uint32_t reserved;
    /* Takes a leg's media to the host; see ext::call::Play. Answered. */
    int32_t (*play)(void *context, uint64_t flow, uint64_t token, uint64_t leg, sy_str play_json);
    /* Joins two legs, whatever state each is in (the four cases of RFC 3264 exchange). Answered when both
     * have confirmed; after a refusal both are as they were. */
    int32_t (*join)(void *context, uint64_t flow, uint64_t token, uint64_t a, uint64_t b);
    /* Rings someone for a waiting leg; see ext::call::Ring. Answered. */
    int32_t (*ring)(void *context, uint64_t flow, uint64_t token, sy_str ring_json);
    /* Ends a leg; see ext::call::Release. Not answered. */
    int32_t (*release)(void *context, uint64_t flow, uint64_t leg, sy_str release_json);
    /* Waits for a leg to end; see ext::call::Ended. Answered. */
    int32_t (*watch)(void *context, uint64_t flow, uint64_t token, uint64_t leg);
    /* Tells whoever made the offer that it worked; see ext::call::Accept. Not answered. */
    int32_t (*accept)(void *context, uint64_t flow, sy_str accept_json);
    /* Refuses the offer; `refusal_json` is a types::Refusal. The caller stays where they are. */
    int32_t (*refuse)(void *context, uint64_t flow, sy_str refusal_json);
};

/* Extension `switchyard.orbit/1`. Arguments named `*_json` are the types of ext::orbit. */
struct sy_orbit_v1 {
    /* `sizeof` this struct in the host. */
    uint32_t size;
    /* Reserved, 0. */
    uint32_t reserved;
    /* Asks for a free orbit; see ext::orbit::Reserve. Answered. */
    int32_t (*reserve)(void *context, uint64_t flow, uint64_t token, sy_str reserve_json);
    /* Stores the park; see ext::orbit::Commit. Answered. */
    int32_t (*commit)(void *context, uint64_t flow, uint64_t token, sy_str commit_json);
    /* Replaces terms and state of a parked call (same shape as `commit`), written behind. Not answered. */
    int32_t (*save)(void *context, uint64_t flow, sy_str commit_json);
    /* Asks for the call in an orbit; see ext::orbit::Claim. Answered. */
    int32_t (*claim)(void *context, uint64_t flow, uint64_t token, sy_str claim_json);
    /* Waits for somebody to claim `number`; see ext::orbit::ClaimedBy. Answered. */
    int32_t (*claimed)(void *context, uint64_t flow, uint64_t token, sy_str number);
    /* Waits until no claim on `number` is under way; see ext::orbit::Settled. Answered. */
    int32_t (*settled)(void *context, uint64_t flow, uint64_t token, sy_str number);
    /* Takes the call out of the orbit; `outcome_json` is a ext::orbit::Outcome. Not answered. */
    int32_t (*free)(void *context, uint64_t flow, sy_str number, sy_str outcome_json);
    /* Gives a claim back: the call is parked again with the time it had left. Not answered. */
    int32_t (*unclaim)(void *context, uint64_t flow, sy_str number);
};

/* Extension `switchyard.ringing/1`. Arguments named `*_json` are the types of ext::ringing. */
struct sy_ringing_v1 {
    /* `sizeof` this struct in the host. */
    uint32_t size;
    /* Reserved, 0. */
    uint32_t reserved;
    /* Says which calls could be taken; see ext::ringing::Query. Answered. */
    int32_t (*list)(void *context, uint64_t flow, uint64_t token, sy_str query_json);
    /* Takes a call; see ext::ringing::Take. Answered when caller and picker are joined; after a refusal
     * the call rings on. */
    int32_t (*take)(void *context, uint64_t flow, uint64_t token, sy_str take_json);
    /* Waits until the call of this leg does not ring any more; see ext::ringing::Over. Answered. */
    int32_t (*over)(void *context, uint64_t flow, uint64_t token, uint64_t leg);
    /* Tells the members of a group something; see ext::ringing::Tell. Not answered. */
    int32_t (*tell)(void *context, uint64_t flow, sy_str tell_json);
};

/* Extension `switchyard.policy/1`. Both functions answer at once through `sink`. */
struct sy_policy_v1 {
    /* `sizeof` this struct in the host. */
    uint32_t size;
    /* Reserved, 0. */
    uint32_t reserved;
    /* The settings of one of the plugin's own sections in the policy of `pool`, as a JSON object. */
    int32_t (*settings)(void *context, sy_str pool, sy_str section, sy_sink sink, void *user);
    /* Asks a hook of the plugin's own sections (`call_park.allow`) about `args_json`; the sink gets a
     * ext::policy::Decision. A hook that is absent, fails or overruns its budget gives the documented
     * default. */
    int32_t (*decide)(void *context, sy_str pool, sy_str hook, sy_str args_json, sy_sink sink, void *user);
};

/* Extension `switchyard.timer/1`. */
struct sy_timer_v1 {
    /* `sizeof` this struct in the host. */
    uint32_t size;
    /* Reserved, 0. */
    uint32_t reserved;
    /* Answers `token` when the wall clock shows `utc_ms`, at once if it has passed. */
    int32_t (*at)(void *context, uint64_t flow, uint64_t token, uint64_t utc_ms);
};

/* Extension `switchyard.log/1`. */
struct sy_log_v1 {
    /* `sizeof` this struct in the host. */
    uint32_t size;
    /* Reserved, 0. */
    uint32_t reserved;
    /* Writes one line to the host's log. `level`: one of SY_LOG_LEVEL_*. `flow` may be 0. */
    void (*log)(void *context, uint64_t flow, uint32_t level, sy_str text);
};

/* Extension `switchyard.metrics/1`. */
struct sy_metrics_v1 {
    /* `sizeof` this struct in the host. */
    uint32_t size;
    /* Reserved, 0. */
    uint32_t reserved;
    /* Adds to the counter `switchyard_plugin_NAME_total{plugin="…"}`. */
    void (*count)(void *context, sy_str name, uint64_t by);
};

/* The id of the extension whose table is sy_call_v1. */
#define SY_CALL_V1_ID "switchyard.call/1"

/* The id of the extension whose table is sy_orbit_v1. */
#define SY_ORBIT_V1_ID "switchyard.orbit/1"

/* The id of the extension whose table is sy_ringing_v1. */
#define SY_RINGING_V1_ID "switchyard.ringing/1"

/* The id of the extension whose table is sy_policy_v1. */
#define SY_POLICY_V1_ID "switchyard.policy/1"

/* The id of the extension whose table is sy_timer_v1. */
#define SY_TIMER_V1_ID "switchyard.timer/1"

/* The id of the extension whose table is sy_log_v1. */
#define SY_LOG_V1_ID "switchyard.log/1"

/* The id of the extension whose table is sy_metrics_v1. */
#define SY_METRICS_V1_ID "switchyard.metrics/1"

/* What the library exports: one constant entry under this name. */
#if defined(_WIN32)
__declspec(dllexport)
#elif defined(__GNUC__)
__attribute__((visibility("default")))
#endif
extern const sy_plugin_entry switchyard_plugin;

#ifdef __cplusplus
}
#endif

#endif /* SWITCHYARD_H */
