-- Books permits of every limit, or of none of them. What it computes is in algorithms.py, operation
-- by operation. It is straight on, since Redis makes anew what a script defines, at each call.
--
-- KEYS  the pause; of each limit its state, and for a sliding window its log
-- ARGV  of each limit algorithm, requests, period, burst; permits; the longest wait; what the clock
--       shows, if it is not to be that of Redis
-- Returns 'P' and the seconds left, 'R' and the wait, or 'B' and the wait; then, of each limit, a
-- line with its state before, one with that after, and one with what fell out of its log.

local call, format, match = redis.call, string.format, string.match
local ceil, max, min = math.ceil, math.max, math.min
local limits = math.floor((#ARGV - 2) / 4)
local permits, longest = tonumber(ARGV[4 * limits + 1]), tonumber(ARGV[4 * limits + 2])
local now = tonumber(ARGV[4 * limits + 3])
if not now then
  local time = call('TIME')
  now = time[1] + time[2] / 1000000
end

local pause = call('GET', KEYS[1])
if pause then
  local seen, till = match(pause, '(%S+) (%S+)')
  seen, till = tonumber(seen), tonumber(till)
  if now < seen then -- the clock was set back
    till = till - (seen - now)
    if till > now then
      pause = format('%.17g %.17g', now, till)
      call('SET', KEYS[1], pause, 'PX', ceil((till - now) * 1000))
    end
  end
  if till > now then
    return 'P' .. format('%.17g', till - now)
  end
end
if permits == 0 then
  return 'B0'
end

-- Keeps a state that is seen now: its second to fourth field.
local function keep(it, b, c, d)
  local kind, expires = it.kind, b
  if kind == 'fixed_window' then
    expires = b + it.period
  elseif kind == 'sliding_window' then
    expires = c + it.period
  elseif kind == 'token_bucket' then
    expires = b + (it.burst - c) * it.period / it.requests
  end
  -- at most thirty thousand years: what is no whole number of 64 bits is no time to live
  local left = min(1e15, max(1, ceil((expires - now) * 1000)))
  local state
  if d then
    state = format('%.17g %.17g %.17g %.17g', now, b, c, d)
    call('PEXPIRE', it.log, left)
  elseif c then
    state = format('%.17g %.17g %.17g', now, b, c)
  else
    state = format('%.17g %.17g', now, b)
  end
  call('SET', it.key, state, 'PX', left)
  return state
end

local all, at, next_key = {}, now, 2
for i = 1, limits do
  local kind = ARGV[4 * i - 3]
  local requests, period = tonumber(ARGV[4 * i - 2]), tonumber(ARGV[4 * i - 1])
  local burst = tonumber(ARGV[4 * i])
  local it = {kind = kind, requests = requests, period = period, burst = burst}
  it.key = KEYS[next_key]
  next_key = next_key + 1
  local before = call('GET', it.key) or ''
  local seen, b, c, d = match(before, '(%S+) (%S+) ?(%S*) ?(%S*)')
  seen, b, c, d = tonumber(seen), tonumber(b), tonumber(c), tonumber(d)
  if kind == 'sliding_window' then
    it.log = KEYS[next_key]
    next_key = next_key + 1
    if call('LLEN', it.log) ~= (b or 0) then -- one of the two was evicted
      call('DEL', it.key, it.log)
      before, seen, b, c, d = '', nil, nil, nil, nil
    end
  end
  if seen and now < seen then -- the clock was set back
    local behind = seen - now
    if kind == 'sliding_window' then
      c, d = c - behind, d - behind
    else
      b = b - behind
    end
    before = keep(it, b, c, d)
  end
  it.before, it.b, it.c, it.d = before, b, c, d
  all[i] = it

  local earliest = now
  if not seen then
    earliest = now
  elseif kind == 'fixed_window' then
    if now < b + period then
      if c + permits <= requests then
        earliest = b
      else
        earliest = b + period
      end
    end
  elseif kind == 'sliding_window' then
    earliest = c
    local keeps = requests - permits
    if b > keeps then
      local back = tonumber(call('LINDEX', it.log, b - keeps - 1))
      earliest = max(c, back + d + period)
    end
  elseif kind == 'token_bucket' then
    earliest = max(now, b)
    local lacking = permits - min(burst, c + (earliest - b) * requests / period)
    if lacking > 0 then
      earliest = earliest + lacking * period / requests
    end
  elseif kind == 'leaky_bucket' then
    earliest = b
  elseif kind == 'gcra' then
    earliest = b + (permits - burst) * period / requests
  end
  if earliest > at then
    at = earliest
  end
end

local wait = at - now
if wait > longest then
  return 'R' .. format('%.17g', wait)
end
local reply = {'B0'}
if wait > 0 then
  reply[1] = 'B' .. format('%.17g', wait)
end
for i = 1, limits do
  local it = all[i]
  local kind, requests, period, b, c, d = it.kind, it.requests, it.period, it.b, it.c, it.d
  local fallen_out = ''
  if kind == 'fixed_window' then
    if not b or at >= b + period then
      b, c = at, permits
    else
      c = c + permits
    end
  elseif kind == 'sliding_window' then
    local offset = d or 0
    local time, left, over = format('%.17g', at - offset), permits, (b or 0) + permits - requests
    while left > 0 do
      local times = {}
      for each = 1, min(left, 1000) do
        times[each] = time
      end
      call('RPUSH', it.log, unpack(times))
      left = left - 1000
    end
    if over == 1 then
      fallen_out = call('LPOP', it.log)
    elseif over > 1 then
      fallen_out = table.concat(call('LRANGE', it.log, 0, over - 1), ' ')
      call('LTRIM', it.log, over, -1)
    end
    b, c, d = min((b or 0) + permits, requests), at, offset
  elseif kind == 'token_bucket' then
    local tokens = it.burst
    if b then
      tokens = min(tokens, c + (at - b) * requests / period)
    end
    b, c = at, tokens - permits
  elseif kind == 'leaky_bucket' then
    b = at + permits * period / requests
  elseif kind == 'gcra' then
    b = max(at, b or at) + permits * period / requests
  end
  reply[3 * i - 1] = it.before
  reply[3 * i] = keep(it, b, c, d)
  reply[3 * i + 1] = fallen_out
end
return table.concat(reply, '\n')
