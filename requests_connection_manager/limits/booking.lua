-- Books permits of every limit, or of none of them. What it computes is in algorithms.py, operation
-- by operation; its fields are counted from 1 here.
--
-- KEYS  the pause; of each limit its state, and for a sliding window its log
-- ARGV  permits, the longest wait, the number of limits; algorithm, requests, period and burst of
--       each; what the clock shows, if it is not to be that of Redis
-- Returns 'P' and the seconds left, 'R' and the wait, or 'B' and the wait; then, of each limit, a
-- line with its state before, one with that after, and one with what fell out of its log.

local call, format, concat = redis.call, string.format, table.concat
local permits, longest, limits = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local max, min = math.max, math.min
local now = tonumber(ARGV[4 + 4 * limits])
if not now then
  local time = call('TIME')
  now = time[1] + time[2] / 1000000
end

local TIMES = {
  pause = {2},
  fixed_window = {2},
  sliding_window = {3, 4},
  token_bucket = {2},
  leaky_bucket = {2},
  gcra = {2},
}

local function text_of(state)
  local fields = {}
  for i = 1, #state do
    fields[i] = format('%.17g', state[i])
  end
  return concat(fields, ' ')
end

local function tokens_at(s, at, it)
  return min(it.burst, s[3] + (at - s[2]) * it.requests / it.period)
end

local function expires(s, it)
  local kind = it.kind
  if kind == 'fixed_window' then
    return s[2] + it.period
  elseif kind == 'sliding_window' then
    return s[3] + it.period
  elseif kind == 'token_bucket' then
    return s[2] + (it.burst - s[3]) * it.period / it.requests
  end
  return s[2]
end

local function keep(it, s)
  local left = max(1, math.ceil((expires(s, it) - now) * 1000))
  local text = text_of(s)
  call('SET', it.key, text, 'PX', format('%.0f', left))
  if it.log then
    call('PEXPIRE', it.log, format('%.0f', left))
  end
  it.text = text
  return text
end

-- Reads a state as it is on a clock that shows now, which may have been set back.
local function read(it)
  local s = {}
  it.text = call('GET', it.key) or ''
  for field in string.gmatch(it.text, '%S+') do
    s[#s + 1] = tonumber(field)
  end
  if it.log and call('LLEN', it.log) ~= (s[2] or 0) then
    call('DEL', it.key, it.log) -- one of the two was evicted
    it.text, s = '', {}
  end
  if s[1] and now < s[1] then
    local behind = s[1] - now
    for _, i in ipairs(TIMES[it.kind]) do
      s[i] = s[i] - behind
    end
    s[1] = now
    keep(it, s)
  end
  it.state = s
  return s
end

local function earliest(s, it)
  local kind = it.kind
  if not s[1] then
    return now
  elseif kind == 'fixed_window' then
    if now >= s[2] + it.period then
      return now
    elseif s[3] + permits <= it.requests then
      return max(now, s[2])
    end
    return s[2] + it.period
  elseif kind == 'sliding_window' then
    local at = max(now, s[3])
    local keeps = it.requests - permits
    if s[2] > keeps then
      local back = tonumber(call('LINDEX', it.log, format('%.0f', s[2] - keeps - 1)))
      at = max(at, back + s[4] + it.period)
    end
    return at
  elseif kind == 'token_bucket' then
    local at = max(now, s[2])
    local lacking = permits - tokens_at(s, at, it)
    if lacking > 0 then
      return at + lacking * it.period / it.requests
    end
    return at
  elseif kind == 'leaky_bucket' then
    return max(now, s[2])
  end
  return max(now, s[2] + (permits - it.burst) * it.period / it.requests)
end

local function log(it, time, count)
  local values, left = {}, permits
  for i = 1, min(left, 1000) do
    values[i] = format('%.17g', time)
  end
  while left > 0 do
    call('RPUSH', it.log, unpack(values, 1, min(left, 1000)))
    left = left - 1000
  end
  local over = count + permits - it.requests
  if over <= 0 then
    return ''
  elseif over == 1 then
    return call('LPOP', it.log)
  end
  local fallen_out = call('LRANGE', it.log, 0, over - 1)
  call('LTRIM', it.log, over, -1)
  return concat(fallen_out, ' ')
end

local function book(s, it, at)
  local kind = it.kind
  if kind == 'fixed_window' then
    if not s[1] or at >= s[2] + it.period then
      return {now, at, permits}, ''
    end
    return {now, s[2], s[3] + permits}, ''
  elseif kind == 'sliding_window' then
    local count, offset = s[2] or 0, s[4] or 0
    local fallen_out = log(it, at - offset, count)
    return {now, min(count + permits, it.requests), at, offset}, fallen_out
  elseif kind == 'token_bucket' then
    local tokens = s[1] and tokens_at(s, at, it) or it.burst
    return {now, at, tokens - permits}, ''
  elseif kind == 'leaky_bucket' then
    return {now, at + permits * it.period / it.requests}, ''
  end
  return {now, max(at, s[2] or at) + permits * it.period / it.requests}, ''
end

local pause = read({kind = 'pause', key = KEYS[1]})
if pause[1] and pause[2] > now then
  return 'P' .. format('%.17g', pause[2] - now)
end
if permits == 0 then
  return 'B0'
end

local all, at, key = {}, now, 2
for i = 1, limits do
  local arg = 4 * i
  local it = {
    kind = ARGV[arg],
    requests = tonumber(ARGV[arg + 1]),
    period = tonumber(ARGV[arg + 2]),
    burst = tonumber(ARGV[arg + 3]),
    key = KEYS[key],
  }
  key = key + 1
  if it.kind == 'sliding_window' then
    it.log = KEYS[key]
    key = key + 1
  end
  all[i] = it
  at = max(at, earliest(read(it), it))
end
local wait = at - now
if wait > longest then
  return 'R' .. format('%.17g', wait)
end
local reply = {'B' .. format('%.17g', wait)}
for i = 1, limits do
  local it = all[i]
  local before = it.text
  local after, fallen_out = book(it.state, it, at)
  reply[3 * i - 1], reply[3 * i], reply[3 * i + 1] = before, keep(it, after), fallen_out
end
return concat(reply, '\n')
