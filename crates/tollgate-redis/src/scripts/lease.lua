-- Grants a part of what a counter has left to one node.
--
-- KEYS, and what a record is: see leases.lua.
-- ARGV: kind, max, span, phase; lasts (how long a unit may be used); node, serial (name the lease), want, least,
--   share (what all nodes together need while a lease lasts; 0 where that is no matter); epoch, granted (what
--   the node knows of its last epoch); and of leases that come back each serial, unused units, and for how long none
--   of the others was used.
--
-- Answer: {granted, epoch, ends, used, holders, retry, now}.
--   ends      how long until no unit may be used, whatever the lease says; -1 for never
--   holders   how many nodes asked lately
--   retry     when to ask again; 0 where something is left, -1 for never
-- {-1, now} where the window is over that the counter's name says.

local LOGGED = 500 -- An entry for each unit: more would keep others waiting.
local lasts, field, serial = tonumber(ARGV[5]), 'n' .. ARGV[6], tonumber(ARGV[7])
local want, least, share = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local asked_epoch, known = tonumber(ARGV[11]), tonumber(ARGV[12])

local is_same = read(asked_epoch)
if not is_same then begin(asked_epoch) end
local node = record.nodes[field] or { now, -1, 0 }
record.nodes[field] = node
local is_asked_again = serial <= node[2]
node[1] = now

if is_same and asked_epoch == record.epoch and not is_asked_again then
    for i = 13, #ARGV, 3 do
        settle(node, tonumber(ARGV[i]), tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]))
    end
    -- What a server forgot that failed over.
    local lost = known - node[3]
    if lost > 0 then
        if slides then lost = math.min(lost, c.max - c.used) end
        if lost > 0 then c.form.add(c, lost, slides and now + lasts or now) end
        node[3] = known
    end
end

local holders = 0
for name, other in pairs(record.nodes) do
    if now < other[1] + 2 * lasts then holders = holders + 1 end
    if other[1] + FORGOTTEN < now then redis.call('HDEL', KEYS[2], name) end
end

local granted, ends = 0, lasts
if is_asked_again then
    for i = 4, #node, 3 do
        if node[i] == serial then
            granted = node[i + 1]
            if slides then ends = math.max(0, node[i + 2] - now) end
        end
    end
else
    local remaining = math.max(0, c.max - c.used)
    -- What all hold unused is at most half of what is left. In a sliding window nothing is ever left for long,
    -- and each node may have what is its part of the time, and half as much for when it is asked for more.
    local part = math.max(least, math.floor(remaining / (2 * holders)), math.floor(share * 3 / 2 / holders))
    granted = math.min(want, remaining, part)
    if c.form == log then granted = math.min(granted, LOGGED) end
    local at = slides and now + lasts or now
    if granted > 0 then
        c.form.add(c, granted, at)
        node[3] = node[3] + granted
        for _, number in ipairs({ serial, granted, at }) do node[#node + 1] = number end
        while 3 + 3 * OUTSTANDING < #node do table.remove(node, 4) end
    end
    node[2] = serial
    write(field, node)
end

local retry = 0
if slides then
    -- Not for each unit that leaves the window, but for some that are worth asking for.
    local some = math.min(c.max, math.max(1, math.floor(share * 3 / 4)))
    retry = math.max(0, c.form.earliest(c, some) - now)
else
    ends = c.left < 0 and -1 or math.max(0, c.left - 1000)
    if c.max <= c.used then retry = ends end
end
return { granted, text(record.epoch), text(ends), text(c.used), holders, text(retry), text(now) }
