-- Gives permits back, if of every limit the state is what their booking left.
--
-- KEYS  as for booking.lua
-- ARGV  permits; then of each limit 'sliding_window' or something else, its state before, its state
--       after, and what fell out of its log

local call = redis.call
local permits = tonumber(ARGV[1])
local all, key = {}, 2
for arg = 2, #ARGV, 4 do
  local it = {key = KEYS[key], before = ARGV[arg + 1], fallen_out = ARGV[arg + 3]}
  key = key + 1
  if ARGV[arg] == 'sliding_window' then
    it.log = KEYS[key]
    key = key + 1
  end
  if call('GET', it.key) ~= ARGV[arg + 2] then
    return 0
  end
  all[#all + 1] = it
end
for _, it in ipairs(all) do
  local left = math.max(1, call('PTTL', it.key)) -- 0 in its last millisecond
  if it.before == '' then
    call('DEL', it.key)
    if it.log then
      call('DEL', it.log)
    end
  else
    call('SET', it.key, it.before, 'PX', left)
    if it.log then
      call('LTRIM', it.log, 0, -1 - permits)
      local fallen_out = {}
      for time in string.gmatch(it.fallen_out, '%S+') do
        fallen_out[#fallen_out + 1] = time
      end
      for i = #fallen_out, 1, -1 do
        call('LPUSH', it.log, fallen_out[i])
      end
      call('PEXPIRE', it.log, left)
    end
  end
end
return 1
