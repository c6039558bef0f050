-- What ebb asks Prosody (0.12) for, over its admin socket, as `>` of `prosodyctl shell` takes it. It lives in the memory of
-- that one connection and is gone with it. Each call does little: Prosody serves nobody else meanwhile.
local manager = require "core.modulemanager";
local hash = require "util.hashes".sha1;
local valid = require "util.encodings".utf8.valid;
local stanza = require "util.stanza".stanza;
local now = require "util.time".now;
local shell = manager.get_module("*", "admin_shell").module;
-- Bytes of a name that are told, and rooms of one session that are named.
local longest, most_rooms = 200, 3;
-- Occupants that are looked at, and sessions that are told, in one call.
local most_occupants, most_rows = 5000, 200;

-- Quotation marks are told as DEL, which no name has: XML would write each with six characters.
local function plain(text)
	return type(text) == "string" and #text <= longest and not text:find('[%c"\\\x7F-\xFF]');
end

local function quote(text)
	if plain(text) then return "\127" .. text .. "\127"; end
	if type(text) ~= "string" then return "null"; end
	if #text > longest then
		text = text:sub(1, longest):gsub("[\xC0-\xFF][\x80-\xBF]*$", "") .. "…";
	end
	if not valid(text) then text = text:gsub("[\x80-\xFF]", "?"); end
	return "\127" .. text:gsub('[%c"\\]', function (c) return ("\\u%04x"):format(c:byte()); end) .. "\127";
end

local function number(value)
	return type(value) == "number" and value == value and math.abs(value) < 1e12 and ("%.1f"):format(value) or "null";
end

-- By which a session is found again: the address of its table, which may be another's later, and when it began.
local function id(session)
	-- The sid of BOSH is a secret.
	return session.id or session.sid and "bosh-" .. hash(session.sid, true):sub(1, 16) or tostring(session):gsub("^.*0x", "x");
end

local function began(session)
	return ("%.4f"):format(session.conntime or 0);
end

local all;
local function gather()
	local seen = {};
	all = {};
	local function add(sessions)
		for _, session in pairs(sessions) do
			if not seen[session] and not session.destroyed then
				seen[session], all[#all + 1] = true, session;
			end
		end
	end
	add(prosody.full_sessions);
	for _, name in ipairs { "c2s", "bosh", "s2s", "component" } do
		add(shell:shared("/*/" .. name .. "/sessions"));
	end
	for host in pairs(prosody.hosts) do add(shell:shared("/" .. host .. "/c2s/sessions")); end
end

local function place(session)
	local conn = session.conn;
	-- Over HTTP it has a connection only while it is asked something.
	if session.requests and #session.requests == 0 then conn = nil; end
	if not conn or session.hibernating then return "null", "null"; end
	return quote(conn:ip()), number(tonumber(conn:port()));
end

-- The same as `row` for what is told most often, ten times as fast.
local usual = ('["%s-%.4f","c2s","%s@%s","%s",null,null,"%s",%d,%.1f,null,null,%s,[],0]'):gsub('"', "\127");
local function quick(session)
	local conn = session.type == "c2s" and not (session.hibernating or session.requests or session.websocket_request)
		and session.id and session.conn;
	local ip, port = conn and conn:ip(), conn and math.tointeger(conn:port());
	if not port or not session.conntime then return; end
	if not (plain(ip) and plain(session.username) and plain(session.host) and plain(session.resource)) then return; end
	local there = session.presence and session.presence.attr.type ~= "unavailable";
	return usual:format(session.id, session.conntime, session.username, session.host, session.resource, ip, port,
		now() - session.conntime, there and "true" or "false");
end

local function row(session, inside)
	local fast = not inside and quick(session);
	if fast then return fast; end
	local ip, port = place(session);
	local user = session.username and session.host and (session.username .. "@" .. session.host);
	local over = session.requests and "BOSH" or session.websocket_request and "WebSocket" or nil;
	local rooms, more = {}, 0;
	for index, room in ipairs(inside or {}) do
		if index <= most_rooms then rooms[index] = quote(room); else more = more + 1; end
	end
	local there = session.presence and session.presence.attr.type ~= "unavailable";
	return "[" .. table.concat({ quote(id(session) .. "-" .. began(session)), quote(session.type), quote(user),
		quote(session.resource), quote(session.from_host), quote(session.to_host), ip, port,
		number(session.conntime and now() - session.conntime), number(session.hibernating and now() - session.hibernating),
		quote(over), there and "true" or "false", "[" .. table.concat(rooms, ",") .. "]", tostring(more) }, ",") .. "]";
end

-- Tells `{"left":N,"rows":[...]}` at each call, to the last with N = 0.
local function tell()
	gather();
	local empty = ('{\127left\127:%d,\127rows\127:[]}'):format(#all + 1);
	local inside, looked = {}, 0;
	for _, host in pairs(prosody.hosts) do
		local muc, rooms = host.modules and host.modules.muc, {};
		for room in (muc and muc.live_rooms or function () return next, {} end)() do rooms[#rooms + 1] = room; end
		for _, room in ipairs(rooms) do
			for _, occupant in room:each_occupant(true) do
				for jid in pairs(occupant.sessions) do
					local known = inside[jid] or (prosody.full_sessions[jid] and {});
					if known then known[#known + 1], inside[jid] = room.jid, known; end
					looked = looked + 1;
				end
			end
			if looked > most_occupants then looked = 0; coroutine.yield(empty); end
		end
	end
	local rows = {};
	for index, session in ipairs(all) do
		if not session.destroyed then rows[#rows + 1] = row(session, inside[session.full_jid]); end
		if #rows == most_rows and index < #all then
			coroutine.yield(('{\127left\127:%d,\127rows\127:[%s]}'):format(#all - index, table.concat(rows, ",")));
			rows = {};
		end
	end
	return ('{\127left\127:0,\127rows\127:[%s]}'):format(table.concat(rows, ","));
end

ebb_next = coroutine.wrap(tell);

local by_id;
-- Says goodbye to sessions: by system-shutdown with a text, or with a target by see-other-host to those of users.
function ebb_close(keys, text, target)
	if not by_id then
		gather();
		by_id = {};
		for _, session in ipairs(all) do by_id[id(session)] = session; end
	end
	local done = {};
	for index, name in ipairs(keys) do
		local name, since = name:match("^(.*)-(.-)$");
		local session = by_id[name];
		if not session or session.destroyed or began(session) ~= since then
			done[index] = '"gone"';
		else
			local reason = { condition = "system-shutdown", text = text };
			-- BOSH would send such a stanza without its own envelope.
			if target and not session.requests and (session.type or ""):match("^c2s") then
				reason = stanza("stream:error")
					:tag("see-other-host", { xmlns = "urn:ietf:params:xml:ns:xmpp-streams" }):text(target):up();
			end
			local ok, err = pcall(session.close, session, reason);
			done[index] = ok and (session.destroyed and '"asked"' or '"stays"') or quote("failed: " .. tostring(err));
		end
	end
	return "[" .. table.concat(done, ",") .. "]";
end
return true, prosody.version;
