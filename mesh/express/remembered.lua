-- The beginning of each script. Law: what is worked out for a key is worked out once, and takes bounded room.

collectgarbage("setpause", 400) -- percent of what is kept: to look at all lessons is dear
jit.off() -- what calls into Envoy cannot be compiled, and is tried again and again

local sub = string.sub

local MOST_KEPT = 1024
local LONGEST_KEPT = 256 -- bytes of a key that is worth remembering

-- The function, which remembers what it has said of the last keys; it never says nil.
local function remembered(work_out)
  local kept, size = {}, 0
  return function(key)
    local found = kept[key]
    if found ~= nil then
      return found
    end
    found = work_out(key)
    if #key <= LONGEST_KEPT then
      if size >= MOST_KEPT then
        kept, size = {}, 0
      end
      kept[key], size = found, size + 1
    end
    return found
  end
end
