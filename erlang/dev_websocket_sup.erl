%%% @doc The OTP application, and its supervisor `hb_websocket_sup':
%%%
%%%     hb_websocket_sup
%%%       log_reader         dev_websocket_log        logs the events of the engine
%%%       shutdown_guard     dev_websocket_engine     stops the engine with the node
%%%       tails              dev_websocket_tails      follows processes in the node's cache
%%%       follow             dev_websocket_follow     lets the node compute followed processes
%%%       replays            dev_websocket_replays    reads past slots again for clients
%%%       {listener, _}      dev_websocket_listener   proxy of a listener, while there is one
%%%
%%% The application starts the supervisor. Most nodes only load the device and start no
%%% application. The supervisor then runs below `kernel_safe_sup', the place of OTP for
%%% processes that any application may need, and is temporary there. A later start of the
%%% application moves it. All copies of the device in a VM share one supervisor.
%%%
%%% The engine has its own threads and needs no process. The supervisor therefore protects
%%% no state of the engine, and its end closes no connection.
-module(dev_websocket_sup).
-behaviour(application).
-behaviour(supervisor).
-export([start/2, prep_stop/1, stop/1]).
-export([start_link/0, ensure/0, ensure_reader/0, start_child/1]).
-export([init/1]).

-define(SUPERVISOR, hb_websocket_sup).
-define(ID, {hb_websocket_nif, supervisor}).
%% Longer than the engine takes to close all connections.
-define(GUARD_SHUTDOWN, 15000).
%% Attempts while another supervisor of the name ends, and the pause between two of them.
-define(ATTEMPTS, 100).
-define(PAUSE, 20).

%%% The application.

%% @doc Start the engine with the node. An address that cannot be bound does not stop the
%% node: the log and `info/0' of the device name the reason.
start(_Type, _Args) ->
    Started = take_over(?ATTEMPTS),
    _ = dev_websocket_engine:resume(),
    Started.

%% @doc Stop the engine while the other processes of the application still run.
prep_stop(State) ->
    _ = dev_websocket_engine:stop(),
    State.

stop(_State) -> ok.

%%% The supervisor.

%% @doc Called by the supervisor above, or by the application.
-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    supervisor:start_link({local, ?SUPERVISOR}, ?MODULE, []).

%% @doc Make sure that the supervisor runs. The caller does not wait, because
%% `kernel_safe_sup' waits for all `on_load' functions while an embedded system boots.
-spec ensure() -> ok.
ensure() ->
    _ = whereis(?SUPERVISOR) =:= undefined andalso
        spawn(supervisor, start_child, [kernel_safe_sup, supervisor_spec()]),
    ok.

%% @doc Make sure that the log has a reader. The caller does not wait.
-spec ensure_reader() -> ok.
ensure_reader() ->
    _ = hb_websocket_nif:is_log_read() =:= false andalso
        spawn(?MODULE, start_child, [reader_spec()]),
    ok.

%% @doc Start a child below the supervisor, and the supervisor first where it is missing.
-spec start_child(supervisor:child_spec()) -> {ok, pid() | undefined} | {error, term()}.
start_child(Spec) ->
    start_child(Spec, ?ATTEMPTS).

init([]) ->
    ok = dev_websocket_tails:new_tables(),
    ok = dev_websocket_names:new_table(),
    Guard = #{
        id => shutdown_guard,
        start => {dev_websocket_engine, start_link, []},
        shutdown => ?GUARD_SHUTDOWN
    },
    Tails = #{id => tails, start => {dev_websocket_tails, start_link, []}},
    Follow = #{id => follow, start => {dev_websocket_follow, start_link, []}},
    Replays = #{id => replays, start => {dev_websocket_replays, start_link, []}},
    %% Children end in reverse order, so the reader logs the stop of the engine.
    {ok, {#{intensity => 10, period => 10}, [reader_spec(), Guard, Tails, Follow, Replays]}}.

%%% Private functions.

%% @doc Move the supervisor below the application. Another process may start it again
%% below `kernel_safe_sup' meanwhile.
take_over(Attempts) ->
    _ = supervisor:terminate_child(kernel_safe_sup, ?ID),
    case start_link() of
        {error, {already_started, _}} when Attempts > 0 -> take_over(Attempts - 1);
        Started -> Started
    end.

start_child(Spec, Attempts) ->
    try
        _ = whereis(?SUPERVISOR) =:= undefined andalso
            supervisor:start_child(kernel_safe_sup, supervisor_spec()),
        supervisor:start_child(?SUPERVISOR, Spec)
    of
        %% The second part is an internal record of OTP.
        {error, {Reason, Child}} when element(1, Child) =:= child -> {error, Reason};
        Started -> Started
    catch
        %% The supervisor is ending, or has just ended.
        exit:_ when Attempts > 0 ->
            receive
            after ?PAUSE -> start_child(Spec, Attempts - 1)
            end;
        exit:{Reason, _} ->
            {error, Reason}
    end.

supervisor_spec() ->
    #{
        id => ?ID,
        start => {?MODULE, start_link, []},
        restart => temporary,
        type => supervisor
    }.

%% @doc The reader is temporary: a copy of the device that was unloaded cannot restart it.
%% The next call that reaches the engine does.
reader_spec() ->
    #{
        id => log_reader,
        start => {dev_websocket_engine, start_reader, []},
        restart => temporary
    }.
