-- Lets nothing go for so many seconds, unless a pause lasts longer already.
--
-- KEYS  the pause
-- ARGV  seconds; what the clock shows, if it is not to be that of Redis

local now = tonumber(ARGV[2])
if not now then
  local time = redis.call('TIME')
  now = time[1] + time[2] / 1000000
end
local until_then = now + tonumber(ARGV[1])
local seen, known = string.match(redis.call('GET', KEYS[1]) or '', '(%S+) (%S+)')
if seen then
  until_then = math.max(until_then, tonumber(known) - math.max(0, tonumber(seen) - now))
end
local left = math.max(1, math.ceil((until_then - now) * 1000))
redis.call('SET', KEYS[1], string.format('%.17g %.17g', now, until_then), 'PX', left)
