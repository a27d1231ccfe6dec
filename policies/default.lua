-- The policy of every pool that has no file of its own in pools/, and the base those files extend.
--
-- Every value here is the documented default: deleting a line changes nothing. README.md has one entry per knob.
return {
  call_park = {
    pickup_timeout      = "90s",      -- then the parker is rung back (10s..10m)
    max_recall_attempts = 1,          -- ring-backs, each after the whole pickup_timeout (1..10)
    recall_ring_time    = "30s",      -- how long one rings (5s..2m)
    on_timeout_uri      = none,       -- where the call goes then; none: it is ended
    music_on_hold       = true,       -- false: silence; or a file in the music folder
    orbit_choice        = "random",   -- "lowest", "least_recent"
    reuse_cooldown      = "30s",      -- an orbit just freed is taken last (0s..1h)
    say_orbit           = true,       -- speak the number to whoever parks by dialling
  },

  group_pickup = {
    pickers          = { "anyone" },  -- who may dial a group; "group": its members; {}: nobody
    directed         = "members",     -- whose phones **EXTENSION reaches: "everyone", "off"
    directed_pickers = { "anyone" },  -- who may dial it
    groups_max       = 1,             -- how many of a user's groups count (1..8)
    team_calls       = false,         -- may calls be picked up that ring at the callee's team,
    delegated_calls  = false,         -- … at the callee's delegates,
    pick_held        = false,         -- … that the callee holds,
    pick_parked      = false,         -- … that the callee parked,
    pick_recalling   = false,         -- … or that ring back there?
    notify_after     = none,          -- then the group's members are told that a call rings (1s..2m)
    notify_for       = "20s",         -- for how long that is worth showing (5s..5m)
    tell_callee      = true,          -- the callee learns who took the call
    missed_calls     = false,         -- true: the callee's phones list it as missed
  },

  lamps = {
    -- Who sees, next to a lamp, who calls: the watcher of whom? "Busy" is seen by everybody.
    names = { own_group = true, others = false, orbits = true },
  },

  outbound = {
    allow = true,                         -- may users call out through trunks? Or a function that decides
  },

  resiliency = {
    failure_detection    = "5m",          -- a silent pool is lost after this (90s..24h)
    failback_detection   = "10m",         -- and back after this (5s..24h)
    allow_fast_detection = false,         -- true: failure_detection may be as short as 5s
    failover             = "manual",      -- "automatic"
    parked_on_outage     = "disconnect",  -- "rescue"
    pickup_ranges        = "manual",      -- "automatic"
    pickup_after_failback = false,        -- true: calls that ring while users go home can be picked up there
    drain_time           = "5m",          -- a planned failover waits this long for parked calls (0s..1h)
    fenced_limit         = "15m",         -- a host without its lease keeps parked calls this long (1m..24h)
    redirect             = false,         -- true: phones that register at another pool are sent home; or a function
    -- What a user in resiliency mode may do, by phase. Hold and transfer always work.
    allowed = {
      outage       = { park = false, retrieve = false, pickup = false },
      resilient    = { park = false, retrieve = false, pickup = false },
      failing_over = { park = false, retrieve = false, pickup = false },
      failing_back = { park = false, retrieve = false, pickup = false },
    },
  },
}
