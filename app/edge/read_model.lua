-- Reads which model a gRPC call is for from the first bytes of its first message; knows no model and routes nothing.
--
-- All six calls that name a model carry its name as field 1 and its version as field 2. Only a prefix is ever looked at,
-- so messages may be of any size, and a stream is looked at when its first message begins to arrive. Sets txn.model and
-- txn.version, or txn.fault: compressed, large, malformed, hidden (the name is not within the prefix).
--
--     lua-load-per-thread read_model.lua 268435456 16384
--     http-request lua.read_model

local arguments = table.pack(...)
local MAX_MESSAGE_BYTES = tonumber(arguments[1])
local PREFIX_BYTES = tonumber(arguments[2]) -- of a message; must fit a buffer, or a call would wait for what has no room
local FRAME_BYTES = 5                       -- one byte: compressed or not; four: length of the message

local MORE, MALFORMED, HIDDEN = "more", "malformed", "hidden"

-- A varint at `at`: its value and where the next field begins, or nil and why not.
local function varint(body, at)
    local value = 0
    for i = 0, 9 do
        local byte = string.byte(body, at + i)
        if byte == nil then return nil, MORE end
        value = value | (byte & 0x7f) << (7 * i)
        if byte < 0x80 then return value, at + i + 1 end
    end
    return nil, MALFORMED
end

-- Where the field of `wire` type that begins at `at` has its content, and where the next field begins.
local function extent(body, at, wire)
    if wire == 0 then
        local value, after = varint(body, at)
        return at, after, value == nil
    elseif wire == 1 then return at, at + 8
    elseif wire == 5 then return at, at + 4
    elseif wire == 2 then
        local length, from = varint(body, at)
        if length == nil then return at, from, true end
        if length < 0 or length > 0x7fffffff then return at, MALFORMED, true end -- no field may be longer
        return from, from + length
    end
    return at, MALFORMED, true
end

-- Name and version in a message of `length` bytes of which `body` holds the beginning; or nil and why not.
local function find_model(body, length)
    local at, stop = FRAME_BYTES + 1, FRAME_BYTES + length
    local texts = { [1] = nil, [2] = "" }
    while at <= stop do
        if at > PREFIX_BYTES then return nil, HIDDEN end
        local key, content = varint(body, at)
        if key == nil then return nil, content end
        local number, wire = key >> 3, key & 7
        -- Serializers write fields in the order of their numbers: past a name there is no version to come.
        if number > 2 and texts[1] then break end
        local from, after, failed = extent(body, content, wire)
        if failed then return nil, after end
        if number <= 2 then
            if wire ~= 2 or after - 1 > stop then return nil, MALFORMED end
            if after - 1 > PREFIX_BYTES then return nil, HIDDEN end
            if after - 1 > #body then return nil, MORE end
            texts[number] = string.sub(body, from, after - 1)
            if number == 2 and texts[1] then break end
        end
        at = after
    end
    return texts[1] or "", texts[2]
end

local function look(body)
    if #body < FRAME_BYTES then return nil, MALFORMED end -- who calls has waited for them: there are no more
    local flag, length = string.unpack(">BI4", body)
    if flag ~= 0 then return nil, "compressed" end
    if length > MAX_MESSAGE_BYTES then return nil, "large" end
    return find_model(body, length)
end

local function read_model(txn)
    local model, version = look(txn.f:req_body() or "")
    if model then
        txn:set_var("txn.model", model)
        txn:set_var("txn.version", version)
    elseif version == MORE and txn.f:internal_htx_has_eom() == 0 then
        return act.YIELD -- called again when more has arrived
    else
        txn:set_var("txn.fault", version == MORE and MALFORMED or version)
    end
    return act.CONTINUE
end

core.register_action("read_model", { "http-req" }, read_model)
