%%% @doc The interface to the engine: start and stop it, and call it.
%%%
%%% `dev_websocket_library' finds the engine and checks its version. Without an engine of
%%% the right version, calls return an error, and only casts still go to an engine.
%%%
%%% A native function must not block. Functions that take time return at once and send
%%% `{Ref, Answer}' later. A helper process receives that message, so a late answer never
%%% arrives in a caller's mailbox.
%%%
%%% This module is also the shutdown guard: a child of `hb_websocket_sup' that stops the
%%% engine when the node stops, so that clients get a close frame.
-module(dev_websocket_engine).
-behaviour(gen_server).
-export([load/0, boot/0, boot_later/0, resume/0, start/1, stop/0]).
-export([apply_node_options/1, apply_start_options/1]).
-export([cast/1, publish/2, publish_json/2, send/2, has_audience/0, count_dropped/1]).
-export([call/1, call_started/1, request/1]).
-export([start_reader/0, start_link/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

%% Longer than the engine takes to close all connections, in milliseconds.
-define(DEADLINE, 10000).
%% Characters of a reason in a log line.
-define(MAX_SHOWN, 200).
%% A node has this long to give its options before the engine starts with the defaults.
-define(OPTIONS_DEADLINE, 5000).
%% Set once the engine was told to start or stop. The engine outlives `init:restart/0',
%% and this term does not.
-define(TOLD, {hb_websocket_nif, told}).

%%% Start and stop.

%% @doc Start the engine when the device is loaded. On a node whose options are not known
%% yet, wait for them first, so that no address is opened that the node does not want.
-spec load() -> ok | {error, term()}.
load() ->
    case dev_websocket_settings:has_node() orelse not dev_websocket_node:is_present() of
        true ->
            boot();
        false ->
            case dev_websocket_node:running_node() of
                {ok, Opts} ->
                    use_options(Opts);
                none ->
                    _ = spawn(?MODULE, boot_later, []),
                    ok = dev_websocket_sup:ensure()
            end
    end.

%% @doc Start the engine after the node had time to give its options.
-spec boot_later() -> ok | {error, term()}.
boot_later() ->
    receive
    after ?OPTIONS_DEADLINE -> boot()
    end.

