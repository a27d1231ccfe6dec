---@meta
-- For editors that speak LuaLS. The host does not read this file; README.md is the reference.

---A duration such as "90s", "2m", "1m30s", "500ms" or "1h".
---@alias duration string

---A value that restores the documented default.
---@class unset
unset = {}

---Explicitly nothing.
---@class none
none = {}

---The decision's time in whole seconds since 1970, UTC. Only in hooks.
---@return integer
function now() end

---A number from the engine's seeded dice: in [0, 1), in 1..m, or in m..n. Only in hooks.
---@param m? integer
---@param n? integer
---@return number
function random(m, n) end

---Refuses; `return deny("why")`. The reason is what the phone shows.
---@param why? string
---@return false
function deny(why) end

---One line in the host's log, with file and line.
---@param ... any
function log(...) end

---Somebody in a call.
---@class party
---@field user? string       the registered user's name, for users of this deployment
---@field uri string
---@field display? string
---@field extension? string
---@field pool? string       the pool a user is at home in
---@field pickup_group? string
---@field further_pickup_groups? string[]
---@field device? string
---@field may_park boolean
---@field may_retrieve boolean
---@field outside boolean    through a trunk, or not authenticated

---@class park_request
---@field how "refer"|"dial"|"replaces"|"admin"
---@field number? string     the orbit asked for; nil: any
---@field pool string        the pool whose orbits these are
---@field parker party
---@field parked party

---@class retrieve_request
---@field how "refer"|"dial"|"replaces"|"admin"
---@field number? string     the orbit; nil: the call that waits longest
---@field pool string
---@field retriever party

---What a hook may return: nothing or true (allowed), false or deny("why"), or settings for this decision only.
---@alias answer boolean|call_park|nil

---@class call_park
---@field pickup_timeout? duration|unset                10s..10m, default "90s"
---@field max_recall_attempts? integer|unset            1..10, default 1
---@field recall_ring_time? duration|unset              5s..2m, default "30s"
---@field on_timeout_uri? string|none|unset             default none: the call is ended
---@field music_on_hold? boolean|string|unset           true, false or a file, default true
---@field orbit_choice? "random"|"lowest"|"least_recent"|unset  default "random"
---@field reuse_cooldown? duration|unset                0s..1h, default "30s"
---@field say_orbit? boolean|unset                      default true
---@field allow? (fun(request: park_request): answer)|none|unset
---@field allow_retrieve? (fun(request: retrieve_request): answer)|none|unset

---Who may: "anyone", "group", groups' numbers, users. {} is nobody.
---@alias pickers string[]

---@class pickup_request
---@field how "dial"|"replaces"|"admin"
---@field number? string     the group that was dialled; nil: one phone
---@field state "ringing"|"held"|"parked"|"recalling"
---@field pool string        the pool of who was called
---@field picker party
---@field callee party
---@field caller party

---@class group_pickup
---@field pickers? pickers|unset                        default { "anyone" }
---@field directed? "members"|"everyone"|"off"|unset    default "members"
---@field directed_pickers? pickers|unset               default { "anyone" }
---@field groups_max? integer|unset                     1..8, default 1
---@field team_calls? boolean|unset                     default false
---@field delegated_calls? boolean|unset                default false
---@field pick_held? boolean|unset                      default false
---@field pick_parked? boolean|unset                    default false
---@field pick_recalling? boolean|unset                 default false
---@field notify_after? duration|none|unset             1s..2m, default none: nobody is told
---@field notify_for? duration|unset                    5s..5m, default "20s"
---@field tell_callee? boolean|unset                    default true
---@field missed_calls? boolean|unset                   default false
---@field allow? (fun(request: pickup_request): boolean|group_pickup|nil)|none|unset

---@class outbound_request
---@field how "call"|"forward"|"transfer"|"feature"
---@field trunk string       where it goes out
---@field number string      what is dialled there
---@field dialled string     what was dialled here
---@field payer party        who dialled, forwards or transfers; without user: the host itself

---@class outbound
---@field allow? boolean|unset|fun(request: outbound_request): boolean?

---@alias cell boolean|unset|fun(user: party, call: table): boolean?

---@class actions
---@field park? cell
---@field retrieve? cell
---@field pickup? cell

---@class allowed
---@field outage? actions|unset
---@field resilient? actions|unset
---@field failing_over? actions|unset
---@field failing_back? actions|unset

---@class names
---@field own_group? cell
---@field others? cell
---@field orbits? cell

---@class lamps
---@field names? names|unset

---@class registering
---@field user_agent string
---@field host string      where it registers
---@field transport string

---@class resiliency
---@field failure_detection? duration|unset             90s..24h, default "5m"
---@field failback_detection? duration|unset            5s..24h, default "10m"
---@field allow_fast_detection? boolean|unset           default false
---@field failover? "manual"|"automatic"|unset          default "manual"
---@field parked_on_outage? "disconnect"|"rescue"|unset default "disconnect"
---@field pickup_ranges? "manual"|"automatic"|unset     default "manual"
---@field pickup_after_failback? boolean|unset           default false
---@field drain_time? duration|unset                    0s..1h, default "5m"
---@field fenced_limit? duration|unset                  1m..24h, default "15m"
---@field redirect? boolean|unset|fun(user: party, phone: registering): boolean? default false
---@field allowed? allowed|unset

---@class sections
---@field call_park? call_park|unset
---@field group_pickup? group_pickup|unset
---@field lamps? lamps|unset
---@field outbound? outbound|unset
---@field resiliency? resiliency|unset
---@field tests? table<string, fun(policy: policy)>

---What `require "default"` returns: to be read and extended, not changed.
---@class policy
---@field call_park call_park
---@field group_pickup group_pickup
---@field lamps lamps
---@field outbound outbound
---@field resiliency resiliency
policy = {}

---A new policy: tables merge key by key, everything else replaces.
---@param over sections
---@return policy
function policy:extend(over) end
