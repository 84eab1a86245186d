-- The express lane. Law: a call goes its own way only if every word of it is known to be good; all others are Python's.
--
-- A call that is not known is handed to the Python lane, which decides, and whose answer may bring a lesson: that this
-- very token may infer with this model and version until then, and where such calls go. The next such call is carried
-- from here. Lessons are kept for each worker thread. What they rest on has a name, their generation, which Python tells
-- with every answer that is asked for it; when it is another, all are forgotten. Every so often a call is handed over to
-- ask, and without a fresh answer all are.
-- Filter: https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/lua_filter

local byte, find, format, gsub, lower, match, sub =
  string.byte, string.find, string.format, string.gsub, string.lower, string.match, string.sub
local random = math.random

local WINDOW = 2048 -- bytes of a message that are looked at together
local LONGEST = 1024 -- bytes of a name, a version or an id
local MOST_FIELDS = 256
local OPEN_QUESTIONS = 1024
local MOST_LESSONS = 20000

-- authorization -> {models = model -> version -> lesson, size = lessons}; of `earlier` is kept what is used again
-- before `known` is full.
local known, earlier, lessons = {}, {}, 0
local generation = nil
local confirmed_at, asked_at = 0, 0 -- milliseconds; when the call began that was last answered with it, or asked for it
local changed_at = 0 -- and when the first one began that was answered with it
local questions, asked = {}, 0

-- ---- what lessons rest on ----

-- Whether lessons may be believed for a call that begins now, and this one need not ask.
local function current(now)
  local age = now - confirmed_at
  if age >= 0 and age < RULES.fresh then
    return true
  end
  if age < 0 or age > RULES.stale or now - asked_at >= RULES.fresh then
    if asked_at == 0 then
      math.randomseed(now)
    end
    asked_at = now
    return false
  end
  return true
end

-- ---- lessons ----

local function remember(authorization, entry)
  if lessons + entry.size > MOST_LESSONS then
    known, earlier, lessons = {}, known, 0
  end
  known[authorization] = entry
  lessons = lessons + entry.size
end

-- The models of which there are lessons; nil: there are none for this token, or none that are good now.
local function lessons_of(authorization, now)
  local entry = known[authorization]
  if entry == nil then
    entry = earlier[authorization]
    if entry == nil then
      return nil
    end
    remember(authorization, entry)
  end
  if now >= entry.expires then
    return nil
  end
  return entry.models
end

local function ask(headers, authorization, now)
  if #authorization > RULES.longest_token or sub(authorization, 1, 7) ~= "Bearer " then
    return
  end
  asked = asked + 1
  questions[asked % OPEN_QUESTIONS] = { asked, authorization, now }
  headers:replace("x-headrace-learn", tostring(asked))
end

-- NUMBER GENERATION, and, where there is a lesson, all that follows
local ANSWER = "^(%d+) (%S+)"
-- EXPIRES TIMEOUT MOST TOKEN RETRIES STATUSES CLUSTERS AUTHORITY CALLER MODEL VERSION PINNED
local LESSON = "^%d+ %S+ (%d+) (%d+) (%d+) (%d) (%d+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%d)$"

