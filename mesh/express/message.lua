-- The message of a call. Law: it is looked at, and never taken apart: nothing is guessed where anything is not plain.

local find = string.find

local WINDOW = 2048 -- bytes of a message that are looked at together
local LONGEST = 1024 -- bytes of a name, a version or an id
local MOST_FIELDS = 256

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
        if field == parameters or field == 0 or field > 5 or field <= 3 and length > LONGEST then
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
