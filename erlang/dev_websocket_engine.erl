%%% @doc The interface to the engine: it finds the engine, starts and stops it, and
%%% waits for its answers.
%%%
%%% Starting and stopping take time, and no native function may. So those return
%%% at once and send `{Ref, Result}' later; a process of its own waits for that,
%%% and an answer after the deadline cannot end up in somebody's mailbox.
%%%
%%% An engine of another version (`dev_websocket_version') is asked for nothing: each call
%%% returns `engine_version'. Casts alone go to it, as far as it knows them, because their
%%% answer is always the same.
-module(dev_websocket_engine).
-export([load/0, boot/0, boot_later/0, resume/0, start/1, stop/0]).
-export([cast/1, publish/2, publish_json/2, has_audience/0, count_dropped/1]).
-export([describe/0, info/0, config/0, stats/0]).
-export([adopt/1, start_hook/1]).
-export([listen/2, unlisten/1, send/2]).
-export([connection/1, connections/1, disconnect/1]).

%% Longer than the engine takes to close all connections.
-define(DEADLINE, 10000).
%% Connections of a page, unless told otherwise.
-define(PAGE, 100).
%% Characters of a reason that are shown in the log.
-define(MAX_SHOWN, 200).
%% Set when the search for the engine came to nothing, so that casts do not
%% search again.
-define(MISSING, {hb_websocket_nif, missing}).
%% The settings that the options of a node gave, once they have been taken.
-define(NODE, {hb_websocket_nif, node_settings}).
%% How long a node that is starting has to say its options before the defaults count.
-define(PATIENCE, 5000).
%% Set when the engine has been told to start or to stop. The engine outlives an
%% `init:restart/0', and this does not.
-define(TOLD, {hb_websocket_nif, told}).

%% @doc Start the engine when the device is loaded. On a node whose options are not known
%% yet it waits a little for them, so that it never listens where the node does not want it.
-spec load() -> ok | {error, term()}.
load() ->
    case persistent_term:get(?NODE, unknown) =:= unknown andalso dev_websocket_node:is_present() of
        false ->
            boot();
        true ->
            case dev_websocket_node:running_node() of
                {ok, Opts} ->
                    apply_options(Opts);
                none ->
                    _ = spawn(?MODULE, boot_later, []),
                    ok = dev_websocket_sup:ensure()
            end
    end.

%% @doc Start the engine if nothing else has, once the time for that is over.
-spec boot_later() -> ok | {error, term()}.
boot_later() ->
    receive
    after ?PATIENCE -> boot()
    end.

