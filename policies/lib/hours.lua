-- Opening hours: `hours.weekly { from = "08:00", to = "18:00", days = "Mon-Fri", utc_offset = 60 }.open(now())`
--
-- `now()` is UTC; `utc_offset` is what the clock on the wall is ahead of it, in minutes, in winter. With
-- `summer_time = "europe"` it is an hour more from the last Sunday of March to the last of October, 01:00 UTC.
local hours = {}

local DAY = 86400
local NAMES = { Mon = 1, Tue = 2, Wed = 3, Thu = 4, Fri = 5, Sat = 6, Sun = 7 }

-- 1970-01-01 was a Thursday. 1: Monday.
local function weekday(day)
  return (day + 3) % 7 + 1
end

-- Days from 1970-01-01 to the first of a month (proleptic Gregorian calendar).
local function first_of(year, month)
  local leap_years = function(y) return y // 4 - y // 100 + y // 400 end
  local days = 365 * (year - 1970) + leap_years(year - 1) - leap_years(1969)
  local lengths = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 }
  if year % 4 == 0 and (year % 100 ~= 0 or year % 400 == 0) then lengths[2] = 29 end
  for before = 1, month - 1 do days = days + lengths[before] end
  return days
end

local function year_of(day)
  local year = 1970 + day // 366
  while first_of(year + 1, 1) <= day do year = year + 1 end
  return year
end

local function last_sunday_before(day)
  return day - 1 - weekday(day - 1) % 7
end

-- Whether it is summer time in Europe at a UTC second.
function hours.is_summer_in_europe(utc)
  local year = year_of(utc // DAY)
  local from = last_sunday_before(first_of(year, 4)) * DAY + 3600
  local to = last_sunday_before(first_of(year, 11)) * DAY + 3600
  return from <= utc and utc < to
end

-- A mistake in the times is told with the line of the file that gives them.
local function expect(right, message, level)
  if not right then error("hours: " .. message, level) end
end

local function minutes(text)
  local hour, minute = string.match(text, "^(%d%d?):(%d%d)$")
  local right = hour and hour + 0 <= 24 and minute + 0 < 60
  expect(right, "expected a time such as \"08:00\", found " .. tostring(text), 4)
  return hour * 60 + minute
end

-- "Mon-Fri", "Sat", "Fri-Mon", "Mon,Wed,Fri"
local function days(text)
  local open = {}
  for part in string.gmatch(text, "[^,]+") do
    local from, to = string.match(part, "^%s*(%a+)%s*%-?%s*(%a*)%s*$")
    from, to = NAMES[from], to == "" and NAMES[from] or NAMES[to]
    expect(from and to, "expected days such as \"Mon-Fri\" or \"Mon,Wed\", found " .. text, 4)
    local day = from
    open[day] = true
    while day ~= to do
      day = day % 7 + 1
      open[day] = true
    end
  end
  return open
end

-- The same hours on certain days of the week. `to` may be past midnight: { from = "22:00", to = "06:00" }.
function hours.weekly(times)
  local from, to, open_on = minutes(times.from), minutes(times.to), days(times.days or "Mon-Sun")
  local offset, summer = (times.utc_offset or 0) * 60, times.summer_time
  expect(summer == nil or summer == "europe", "expected summer_time = \"europe\", or none of it", 3)
  return {
    open = function(utc)
      local wall = utc + offset
      if summer and hours.is_summer_in_europe(utc) then wall = wall + 3600 end
      local day, minute = wall // DAY, wall % DAY // 60
      if from < to then return open_on[weekday(day)] == true and from <= minute and minute < to end
      -- Over midnight: the early hours belong to the day before.
      if minute >= from then return open_on[weekday(day)] == true end
      return minute < to and open_on[weekday(day - 1)] == true
    end,
  }
end

return hours