%% @doc Start the engine unless it was started or stopped before in this VM. The result is
%% its present state.
-spec boot() -> ok | {error, term()}.
boot() ->
    call(fun() ->
        case hb_websocket_nif:info() of
            {ok, _, _} ->
                ok;
            {error, not_started} ->
                _ = hb_websocket_nif:register_collector(),
                log_failure(command(fun(Ref) -> hb_websocket_nif:boot(Ref, dev_websocket_settings:all(#{})) end));
            {error, Reason} ->
                case is_closed(Reason) andalso not persistent_term:get(?TOLD, false) of
                    %% It was closed before the node restarted, maybe with other settings.
                    true -> start(#{});
                    false -> {error, Reason}
                end
        end
    end).

%% @doc Start the engine, also after a stop.
-spec resume() -> ok | {error, term()}.
resume() ->
    case persistent_term:get(?TOLD, false) andalso call(fun hb_websocket_nif:info/0) of
        {error, stopped} -> start(#{});
        _ -> load()
    end.

%% @doc Start the engine, or change the settings of a running one. The settings of the node
%% stay in force over stops and failures.
-spec start(term()) -> ok | {error, term()}.
start(Given) ->
    call(fun() ->
        Settings =
            case hb_websocket_nif:info() of
                {ok, _, _} -> dev_websocket_settings:merge(hb_websocket_nif:settings(), Given);
                {error, _} when is_map(Given) -> dev_websocket_settings:all(Given);
                {error, _} -> Given
            end,
        _ = hb_websocket_nif:register_collector(),
        Started = log_failure(command(fun(Ref) -> hb_websocket_nif:start(Ref, Settings) end)),
        ok = dev_websocket_tails:reload(),
        ok = dev_websocket_follow:reload(),
        Started
    end).

%% @doc Stop the engine.
-spec stop() -> ok | {error, term()}.
stop() ->
    call(fun() -> command(fun hb_websocket_nif:stop/1) end).

%%% Options of the node.

%% @doc Apply the options of the node, once in a VM: the first node that calls the device
%% decides. They come from the node itself, never from the options of a caller.
-spec apply_node_options(term()) -> ok | {error, term()}.
apply_node_options(Opts) ->
    case dev_websocket_settings:has_node() of
        true ->
            ok;
        false ->
            case dev_websocket_node:own_options(Opts) of
                {node, Own} ->
                    use_options(Own);
                {unknown, _} ->
                    case dev_websocket_node:running_node() of
                        {ok, Own} -> use_options(Own);
                        none -> use_options(Opts)
                    end
            end
    end.

%% @doc Apply the options that the hook `start' gives. The same key over HTTP comes through
%% a server of the node, and changes nothing.
-spec apply_start_options(term()) -> ok | {error, term()}.
apply_start_options(Opts) ->
    case dev_websocket_node:own_options(Opts) of
        {node, _} -> apply_node_options(Opts);
        {unknown, _} -> use_options(Opts)
    end.

use_options(Opts) ->
    call(fun() ->
        %% The node may load the device before it starts its metrics.
        _ = hb_websocket_nif:register_collector(),
        Settings = dev_websocket_settings:of_node(Opts),
        ok = dev_websocket_settings:keep_node(Settings),
        ok = dev_websocket_tails:use_options(Opts),
        ok = dev_websocket_follow:use_options(Opts),
        case map_size(Settings) of
            0 -> boot();
            _ -> start_or_close(Settings)
        end
    end).

%% @doc A bad value may be meant to keep clients out. It closes a server that runs with
%% other settings, or is about to.
start_or_close(Settings) ->
    case hb_websocket_nif:validate(Settings) of
        ok ->
            start(Settings);
        BadValue ->
            case command(fun(Ref) -> hb_websocket_nif:shut(Ref, dev_websocket_settings:all(#{})) end) of
                ok -> BadValue;
                Error -> Error
            end
    end.

%% @doc Whether the engine stays closed until `start/1' is called.
is_closed(stopped) -> true;
is_closed({settings, _}) -> true;
is_closed(_) -> false.

%%% Messages.

%% @doc Publish a message. Never raises.
-spec cast(term()) -> ok | {dropped, atom()} | {error, term()}.
cast(Msg) ->
    try hb_websocket_nif:cast(Msg) of
        ok -> ok;
        large -> hb_websocket_nif:cast_large(Msg);
        {dropped, not_started} -> boot_and(cast, fun() -> hb_websocket_nif:cast_large(Msg) end);
        NotPublished -> NotPublished
    catch
        error:undef -> find_and_cast(Msg);
        Class:Reason:Stack ->
            ok = dev_websocket_log:log_exception(cast, Class, Reason, Stack),
            {dropped, fault}
    end.

%% @doc Publish a message with its provenance. Never raises.
-spec publish(term(), map()) -> ok | {dropped, atom()} | {error, term()}.
publish(Msg, Provenance) ->
    publish_with(
        fun() ->
            case hb_websocket_nif:publish(Msg, Provenance) of
                large -> hb_websocket_nif:publish_large(Msg, Provenance);
                Published -> Published
            end
        end
    ).

%% @doc Publish a message that is JSON text. Never raises.
-spec publish_json(binary(), map()) -> ok | {dropped, atom()} | {error, term()}.
publish_json(Body, Provenance) ->
    publish_with(fun() -> hb_websocket_nif:publish_json(Body, Provenance) end).

%% @doc Send to one connection. Never raises.
-spec send(term(), term()) -> ok | {error, term()}.
send(Connection, Payload) ->
    dev_websocket_log:safely(
        send,
        fun() ->
            case dev_websocket_library:is_current() andalso hb_websocket_nif:send(Connection, Payload) of
                large -> hb_websocket_nif:send_large(Connection, Payload);
                false -> call(fun() -> hb_websocket_nif:send_large(Connection, Payload) end);
                Sent -> Sent
            end
        end,
        {error, fault}
    ).

%% @doc Whether a client could receive a message now.
-spec has_audience() -> boolean().
has_audience() ->
    dev_websocket_log:safely(has_audience, fun() -> hb_websocket_nif:has_audience() =:= true end, false).

%% @doc Count a message that the caller dropped, by its reason. Never raises.
-spec count_dropped(atom()) -> ok.
count_dropped(Reason) ->
    _ = dev_websocket_log:safely(count_dropped, fun() -> hb_websocket_nif:count_dropped(Reason) end, ok),
    ok.

%% @doc The function `on_load' could not load the engine. Casts search for it only once.
find_and_cast(Msg) ->
    case dev_websocket_library:is_missing() of
        true -> {dropped, no_engine};
        false -> boot_and(cast, fun() -> hb_websocket_nif:cast_large(Msg) end)
    end.

publish_with(Publish) ->
    try Publish() of
        {dropped, not_started} -> boot_and(publish, Publish);
        Result -> Result
    catch
        error:undef -> boot_and(publish, Publish);
        Class:Reason:Stack ->
            ok = dev_websocket_log:log_exception(publish, Class, Reason, Stack),
            {dropped, fault}
    end.

boot_and(Place, Publish) ->
    dev_websocket_log:safely(
        Place,
        fun() ->
            _ = boot(),
            Publish()
        end,
        {dropped, no_engine}
    ).

%%% Calls.

%% @doc Call the engine, once it is loaded and has the right version.
-spec call(fun(() -> Answer)) -> Answer | {error, term()}.
call(Call) ->
    case dev_websocket_library:find() of
        ok ->
            ok = dev_websocket_sup:ensure(),
            ok = dev_websocket_sup:ensure_reader(),
            Call();
        {error, Reason} ->
            {error, Reason}
    end.

%% @doc Call the engine, and start it first if it never was.
-spec call_started(fun(() -> Answer)) -> Answer | {error, term()}.
call_started(Call) ->
    call(fun() ->
        case Call() of
            {error, not_started} ->
                _ = boot(),
                Call();
            Answer ->
                Answer
        end
    end).

%% @doc Call a function of the engine that answers by message, and wait for its answer.
-spec request(fun((reference()) -> ok | {error, term()})) -> term().
request(Send) ->
    {Pid, Monitor} = spawn_monitor(fun() -> exit({answer, await(Send)}) end),
    receive
        {'DOWN', Monitor, process, Pid, {answer, Answer}} -> Answer;
        {'DOWN', Monitor, process, Pid, Reason} -> {error, {fault, Reason}}
    end.

await(Send) ->
    Ref = make_ref(),
    case Send(Ref) of
        ok ->
            receive
                {Ref, Answer} -> Answer
            after ?DEADLINE -> {error, timeout}
            end;
        {error, Reason} ->
            {error, Reason}
    end.

%% @doc Tell the engine to start or stop.
command(Send) ->
    persistent_term:put(?TOLD, true),
    request(Send).

%%% The reader of the log.

%% @doc Called by the supervisor: start the reader of the log, if the engine is usable.
-spec start_reader() -> {ok, pid()} | ignore.
start_reader() ->
    case dev_websocket_library:is_current() of
        true -> dev_websocket_log:start_link();
        false -> ignore
    end.

%%% The shutdown guard.

%% @doc Called by the supervisor.
-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    gen_server:start_link(?MODULE, [], []).

init([]) ->
    process_flag(trap_exit, true),
    {ok, guard, hibernate}.

handle_call(_Call, _From, State) ->
    {noreply, State, hibernate}.

handle_cast(_Cast, State) ->
    {noreply, State, hibernate}.

handle_info(_Info, State) ->
    {noreply, State, hibernate}.

%% @doc Stop the engine with the node. An end of the supervisor alone stops nothing.
terminate(_Reason, _State) ->
    case init:get_status() of
        {stopping, _} -> persistent_term:get(?TOLD, false) andalso dev_websocket_library:is_current() andalso await(fun hb_websocket_nif:stop/1);
        _ -> ok
    end.

%%% Log lines.

%% @doc Log why the server does not listen, or why it keeps its old address. Bad settings
%% are an answer for the caller alone.
log_failure({error, {Kind, _} = Reason} = Error) when Kind =:= listen; Kind =:= threads; Kind =:= fault ->
    {Event, Text} = failure(Reason),
    case hb_websocket_nif:info() of
        {ok, Uri, _} ->
            dev_websocket_log:log(error, Event, "The WebSocket server still listens at ~ts: ~ts.", [Uri, Text]);
        {error, _} ->
            dev_websocket_log:log(
                failure_level(),
                Event,
                "The WebSocket server is not running: ~ts. Call start/1 of the device to retry.",
                [Text]
            )
    end,
    Error;
log_failure({error, timeout} = Error) ->
    dev_websocket_log:log(error, #{event => failed_start}, "The WebSocket engine did not answer in ~b ms.", [?DEADLINE]),
    Error;
log_failure(Other) ->
    Other.

%% @doc A failure of the default address matters little before the node gives its options.
failure_level() ->
    case dev_websocket_settings:has_node() orelse not dev_websocket_node:is_present() of
        true -> error;
        false -> notice
    end.

failure({listen, #{reason := Reason} = Failed}) ->
    Text = case Reason of
        Reason when is_atom(Reason) -> io_lib:format("~ts (~ts)", [inet:format_error(Reason), Reason]);
        Reason -> Reason
    end,
    {Failed#{event => failed_bind}, io_lib:format("cannot listen on ~ts: ~ts", [address(Failed), Text])};
failure(Reason) ->
    {#{event => failed_start}, io_lib:format("~0tp", [Reason], [{chars_limit, ?MAX_SHOWN}])}.

%% @doc The address that cannot be bound, and the setting that asks for it if it is not the
%% one of the port for clients.
address(#{address := Address, setting := Setting}) ->
    io_lib:format("~ts (~ts)", [Address, Setting]);
address(#{address := Address}) ->
    Address.
