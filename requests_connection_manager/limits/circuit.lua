-- One step of a circuit that a fleet shares. What it decides is what circuit_breaker.py, open_time.py
-- and outcome_window.py decide for one process.
--
-- KEYS  the circuit
-- ARGV  the numbers (0 for none): failure threshold, recovery timeout, success threshold, longest
--       recovery, jitter, failure rate, window, minimum calls; seconds until a trial counts as lost;
--       seconds to keep the circuit; then the step, the generation that the caller knows, the name
--       of its trial, those of trials that it lost, successes not counted yet, a number from 0 to 1,
--       what failed, whether it is to be shown that Redis can be written to ('write'), what the
--       clock shows if it is not to be that of Redis, and the name of a trial of that generation
--       that the caller's process has under way
-- Returns lines: what came of it ('go', 'trial', 'refused', 'counted' or 'late'), the state, its
--       generation, failures in a row, trials that succeeded, trips, seconds of an open time, seconds
--       left, how it is forced, what the clock shows, what failed last

local call, format = redis.call, string.format
local key = KEYS[1]
local threshold, recovery, enough = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local longest, jitter = tonumber(ARGV[4]), tonumber(ARGV[5])
local rate, window, minimum = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local lease, keep = tonumber(ARGV[9]), tonumber(ARGV[10])
local step, known, token, lost = ARGV[11], tonumber(ARGV[12]), ARGV[13], ARGV[14]
local uncounted, chance, what = tonumber(ARGV[15]), tonumber(ARGV[16]), ARGV[17]
local now, held = tonumber(ARGV[19]), ARGV[20]
if not now then
  local time = call('TIME')
  now = time[1] + time[2] / 1000000
end

if ARGV[18] == 'write' then
  call('HSET', key, '', '') -- one that is full would take the deletion alone
  call('HDEL', key, '')
end
local had = call('HMGET', key, 'state', 'generation', 'failures', 'successes', 'trips', 'seconds',
  'until', 'closed', 'forced', 'trial', 'lease', 'error', 'outcomes')
local state, generation = had[1] or 'closed', tonumber(had[2] or 0)
local failures, successes = tonumber(had[3] or 0), tonumber(had[4] or 0)
local trips, seconds = tonumber(had[5] or 0), tonumber(had[6] or recovery)
local till, closed = tonumber(had[7] or 0), tonumber(had[8] or 0)
local forced, trial, lease_till = had[9] or '', had[10] or '', tonumber(had[11] or 0)
local err, outcomes = had[12] or '', had[13] or ''
-- Where the clock was set back, nothing lasts longer for it.
till, closed, lease_till = math.min(till, now + seconds), math.min(closed, now),
  math.min(lease_till, now + lease)

local function save()
  call('HSET', key, 'state', state, 'generation', format('%.0f', generation),
    'failures', failures, 'successes', successes, 'trips', trips,
    'seconds', format('%.17g', seconds), 'until', format('%.17g', till),
    'closed', format('%.17g', closed), 'forced', forced, 'trial', trial,
    'lease', format('%.17g', lease_till), 'error', err, 'outcomes', outcomes)
  local ms = keep * 1000
  if forced ~= '' then
    ms = math.max(ms, 604800000) -- a week from the last time that anybody asked
  end
  call('PEXPIRE', key, format('%.0f', ms))
end

local function move(to)
  -- From the time, so that it is another one though the circuit was forgotten in between.
  generation = math.max(generation + 1, math.floor(now * 1000))
  state, trial, lease_till, successes, outcomes = to, '', 0, 0, ''
  if to == 'closed' then
    failures, err, closed = 0, '', now
  end
end

local function open(time)
  move('open')
  seconds, till = time, now + time
end

local function trip()
  if state == 'half-open' or (trips > 0 and now - closed <= seconds) then
    trips = trips + 1
  else
    trips = 1
  end
  local grown = math.min(longest, recovery * 2 ^ math.min(trips - 1, 60))
  if grown > recovery then
    open(math.max(recovery, grown * (1 - jitter * chance)))
  else
    open(recovery)
  end
end

-- Counts outcomes of the closed circuit; opens it if the rate is reached.
local function weigh(good, bad)
  if rate == 0 then
    return
  end
  local width = window / 10
  local which, total, failed, left = math.floor(now / width), good + bad, bad, {}
  local mine_good, mine_bad = good, bad
  for at, n, f in string.gmatch(outcomes, '(%d+):(%d+):(%d+)') do
    at, n, f = tonumber(at), tonumber(n), tonumber(f)
    if at == which then
      mine_good, mine_bad = mine_good + n - f, mine_bad + f
    elseif at > which - 10 and at < which then
      left[#left + 1] = format('%.0f:%.0f:%.0f', at, n, f)
    else
      n, f = 0, 0
    end
    total, failed = total + n, failed + f
  end
  left[#left + 1] = format('%.0f:%.0f:%.0f', which, mine_good + mine_bad, mine_bad)
  outcomes = table.concat(left, ' ')
  if total >= minimum and failed / total >= rate then
    trip()
  end
end

local result = 'counted'
-- A trial counts though its lease is over and there is another: else, with trials that take longer
-- than that, none would ever count.
local counts = generation == known and forced == '' and (token ~= '') == (state == 'half-open')

if uncounted > 0 and (step == 'admit' or step == 'look') and state == 'closed' and forced == '' and
  generation == known then
  weigh(uncounted, 0)
  save()
end

if forced ~= '' and (step == 'admit' or step == 'look') then
  call('PEXPIRE', key, '604800000')
end
if step == 'admit' then
  if state == 'open' and forced == '' and till <= now then
    move('half-open')
  end
  local free = trial == '' or lease_till <= now or
    string.find(' ' .. lost .. ' ', ' ' .. trial .. ' ', 1, true)
  if state == 'closed' then
    result = 'go'
  elseif state == 'open' then
    result = 'refused'
  elseif held ~= '' and held ~= token and generation == known and (free or trial == held) then
    result = 'refused' -- the process that asks shows that its trial is under way still
    if trial ~= held or lease_till < now + lease / 2 then
      trial, lease_till = held, now + lease
      save()
    end
  elseif not free and trial ~= token then
    result = 'refused'
  else
    trial, lease_till, result = token, now + lease, 'trial'
    save()
  end
elseif step == 'failed' or step == 'succeeded' then
  if not counts then
    result = 'late'
  elseif step == 'failed' then
    failures, err = failures + 1, what
    if state == 'half-open' or (threshold > 0 and failures >= threshold) then
      trip()
    else
      weigh(uncounted, 1)
    end
    save()
  else
    failures = 0
    if state == 'half-open' then
      successes = successes + 1
      if trial == token then
        trial = ''
      end
      if successes >= enough then
        move('closed')
      end
    else
      weigh(uncounted, 0)
    end
    save()
  end
elseif step == 'withdraw' then
  if trial == token then
    trial = ''
    save()
  end
elseif step ~= 'look' then -- a command
  if not (step == 'close' and forced == 'closed') then
    forced = ''
  end
  if step == 'open' or step == 'force_open' then
    trips = 0
    open(recovery)
    forced = step == 'force_open' and 'open' or ''
  elseif step == 'half_open' then
    move('half-open')
  else
    move('closed')
    if step == 'force_closed' then
      forced = 'closed'
    elseif step == 'reset' then
      trips = 0
    end
  end
  save()
end

local left = 0
if state == 'open' then
  left = till - now
end
return table.concat({
  result, state, format('%.0f', generation), failures, successes, trips,
  format('%.17g', seconds), format('%.17g', left), forced, format('%.17g', now), err,
}, '\n')
