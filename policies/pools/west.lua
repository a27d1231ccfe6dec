-- Visitors of the west site wait longer, and its parked calls are rescued when it is lost.
local base = require "default"
local hours = require "lib/hours"

-- Monday to Friday, by the clock on the wall there.
local desk = hours.weekly { from = "08:00", to = "18:00", days = "Mon-Fri", utc_offset = 60, summer_time = "europe" }

return base:extend {
  call_park = {
    pickup_timeout      = "3m",
    max_recall_attempts = 2,
    on_timeout_uri      = "sip:frontdesk@example.test",

    allow = function(request)
      -- The phone in the lobby is anybody's.
      if request.parker and request.parker.pickup_group == "*109" then
        return deny("the lobby phone does not park")
      end
      -- Nobody at the desk in the end: better ring the parker back soon.
      if not desk.open(now()) then
        return { pickup_timeout = "45s" }
      end
    end,
  },

  resiliency = {
    failure_detection  = "90s",
    failback_detection = "2m",
    parked_on_outage   = "rescue",
    pickup_ranges      = "automatic",
  },

  -- Run once whenever the file is read; if one fails the file is not taken.
  tests = {
    visitors_wait_longer = function(policy)
      assert(policy.call_park.pickup_timeout == "3m")
      assert(policy.call_park.recall_ring_time == base.call_park.recall_ring_time)
    end,
    desk_is_open_on_a_monday_morning = function()
      assert(desk.open(1767600000))      -- Mon 2026-01-05 08:00 UTC, 09:00 there
      assert(not desk.open(1767592800))  -- 07:00 there
      assert(not desk.open(1767528000))  -- Sunday noon
    end,
    lobby_phone_does_not_park = function(policy)
      assert(policy.call_park.allow { parker = { pickup_group = "*109" } } == false)
    end,
  },
}
