-- A caller's metadata, its deadline and its trace. Law: what goes on is what gateway/headers.py would send, or nothing.

local PASSES, DROPPED, DECIDED = 1, 2, 3 -- DECIDED: looked at by name
local LONGEST_KEY = 1024 -- bytes

local kind_of = remembered(function(key)
  local kind = RULES.kinds[key] or PASSES
  for index = 1, #RULES.prefixes do
    local prefix = RULES.prefixes[index]
    if kind == PASSES and sub(key, 1, #prefix) == prefix then
      kind = DROPPED
    end
  end
  return kind
end)

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
    elseif kind == DROPPED and key ~= "x-request-id" then -- which is written anew
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

-- ---- traces ----

local SAMPLED, UNSAMPLED, NONE = 1, 2, 3
local CONTEXT = "^00%-(%x+)%-(%x+)%-%x(%x)$" -- https://www.w3.org/TR/trace-context/#traceparent-header
local LONGEST_STATE = 512
local STATE = "^[%l%d][%w_%-%*/@]*=[%w_%-%*/@=,.:;~+]*$" -- of what #tracestate-header allows

-- Of which kind of trace a call is; nil: what it says of it takes Python to read.
local function trace_of(headers)
  local parent, state = headers:get("traceparent"), headers:get("tracestate")
  if parent == nil then
    if state ~= nil then
      return nil
    end
    return random() < RULES.sample and SAMPLED or NONE
  end
  local trace, span, flags = match(parent, CONTEXT)
  if trace == nil or #trace ~= 32 or #span ~= 16 then
    return nil
  end
  if state ~= nil and (#state > LONGEST_STATE or not find(state, STATE)) or headers:getNumValues("tracestate") > 1 then
    return nil
  end
  if find(parent, "%u") or not find(trace, "[^0]") or not find(span, "[^0]") then
    return nil
  end
  return find(flags, "[13579bdf]") and SAMPLED or UNSAMPLED
end
