%%% @doc A device that pushes messages to WebSocket clients.
%%%
%%% A publisher hands a message to `cast/2' and does not wait. The engine is a Rust library
%%% with its own threads. It derives topics from the tags of the message, encodes the message
%%% as JSON once, and sends it to each client with a matching subscription:
%%%
%%%     dev_websocket:cast(#{
%%%         <<"topic">> => <<"prices">>,
%%%         <<"action">> => <<"Transfer">>,
%%%         <<"data">> => <<"..">>
%%%     }, #{}).
%%%
%%% reaches the clients of
%%%
%%%     ws://node:8735/ws?topic=prices
%%%     ws://node:8735/ws?topic=action:Transfer
%%%
%%% On a HyperBEAM node it is the device `~websocket@1.0':
%%%
%%% | key | purpose |
%%% |---|---|
%%% | `info' | Returns the address for clients, as JSON and as keys. |
%%% | `cast' | Publishes the request, or its JSON body. |
%%% | `stats' | Returns all counters. |
%%% | `compute' | In a process's stack: a hint that the process has a new slot. |
%%% | `init', `normalize', `snapshot' | Change nothing. A stack calls them on each device. |
%%% | `response' | As a hook: a hint, the ids in the path of the answered request. |
%%% | `start' | As a hook: opens the listener with the node's options, such as `websocket_port'. |
%%% | `step' | Changes nothing. Nodes that were set up for an earlier version still call it. |
%%%
%%% Results of processes need no configuration. While a client is subscribed to a process,
%%% the device reads its slots from the node's own cache (`dev_websocket_tails'). Each slot
%%% is published once and in order: one event for the result, and one for each message that
%%% the process sends. A `gap' frame reports a slot that is missing.
%%%
%%% A call of a key is never taken for a result, because strangers can call all keys. A hint
%%% is an id, and only makes the device look at the cache sooner.
%%%
%%% Anybody may `cast' over HTTP unless the node's option `websocket_cast' is `signed',
%%% `operator' or `off'.
%%%
%%% Messages from clients are off until a process calls `listen/1'. That process then
%%% receives `{dev_websocket, Connection, {text | binary, Payload}}', and `send/2' answers
%%% one connection.
%%%
%%% The server starts when this module is loaded. On a node it first waits up to 5 seconds
%%% for the node's options. Settings come from, strongest first, `start/1', the node's
%%% options, the OS environment (`DEV_WEBSOCKET_PORT'), the application environment (`port')
%%% and the defaults. An address that cannot be bound fails neither the load nor the node:
%%% one line is logged, `info/0' returns the reason, and `start/1' tries again.
%%%
%%% This module holds no state and registers no name. Copies of it under other names share
%%% the one engine of the VM.
-module(dev_websocket).
-implements(<<"websocket@1.0">>).
-specification("dev_websocket.md").
-export([info/0, info/1, cast/2, try_cast/2]).
-export([start/1, stop/0, config/0, stats/0, hint/1]).
-export([token/2, revoke/1]).
-export([info/3, cast/3, stats/3, token/3]).
-export([init/3, compute/3, normalize/3, snapshot/3]).
-export([start/3, step/3, response/3]).
-export([listen/1, listen/2, unlisten/1, send/2]).
-export([connection/1, connections/0, connections/1, disconnect/1]).

-on_load(on_load/0).

%% Connections of a page by default.
-define(PAGE, 100).
%% Set once the warning about the hook `step' is logged.
-define(STEP_WARNED, {hb_websocket_nif, step_warned}).

%% @doc The address for clients, and the known topics.
-spec info() -> {ok, map()} | {error, term()}.
info() ->
    case dev_websocket_engine:call_started(fun hb_websocket_nif:info/0) of
        {ok, Uri, Topics} -> {ok, #{uri => Uri, topics => Topics}};
        {error, Reason} -> {error, Reason}
    end.

%% @doc The keys that AO-Core may call. It asks several times per request.
-spec info(term()) -> map().
info(_Base) ->
    #{
        exports => [
            <<"info">>, <<"cast">>, <<"stats">>, <<"token">>,
            <<"init">>, <<"compute">>, <<"normalize">>, <<"snapshot">>,
            <<"start">>, <<"step">>, <<"response">>
        ]
    }.

%% @doc Publish a message to the subscribers of its topics. The result is the same for any
%% message, and the caller never waits. Messages that cannot be published are counted in
%% `stats/0'. Casts of one process keep their order.
-spec cast(term(), term()) -> {ok, term()}.
cast(Msg, _Opts) ->
    _ = dev_websocket_engine:cast(Msg),
    {ok, <<"OK">>}.

%% @doc Publish a message as `cast/2' does, and return its outcome, for debugging. Reasons are
%% `no_audience' (no client is connected and no history is kept), `too_large', `overload',
%% `not_running', `no_engine' and `fault'. The call takes longer for a large message.
-spec try_cast(term(), term()) -> {ok, published} | {error, term()}.
try_cast(Msg, _Opts) ->
    case dev_websocket_engine:cast(Msg) of
        ok -> {ok, published};
        {dropped, Reason} -> {error, Reason};
        {error, Reason} -> {error, Reason}
    end.

%% @doc Start the server, or change settings of a running one. Settings that the map does
%% not name stay as they are. An unknown setting or a bad value is named in the error, and
%% then no setting changes.
-spec start(map()) -> ok | {error, term()}.
start(Settings) ->
    dev_websocket_engine:start(Settings).

%% @doc Stop the server with a close frame to each client. Only `start/1' starts it again.
-spec stop() -> ok | {error, term()}.
stop() ->
    dev_websocket_engine:stop().

%% @doc The settings in use, or the defaults without a server.
-spec config() -> map() | {error, term()}.
config() ->
    dev_websocket_engine:call(fun hb_websocket_nif:settings/0).

%% @doc All counters since the VM started.
-spec stats() -> map() | {error, term()}.
stats() ->
    dev_websocket_engine:call(fun hb_websocket_nif:stats/0).

%% @doc Look at the cache for a process that may have a new slot. A hint costs almost
%% nothing, never raises, and publishes only slots in the cache.
-spec hint(term()) -> ok.
hint(Process) ->
    dev_websocket_request:hint(Process).

%% @doc Make a process the listener, with the default options of `listen/2'.
-spec listen(pid()) -> ok | {error, term()}.
listen(Listener) ->
    listen(Listener, #{}).

%% @doc Make a process the listener. It receives all messages of clients, as
%% `{dev_websocket, Connection, {text | binary, Payload}}', in the order of each
%% connection. While `max_queue' messages (1000) wait in its mailbox, the server reads
%% nothing from clients. The process stays the listener until it exits or `unlisten/1' is
%% called. A node has one listener at a time.
-spec listen(pid(), map()) -> ok | {error, term()}.
listen(Listener, Opts) ->
    dev_websocket_engine:call(fun() ->
        %% The engine takes the bound on unacknowledged messages from its settings.
        _ = dev_websocket_engine:boot(),
        dev_websocket_listener:start(Listener, Opts)
    end).

%% @doc End a listener. Messages that it has not received yet are dropped.
-spec unlisten(pid()) -> ok | {error, term()}.
unlisten(Listener) ->
    dev_websocket_engine:call(fun() -> dev_websocket_listener:stop(Listener) end).

%% @doc Send to one connection: text, bytes, or any term that `cast/2' takes. The order
%% with casts of the same process is kept.
-spec send(non_neg_integer(), {text | binary, binary()} | term()) -> ok | {error, term()}.
send(Connection, Payload) ->
    dev_websocket_engine:send(Connection, Payload).

%% @doc Details of a connection: `peer', `format' (`json', `raw' or `events'), `age' in
%% milliseconds, `topics' and the `headers' of its request. `send_buffer_bytes' and
%% `send_buffer_frames' are its send buffer, and `dropped' counts dropped publications.
-spec connection(non_neg_integer()) -> {ok, map()} | {error, term()}.
connection(Connection) ->
    dev_websocket_engine:call(fun() ->
        dev_websocket_engine:request(fun(Ref) -> hb_websocket_nif:connection(Ref, Connection) end)
    end).

%% @doc The first page of the connections, as `connections/1' returns it.
-spec connections() -> {ok, map()} | {error, term()}.
connections() ->
    connections(#{}).

%% @doc A page of the connections, ordered by number. The options are `limit' (100, at most
%% 1000) and `cursor' (0), the number before the page. The result has `connections', a list
%% of maps as in `connection/1' without `headers', and the `cursor' of the next page or
%% `done'.
-spec connections(map()) -> {ok, map()} | {error, term()}.
connections(Opts) when is_map(Opts) ->
    Cursor = maps:get(cursor, Opts, 0),
    Limit = maps:get(limit, Opts, ?PAGE),
    Page = fun(Ref) -> hb_websocket_nif:connections(Ref, Cursor, Limit) end,
    case dev_websocket_engine:call(fun() -> dev_websocket_engine:request(Page) end) of
        {ok, Found} -> {ok, #{connections => Found, cursor => next_cursor(Found)}};
        {error, no_connection} -> {ok, #{connections => [], cursor => done}};
        Error -> Error
    end;
connections(_Opts) ->
    {error, {bad_argument, <<"options must be a map">>}}.

%% @doc Close a connection with code 1008.
-spec disconnect(non_neg_integer()) -> ok | {error, term()}.
disconnect(Connection) ->
    dev_websocket_engine:call(fun() -> hb_websocket_nif:disconnect(Connection) end).

%% @doc A token for a client of a server with `access = token'. The grants are a list of
%% topics and globs, or a map of `topics' and `send'. The options are `sub', the subject
%% (`node'), and `seconds', the life of the token (300).
-spec token([binary()] | map(), map()) -> {ok, binary()} | {error, term()}.
token(Grants, Opts) ->
    dev_websocket_token:new(Grants, Opts).

%% @doc Revoke a token by its `jti', or with a map of `jti', or of `sub' and optionally
%% `issued_before' in seconds since 1970. Connections with such a token are closed with 3003.
-spec revoke(binary() | map()) -> ok | {error, term()}.
revoke(Revoked) ->
    dev_websocket_token:revoke(Revoked).

%%% Keys of the device.

%% @doc `GET /~websocket@1.0/info': the address for clients, as JSON and as keys.
-spec info(map(), map(), map()) -> term().
info(_Base, _Request, Opts) ->
    _ = apply_node_options(Opts),
    case dev_websocket_engine:call_started(fun hb_websocket_nif:describe/0) of
        {ok, Keys, Document} -> {ok, json(Keys, Document)};
        {error, Reason} -> unavailable(Reason)
    end.

%% @doc `POST /~websocket@1.0/cast?topic=prices': publish the request, or its JSON body.
-spec cast(map(), map(), map()) -> term().
cast(_Base, Request, Opts) ->
    _ = apply_node_options(Opts),
    case dev_websocket_log:safely(cast_key, fun() -> dev_websocket_request:cast(Request, Opts) end, malformed) of
        ok ->
            {ok, <<"OK">>};
        {error, Answer} ->
            {error, Answer};
        malformed ->
            _ = dev_websocket_engine:count_dropped(malformed),
            {error, <<"request: cannot be read as a message">>}
    end.

%% @doc `GET /~websocket@1.0/stats': all counters, as JSON and as keys.
-spec stats(map(), map(), map()) -> term().
stats(_Base, _Request, Opts) ->
    _ = apply_node_options(Opts),
    case stats() of
        {error, Reason} -> unavailable(Reason);
        Counts -> {ok, json(Counts, dev_websocket_request:json(Counts))}
    end.

%% @doc `GET /~websocket@1.0/token': a token of five minutes for the wallet that signed the
%% request. Its grants are those of the node option `websocket_grants'.
-spec token(map(), map(), map()) -> term().
token(_Base, Request, Opts) ->
    _ = apply_node_options(Opts),
    Unreadable = {error, {400, <<"bad_request">>, <<"request: cannot be read as a message">>}},
    ForRequest = fun() -> dev_websocket_token:for_request(Request, Opts) end,
    case dev_websocket_log:safely(token_key, ForRequest, Unreadable) of
        {ok, Token} ->
            %% A token must stay in no cache, neither of the node nor on the way.
            {ok, #{
                <<"status">> => 200,
                <<"content-type">> => <<"application/jwt">>,
                <<"cache-control">> => <<"no-store">>,
                <<"body">> => Token
            }};
        {error, {Status, Code, Text}} ->
            {error, dev_websocket_request:answer(Status, Code, Text)}
    end.

