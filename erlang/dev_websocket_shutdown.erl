%%% @doc The end of the node as clients see it: a process that hears of an orderly
%%% end, by `init:stop/0' or SIGTERM, and stops the engine then, so that clients get
%%% their close frames and know that nobody is there any more.
%%%
%%% A node need not start the application for that; most load the device and no more.
%%% Only supervised processes are waited for when a node stops, so this one is a child
%%% of `kernel_safe_sup', where OTP keeps what may come and go on any node (`timer',
%%% `pg', `disk_log'). It is stopped after all other applications, which can cast
%%% up to their own ends. It is temporary: its end concerns nobody.
%%%
%%% Nothing of this module is on its stack or in its state while it waits, so that a
%%% reload does it no harm.
-module(dev_websocket_shutdown).
-behaviour(gen_server).
-export([install/0, start_link/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

%% One for all copies of the device.
-define(ID, {hb_websocket_nif, shutdown}).
%% Longer than the engine takes to close all connections.
-define(DEADLINE, 10000).

%% @doc See to it that the engine is stopped with the node. It is not waited for that:
%% while an embedded system boots, the supervisor itself waits until all modules have
%% run their `on_load'.
-spec install() -> ok.
install() ->
    Child = #{
        id => ?ID,
        start => {?MODULE, start_link, []},
        restart => temporary,
        shutdown => ?DEADLINE
    },
    _ = spawn(supervisor, start_child, [kernel_safe_sup, Child]),
    ok.

%% @doc Called by the supervisor.
-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    gen_server:start_link(?MODULE, [], []).

init([]) ->
    process_flag(trap_exit, true),
    {ok, [], hibernate}.

handle_call(_Call, _From, State) ->
    {noreply, State, hibernate}.

handle_cast(_Cast, State) ->
    {noreply, State, hibernate}.

handle_info(_Info, State) ->
    {noreply, State, hibernate}.

terminate(_Reason, _State) ->
    dev_websocket_engine:stop().
