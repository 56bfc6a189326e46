-- Writes a record if it is as expected.
--
-- KEYS[1]: the record. KEYS[2]: what counts its writes, in the record's slot.
-- ARGV: the record; its lifetime in milliseconds, 0 for ever; "any", "absent", "present" or the version
-- expected: the count of writes, "-", and the start of the SHA-1 of the text.
-- Answer: the new count of writes; false where the record is not as expected.
-- Tyk writes the record alone, so the text is compared besides the count.

local text = redis.call('GET', KEYS[1])
local writes = tonumber(redis.call('GET', KEYS[2]) or '0')
local expected = ARGV[3]
if expected == 'absent' then
    if text then return false end
elseif expected == 'present' then
    if not text then return false end
elseif expected ~= 'any' then
    if not text then return false end
    local version = string.format('%.0f', writes) .. '-' .. string.sub(redis.sha1hex(text), 1, 6)
    if version ~= expected then return false end
end
-- A record made anew after it was deleted begins above all counts before.
local time = redis.call('TIME')
writes = math.max(writes + 1, time[1] * 1000 + math.floor(time[2] / 1000))
local count = string.format('%.0f', writes)
if ARGV[2] == '0' then
    redis.call('SET', KEYS[1], ARGV[1])
    redis.call('SET', KEYS[2], count)
else
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
    redis.call('SET', KEYS[2], count, 'PX', ARGV[2])
end
return count
