-- Takes units of leases back that nobody will use.
--
-- KEYS, and what a record is: see leases.lua.
-- ARGV: kind, max, span, phase; node; epoch; and of each lease serial, unused units, and for how long none of the others
-- was used.

local field, epoch = 'n' .. ARGV[5], tonumber(ARGV[6])
local node = read(epoch) and epoch == record.epoch and record.nodes[field]
if node then
    for i = 7, #ARGV, 3 do
        settle(node, tonumber(ARGV[i]), tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]))
    end
    write(field, node)
end
return 1
