-- Answers to calls that the lane carried. Law: callers are told what the Python lane would tell them (gateway/answer.py).

local byte, find, format, gsub, lower = string.byte, string.find, string.format, string.gsub, string.lower

-- ---- metadata ----

-- Whether callers get a key: not if any proxy could read it as one that they do not get.
local keeps = remembered(function(key)
  local plain = gsub(gsub(lower(key), "[_.]", "-"), "-bin$", "")
  local keep = RULES.told[key] or not RULES.dropped[plain]
  for index = 1, #RULES.prefixes do
    local prefix = RULES.prefixes[index]
    keep = keep and (RULES.told[key] or sub(plain, 1, #prefix) ~= prefix)
  end
  return keep
end)

-- Take from a worker's metadata what callers do not get.
local function clean(metadata)
  local dropped
  for key in pairs(metadata) do
    if not keeps(key) then
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

-- ---- failures ----

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

-- What a worker says of a failure. The hop of the traced has put it aside, so that no span tells it (traced.py); who has
-- not come that way cannot say so.
local function said(handle, where)
  local aside = where:get("x-headrace-message")
  if aside ~= nil then
    local lane = handle:streamInfo():dynamicMetadata():get("headrace.lane")
    if lane ~= nil and lane.traced then
      where:replace("grpc-message", aside)
    end
  end
  return where:get("grpc-message")
end

-- Tell the caller of a failure; `where` are the headers or the trailers that do, `id` is the request's.
local function refuse(handle, where, status, id)
  local words = decoded(said(handle, where))
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
    local noted = handle:streamInfo():dynamicMetadata():get(RULES.noted)
    local line = sub(gsub(words, "%c", " "), 1, RULES.longest_line)
    handle:logErr(format("request %s, trace %s: the worker says %s: %s", id, noted and noted.trace_id or "-", status, line))
  end
  if #id ~= 32 or find(id, "%X") then
    id = sub(RULES.placeholder, 1, 32) -- nobody knows it
  end
  where:replace("grpc-status", refusal.status)
  where:replace("grpc-message", (gsub(refusal.message, RULES.placeholder, id)))
  where:replace("grpc-status-details-bin", handle:base64Escape((gsub(refusal.details, RULES.placeholder, id))))
end

function envoy_on_response(handle)
  local headers = handle:headers()
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
