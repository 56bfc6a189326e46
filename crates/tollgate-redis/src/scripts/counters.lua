-- How counters are kept in Redis: what the scripts share. It stands in front of each of them.
--
-- A counter `c` has a `key`, a `kind`, a `max`, a `span` and a `phase` as a charge says them, and the `form`
-- that keeps it. `open` reads it; then `c.used` is how much counts, `c.form.add(c, cost, at)` adds units that
-- are used at `at` at the latest, and `c.form.less(c, units, at)` takes back units that were added so: their
-- own, or older ones, which leave the window sooner.
--
--   kind      span
--   quota     the period; 0 for one that never renews
--   until     the Unix time at which the period ends, whenever it began
--   window    the window's length; windows lie side by side, and `phase` past the start of one is 1970
--   fixed     the Unix time at which the window ends that the counter's name says
--   sliding   the window; up to 128 requests are kept one by one, more in 64 slots
--   log       the window, always kept one by one, as Tyk does
--   guarded   the same, with Tyk's sentinel in the counter's name and `.BLOCKED`; never leased
--   gcra      the window; never leased
-- All times are microseconds. Doubles hold them exactly until the year 2255.

local SLOTS, EXACT, MAX_WAITING = 64, 128, 100
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local function milliseconds(span) return string.format('%.0f', math.max(1, math.ceil(span / 1000))) end
local function text(number) return string.format('%.0f', number) end

-- Keeps a name for so long at least: what counts from a later moment on may be there already.
local function keep(key, span)
    local millis = milliseconds(span)
    if redis.call('PTTL', key) < tonumber(millis) then redis.call('PEXPIRE', key, millis) end
end

-- Counters that end as a whole: a string with a time to live.
local whole = {}

function whole.read(c)
    c.used = tonumber(redis.call('GET', c.key) or '0')
    c.left = redis.call('PTTL', c.key) * 1000
    if c.left == -1000 and c.length > 0 then -- It should have an end, and has none: Tyk begins anew.
        c.used, c.left = 0, -2000
    end
end

function whole.earliest(c, cost)
    if c.used + cost <= c.max then return now end
    if c.left < 0 then return nil end
    return now + c.left
end

function whole.resets(c)
    if c.used == 0 then return 0 end
    if c.left < 0 then return nil end
    return c.left
end

function whole.add(c, cost)
    if c.left == -2000 then -- There was none.
        c.left = -1000
        redis.call('SET', c.key, cost)
        if c.length > 0 then
            c.left = c.length
            -- It begins at the time that is told to who takes, and that give_back.lua knows it by.
            redis.call('PEXPIREAT', c.key, text(math.floor(now / 1000) + milliseconds(c.length)))
        end
    else
        redis.call('INCRBY', c.key, cost)
    end
    c.used = c.used + cost
end

function whole.less(c, units)
    local back = math.min(tonumber(redis.call('GET', c.key) or '0'), units)
    if back > 0 then redis.call('DECRBY', c.key, back) end
    c.used = math.max(0, c.used - back)
end

-- A window of many that lie side by side: the start of the one that counts, and its count.
local window = { earliest = whole.earliest, resets = whole.resets }

function window.read(c)
    c.start = now - (now + c.phase) % c.span
    c.left = c.start + c.span - now
    local stored = redis.call('HMGET', c.key, 'start', 'count')
    c.used = tonumber(stored[1] or '-1') == c.start and tonumber(stored[2]) or 0
end

function window.add(c, cost)
    c.used = c.used + cost
    redis.call('HSET', c.key, 'start', text(c.start), 'count', text(c.used))
    redis.call('PEXPIRE', c.key, milliseconds(c.left))
end

function window.less(c, units)
    local back = math.min(c.used, units)
    if back > 0 then redis.call('HINCRBY', c.key, 'count', text(-back)) end
    c.used = c.used - back
end

-- Requests one by one: a sorted set, scored by their nanoseconds. A double is off by up to 128 of them,
-- so an entry counts for a microsecond longer.
local log = {}

local function since(c) return text((now - c.span) * 1000) end

function log.read(c)
    c.used = redis.call('ZCOUNT', c.key, since(c), '+inf')
    c.waiting = redis.call('ZCOUNT', c.key, text((now + 1) * 1000), '+inf')
end

local function micros(score) return math.floor(tonumber(score) / 1000) end

