%%% @doc A device that pushes messages to WebSocket clients as they happen.
%%%
%%% A caller hands any message to `cast/2' and goes on. The engine, a library in
%%% Rust with its own threads, finds the topics of the message by its tags, writes
%%% it as JSON once, and sends it to every client that subscribed to one of them:
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
%%% | key | what it does |
%%% |---|---|
%%% | `info' | where clients connect, as JSON and as keys |
%%% | `cast' | sends the request, or its JSON body, to the subscribers of its topics |
%%% | `stats' | every count |
%%% | `compute' | in a process's stack: a hint that the process has a new slot |
%%% | `init', `normalize', `snapshot' | nothing; a stack calls them on each of its devices |
%%% | `response' | as a hook of the node: a hint, the id that the request's path names |
%%% | `start' | as a hook: opens the listener with the node's options, `websocket_port' and the like |
%%% | `step' | nothing; nodes that were set up for an earlier version still call it |
%%%
%%% Results of processes need no configuration. While a client is subscribed to a process,
%%% the device reads its slots from the node's own cache (`dev_websocket_tails'). Each slot
%%% is pushed once and in order: one event for the result, and one for each message that
%%% the process sends. A slot that is missing is told by a `gap' frame.
%%%
%%% No call of a key is ever taken for a result, because strangers reach all keys. A hint
%%% is a bare id, and only makes the device look at the cache sooner.
%%%
%%% Everybody may `cast' over HTTP unless the node's option `websocket_cast' says
%%% otherwise: `signed', `operator' or `off'.
%%%
%%% The other direction is off until a process says `listen/1'. It gets what clients
%%% send as `{dev_websocket, Connection, {text | binary, Payload}}', and `send/2'
%%% answers that connection alone.
%%%
%%% The server starts when this module is loaded; on a node it first waits up to 5
%%% seconds for the node's options. Its settings come from, the strongest first,
%%% `start/1' and the node's options, the OS environment (`DEV_WEBSOCKET_PORT'), the
%%% application environment (`port') and the defaults. A listener that cannot be
%%% bound fails neither the load nor the node: one line is logged, `info/0' says
%%% why, and `start/1' can try again.
%%%
%%% The module holds no state and registers nothing. Copies of it under other
%%% names work side by side on the one engine of the VM.
-module(dev_websocket).
-implements(<<"websocket@1.0">>).
-specification("dev_websocket.md").
-export([info/0, info/1, cast/2]).
-export([start/1, stop/0, config/0, stats/0, hint/1]).
-export([info/3, cast/3, stats/3]).
-export([init/3, compute/3, normalize/3, snapshot/3]).
-export([start/3, step/3, response/3]).
-export([listen/1, listen/2, unlisten/1, send/2]).
-export([connection/1, connections/0, connections/1, disconnect/1]).

-on_load(on_load/0).

%% @doc Say where clients connect and which topics they find there.
-spec info() -> {ok, map()} | {error, term()}.
info() ->
    case dev_websocket_engine:info() of
        {ok, Uri, Topics} -> {ok, #{uri => Uri, topics => Topics}};
        {error, Reason} -> {error, Reason}
    end.

%% @doc Say which keys AO-Core may call. It asks several times for each request.
-spec info(term()) -> map().
info(_Base) ->
    #{
        exports => [
            <<"info">>, <<"cast">>, <<"stats">>,
            <<"init">>, <<"compute">>, <<"normalize">>, <<"snapshot">>,
            <<"start">>, <<"step">>, <<"response">>
        ]
    }.

%% @doc Send a message to the subscribers of its topics. Whatever the message is,
%% the answer is the same and comes at once: what cannot be sent is counted in
%% `stats/0'. The casts of one process arrive in their order.
-spec cast(term(), term()) -> {ok, term()}.
cast(Msg, _Opts) ->
    _ = dev_websocket_engine:cast(Msg),
    {ok, <<"OK">>}.

%% @doc Start the server, or change settings of a running one: those that the map
%% names, the others stay as they are. A setting that does not exist or does not
%% fit is named in the error, and nothing changes.
-spec start(map()) -> ok | {error, term()}.
start(Settings) ->
    dev_websocket_engine:start(Settings).

%% @doc Stop the server and tell its clients. Only `start/1' starts it again.
-spec stop() -> ok | {error, term()}.
stop() ->
    dev_websocket_engine:stop().

%% @doc The settings in use, or the defaults when there is no server.
-spec config() -> map() | {error, term()}.
config() ->
    dev_websocket_engine:config().

%% @doc Every count since the node started.
-spec stats() -> map() | {error, term()}.
stats() ->
    dev_websocket_engine:stats().

%% @doc Look at the cache for a process that may have a new slot. Costs next to nothing,
%% never raises, and publishes only slots that the cache holds.
-spec hint(term()) -> ok.
hint(Process) ->
    dev_websocket_hint:give(Process).

%% @doc Make a process the listener: see `listen/2'.
-spec listen(pid()) -> ok | {error, term()}.
listen(Listener) ->
    listen(Listener, #{}).

%% @doc Make a process the listener. From now on it gets what clients send, as
%% `{dev_websocket, Connection, {text | binary, Payload}}': those of a connection in
%% their order, and all of them. When it falls behind, with `max_queue' messages in
%% its mailbox, clients are not read from for a while. It stays the listener until
%% it ends or `unlisten/1' is called; there is one in a node at a time.
-spec listen(pid(), map()) -> ok | {error, term()}.
listen(Listener, Opts) ->
    dev_websocket_engine:listen(Listener, Opts).

%% @doc End a listener. What was on its way to it is dropped.
-spec unlisten(pid()) -> ok | {error, term()}.
unlisten(Listener) ->
    dev_websocket_engine:unlisten(Listener).

%% @doc Send to one connection: a text, bytes, or any term as in a message. It comes
%% after all that this process has cast before and before what it casts later.
-spec send(non_neg_integer(), {text | binary, binary()} | term()) -> ok | {error, term()}.
send(Connection, Payload) ->
    dev_websocket_engine:send(Connection, Payload).

%% @doc What is known of a connection: `peer', `format' (`json', `raw' or `events'),
%% `age' in milliseconds, `topics', what waits for it (`send_buffer_bytes',
%% `send_buffer_frames'), how many publications it has missed (`dropped'), and the
%% `headers' of its request.
-spec connection(non_neg_integer()) -> {ok, map()} | {error, term()}.
connection(Connection) ->
    dev_websocket_engine:connection(Connection).

%% @doc The first page of the connections: see `connections/1'.
-spec connections() -> {ok, map()} | {error, term()}.
connections() ->
    connections(#{}).

%% @doc A page of the connections, by their numbers: at most `limit' (100, at most
%% 1000), behind `cursor' (0). The answer has `connections', a list of maps as
%% `connection/1' gives them, without `headers', and the `cursor' of the next page,
%% or `done'.
-spec connections(map()) -> {ok, map()} | {error, term()}.
connections(Opts) ->
    dev_websocket_engine:connections(Opts).

%% @doc End a connection: its client is told 1008.
-spec disconnect(non_neg_integer()) -> ok | {error, term()}.
disconnect(Connection) ->
    dev_websocket_engine:disconnect(Connection).

%%% Keys of the device.

%% @doc `GET /~websocket@1.0/info': where clients connect, as a JSON document and
%% with the same as keys.
-spec info(map(), map(), map()) -> term().
info(_Base, _Request, Opts) ->
    _ = adopt(Opts),
    case dev_websocket_engine:describe() of
        {ok, Keys, Document} -> {ok, json(Keys, Document)};
        {error, Reason} -> unavailable(Reason)
    end.

%% @doc `POST /~websocket@1.0/cast?topic=prices': send the request, or its JSON body.
-spec cast(map(), map(), map()) -> term().
cast(_Base, Request, Opts) ->
    _ = adopt(Opts),
    try dev_websocket_request:cast(Request, Opts) of
        ok -> {ok, <<"OK">>};
        {error, Answer} -> {error, Answer}
    catch
        _:_ ->
            _ = dev_websocket_engine:count_dropped(malformed),
            {error, <<"request: cannot be read as a message">>}
    end.

%% @doc `GET /~websocket@1.0/stats': every count, as JSON and as keys.
-spec stats(map(), map(), map()) -> term().
stats(_Base, _Request, Opts) ->
    _ = adopt(Opts),
    case dev_websocket_engine:stats() of
        {error, Reason} ->
            unavailable(Reason);
        Counts ->
            Fields = [
                [$", Name, "\":", integer_to_list(Count)]
             ||
                {Name, Count} <- lists:sort(maps:to_list(Counts))
            ],
            {ok, json(Counts, iolist_to_binary([${, lists:join($,, Fields), $}]))}
    end.

%% @doc The start of a process that has the device in its stack.
-spec init(map(), map(), map()) -> term().
init(Base, _Request, _Opts) ->
    {ok, Base}.

%% @doc A slot of a process that has the device in its stack is being computed: a hint.
%% The state goes through unchanged.
-spec compute(map(), map(), map()) -> term().
compute(Base, _Request, Opts) ->
    _ = dev_websocket_hint:of_state(Base, Opts),
    {ok, Base}.

%% @doc The state of a process comes back from the cache.
-spec normalize(map(), map(), map()) -> term().
normalize(Base, _Request, _Opts) ->
    {ok, Base}.

%% @doc The device adds nothing to what is stored of a process.
-spec snapshot(map(), map(), map()) -> term().
snapshot(_Base, _Request, _Opts) ->
    {ok, #{}}.

%% @doc The hook `start': open the listener with the node's own options. A call over HTTP
%% changes nothing.
-spec start(map(), map(), map()) -> term().
start(_Base, Request, Opts) ->
    _ = try dev_websocket_engine:start_hook(Opts)
    catch _:_ -> ok
    end,
    {ok, Request}.

%% @doc The hook `step' of earlier versions. It costs the node more than all else that the
%% device does, and results do not need it: remove it from the option `on'.
-spec step(map(), map(), map()) -> term().
step(_Base, Request, _Opts) ->
    ok = dev_websocket_hint:of_step(),
    {ok, Request}.

%% @doc The hook `response': an answer of the node about a process is a hint.
-spec response(map(), map(), map()) -> term().
response(_Base, Request, Opts) ->
    _ = dev_websocket_hint:of_response(Request, Opts),
    {ok, Request}.

%%% Private functions.

%% @doc Take the node's options, unless some were taken before. Never raises.
adopt(Opts) ->
    try dev_websocket_engine:adopt(Opts)
    catch _:_ -> ok
    end.

json(Keys, Document) ->
    Keys#{
        <<"status">> => 200,
        <<"content-type">> => <<"application/json">>,
        <<"body">> => Document
    }.

unavailable(Reason) ->
    {error, #{<<"status">> => 503, <<"content-type">> => <<"text/plain">>, <<"body">> => iolist_to_binary(why(Reason))}}.

why({engine_version, #{device := Device, engine := Engine}}) ->
    io_lib:format("the WebSocket engine has interface ~b, the device ~b: the node must be restarted", [Engine, Device]);
why(Reason) ->
    io_lib:format("the WebSocket server is not running: ~0tp", [Reason]).

%% @doc Boot the engine. A device whose `on_load' fails cannot be called at all,
%% so this succeeds whatever happens; where the helper modules come later than
%% this one, the first call boots.
on_load() ->
    try dev_websocket_engine:load()
    catch _:_ -> ok
    end,
    ok.