%% @doc Start the engine with the settings that are known, if it was never started or
%% stopped in this VM. Otherwise this says how it is.
-spec boot() -> ok | {error, term()}.
boot() ->
    with_engine(fun() ->
        case hb_websocket_nif:info() of
            {ok, _, _} ->
                ok;
            {error, not_started} ->
                _ = hb_websocket_nif:register_collector(),
                log_failure(command(fun(Ref) -> hb_websocket_nif:boot(Ref, known_settings(#{})) end));
            {error, Reason} ->
                case is_for_an_operator(Reason) andalso not persistent_term:get(?TOLD, false) of
                    %% That was before the node started anew, maybe with other settings.
                    true -> start(#{});
                    false -> {error, Reason}
                end
        end
    end).

%% @doc Boot the engine, or start it again after a stop.
-spec resume() -> ok | {error, term()}.
resume() ->
    case load() of
        {error, stopped} -> start(#{});
        Booted -> Booted
    end.

%% @doc Start the engine, or give a running one new settings. Settings of a node survive
%% stops and failures.
-spec start(term()) -> ok | {error, term()}.
start(Given) ->
    with_engine(fun() ->
        Settings =
            case hb_websocket_nif:info() of
                {ok, _, _} -> dev_websocket_settings:merge(hb_websocket_nif:settings(), Given);
                {error, _} when is_map(Given) -> known_settings(Given);
                {error, _} -> Given
            end,
        _ = hb_websocket_nif:register_collector(),
        Started = log_failure(command(fun(Ref) -> hb_websocket_nif:start(Ref, Settings) end)),
        ok = dev_websocket_tails:reload(),
        Started
    end).

%% @doc Stop the engine.
-spec stop() -> ok | {error, term()}.
stop() ->
    with_engine(fun() -> command(fun hb_websocket_nif:stop/1) end).

%% @doc Hand a message to the engine. Never raises.
-spec cast(term()) -> ok | {dropped, atom()} | {error, term()}.
cast(Msg) ->
    try hb_websocket_nif:cast(Msg) of
        ok -> ok;
        large -> hb_websocket_nif:cast_large(Msg);
        {dropped, not_started} -> boot_and_cast(Msg);
        NotSent -> NotSent
    catch
        error:undef -> find_and_cast(Msg);
        _:_ -> {dropped, fault}
    end.

%% @doc Publish a message with what the node knows of its origin. Never raises.
-spec publish(term(), map()) -> ok | {dropped, atom()} | {error, term()}.
publish(Msg, Origin) ->
    delivered(
        fun() ->
            case hb_websocket_nif:publish(Msg, Origin) of
                large -> hb_websocket_nif:publish_large(Msg, Origin);
                Published -> Published
            end
        end
    ).

%% @doc Publish a message that is JSON text. Never raises.
-spec publish_json(binary(), map()) -> ok | {dropped, atom()} | {error, term()}.
publish_json(Body, Origin) ->
    delivered(fun() -> hb_websocket_nif:publish_json(Body, Origin) end).

%% @doc Whether anybody could receive a message now.
-spec has_audience() -> boolean().
has_audience() ->
    try hb_websocket_nif:has_audience() =:= true
    catch _:_ -> false
    end.

%% @doc Count what is not sent, by its reason. Never raises.
-spec count_dropped(atom()) -> ok.
count_dropped(Reason) ->
    _ = try hb_websocket_nif:count_dropped(Reason)
    catch _:_ -> ok
    end,
    ok.

%% @doc Take the settings of a node's options, once in a VM: the first node that calls
%% the device decides. They are the node's own, whatever the caller's are.
-spec adopt(term()) -> ok | {error, term()}.
adopt(Opts) ->
    case persistent_term:get(?NODE, unknown) of
        unknown ->
            case dev_websocket_node:own_options(Opts) of
                {node, Own} ->
                    apply_options(Own);
                {unknown, _} ->
                    case dev_websocket_node:running_node() of
                        {ok, Own} -> apply_options(Own);
                        none -> apply_options(Opts)
                    end
            end;
        _ ->
            ok
    end.

%% @doc A node starts, with these options. A call of the hook's key by anybody else comes
%% through a server of the node, and says nothing new.
-spec start_hook(term()) -> ok | {error, term()}.
start_hook(Opts) ->
    case dev_websocket_node:own_options(Opts) of
        {node, _} -> adopt(Opts);
        {unknown, _} -> apply_options(Opts)
    end.

%% @doc What a client needs to know, as terms and as a JSON document.
-spec describe() -> {ok, map(), binary()} | {error, term()}.
describe() ->
    booted(fun hb_websocket_nif:describe/0).

%% @doc Where clients connect, and the known topics.
-spec info() -> {ok, binary(), [binary()]} | {error, term()}.
info() ->
    booted(fun hb_websocket_nif:info/0).

%% @doc The settings in use.
-spec config() -> map() | {error, term()}.
config() ->
    with_engine(fun() -> hb_websocket_nif:settings() end).

%% @doc Every count since the VM started.
-spec stats() -> map() | {error, term()}.
stats() ->
    with_engine(fun() -> hb_websocket_nif:stats() end).

%% @doc Make a process the listener.
-spec listen(term(), term()) -> ok | {error, term()}.
listen(Listener, Opts) ->
    with_engine(fun() ->
        %% The bound on what waits for the listener is a setting.
        _ = boot(),
        dev_websocket_listener:start(Listener, Opts)
    end).

%% @doc End a listener.
-spec unlisten(term()) -> ok | {error, term()}.
unlisten(Listener) ->
    with_engine(fun() -> dev_websocket_listener:stop(Listener) end).

%% @doc Send to one connection. Never raises.
-spec send(term(), term()) -> ok | {error, term()}.
send(Connection, Payload) ->
    try dev_websocket_version:fits() andalso hb_websocket_nif:send(Connection, Payload) of
        large -> hb_websocket_nif:send_large(Connection, Payload);
        false -> with_engine(fun() -> hb_websocket_nif:send_large(Connection, Payload) end);
        Sent -> Sent
    catch
        _:_ -> {error, fault}
    end.

%% @doc What is known of a connection.
-spec connection(term()) -> {ok, map()} | {error, term()}.
connection(Connection) ->
    with_engine(fun() -> answer(fun(Ref) -> hb_websocket_nif:connection(Ref, Connection) end) end).

%% @doc A page of the connections, and where the next one begins.
-spec connections(term()) -> {ok, map()} | {error, term()}.
connections(Opts) when is_map(Opts) ->
    Cursor = maps:get(cursor, Opts, 0),
    Limit = maps:get(limit, Opts, ?PAGE),
    with_engine(
        fun() ->
            case answer(fun(Ref) -> hb_websocket_nif:connections(Ref, Cursor, Limit) end) of
                {ok, Found} -> {ok, #{connections => Found, cursor => next(Found)}};
                {error, no_connection} -> {ok, #{connections => [], cursor => done}};
                Error -> Error
            end
        end
    );
connections(_Opts) ->
    {error, {bad_argument, <<"options are a map">>}}.

%% @doc End a connection.
-spec disconnect(term()) -> ok | {error, term()}.
disconnect(Connection) ->
    with_engine(fun() -> hb_websocket_nif:disconnect(Connection) end).

%%% Private functions.

%% @doc A page that is not full may have lost some that ended meanwhile, so only an
%% empty one is known to be the last.
next([]) -> done;
next(Found) -> maps:get(connection, lists:last(Found)).

%% @doc A cast of a device whose `on_load' could not load the engine. Casts search
%% for it once only.
find_and_cast(Msg) ->
    case persistent_term:get(?MISSING, false) of
        true -> {dropped, no_engine};
        false -> boot_and_cast(Msg)
    end.

%% @doc The first cast of a device whose `on_load' could not boot the engine.
boot_and_cast(Msg) ->
    try
        _ = boot(),
        hb_websocket_nif:cast_large(Msg)
    catch
        _:_ -> {dropped, no_engine}
    end.

%% @doc Publish, and boot first where the engine could not be booted before.
delivered(Publish) ->
    try Publish() of
        {dropped, not_started} -> boot_and(Publish);
        Result -> Result
    catch
        error:undef -> boot_and(Publish);
        _:_ -> {dropped, fault}
    end.

boot_and(Publish) ->
    try
        _ = boot(),
        Publish()
    catch
        _:_ -> {dropped, no_engine}
    end.

%% @doc Ask the engine, and boot it first where nobody did.
booted(Ask) ->
    with_engine(fun() ->
        case Ask() of
            {error, not_started} ->
                _ = boot(),
                Ask();
            Answer ->
                Answer
        end
    end).

apply_options(Opts) ->
    with_engine(fun() ->
        %% A node starts its metrics before its devices are called, but may load them earlier.
        _ = hb_websocket_nif:register_collector(),
        Settings = dev_websocket_settings:of_node(Opts),
        persistent_term:put(?NODE, Settings),
        ok = dev_websocket_tails:use_options(Opts),
        case map_size(Settings) of
            0 -> boot();
            _ -> start_or_shut(Settings)
        end
    end).

%% @doc Take a node's settings. One that does not fit may be to keep somebody out, so a
%% server that runs with other settings, or is about to, is closed.
start_or_shut(Settings) ->
    case hb_websocket_nif:validate(Settings) of
        ok ->
            start(Settings);
        Misfit ->
            case command(fun(Ref) -> hb_websocket_nif:shut(Ref, known_settings(#{})) end) of
                ok -> Misfit;
                Error -> Error
            end
    end.

%% @doc Whether the server is closed until somebody says otherwise.
is_for_an_operator(stopped) -> true;
is_for_an_operator({settings, _}) -> true;
is_for_an_operator(_) -> false.

%% @doc Given settings and, weaker, those of the node and of the environment.
known_settings(Given) ->
    Stronger =
        case persistent_term:get(?NODE, unknown) of
            Node when is_map(Node) -> dev_websocket_settings:merge(Node, Given);
            unknown -> dev_websocket_settings:merge(#{}, Given)
        end,
    dev_websocket_settings:with_environment(Stronger).

with_engine(Call) ->
    case usable() of
        ok ->
            ok = dev_websocket_log:attend(),
            ok = dev_websocket_sup:ensure(),
            Call();
        {error, Reason} ->
            {error, Reason}
    end.

%% @doc Find the engine, and see whether this device is made for it.
usable() ->
    case find() of
        ok -> dev_websocket_version:check();
        {error, Reason} -> {error, Reason}
    end.

%% @doc Find the engine: already loaded, else among the resources of the archive
%% that this module came in, else on the code path.
find() ->
    case erlang:function_exported(hb_websocket_nif, load, 0) of
        true ->
            hb_websocket_nif:load();
        false ->
            case load_from_archive() orelse load_from_path() of
                true ->
                    persistent_term:erase(?MISSING),
                    hb_websocket_nif:load();
                false ->
                    persistent_term:put(?MISSING, true),
                    {error, {engine_not_loaded, no_module}}
            end
    end.

%% @doc Newer nodes unpack a device's resources into a folder of its own. The name
%% of this module is not its own there, and it is the one to ask with. The module that
%% knows the folder has had two names.
load_from_archive() ->
    lists:any(
        fun(Archive) ->
            try Archive:implementation_dir(?MODULE) of
                Dir ->
                    File = filename:join([Dir, "ebin", "hb_websocket_nif"]),
                    filelib:is_regular(File ++ ".beam") andalso
                        element(1, code:load_abs(File)) =:= module
            catch
                _:_ -> false
            end
        end,
        [hb_device_archive, hb_ao_device]
    ).

load_from_path() ->
    element(1, code:ensure_loaded(hb_websocket_nif)) =:= module.

%% @doc Tell the engine to start or to stop. From the first time on, the end of the
%% node is its end as well.
command(Command) ->
    persistent_term:put(?TOLD, true),
    dev_websocket_shutdown:install(),
    answer(Command).

%% @doc Ask and wait for the answer, in a process of its own.
answer(Command) ->
    {Pid, Monitor} = spawn_monitor(fun() -> exit({answer, await(Command)}) end),
    receive
        {'DOWN', Monitor, process, Pid, {answer, Answer}} -> Answer;
        {'DOWN', Monitor, process, Pid, Reason} -> {error, {fault, Reason}}
    end.

await(Command) ->
    Ref = make_ref(),
    case Command(Ref) of
        ok ->
            receive
                {Ref, Answer} -> Answer
            after ?DEADLINE -> {error, timeout}
            end;
        {error, Reason} ->
            {error, Reason}
    end.

%% @doc Say in one line why nobody can connect, or why clients still have to connect
%% where they did. Settings that are no settings are for the caller alone.
log_failure({error, {Kind, _} = Reason} = Error) when Kind =:= listen; Kind =:= threads; Kind =:= fault ->
    {Event, Text} = failure(Reason),
    case hb_websocket_nif:info() of
        {ok, Uri, _} ->
            dev_websocket_log:log(error, Event, "The WebSocket server stays at ~ts: ~ts.", [Uri, Text]);
        {error, _} ->
            dev_websocket_log:log(
                failure_level(),
                Event,
                "The WebSocket server is not running: ~ts. start/1 of the device tries again.",
                [Text]
            )
    end,
    Error;
log_failure({error, timeout} = Error) ->
    dev_websocket_log:log(error, #{event => failed_start}, "The WebSocket server has not answered.", []),
    Error;
log_failure(Other) ->
    Other.

%% @doc As long as a node has not said its options, the default address means little.
failure_level() ->
    case persistent_term:get(?NODE, unknown) =:= unknown andalso dev_websocket_node:is_present() of
        true -> notice;
        false -> error
    end.

failure({listen, #{address := Address, reason := Reason}}) when is_atom(Reason) ->
    {
        #{event => failed_bind, address => Address, reason => Reason},
        io_lib:format("cannot listen on ~ts: ~ts (~ts)", [Address, inet:format_error(Reason), Reason])
    };
failure({listen, #{address := Address, reason := Reason}}) ->
    {
        #{event => failed_bind, address => Address, reason => Reason},
        io_lib:format("cannot listen on ~ts: ~ts", [Address, Reason])
    };
failure(Reason) ->
    {#{event => failed_start}, io_lib:format("~0tp", [Reason], [{chars_limit, ?MAX_SHOWN}])}.
