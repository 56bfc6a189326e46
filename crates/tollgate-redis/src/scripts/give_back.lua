-- Gives back what was taken, as far as it still counts.
--
-- KEYS[i]: the counter of charge i.
-- ARGV for each charge: kind, max, span, phase, cost, taken. `taken` is the time by the server's clock at
-- which the units were taken, or an earlier one.
-- Whatever is not known for sure to count is left: that loses units, and never grants any.

local counts = {}

function counts.quota(c, taken)
    if c.left < 0 then return c.left == -1000 end
    local ends = redis.pcall('PEXPIRETIME', c.key)
    if type(ends) ~= 'number' then
        -- A server before 7. The clock is read after the rest, so that this is not too early.
        local time = redis.call('TIME')
        ends = time[1] * 1000 + math.floor(time[2] / 1000) + c.left / 1000
    end
    return ends - milliseconds(c.span) <= math.floor(taken / 1000) -- Keys end at whole milliseconds.
end

-- The period that ends then is over when the key is gone; another one has another end.
counts['until'] = function(c) return c.left >= 0 and math.abs(now + c.left - c.span) < 1000000 end

function counts.window(c, taken) return c.start <= taken end

for i = 1, #KEYS do
    local place = (i - 1) * 6
    local c = open(KEYS[i], ARGV[place + 1], ARGV[place + 2], ARGV[place + 3], ARGV[place + 4])
    local cost, taken = tonumber(ARGV[place + 5]), tonumber(ARGV[place + 6])
    if c and (not counts[c.kind] or counts[c.kind](c, taken)) then c.form.less(c, cost, taken) end
end
return 1
