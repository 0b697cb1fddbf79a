// What a lock does within Redis. KEYS: the holder's key, the counter of epochs. Numbers stay below 2^53, as Lua counts.

/** ARGV: holder, ttl, floor, "1" to take it although the counter is behind. Answers kind, holder, epoch. */
export const ACQUIRE = `
local holder = redis.call('GET', KEYS[1])
local epoch = tonumber(redis.call('GET', KEYS[2]) or '0')
if not epoch then return redis.error_reply('the counter of epochs holds no number') end
local floor = tonumber(ARGV[3])
if holder and holder ~= ARGV[1] then return {'taken', holder, string.format('%.0f', epoch)} end
if epoch < floor and ARGV[4] ~= '1' then return {'behind', '', string.format('%.0f', epoch)} end
if holder then redis.call('DEL', KEYS[1]) end
local new = redis.call('INCR', KEYS[2])
if new <= floor then
  new = floor + 1
  redis.call('SET', KEYS[2], string.format('%.0f', new))
end
redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])
return {'acquired', ARGV[1], string.format('%.0f', new)}`;

/** ARGV: holder, ttl, epoch. 1 if the key is the holder's for another ttl. A key that Redis lost is set again if nobody came between. */
export const RENEW = `
local holder = redis.call('GET', KEYS[1])
local epoch = tonumber(redis.call('GET', KEYS[2]) or '0')
local mine = tonumber(ARGV[3])
if not epoch or epoch > mine then return 0 end
if holder and holder ~= ARGV[1] then return 0 end
if epoch < mine then redis.call('SET', KEYS[2], string.format('%.0f', mine)) end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1`;

/** ARGV: holder, epoch. Nothing happens to a key of anybody else, nor to one of a later term. */
export const RELEASE = `
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if tonumber(redis.call('GET', KEYS[2]) or '0') ~= tonumber(ARGV[2]) then return 0 end
return redis.call('DEL', KEYS[1])`;
