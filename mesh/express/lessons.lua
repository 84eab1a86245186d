-- What Python has taught. Law: a lesson is believed while what it rests on is known to hold, and no longer.
--
-- Lessons are kept for each worker thread. What they rest on has a name, their generation: Python is asked for it every
-- so often, by a call of the lane's own, and when it is another, all lessons are forgotten.

local byte, format, match = string.byte, string.format, string.match
local random = math.random

local OF_THREAD -- 16 hexadecimal digits, which no other thread of any lane has
do
  local source = io.open("/dev/urandom", "rb")
  local octets = source:read(12)
  source:close()
  OF_THREAD = string.gsub(sub(octets, 1, 8), ".", function(octet)
    return format("%02x", byte(octet))
  end)
  local a, b, c, d = byte(octets, 9, 12)
  math.randomseed(((a * 256 + b) * 256 + c) * 256 + d)
end

local MOST_BYTES = 33554432 -- of lessons, about, in each of two tables
local MOST_ASKS = 16 -- at a time
local TOKEN_COSTS, LESSON_COSTS = 512, 1024 -- bytes besides the texts

-- authorization -> {[EXPIRES] = milliseconds, [SIZE] = bytes, lessons by `key_of`}: few tables, for LuaJIT looks at all of
-- them again and again. Of `earlier` is kept what is used again before `known` is full.
local EXPIRES, SIZE = 1, 2
local known, earlier, size_known = {}, {}, 0
local generation = nil
local confirmed_at = 0 -- milliseconds; when it was asked for that last was told
local asked, last_told = 0, 0 -- numbers of questions
local unanswered_at = 0 -- milliseconds; when a question was given up
local asks, asks_since = 0, 0 -- that are not answered, and the beginning of the time in which they are counted

local function forget()
  known, earlier, size_known = {}, {}, 0
end

local function remember(authorization, entry)
  if size_known + entry[SIZE] > MOST_BYTES then
    known, earlier, size_known = {}, known, 0
  end
  known[authorization] = entry
  size_known = size_known + entry[SIZE]
end

local function key_of(model, version)
  return version == "" and model or model .. "\0" .. version
end

-- The lesson for the model and the version that are asked for; a caller may name anything.
local function lesson_in(entry, model, version)
  local lesson = entry[key_of(model, version)]
  return lesson ~= nil and lesson.version == version and lesson or nil
end

-- Whether the lesson is good for another call: of calls that are counted, some have been counted in advance.
local function lent(lesson, now)
  if lesson.calls == nil then
    return true
  end
  local age = now - lesson.lent_at
  if lesson.calls == 0 or age < 0 or age >= RULES.lease then
    return false
  end
  lesson.calls = lesson.calls - 1
  return true
end

-- What is known of the token; nil: nothing that is good now.
local function lessons_of(authorization, now)
  local entry = known[authorization]
  if entry == nil then
    entry = earlier[authorization]
    if entry == nil then
      return nil
    end
    remember(authorization, entry)
  end
  if now >= entry[EXPIRES] then
    return nil
  end
  return entry
end

-- Have Python teach with its answer.
local function wish(handle, headers, authorization)
  if #authorization <= RULES.longest_token and sub(authorization, 1, 7) == "Bearer " then
    handle:streamInfo():dynamicMetadata():set("headrace.lane", "authorization", authorization)
    headers:replace("x-headrace-learn", "1")
  end
end

-- {share in percent, cluster} for each
local shares_of = remembered(function(text)
  local shares = {}
  for share, cluster in string.gmatch(text, "(%d+)=([^;]+)") do
    shares[#shares + 1] = { tonumber(share), cluster }
  end
  return shares
end)

-- Whether such calls are counted under their own names: Envoy never forgets what it has once counted, so there are so many.
local apart, told_apart = {}, 0
local function counted_apart(names)
  if not apart[names] then
    if told_apart >= RULES.apart then
      return false
    end
    apart[names], told_apart = true, told_apart + 1
  end
  return true
end

-- GENERATION EXPIRES TIMEOUT MOST TOKEN RETRIES STATUSES CLUSTERS AUTHORITY CALLER GRANT MODEL VERSION PINNED CALLS
local LESSON = "^(%x+) (%d+) (%d+) (%d+) (%d) (%d+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%d) (%S+)$"

local function learn(authorization, text, now)
  local of, expires, timeout, most, token, retries, statuses, clusters, authority, caller, grant, model, version, pinned, calls =
    match(text, LESSON)
  if of == nil then
    return
  end
  if of ~= generation then
    local age = now - confirmed_at
    if age >= 0 and age < RULES.stale then
      return -- of who is ahead, or behind: with a call that is carried it is asked
    end
    forget()
    generation, confirmed_at = of, 0
  end
  local lesson = {
    timeout = tonumber(timeout),
    most = tonumber(most),
    token = token == "1",
    retries = retries ~= "0" and retries or nil,
    statuses = statuses,
    authority = authority,
    caller = caller,
    grant = grant,
    version = version == "-" and "" or version, -- that is asked for
    pinned = pinned == "1",
    shares = shares_of(clusters),
    calls = tonumber(calls), -- nil: any number
    lent_at = now,
    other = not counted_apart(model .. " " .. version .. " " .. grant .. " " .. clusters),
  }
  if lessons_of(authorization, 0) == nil then
    remember(authorization, { tonumber(expires), #authorization + TOKEN_COSTS })
  end
  local entry, key = known[authorization], key_of(model, lesson.version)
  if entry[key] == nil then
    entry[SIZE], size_known = entry[SIZE] + #text + LESSON_COSTS, size_known + #text + LESSON_COSTS
  end
  entry[key] = lesson
end

-- ---- what lessons rest on ----

local QUESTION = {
  [":method"] = "POST",
  [":path"] = RULES.ask_path,
  [":authority"] = "headrace",
  ["content-type"] = "application/grpc",
  ["te"] = "trailers",
}

-- Whether lessons may be believed for a call that is to be carried at `now`; where it is time to, this call asks first.
local function current(handle, now)
  local age = now - confirmed_at
  if age >= 0 and age < RULES.fresh then
    return true
  end
  if now < asks_since or now - asks_since >= RULES.ask_within then
    asks, asks_since = 0, now
  elseif asks > 0 and age >= 0 and age < RULES.stale then
    return true -- and another call asks
  end
  if asks >= MOST_ASKS or now >= unanswered_at and now - unanswered_at < RULES.stale then
    return false -- and does not wait for what hangs
  end
  asks, asked = asks + 1, asked + 1
  local mine = asked
  local told = handle:httpCall(RULES.asked, QUESTION, RULES.no_message, RULES.ask_within)["x-headrace-generation"]
  if told == nil then
    unanswered_at = handle:timestamp()
    return false
  end
  asks = 0
  if mine < last_told then
    return confirmed_at > 0 -- what was asked later was told before
  end
  last_told = mine
  if told ~= generation then
    forget()
    generation = told
  end
  confirmed_at = told ~= "-" and now or 0
  return confirmed_at > 0
end
