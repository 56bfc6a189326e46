-- Takes units of leases back that nobody will use.
--
-- KEYS, and what a record is: see leases.lua.
-- ARGV: kind, max, span, phase; node; epoch; and leases, as settle_all reads them.

local field, epoch = 'n' .. ARGV[5], tonumber(ARGV[6])
local node = read(epoch) and epoch == record.epoch and record.nodes[field]
if node then
    settle_all(node, 7)
    write(field, node)
end
return 1
