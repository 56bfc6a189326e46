-- The record of leases on one counter: what lease.lua and settle.lua share. It stands behind counters.lua.
--
-- KEYS[1]: the counter. What is granted counts there as if it had been used: in a period at once, in a
--   sliding window at the latest moment at which it may be used.
-- KEYS[2]: the record, a hash: `epoch`, the number of the period; `mark`, by which the period is known again;
--   and for each node `n` and its name, numbers: when it asked last, the serial of that question, all that it
--   was granted in this epoch, until when it was told to wait, and of its last leases the serial, how much, and until
--   when it may be used.
--
-- A record that is gone is begun anew: leases that it knew can not be settled any more, which loses units.

local OUTSTANDING = 16
local LEASES = 5 -- Where those of a node begin.
local FORGOTTEN = 60000000 -- A node that has not asked for so long is forgotten, and asks under a new name.

local c = open(KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4])
if not c then return { -1, text(now) } end
local slides = c.form == log or c.form == slots
local record = { epoch = 0, nodes = {} }

-- What tells this period from others.
local function mark()
    if slides then return 0 end
    if c.form == window then return c.start end
    if c.left < 0 then return c.left end
    return math.floor((now + c.left) / 1000)
end

local function read(asked_epoch)
    local stored = redis.call('HGETALL', KEYS[2])
    for i = 1, #stored, 2 do
        local field, value = stored[i], stored[i + 1]
        if field == 'epoch' or field == 'mark' then
            record[field] = tonumber(value)
        else
            local numbers = {}
            for number in string.gmatch(value, '%S+') do numbers[#numbers + 1] = tonumber(number) end
            record.nodes[field] = numbers
        end
    end
    -- Ends of keys are read to the millisecond.
    local is_same = record.mark and math.abs(record.mark - mark()) <= 2 and c.left ~= -2000
    return is_same and asked_epoch <= record.epoch
end

local function begin(asked_epoch)
    redis.call('DEL', KEYS[2])
    record = { epoch = math.max(now, asked_epoch + 1, record.epoch + 1), nodes = {} }
end

-- Takes the unused units of a lease back, once. The others were used, some of them `idle` ago or before: in a sliding
-- window they count from then on, and no longer from the latest moment at which they might have been used.
local function settle(node, serial, unused, uses)
    for i = LEASES, #node, 3 do
        if node[i] == serial then
            local back, at = math.min(unused, node[i + 1]), node[i + 2]
            local used = node[i + 1] - back
            for _ = 1, 3 do table.remove(node, i) end
            if back > 0 then c.form.less(c, back, at) end
            for _, use in ipairs(uses) do
                local units, last = math.min(use.units, used), now - use.idle
                -- Of another width, and of a window that is over, nobody can tell which units they are.
                if slides and units > 0 and last < at and now - c.span < last and not c.rewrites then
                    c.form.less(c, units, at)
                    c.form.add(c, units, last)
                end
                used = used - units
            end
            return
        end
    end
end

-- Settles all leases that stand in ARGV from `first` on: of each its serial, its unused units, and how many times are
-- told, each with how many units were used and how long ago.
local function settle_all(node, first)
    local i = first
    while i <= #ARGV do
        local uses, last = {}, i + 2 + 2 * tonumber(ARGV[i + 2])
        for j = i + 3, last, 2 do
            uses[#uses + 1] = { units = tonumber(ARGV[j]), idle = tonumber(ARGV[j + 1]) }
        end
        settle(node, tonumber(ARGV[i]), tonumber(ARGV[i + 1]), uses)
        i = last + 1
    end
end

local function write(field, node)
    local numbers = {}
    for i, number in ipairs(node) do numbers[i] = text(number) end
    redis.call('HSET', KEYS[2], 'epoch', text(record.epoch), 'mark', text(mark()), field, table.concat(numbers, ' '))
    redis.call('PEXPIRE', KEYS[2], milliseconds(FORGOTTEN))
end