function log.earliest(c, cost)
    local over = c.used + cost - c.max
    if over <= 0 then return now end
    local entry = redis.call('ZRANGEBYSCORE', c.key, since(c), '+inf', 'WITHSCORES', 'LIMIT', over - 1, 1)
    if not entry[2] then return now + c.span end
    return math.max(now, micros(entry[2]) + 1 + c.span)
end

function log.resets(c)
    local newest = redis.call('ZRANGE', c.key, -1, -1, 'WITHSCORES')
    if not newest[2] then return 0 end
    return math.max(0, micros(newest[2]) + 1 + c.span - now)
end

function log.add(c, cost, at)
    redis.call('ZREMRANGEBYSCORE', c.key, '-inf', '(' .. since(c))
    local nanosecond, added = at * 1000, 0
    local digits = 0 -- Members are whole nanoseconds, and no two are one.
    while added < cost do
        local member = text(at + math.floor(digits / 1000)) .. string.format('%03d', digits % 1000)
        added = added + redis.call('ZADD', c.key, 'NX', text(nanosecond + digits), member)
        digits = digits + 1
    end
    keep(c.key, c.span + at - now + 1000)
    c.used = c.used + cost
end

function log.less(c, units, at)
    if at <= now - c.span then return end
    local newest = text(at * 1000 + 999)
    local back = redis.call('ZREVRANGEBYSCORE', c.key, newest, since(c), 'LIMIT', 0, units)
    if #back < units then
        local oldest = redis.call('ZRANGEBYSCORE', c.key, '(' .. newest, '+inf', 'LIMIT', 0, units - #back)
        for _, entry in ipairs(oldest) do back[#back + 1] = entry end
    end
    for _, entry in ipairs(back) do redis.call('ZREM', c.key, entry) end
    c.used = math.max(0, c.used - #back)
end

-- A log with Tyk's sentinel beside it: while that stands, nothing passes. It is put up by whoever fills the
-- window, for as long as the window refuses.
local guarded = { resets = log.resets }

local function sentinel(c) return c.key .. '.BLOCKED' end

function guarded.read(c)
    log.read(c)
    local stands = redis.call('TYPE', sentinel(c)).ok == 'string' -- One of another kind is none.
    c.blocked = stands and redis.call('PTTL', sentinel(c)) * 1000 or -2000 -- -1000: for ever.
end

function guarded.earliest(c, cost)
    if c.blocked == -1000 then return nil end
    return math.max(log.earliest(c, cost), now + math.max(c.blocked, 0))
end

function guarded.add(c, cost, at)
    log.add(c, cost, at)
    if c.max <= c.used then
        local left = log.earliest(c, 1) - now
        redis.call('SET', sentinel(c), 1, 'PX', milliseconds(left))
        c.blocked = left
    end
end

function guarded.less(c, units, at)
    log.less(c, units, at)
    redis.call('DEL', sentinel(c))
end

-- Requests by slot: a hash of counts by the number of the slot, and the slots' width.
local slots = {}

local function width(span) return math.ceil(span / (SLOTS - 1)) end

function slots.read(c)
    c.width, c.counts, c.used, c.waiting = width(c.span), {}, 0, 0
    local stored = redis.call('HGETALL', c.key)
    local old = c.width
    for i = 1, #stored, 2 do
        if stored[i] == 'width' then old = tonumber(stored[i + 1]) end
    end
    c.rewrites = old ~= c.width
    c.slot = math.floor(now / c.width)
    for i = 1, #stored, 2 do
        if stored[i] ~= 'width' then
            local slot, count = tonumber(stored[i]), tonumber(stored[i + 1])
            -- Of another width: the slot in which the old one ends.
            if c.rewrites then slot = math.floor(((slot + 1) * old - 1) / c.width) end
            c.counts[slot] = (c.counts[slot] or 0) + count
            if c.slot - SLOTS < slot then c.used = c.used + count end
            if c.slot < slot then c.waiting = c.waiting + count end
        end
    end
end

function slots.earliest(c, cost)
    local over = c.used + cost - c.max
    if over <= 0 then return now end
    local numbers = {}
    for slot in pairs(c.counts) do
        if c.slot - SLOTS < slot then numbers[#numbers + 1] = slot end
    end
    table.sort(numbers)
    for _, slot in ipairs(numbers) do
        over = over - c.counts[slot]
        if over <= 0 then return math.max(now, (slot + SLOTS) * c.width) end
    end
    return now + c.span
end

function slots.resets(c)
    local newest
    for slot, count in pairs(c.counts) do
        if count > 0 and (not newest or newest < slot) then newest = slot end
    end
    if not newest then return 0 end
    return math.max(0, (newest + SLOTS) * c.width - now)
end

function slots.add(c, cost, at)
    local slot = math.floor(at / c.width)
    c.counts[slot] = (c.counts[slot] or 0) + cost
    if c.rewrites then
        redis.call('DEL', c.key)
        redis.call('HSET', c.key, 'width', text(c.width))
        for number, count in pairs(c.counts) do
            if c.slot - SLOTS < number then redis.call('HSET', c.key, text(number), count) end
        end
        c.rewrites = false
    else
        redis.call('HSET', c.key, 'width', text(c.width))
        redis.call('HINCRBY', c.key, text(slot), cost)
        for number in pairs(c.counts) do
            if number <= c.slot - SLOTS then
                redis.call('HDEL', c.key, text(number))
                c.counts[number] = nil
            end
        end
    end
    keep(c.key, (SLOTS + 1) * c.width + at - now)
    c.used = c.used + cost
end

function slots.less(c, units, at)
    if at <= now - c.span or c.rewrites then return end -- Of another width: nobody can tell which units.
    local last, numbers = math.floor(at / c.width), {}
    for slot in pairs(c.counts) do
        if c.slot - SLOTS < slot then numbers[#numbers + 1] = slot end
    end
    -- From the units' slot to older ones, then from the oldest on.
    table.sort(numbers, function(one, other)
        if (one <= last) ~= (other <= last) then return one <= last end
        if one <= last then return one > other end
        return one < other
    end)
    for _, slot in ipairs(numbers) do
        local back = math.min(units, c.counts[slot])
        if back > 0 then
            redis.call('HINCRBY', c.key, text(slot), -back)
            c.counts[slot] = c.counts[slot] - back
            c.used, units = c.used - back, units - back
        end
    end
end

-- A sliding window stays in the form it has: one by one, or in slots once there were too many.
local sliding = {}

function sliding.read(c)
    local kind = redis.call('TYPE', c.key).ok
    local form = log
    if kind == 'hash' or (kind == 'none' and c.max > EXACT) then form = slots end
    if kind == 'zset' and c.max > EXACT then
        form = slots
        c.counts, c.width, c.slot, c.used, c.waiting = {}, width(c.span), 0, 0, 0
        c.slot = math.floor(now / c.width)
        c.rewrites = true
        local entries = redis.call('ZRANGEBYSCORE', c.key, since(c), '+inf', 'WITHSCORES')
        for i = 2, #entries, 2 do
            local slot = math.floor((micros(entries[i]) + 1) / c.width)
            c.counts[slot] = (c.counts[slot] or 0) + 1
            c.used = c.used + 1
            if c.slot < slot then c.waiting = c.waiting + 1 end
        end
    else
        form.read(c)
    end
    c.form = form
end

-- The time at which the burst is whole again, as text.
local gcra = {}

function gcra.read(c)
    c.step = c.span / c.max
    c.full = math.max(now, tonumber(redis.call('GET', c.key) or '0'))
    c.used = math.ceil((c.full - now) / c.step)
    c.waiting = math.max(0, math.ceil((c.full - c.span - now) / c.step))
end

function gcra.earliest(c, cost)
    return math.max(now, math.ceil(c.full + cost * c.step - c.span))
end

function gcra.resets(c) return math.ceil(c.full - now) end

function gcra.add(c, cost)
    c.full = c.full + cost * c.step
    redis.call('SET', c.key, string.format('%.17g', c.full), 'PX', milliseconds(c.full - now))
    c.used = math.ceil((c.full - now) / c.step)
end

function gcra.less() end -- Nobody can tell whether the unit still counts.

local forms = {
    quota = whole,
    ['until'] = whole,
    fixed = whole,
    window = window,
    log = log,
    guarded = guarded,
    sliding = sliding,
    gcra = gcra,
}

-- Times as Tyk writes them (RFC 3339), and dates by the number of days since 1970.
local function days(year, month, day)
    if month <= 2 then year = year - 1 end
    local era = math.floor(year / 400)
    year = year - era * 400
    day = math.floor((153 * ((month + 9) % 12) + 2) / 5) + day - 1
    return era * 146097 + year * 365 + math.floor(year / 4) - math.floor(year / 100) + day - 719468
end

local function date(number)
    number = number + 719468
    local era = math.floor(number / 146097)
    local day = number - era * 146097
    local year = day - math.floor(day / 1460) + math.floor(day / 36524) - math.floor(day / 146096)
    year = math.floor(year / 365)
    day = day - (365 * year + math.floor(year / 4) - math.floor(year / 100))
    local month = math.floor((5 * day + 2) / 153)
    day = day - math.floor((153 * month + 2) / 5) + 1
    month = (month + 2) % 12 + 1
    return year + era * 400 + (month <= 2 and 1 or 0), month, day
end

local function written(at)
    local seconds = math.floor(at / 1000000)
    local year, month, day = date(math.floor(seconds / 86400))
    local of_day = seconds % 86400
    local hour, minute = math.floor(of_day / 3600), math.floor(of_day / 60) % 60
    local form = '%04d-%02d-%02dT%02d:%02d:%02d.%06dZ'
    return string.format(form, year, month, day, hour, minute, of_day % 60, at % 1000000)
end

local function read_time(text)
    local parts = { string.match(text, '^(%d+)-(%d+)-(%d+)T(%d+):(%d+):(%d+)%.?(%d*)(.*)$') }
    if not parts[1] then return nil end
    local sign, hours, minutes = string.match(parts[8], '^([+-])(%d+):(%d+)$')
    local offset = sign and (hours * 60 + minutes) * 60 or 0
    if sign == '-' then offset = -offset end
    local at = days(tonumber(parts[1]), tonumber(parts[2]), tonumber(parts[3])) * 86400
    at = at + parts[4] * 3600 + parts[5] * 60 + parts[6] - offset
    return at * 1000000 + math.floor(tonumber('0.' .. parts[7] .. '0') * 1000000)
end

-- An allowance that grows and shrinks with use: a hash beside the counter, as Tyk keeps it. `c.max` is the
-- allowance then, and `c.top` the rate. It changes with a request that is admitted.
local function allowance(c) return c.key .. '-allowance' end

local function within(c, requests) return math.min(math.max(requests, c.steps.threshold), c.top) end

local function next_allowance(c, requests)
    local steps = c.steps
    requests = within(c, requests)
    if requests <= c.used + steps.margin then return within(c, requests + steps.step) end
    if c.used + steps.step + steps.less <= requests then return within(c, requests - steps.step) end
    return requests
end

local function smooth(c, steps)
    local numbers = {}
    for number in string.gmatch(steps, '%d+') do numbers[#numbers + 1] = tonumber(number) end
    c.top = c.max
    c.steps = { threshold = numbers[1], step = numbers[2], margin = numbers[3], less = numbers[4] }
    c.steps.delay = numbers[5]
    local stored = redis.call('HMGET', allowance(c), 'current', 'nextUpdateAt')
    c.current, c.stays = tonumber(stored[1] or ''), read_time(stored[2] or '')
    if not c.current or not c.stays then
        c.current, c.stays = nil, nil
        c.max = within(c, 0)
    elseif now <= c.stays then
        c.max = within(c, c.current)
    else
        c.max = next_allowance(c, c.current)
    end
end

local function keep_allowance(c)
    if not c.steps then return end
    local delay = c.steps.delay
    if c.max ~= c.current then
        local seconds = text(delay / 1000000)
        c.current, c.stays = c.max, now + delay
        redis.call('HSET', allowance(c), 'current', text(c.max), 'delay', seconds, 'nextUpdateAt', written(c.stays))
    end
    redis.call('PEXPIRE', allowance(c), milliseconds(2 * delay))
end

-- When `cost` units pass that are refused until `at`: sooner, where the allowance grows before.
local function or_grown(c, at, cost)
    if not c.steps or not c.stays or c.stays < now then return at end
    local fits = c.used + cost <= next_allowance(c, c.max)
    if fits and (not at or c.stays + 1 < at) then return c.stays + 1 end
    return at
end

-- Reads a counter; nil where the window is over that its name says. `steps` are those of an allowance: threshold,
-- step, how short of the allowance it grows, how much more than a step below it shrinks, delay. No number: none.
local function open(key, kind, max, span, phase, steps)
    local c = {
        key = key,
        kind = kind,
        max = tonumber(max),
        span = tonumber(span),
        phase = tonumber(phase),
        waiting = 0,
    }
    c.length = c.span
    if c.kind == 'fixed' or c.kind == 'until' then
        c.length = c.span - now
        if c.length <= 0 then return nil end
    end
    c.form = forms[c.kind]
    c.form.read(c)
    if steps and steps ~= '' then smooth(c, steps) end
    return c
end
