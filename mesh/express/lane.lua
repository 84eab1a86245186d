-- The express lane. Law: a call goes its own way only if every word of it is known to be good; all others are Python's.
--
-- A call that is not known is handed to the Python lane, which decides, and whose answer may bring a lesson: that this
-- very token may infer with this model and version until then, and where such calls go. The next such call is carried.
-- This is the end of one script, of which remembered.lua, lessons.lua, message.lua and metadata.lua are the beginning.
-- Filter: https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/lua_filter

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

-- The lesson by which the call may be carried from here, what is to be dropped, its deadline and its trace; nil: it is Python's.
local function decide(handle)
  local began = handle:timestamp()
  local headers = handle:headers()
  local authorization = headers:get("authorization")
  if authorization == nil then
    return nil
  end
  if lessons_of(authorization, began) == nil then
    wish(handle, headers, authorization)
    return nil
  end
  if headers:get(":method") ~= "POST" or headers:get("content-type") ~= "application/grpc" then
    return nil
  end
  if headers:get("te") ~= "trailers" then
    return nil -- a worker may not take it
  end
  local trace = trace_of(headers)
  if trace == SAMPLED and RULES.tracing == "python" then
    headers:replace("x-headrace-sampled", "1") -- and is not drawn again
    return nil
  end
  if trace == nil then
    return nil
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
  -- The message may have taken its time.
  local now = handle:timestamp()
  if model == nil or now - began > RULES.message_within or not current(handle, now) then
    return nil
  end
  now = handle:timestamp()
  local entry = lessons_of(authorization, now) -- as it is now
  local lesson = entry and lesson_in(entry, model, version)
  if lesson == nil then
    wish(handle, handle:headers(), authorization)
    return nil
  end
  local timeout = given(of_caller, lesson.timeout, now - began)
  if size - 5 > lesson.most or timeout == nil then
    return nil
  end
  if not lent(lesson, now) then
    wish(handle, handle:headers(), authorization)
    return nil
  end
  return lesson, model, dropped, timeout, trace
end

local requests = 0

-- 32 hexadecimal digits, which no other call has; the first tell calls apart.
local function request_id()
  requests = (requests + 1) % 4294967296
  return format("%08x%s%08x", random(0, 4294967295), OF_THREAD, requests)
end

local function send(handle, lesson, model, dropped, timeout, trace)
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
    headers:replace("x-model-version", lesson.version)
  end
  headers:replace("x-caller", lesson.caller)
  headers:replace("x-grant", lesson.grant)
  local id = request_id()
  if lesson.retries then
    headers:replace("x-envoy-max-retries", lesson.retries)
    if find(lesson.statuses, "unavailable", 1, true) then -- which gRPC calls all of these
      headers:replace("x-envoy-retry-on", "connect-failure,refused-stream,reset")
    end
    headers:replace("x-envoy-retry-grpc-on", lesson.statuses)
  end
  local cluster = drawn(lesson.shares)
  if trace == SAMPLED and RULES.tracing == "lane" then
    headers:replace("x-headrace-to", cluster)
    handle:streamInfo():dynamicMetadata():set("headrace.lane", "traced", true)
    cluster = RULES.traced
  elseif trace == NONE and RULES.tracing ~= "" then
    headers:replace("traceparent", format("00-%s-%s-00", id, sub(id, 17))) -- so that a worker does not begin one
  elseif trace == UNSAMPLED and RULES.tracing ~= "" then
    local parent = headers:get("traceparent")
    headers:replace("traceparent", sub(parent, 1, 36) .. sub(id, 17) .. sub(parent, 53)) -- under our span, if it is made
  end
  if lesson.other then
    handle:streamInfo():dynamicMetadata():set("headrace.lane", "other", true)
  end
  headers:replace("x-headrace-cluster", cluster)
  headers:replace("x-headrace-lane", "express")
  headers:replace("x-request-id", id) -- last: what has it is taken for carried
  handle:clearRouteCache()
end

-- Whether Python would refuse the call in words with which no connection survives: they repeat a key that is too long.
local function unspeakable(headers)
  for key in pairs(headers) do
    if #key > LONGEST_KEY then
      return true
    end
  end
  return false
end

function envoy_on_request(handle)
  local to_infer = handle:headers():get(":path") == RULES.path
  if to_infer then
    local lesson, model, dropped, timeout, trace = decide(handle)
    if lesson ~= nil then
      send(handle, lesson, model, dropped, timeout, trace)
      return
    end
  end
  local headers = handle:headers()
  if unspeakable(headers) then
    handle:respond(RULES.too_long)
  elseif to_infer then
    headers:replace("x-headrace-lane", "python")
    handle:clearRouteCache()
  end
end

-- ---- and back ----

local TOO_LARGE = { "larger than max", "Payload Too Large" } -- as gRPC and Envoy say of a message that they do not take

-- Give our reason to a message that was refused by its first bytes, or while it was held back: Python has not seen it.
local function too_large(handle, headers)
  local words = headers:get("grpc-message") or ""
  if find(words, TOO_LARGE[1], 1, true) or find(words, TOO_LARGE[2], 1, true) then
    headers:replace("grpc-message", RULES.too_large.message)
    headers:replace("grpc-status-details-bin", handle:base64Escape(RULES.too_large.details))
  end
end

-- Of calls that Python has answered; the others have a script of their own (answers.lua).
function envoy_on_response(handle)
  local headers = handle:headers()
  if headers:get("grpc-status") == "8" and headers:get("grpc-status-details-bin") == nil then
    too_large(handle, headers)
  end
  local text = headers:get("x-headrace-permit")
  if text ~= nil then
    headers:remove("x-headrace-permit")
    local asked = handle:streamInfo():dynamicMetadata():get("headrace.lane")
    if asked ~= nil then
      learn(asked.authorization, text, handle:timestamp())
    end
  end
end
