-- Charges all limits of one request, or none, by the server's clock.
--
-- KEYS[i]: the counter of charge i; one may stand for several charges.
-- ARGV[1]: "take" or "look", which charges nothing.
-- Then for each charge: kind, max, span, cost, watched ("1": exceeded but never refuses), patience, phase,
-- steps.
--
-- Answer: {refused, wait, retry, now} and for each charge {used, resets, next, exceeded, max}.
--   refused   the charge that refused, from 1; 0 where all were taken
--   wait      how long the request has to wait for its turn
--   retry     when it would pass; -1 for never
--   used, resets (-1: never), next (when one more unit fits, -1: never), exceeded (0 or 1),
--   max       how many may count: the limit, or its allowance
-- {-1, now} where a window is over that a counter's name says: ask again.

local takes = ARGV[1] == 'take'

-- The first pass reads.
local charges, earlier, turn, refused, retry = {}, {}, now, 0, now
for i = 1, #KEYS do
    local place = 1 + (i - 1) * 8
    local c = open(KEYS[i], ARGV[place + 1], ARGV[place + 2], ARGV[place + 3], ARGV[place + 7], ARGV[place + 8])
    if not c then return { -1, text(now) } end
    c.cost = tonumber(ARGV[place + 4])
    c.watched = ARGV[place + 5] == '1'
    c.patience = tonumber(ARGV[place + 6])
    c.exceeded = false
    local before = earlier[c.key] or 0
    local cost = before + c.cost
    earlier[c.key] = cost
    local at
    if c.cost <= c.max and cost <= c.max then at = c.form.earliest(c, cost) end
    if not at or now < at then
        local patient = at and c.form ~= whole and c.form ~= window and c.waiting + cost <= MAX_WAITING
        if c.watched then
            c.exceeded = true
        elseif patient and at - now <= c.patience then
            turn = math.max(turn, at)
        else
            c.exceeded = true
            if refused == 0 then refused = i end
            at = or_grown(c, at, cost)
            if not at then retry = nil elseif retry then retry = math.max(retry, at) end
        end
    end
    charges[i] = c
end

-- The second adds, where nothing refused.
if refused == 0 and takes then
    for _, c in ipairs(charges) do
        if not c.exceeded then
            if 1 < #charges then forms[c.kind].read(c) end -- One before may have been of the same counter.
            c.form.add(c, c.cost, turn)
            keep_allowance(c)
        end
    end
end

local answer = { refused, text(turn - now), retry and text(math.max(retry, turn) - now) or '-1', text(now) }
for _, c in ipairs(charges) do
    if 1 < #charges then forms[c.kind].read(c) end
    local resets, next_unit = c.form.resets(c), now
    if c.max <= c.used then next_unit = or_grown(c, c.form.earliest(c, 1), 1) end
    answer[#answer + 1] = text(c.used)
    answer[#answer + 1] = resets and text(resets) or '-1'
    answer[#answer + 1] = next_unit and text(next_unit - now) or '-1'
    answer[#answer + 1] = c.exceeded and 1 or 0
    answer[#answer + 1] = text(c.max)
end
return answer
