-- What a policy file sees as its globals.
--
-- Runs once per state with the libraries of Lua (`raw`) and the host's functions (`host`). Everything here has one
-- of two reasons. Same answer in every run: no addresses, no order by hash, no clock and no dice but the host's.
-- Bounded cost: the count hook sees instructions, so a library function that works for long within one is
-- limited in what it takes, or charges for it.

local host, raw = ...

-- `raw` is emptied once this file has run: what functions need later is taken out of it here.

local assert, error, ipairs, select, type = raw.assert, raw.error, raw.ipairs, raw.select, raw.type
local pcall, setmetatable, tonumber = raw.pcall, raw.setmetatable, raw.tonumber
local raw_next, raw_tostring, math_type, to_integer = raw.next, raw.tostring, raw.math.type, raw.math.tointeger
local pack, sort, unpack, concat = raw.table.pack, raw.table.sort, raw.table.unpack, raw.table.concat
local charge = host.charge

-- More than any list of free orbits (50,000 per pool).
local ITEMS_MAX = 100000

-- Sorting, order and addresses ------------------------------------------------------------------------------------

local ranks = { number = 1, string = 2, boolean = 3 }

local function before(a, b)
  local type_a, type_b = type(a), type(b)
  if type_a ~= type_b then return ranks[type_a] < ranks[type_b] end
  if type_a == "boolean" then return not a and b end
  return a < b
end

local function sorted_keys(of)
  local keys, count, one_type = {}, 0, nil
  for key in raw_next, of do
    local key_type = type(key)
    if not ranks[key_type] then
      error("a table with a " .. key_type .. " as key has no order to go through it", 3)
    end
    count = count + 1
    keys[count] = key
    if one_type == nil then one_type = key_type elseif one_type ~= key_type then one_type = false end
  end
  charge(count)
  if one_type == "number" or one_type == "string" then sort(keys) else sort(keys, before) end
  return keys
end

local function table_of(value, name)
  if type(value) == "table" then return value end
  local expanded = host.expand(value)
  if expanded == nil then
    error(name .. ": expected a table, found " .. type(value), 3)
  end
  return expanded
end

local function pairs(of)
  of = table_of(of, "pairs")
  local keys, index = sorted_keys(of), 0
  return function()
    while true do
      index = index + 1
      local key = keys[index]
      if key == nil then return nil end
      local value = of[key]
      if value ~= nil then return key, value end
    end
  end, of, nil
end

local function next(of, key)
  of = table_of(of, "next")
  local keys, index = sorted_keys(of), 1
  if key ~= nil then
    while keys[index] ~= key do
      if keys[index] == nil then error("next: no such key", 2) end
      index = index + 1
    end
    index = index + 1
  end
  if keys[index] == nil then return nil end
  return keys[index], of[keys[index]]
end

local function tostring(...)
  local value = ...
  local value_type = type(value)
  if value_type == "table" or value_type == "function" or value_type == "thread" then return value_type end
  if value_type == "userdata" then return host.name(value) end
  return raw_tostring(...)
end

-- The message handler of Lua's own xpcall runs inside the count hook when that stops a script, where no further
-- hook runs: a loop there would never end. Here it runs afterwards.
local function results(_, ...) return ... end
local function finish(handler, ok, ...)
  if ok then return true, ... end
  return false, results(pcall(handler, ...))
end
local function xpcall(work, handler, ...)
  return finish(handler, pcall(work, ...))
end

-- string ----------------------------------------------------------------------------------------------------------

local function counted(work)
  return function(text, ...)
    if type(text) == "string" and #text > 64 then charge(#text // 16) end
    return work(text, ...)
  end
end

local string = {
  find = host.find, match = host.match, gmatch = host.gmatch, gsub = host.gsub,
  len = raw.string.len, char = raw.string.char,
}
for _, name in ipairs { "byte", "lower", "reverse", "sub", "upper" } do
  string[name] = counted(raw.string[name])
end

