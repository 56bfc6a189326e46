-- Gives back what was taken, as far as it still counts.
--
-- KEYS[i]: the counter of charge i.
-- ARGV for each charge: form, span, cost, taken. Forms and spans are those of take.lua; `taken` is the
-- time by the server's clock at which the units were taken, or an earlier one.
-- Whatever is not known for sure to count is left: that loses units, and never grants any.

local SLOTS = 64
local function clock()
    local time = redis.call('TIME')
    return time[1] * 1000000 + time[2]
end

local now = clock()

local function text(number) return string.format('%.0f', number) end

local function less(key, cost)
    local used = tonumber(redis.call('GET', key) or '0')
    local back = math.min(used, cost)
    if back > 0 then redis.call('DECRBY', key, back) end
end

local forms = {}

function forms.quota(key, span, cost, taken)
    local left = redis.call('PTTL', key)
    if left == -2 then return end
    -- Keys end at whole milliseconds. The clock is read after the rest, so `began` is not too early.
    local began = math.floor(clock() / 1000) + left - math.max(1, math.ceil(span / 1000))
    if left == -1 or began <= math.floor(taken / 1000) then less(key, cost) end
end

-- The period that ends then is over when the key is gone; another one has another end.
forms['until'] = function(key, span, cost)
    local left = redis.call('PTTL', key) * 1000
    if left >= 0 and math.abs(now + left - span) < 1000000 then less(key, cost) end
end

function forms.fixed(key, _, cost)
    if redis.call('EXISTS', key) == 1 then less(key, cost) end
end

function forms.window(key, _, cost, taken)
    local stored = redis.call('HMGET', key, 'start', 'count')
    if stored[1] and tonumber(stored[1]) <= taken then
        local back = math.min(tonumber(stored[2]), cost)
        if back > 0 then redis.call('HINCRBY', key, 'count', -back) end
    end
end

-- The unit's own entry, or one before it, which leaves the window sooner.
function forms.log(key, span, cost, taken)
    if taken <= now - span then return end
    local oldest = text((now - span) * 1000)
    for _ = 1, cost do
        local entry = redis.call('ZREVRANGEBYSCORE', key, text(taken * 1000 + 999), oldest, 'LIMIT', 0, 1)
        if not entry[1] then entry = redis.call('ZRANGEBYSCORE', key, oldest, '+inf', 'LIMIT', 0, 1) end
        if not entry[1] then return end
        redis.call('ZREM', key, entry[1])
    end
end

function forms.guarded(key, span, cost, taken)
    forms.log(key, span, cost, taken)
    redis.call('DEL', key .. '.BLOCKED')
end

local function of_slots(key, span, cost, taken)
    local width = tonumber(redis.call('HGET', key, 'width'))
    if not width or taken <= now - span then return end
    local numbers, counts = {}, {}
    local stored = redis.call('HGETALL', key)
    for i = 1, #stored, 2 do
        local slot = tonumber(stored[i])
        if slot and math.floor(now / width) - SLOTS < slot then
            numbers[#numbers + 1], counts[slot] = slot, tonumber(stored[i + 1])
        end
    end
    local last = math.floor(taken / width)
    -- From the unit's slot to older ones, then from the oldest on.
    table.sort(numbers, function(one, other)
        if (one <= last) ~= (other <= last) then return one <= last end
        if one <= last then return one > other end
        return one < other
    end)
    for _, slot in ipairs(numbers) do
        local back = math.min(cost, counts[slot])
        if back > 0 then redis.call('HINCRBY', key, text(slot), -back) end
        cost = cost - back
    end
end

function forms.sliding(key, span, cost, taken)
    local kind = redis.call('TYPE', key).ok
    if kind == 'zset' then forms.log(key, span, cost, taken) end
    if kind == 'hash' then of_slots(key, span, cost, taken) end
end

function forms.gcra() end -- Nobody can tell whether the unit still counts.

for i = 1, #KEYS do
    local place = (i - 1) * 4
    local form, span, cost, taken = ARGV[place + 1], ARGV[place + 2], ARGV[place + 3], ARGV[place + 4]
    forms[form](KEYS[i], tonumber(span), tonumber(cost), tonumber(taken))
end
return 1