local function keep(authorization, text)
  local expires, timeout, most, token, retries, statuses, clusters, authority, caller, model, version, pinned =
    match(text, LESSON)
  if expires == nil then
    return
  end
  local lesson = {
    timeout = tonumber(timeout),
    most = tonumber(most),
    token = token == "1",
    retries = retries ~= "0" and retries or nil,
    statuses = statuses,
    authority = authority,
    caller = caller,
    pinned = pinned == "1" and version or nil,
    shares = {},
  }
  for share, cluster in string.gmatch(clusters, "(%d+)=([^;]+)") do
    lesson.shares[#lesson.shares + 1] = { tonumber(share), cluster }
  end
  if lessons_of(authorization, 0) == nil then
    remember(authorization, { models = {}, size = 0, expires = tonumber(expires) })
  end
  local entry = known[authorization]
  local models, version_asked = entry.models, version == "-" and "" or version
  models[model] = models[model] or {}
  if models[model][version_asked] == nil then
    entry.size, lessons = entry.size + 1, lessons + 1
  end
  models[model][version_asked] = lesson
end

local function learn(text)
  local number, of = match(text, ANSWER)
  local question = number and questions[number % OPEN_QUESTIONS]
  if question == nil or question[1] ~= tonumber(number) then
    return
  end
  questions[number % OPEN_QUESTIONS] = nil
  if question[3] < changed_at then
    return -- what was decided before the change
  end
  if of ~= generation then
    known, earlier, lessons = {}, {}, 0
    generation, confirmed_at, changed_at = of, question[3], question[3]
  end
  if of == "-" then
    confirmed_at = 0
    return
  end
  confirmed_at = math.max(confirmed_at, question[3])
  keep(question[2], text)
end

-- ---- the message ----

-- The varint of at most 32 bits at `at`, and where it ends; nil: there is none.
local function varint(window, at)
  local octet = byte(window, at)
  if octet == nil or octet < 128 then
    return octet, at + 1
  end
  local value, scale = octet - 128, 128
  for next = at + 1, at + 4 do
    octet = byte(window, next)
    if octet == nil then
      return nil
    end
    if octet < 128 then
      value = value + octet * scale
      if value > 4294967295 then
        return nil
      end
      return value, next + 1
    end
    value = value + (octet - 128) * scale
    scale = scale * 128
  end
  return nil
end

-- The field of a tensor that holds its parameters, by the field of the request that holds the tensor.
local PARAMETERS = { [5] = 4, [6] = 2 }

-- Model and version that the one message of the body names; nil where anything in it is not plain: another field than
-- names, tensors and contents, a parameter, a field twice, a length that does not add up.
local function read(body, size)
  local from, window = 0, body:getBytes(0, size < WINDOW and size or WINDOW)
  local flag, b1, b2, b3, b4 = byte(window, 1, 5)
  if flag ~= 0 or b4 == nil or ((b1 * 256 + b2) * 256 + b3) * 256 + b4 ~= size - 5 then
    return nil
  end
  local names, position, stop, parameters, left = {}, 5, size, nil, MOST_FIELDS
  while position < size do
    left = left - 1
    if left < 0 then
      return nil
    end
    if position + 16 > from + #window and from + #window < size then
      from, window = position, body:getBytes(position, math.min(WINDOW, size - position))
    end
    local tag, at = varint(window, position - from + 1)
    if tag == nil then
      return nil
    end
    local wire = tag % 8
    local field = (tag - wire) / 8
    if wire == 0 then -- only of a tensor: its shape
      local value
      value, at = varint(window, at)
      if parameters == nil or value == nil or field ~= 3 then
        return nil
      end
      position = from + at - 1
      if position > stop then
        return nil
      end
    elseif wire == 2 then
      local length
      length, at = varint(window, at)
      if length == nil then
        return nil
      end
      local value = from + at - 1
      local ends = value + length
      if ends > stop then
        return nil
      end
      if parameters ~= nil then
        if field == parameters or field == 0 or field > 5 then
          return nil
        end
        position = ends
      elseif field <= 3 then
        if field == 0 or names[field] ~= nil or length > LONGEST then
          return nil
        end
        if ends > from + #window then
          from, window = value, body:getBytes(value, length)
        end
        names[field] = sub(window, value - from + 1, ends - from)
        position = ends
      elseif field == 7 then
        position = ends
      elseif PARAMETERS[field] ~= nil then
        position = value
        if length > 0 then
          stop, parameters = ends, PARAMETERS[field]
        end
      else
        return nil
      end
    else
      return nil
    end
    if position == stop then
      stop, parameters = size, nil
    end
  end
  if names[3] ~= nil and find(names[3], "[^\32-\126]") then
    return nil
  end
  return names[1], names[2] or ""
end

-- ---- metadata ----

local PASSES, DROPPED, DECIDED = 1, 2, 3 -- DECIDED: looked at by name
local MOST_KINDS = 1024

-- Keys and what they are, worked out once for each; `plain` has every key that any proxy could read as another be that one.
local function sorter(kinds, plain)
  local found, size = {}, 0
  return function(key)
    local kind = found[key]
    if kind ~= nil then
      return kind
    end
    local name = plain and gsub(gsub(lower(key), "[_.]", "-"), "-bin$", "") or key
    kind = kinds[key] or kinds[name] or PASSES
    for index = 1, #RULES.prefixes do
      local prefix = RULES.prefixes[index]
      if kind == PASSES and sub(name, 1, #prefix) == prefix then
        kind = DROPPED
      end
    end
    if size >= MOST_KINDS then
      found, size = {}, 0
    end
    found[key], size = kind, size + 1
    return kind
  end
end

local kind_of, kind_of_answers = sorter(RULES.kinds, false), sorter(RULES.kinds_of_answers, true)

-- What of a caller's metadata is to be dropped; nil: it takes Python to say.
local function check(headers)
  local dropped, entries, bytes, sure = nil, 0, 0, true
  for key, value in pairs(headers) do
    local kind = kind_of(key)
    if kind == PASSES then
      entries, bytes = entries + 1, bytes + #key + #value + RULES.each
      if find(key, "[_.]") or sub(key, -4) == "-bin" or find(value, "[^\32-\126]") then
        sure = false -- and on: Envoy lets nothing be changed before the last
      end
    elseif kind == DROPPED and key ~= "x-request-id" then -- which Envoy wrote
      dropped = dropped or {}
      dropped[#dropped + 1] = key
    end
  end
  if not sure or entries > RULES.most_entries or bytes > RULES.most_bytes then
    return nil
  end
  return dropped or RULES.nothing
end

local UNITS = { H = 3600000, M = 60000, S = 1000, m = 1, u = 0.001, n = 0.000001 }

-- Milliseconds that a worker is given of those that are left; nil: the caller's deadline is none, or too near.
local function given(of_caller, most, gone)
  if of_caller == nil then
    return most > gone and most - gone or nil
  end
  local amount, unit = match(of_caller, "^(%d%d?%d?%d?%d?%d?%d?%d?)([HMSmun])$")
  if amount == nil or amount + 0 == 0 then
    return nil
  end
  local left = amount * UNITS[unit]
  if left < 1 or left <= gone or most <= gone then
    return nil
  end
  return math.ceil(math.min(left + RULES.leeway, most) - gone)
end

-- ---- there ----

local function drawn(shares)
  if #shares == 1 then
    return shares[1][2]
  end
  local point = random() * 100
  for index = 1, #shares do
    point = point - shares[index][1]
    if point < 0 then
      return shares[index][2]
    end
  end
  return shares[#shares][2]
end

-- The lesson by which the call may be carried from here, what is to be dropped, and its deadline; nil: it is Python's.
local function decide(handle)
  local now = handle:timestamp()
  local headers = handle:headers()
  local authorization = headers:get("authorization")
  if authorization == nil then
    return nil
  end
  if not current(now) then
    ask(headers, authorization, now)
    return nil
  end
  local models = lessons_of(authorization, now)
  if models == nil then
    ask(headers, authorization, now)
    return nil
  end
  if headers:get(":method") ~= "POST" or headers:get("content-type") ~= "application/grpc" then
    return nil
  end
  if headers:get("traceparent") ~= nil or headers:get("tracestate") ~= nil or random() < RULES.sample then
    return nil -- for its span, and for its context
  end
  local of_caller = headers:get("grpc-timeout")
  local dropped = check(headers)
  if dropped == nil then
    return nil
  end
  local body = handle:body()
  if body == nil or handle:trailers() ~= nil then
    return nil
  end
  local size = body:length()
  local model, version = read(body, size)
  if model == nil then
    return nil
  end
  local began = now
  now = handle:timestamp()
  -- The message may have taken its time.
  models = lessons_of(authorization, now) -- again
  if models == nil or now - began > RULES.message_within or now - confirmed_at > RULES.stale then
    return nil
  end
  local versions = models[model]
  local lesson = versions and versions[version]
  if lesson == nil then
    ask(handle:headers(), authorization, now)
    return nil
  end
  local timeout = given(of_caller, lesson.timeout, now - began)
  if size - 5 > lesson.most or timeout == nil then
    return nil
  end
  return lesson, model, dropped, timeout
end

local function send(handle, lesson, model, dropped, timeout)
  local headers = handle:headers()
  for index = 1, #dropped do
    headers:remove(dropped[index])
  end
  if not lesson.token then
    headers:remove("authorization")
  end
  headers:replace(":authority", lesson.authority)
  headers:replace("grpc-timeout", format("%dm", timeout))
  headers:replace("x-model-name", model)
  if lesson.pinned then
    headers:replace("x-model-version", lesson.pinned)
  end
  headers:replace("x-caller", lesson.caller)
  headers:replace("x-request-id", (gsub(headers:get("x-request-id"), "-", "")))
  if lesson.retries then
    headers:replace("x-envoy-max-retries", lesson.retries)
    headers:replace("x-envoy-retry-on", "connect-failure,refused-stream,reset")
    headers:replace("x-envoy-retry-grpc-on", lesson.statuses)
  end
  headers:replace("x-headrace-cluster", drawn(lesson.shares))
  headers:replace("x-headrace-lane", "express")
  handle:clearRouteCache()
end

function envoy_on_request(handle)
  if handle:headers():get(":path") ~= RULES.path then
    return
  end
  local lesson, model, dropped, timeout = decide(handle)
  if lesson ~= nil then
    send(handle, lesson, model, dropped, timeout)
  else
    handle:headers():replace("x-headrace-lane", "python")
    handle:clearRouteCache()
  end
end

-- ---- and back ----

local NAMED = { ["4"] = "deadline", ["8"] = "overloaded" }
local ABOUT_ITSELF = { ["1"] = true, ["2"] = true, ["13"] = true, ["15"] = true }

local function any(words, parts)
  for index = 1, #parts do
    if find(words, parts[index], 1, true) then
      return true
    end
  end
  return false
end

-- The refusal that a worker's failure becomes (gateway/answer.py, worker_error); nil: its own words are passed on.
local function refusal_of(status, words, overloaded)
  if not (find(status, "^%d$") or find(status, "^1[0-6]$")) then
    return RULES.refusals.internal
  end
  if NAMED[status] then
    return RULES.refusals[NAMED[status]]
  end
  if status == "14" then
    local plain = lower(words)
    if any(plain, RULES.out_of_time) then
      return RULES.refusals.deadline
    end
    if overloaded or any(plain, RULES.full) then
      return RULES.refusals.overloaded
    end
    return RULES.refusals.not_ready
  end
  if ABOUT_ITSELF[status] then
    return RULES.refusals.internal
  end
  if status == "16" then
    for index = 1, #RULES.of_tokens do
      if sub(words, 1, #RULES.of_tokens[index]) == RULES.of_tokens[index] then
        return RULES.refusals.internal
      end
    end
  elseif status == "7" and words == RULES.denied or status == "12" and words == "" then
    return RULES.refusals.internal
  end
  return nil
end

local function decoded(message)
  return (gsub(message or "", "%%(%x%x)", function(code)
    return string.char(tonumber(code, 16))
  end))
end

-- Tell the caller of a failure; `where` are the headers or the trailers that do, `id` is the request's.
local function refuse(handle, where, status, id)
  local words = decoded(where:get("grpc-message"))
  local refusal = refusal_of(status, sub(words, 1, RULES.longest), where:get("x-envoy-overloaded") ~= nil)
  if refusal == nil then
    if #words > RULES.longest then
      where:replace("grpc-message", (gsub(sub(words, 1, RULES.longest), "[^\32-\36\38-\126]", function(octet)
        return format("%%%02X", byte(octet))
      end)))
    end
    return
  end
  if refusal == RULES.refusals.internal then
    handle:logErr(format("request %s: the worker says %s: %s", id, status, sub(gsub(words, "%c", " "), 1, RULES.longest_line)))
  end
  if #id ~= 32 or find(id, "%X") then
    id = sub(RULES.placeholder, 1, 32) -- nobody knows it
  end
  where:replace("grpc-status", refusal.status)
  where:replace("grpc-message", (gsub(refusal.message, RULES.placeholder, id)))
  where:replace("grpc-status-details-bin", handle:base64Escape((gsub(refusal.details, RULES.placeholder, id))))
end

-- Take from a worker's metadata what callers do not get.
local function clean(metadata)
  local dropped
  for key in pairs(metadata) do
    if kind_of_answers(key) == DROPPED then
      dropped = dropped or {}
      dropped[#dropped + 1] = key
    end
  end
  if dropped ~= nil then
    for index = 1, #dropped do
      metadata:remove(dropped[index])
    end
  end
end

function envoy_on_response(handle)
  local headers = handle:headers()
  if handle:metadata():get("lane") ~= "express" then
    local lesson = headers:get("x-headrace-permit")
    if lesson ~= nil then
      learn(lesson)
    end
    return
  end
  local status, id = headers:get("grpc-status"), headers:get("x-request-id") or ""
  if status ~= nil and status ~= "0" then
    refuse(handle, headers, status, id)
  end
  clean(headers)
  local trailers = handle:trailers()
  if trailers ~= nil then
    status = trailers:get("grpc-status")
    if status ~= "0" then
      refuse(handle, trailers, status or "2", id)
    end
    clean(trailers)
  end
end
