-- Grants a part of what a counter has left to one node.
--
-- KEYS, and what a record is: see leases.lua.
-- ARGV: kind, max, span, phase; lasts (how long a unit may be used); node, serial (name the lease), want, least,
--   share (what all nodes together need while a lease lasts; 0 where that is no matter); epoch, granted (what
--   the node knows of its last epoch); and leases that come back, as settle_all reads them.
--
-- Answer: {granted, epoch, ends, used, holders, retry, now}.
--   ends      how long until no unit may be used, whatever the lease says; -1 for never
--   holders   how many nodes asked lately
--   retry     when to ask again; 0 where something is left, -1 for never
-- {-1, now} where the window is over that the counter's name says.

local LOGGED = 500 -- An entry for each unit: more would keep others waiting.
local WORTH = 4 -- How many units are worth the question.
local lasts, field, serial = tonumber(ARGV[5]), 'n' .. ARGV[6], tonumber(ARGV[7])
local want, least, share = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local asked_epoch, known = tonumber(ARGV[11]), tonumber(ARGV[12])

local is_same = read(asked_epoch)
if not is_same then begin(asked_epoch) end
local node = record.nodes[field] or { now, -1, 0, 0 }
record.nodes[field] = node
local is_asked_again = serial <= node[2]
node[1] = now

if is_same and asked_epoch == record.epoch and not is_asked_again then
    settle_all(node, 13)
    -- What a server forgot that failed over.
    local lost = known - node[3]
    if lost > 0 then
        if slides then lost = math.min(lost, c.max - c.used) end
        if lost > 0 then c.form.add(c, lost, slides and now + lasts or now) end
        node[3] = known
    end
end

local holders, ahead = 0, 0
for name, other in pairs(record.nodes) do
    if now < other[1] + 2 * lasts then holders = holders + 1 end
    if name ~= field and now < (other[4] or 0) then ahead = ahead + 1 end
    if other[1] + FORGOTTEN < now then redis.call('HDEL', KEYS[2], name) end
end

-- How long a node has to wait whose window is full: until enough has left it for those who were told to wait before,
-- and for this one. So what leaves is asked for soon, by somebody, and not by all for each unit.
local function turn()
    local some = math.max(WORTH, math.floor(share / math.max(8, 2 * holders)))
    if c.used + some <= c.max then return 0 end
    return math.max(0, c.form.earliest(c, math.min(c.max, some * (ahead + 1))) - now)
end

local granted, ends, retry = 0, lasts, 0
if is_asked_again then
    for i = LEASES, #node, 3 do
        if node[i] == serial then
            granted = node[i + 1]
            if slides then ends = math.max(0, node[i + 2] - now) end
        end
    end
    if slides then retry = turn() end
else
    local remaining = math.max(0, c.max - c.used)
    -- What all hold unused is at most half of what is left. In a sliding window nothing is ever left for long,
    -- and each node may have what is its part of the time, or a sixth where there are few.
    local part = math.max(least, math.floor(remaining / (2 * holders)), math.floor(share / math.max(6, holders)))
    granted = math.min(want, remaining, part)
    if c.form == log then granted = math.min(granted, LOGGED) end
    local at = slides and now + lasts or now
    if granted > 0 then
        c.form.add(c, granted, at)
        node[3] = node[3] + granted
        for _, number in ipairs({ serial, granted, at }) do node[#node + 1] = number end
        while LEASES + 3 * OUTSTANDING <= #node do table.remove(node, LEASES) end
    end
    if slides then retry = turn() end
    node[4] = slides and now + retry or 0
    node[2] = serial
    write(field, node)
end

if not slides then
    ends = c.left < 0 and -1 or math.max(0, c.left - 1000)
    if c.max <= c.used then retry = ends end
end
return { granted, text(record.epoch), text(ends), text(c.used), holders, text(retry), text(now) }