local rep = raw.string.rep
function string.rep(text, count, separator)
  local whole = math_type(count) == "integer" and count or tonumber(count)
  if type(text) == "string" and whole and whole > 0 then
    local length = whole * (#text + (type(separator) == "string" and #separator or 0))
    if length > host.result_bytes_max then
      error("string.rep: the result is longer than " .. host.result_bytes_max .. " bytes", 2)
    end
    charge(length // 16)
  end
  return rep(text, count, separator)
end

local format, gsub, find = raw.string.format, raw.string.gsub, raw.string.find
function string.format(text, ...)
  if type(text) == "string" and #text > 1024 then
    error("string.format: the format is longer than 1024 bytes", 2)
  end
  local given = pack(...)
  for index = 1, given.n do
    local kind = type(given[index])
    if kind == "table" or kind == "function" or kind == "userdata" then given[index] = tostring(given[index]) end
  end
  -- `%p` prints an address. Taken out, it makes the format wrong, which is what the author is told.
  if type(text) == "string" and find(gsub(text, "%%%%", ""), "%%[-+ #0-9.]*p") then
    error("string.format: invalid conversion '%p'", 2)
  end
  return format(text, unpack(given, 1, given.n))
end

-- table -----------------------------------------------------------------------------------------------------------

-- The length of a table with holes may be any border, 2^60 say, and these go through all of it in one instruction.
local function length(of, name)
  if type(of) ~= "table" then error(name .. ": expected a table, found " .. type(of), 3) end
  local items = #of
  if items > ITEMS_MAX then error(name .. ": more than " .. ITEMS_MAX .. " items", 3) end
  return items
end

local function whole(value, otherwise, name)
  if value == nil then return otherwise end
  local number = math_type(value) == "integer" and value or to_integer(tonumber(value))
  if not number then error(name .. ": expected a whole number, found " .. tostring(value), 3) end
  return number
end

local table = { pack = pack }

local insert = raw.table.insert
function table.insert(list, ...)
  local items = length(list, "table.insert")
  if select("#", ...) > 1 then charge(items // 4) end
  return insert(list, ...)
end

local remove = raw.table.remove
function table.remove(list, ...)
  local items = length(list, "table.remove")
  if select("#", ...) > 0 then charge(items // 4) end
  return remove(list, ...)
end

function table.sort(list, less)
  local items = length(list, "table.sort")
  -- Without a function of the author's all comparisons happen inside one instruction.
  charge(less == nil and items * 8 or items)
  return sort(list, less)
end

function table.concat(list, separator, from, to)
  local items = length(list, "table.concat")
  from, to = whole(from, 1, "table.concat"), whole(to, items, "table.concat")
  if from < to then
    if to > from + ITEMS_MAX or to - from < 0 then error("table.concat: more than " .. ITEMS_MAX .. " items", 2) end
    charge((to - from) // 4)
  end
  return concat(list, separator, from, to)
end

function table.unpack(list, from, to)
  local items = length(list, "table.unpack")
  from, to = whole(from, 1, "table.unpack"), whole(to, items, "table.unpack")
  if from < to then
    if to - from < 0 or to - from > 1000 then error("table.unpack: more than 1000 items", 2) end
  end
  return unpack(list, from, to)
end

local move = raw.table.move
function table.move(list, from, to, at, into)
  length(list, "table.move")
  from, to, at = whole(from, 1, "table.move"), whole(to, 0, "table.move"), whole(at, 1, "table.move")
  if from <= to then
    if to - from < 0 or to - from > ITEMS_MAX then error("table.move: more than " .. ITEMS_MAX .. " items", 2) end
    charge((to - from) // 4)
  end
  return move(list, from, to, at, into)
end

-- math and utf8 ---------------------------------------------------------------------------------------------------

local math = {}
for name, value in raw_next, raw.math do math[name] = value end
math.random, math.randomseed = host.random, nil

local utf8 = { char = raw.utf8.char, charpattern = raw.utf8.charpattern }
for _, name in ipairs { "codepoint", "codes", "len", "offset" } do utf8[name] = counted(raw.utf8[name]) end

-- All together ----------------------------------------------------------------------------------------------------

local function sealed(name, library)
  return setmetatable({}, {
    __index = library,
    __newindex = function() error(name .. " is read-only", 2) end,
    __metatable = false,
  })
end

local function log(...)
  local words = pack(...)
  for index = 1, words.n do words[index] = tostring(words[index]) end
  host.log(concat(words, " "))
end

local globals = {
  assert = assert, error = error, ipairs = ipairs, next = next, pairs = pairs, pcall = pcall, select = select,
  tonumber = counted(tonumber), tostring = tostring, type = type, xpcall = xpcall, _VERSION = raw._VERSION,
  string = sealed("string", string), table = sealed("table", table),
  math = sealed("math", math), utf8 = sealed("utf8", utf8),
  deny = host.deny, log = log, print = log, now = host.now, random = host.random,
  none = host.none, unset = host.unset,
}
setmetatable(globals, {
  __index = function(_, name) error(host.unknown_global(name), 2) end,
})

-- The globals of one pool's files; `require` is the pool's own, so that no pool meets another's tables.
local function environment(require)
  local own = setmetatable({ require = require }, { __index = globals })
  return setmetatable({}, {
    __index = own,
    __newindex = function(_, name)
      error(tostring(name) .. ": globals can't be set, write `local " .. tostring(name) .. "`", 2)
    end,
    __metatable = false,
  })
end

local names = sorted_keys(globals)
names[#names + 1] = "require"
return environment, string, names
