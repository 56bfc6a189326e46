-- Counts what was admitted while the server was away, as far as it fits.
--
-- KEYS[1]: the counter. ARGV: kind, max, span, phase, units.

local c = open(KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4])
if not c then return 0 end
local units = math.min(tonumber(ARGV[5]), c.max - c.used)
if units > 0 then c.form.add(c, units, now) end
return math.max(0, units)