%% @doc A process with the device in its stack starts: return its state unchanged.
-spec init(map(), map(), map()) -> term().
init(Base, _Request, _Opts) ->
    {ok, Base}.

%% @doc A process with the device in its stack computes a slot: take a hint, and return the
%% state unchanged.
-spec compute(map(), map(), map()) -> term().
compute(Base, _Request, Opts) ->
    _ = dev_websocket_request:hint_from_state(Base, Opts),
    {ok, Base}.

%% @doc A state was read from the cache: return it unchanged.
-spec normalize(map(), map(), map()) -> term().
normalize(Base, _Request, _Opts) ->
    {ok, Base}.

%% @doc The device adds nothing to the snapshot of a process.
-spec snapshot(map(), map(), map()) -> term().
snapshot(_Base, _Request, _Opts) ->
    {ok, #{}}.

%% @doc The hook `start': open the listener with the node's own options. The same call over
%% HTTP changes nothing.
-spec start(map(), map(), map()) -> term().
start(_Base, Request, Opts) ->
    _ = dev_websocket_log:safely(start_hook, fun() -> dev_websocket_engine:apply_start_options(Opts) end, ok),
    {ok, Request}.

%% @doc The hook `step' of earlier versions. It slows the node down, and results do not need
%% it. The first call logs a warning.
-spec step(map(), map(), map()) -> term().
step(_Base, Request, _Opts) ->
    _ = dev_websocket_log:safely(step_hook, fun warn_of_step/0, ok),
    {ok, Request}.

%% @doc The hook `response': the node has answered a request, and its path is a hint.
-spec response(map(), map(), map()) -> term().
response(_Base, Request, Opts) ->
    _ = dev_websocket_request:hint_from_response(Request, Opts),
    {ok, Request}.

%%% Private functions.

apply_node_options(Opts) ->
    dev_websocket_log:safely(node_options, fun() -> dev_websocket_engine:apply_node_options(Opts) end, ok).

%% @doc One warning in the life of the VM.
warn_of_step() ->
    case persistent_term:get(?STEP_WARNED, false) of
        true ->
            ok;
        false ->
            persistent_term:put(?STEP_WARNED, true),
            dev_websocket_log:log(
                warning,
                #{event => step_hook},
                "The hook step of websocket@1.0 does nothing and slows the node down. Remove it from the option on.",
                []
            )
    end.

%% @doc Connections may have ended meanwhile, so only an empty page is the last one.
next_cursor([]) -> done;
next_cursor(Found) -> maps:get(connection, lists:last(Found)).

json(Keys, Document) ->
    Keys#{
        <<"status">> => 200,
        <<"content-type">> => <<"application/json">>,
        <<"body">> => Document
    }.

unavailable(Reason) ->
    {error, #{<<"status">> => 503, <<"content-type">> => <<"text/plain">>, <<"body">> => unicode:characters_to_binary(explain(Reason))}}.

explain({engine_version, #{device := Device, engine := Engine}}) ->
    io_lib:format("the WebSocket engine has interface ~b, the device needs ~b; restart the node", [Engine, Device]);
explain(Reason) ->
    io_lib:format("the WebSocket server is not running: ~0tp", [Reason]).

%% @doc Start the engine. A device whose `on_load' fails cannot be called at all, so this
%% always succeeds. Newer nodes load the other modules later; then the first call starts it.
%% A fault is not logged here, for the log's module may be missing too: the first call meets
%% the same fault, and says so.
on_load() ->
    try dev_websocket_engine:load()
    catch _:_ -> ok
    end,
    ok.
